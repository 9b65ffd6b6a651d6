//! Huge pages, from the first data on.
//!
//! With the allocator's memory in huge pages the data path takes a tenth less CPU time. But a process that has nothing to
//! do, as a sidecar mostly has, would hold two megabytes wherever it touched a few bytes while it started: 27 MiB instead
//! of 16. So they are forgone until there is something to do. What was touched before is made huge by the kernel, later.

/// Forgoes huge pages; to be called before there is much in memory.
#[cfg(target_os = "linux")]
pub(crate) fn forgo_huge() {
    // A kernel without huge pages refuses, and then there is nothing to forgo.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Lets the kernel use huge pages again.
#[cfg(target_os = "linux")]
pub(crate) fn allow_huge() {
    let _ = rustix::thread::disable_transparent_huge_pages(false);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn forgo_huge() {}

#[cfg(not(target_os = "linux"))]
pub(crate) fn allow_huge() {}
