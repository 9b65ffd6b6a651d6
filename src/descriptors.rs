//! File descriptors.
//!
//! Shells and service managers give a process a thousand or so, because of programs that use `select`, and let it take
//! many more if it asks. Each client has one here. Programs in Go ask for them when they start, and so the Collector does.

/// Takes as many as the process may have.
#[cfg(unix)]
pub(crate) fn raise_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Some systems allow fewer than they say; then it stays as it is.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(not(unix))]
pub(crate) fn raise_limit() {}
