//! What the operating system says of this process.

use rustix::time::{ClockId, clock_gettime};

/// What the process has used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// CPU time of all threads, in nanoseconds.
    pub(super) cpu_nanos: u64,
    /// Memory that is resident, in bytes; `None` where the system does not say.
    pub(super) resident_bytes: Option<u64>,
}

impl Usage {
    pub(super) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let nanos = |n: i64| u64::try_from(n).unwrap_or(0);
        let cpu_nanos = nanos(cpu.tv_sec).saturating_mul(1_000_000_000).saturating_add(nanos(cpu.tv_nsec));
        Self { cpu_nanos, resident_bytes: resident() }
    }
}

/// Linux gives resident memory as the second number of `statm`, in pages.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}
