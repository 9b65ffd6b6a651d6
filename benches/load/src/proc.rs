//! What the kernel says a process has used, read from `/proc`.

use anyhow::{Context, Result};
use std::{fs, path::PathBuf, time::Duration};

/// One reading of a process's accounts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// User and system time of all threads, those that have ended included.
    pub(crate) cpu: Duration,
    /// Resident memory now, in bytes.
    pub(crate) rss: u64,
    /// The most resident memory there has been, in bytes.
    pub(crate) peak_rss: u64,
    /// Pages that had to be mapped, none of them read from disk.
    pub(crate) minor_faults: u64,
}

/// Whether this system has the accounts that [`usage`] reads.
pub(crate) fn supported() -> bool {
    cfg!(target_os = "linux") && PathBuf::from("/proc/self/stat").exists()
}

/// Reads the accounts of process `pid`.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let root = PathBuf::from(format!("/proc/{pid}"));
    let read = |name: &str| {
        let path = root.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let stat = Stat::parse(&read("stat")?).context("/proc/PID/stat has an unknown form")?;
    let status = read("status")?;
    let mut live = Duration::ZERO;
    for task in fs::read_dir(root.join("task")).context("cannot list threads")? {
        // A thread may end between being listed and being read; a kernel may lack schedstat.
        let Ok(schedstat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let on_cpu = schedstat.split_whitespace().next().and_then(|field| field.parse().ok());
        live += Duration::from_nanos(on_cpu.unwrap_or(0));
    }
    Ok(Usage {
        // Thread accounts are exact but forget threads that ended; process accounts remember
        // them but are cut to clock ticks. Both are lower bounds, so the larger is the better.
        cpu: live.max(stat.cpu(ticks_per_second())),
        rss: kibibytes(&status, "VmRSS:").context("no VmRSS in /proc/PID/status")?,
        peak_rss: kibibytes(&status, "VmHWM:").context("no VmHWM in /proc/PID/status")?,
        minor_faults: stat.minor_faults,
    })
}

/// One line on the machine: processor, cores, kernel.
pub(crate) fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {cores} cores, Linux {}", model.unwrap_or(std::env::consts::ARCH).trim(), kernel.trim())
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    minor_faults: u64,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The command in parentheses may itself hold spaces and parentheses; fields count from
        // the last one, which ends field 2 of proc_pid_stat(5).
        let (_, fields) = line.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        Some(Self {
            minor_faults: fields.nth(7)?.parse().ok()?,
            user_ticks: fields.nth(3)?.parse().ok()?,
            system_ticks: fields.next()?.parse().ok()?,
        })
    }

    fn cpu(&self, ticks_per_second: u64) -> Duration {
        Duration::from_secs_f64((self.user_ticks + self.system_ticks) as f64 / ticks_per_second.max(1) as f64)
    }
}

#[cfg(unix)]
fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

#[cfg(not(unix))]
fn ticks_per_second() -> u64 {
    100
}

/// The value of a line such as `VmRSS:    1234 kB`, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_command_with_parentheses() {
        let line = "42 (a) b) (c)) S 1 42 42 0 -1 4194304 777 0 3 0 150 50 0 0 20 0 1 0 100 1000 200";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { minor_faults: 777, user_ticks: 150, system_ticks: 50 });
        assert_eq!(stat.cpu(100), Duration::from_secs(2));
        assert_eq!(Stat::parse("42 (cut) S 1 42"), None);
    }

    #[test]
    fn memory_lines_are_in_kibibytes() {
        let status = "Name:\tweir\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n";
        assert_eq!(kibibytes(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn cpu_grows_with_work_and_keeps_ended_threads() {
        let before = usage(std::process::id()).unwrap();
        let work = || {
            let started = std::time::Instant::now();
            let mut sum = 0_u64;
            while started.elapsed() < Duration::from_millis(120) {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
            }
            sum
        };
        std::thread::spawn(work).join().unwrap();
        let used = usage(std::process::id()).unwrap().cpu - before.cpu;
        // The thread has ended, so only the ticks know of it; a busy machine may have given it
        // less than it asked for.
        assert!(used > Duration::ZERO, "{used:?}");
        assert!(before.peak_rss >= before.rss && before.rss > 0);
    }
}
