//! Settings of the `memory_limiter`, with the Collector's keys, rules and messages.

use std::time::Duration;

use serde::Deserialize;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::config::{ConfigError, Node, Optional, Warning};

const MIB: u64 = 1 << 20;

/// The keys about garbage collection are accepted so that a Collector's file loads; there is no collector of garbage
/// here that they could pace.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    check_interval: GoDuration,
    limit_mib: u64,
    spike_limit_mib: u64,
    limit_percentage: u64,
    spike_limit_percentage: u64,
    min_gc_interval_when_soft_limited: GoDuration,
    min_gc_interval_when_hard_limited: GoDuration,
    max_gc_interval_when_soft_limited: GoDuration,
    max_gc_interval_when_hard_limited: GoDuration,
    garbage_collector: Optional<RawGarbageCollector>,
}

/// `garbage_collector`, which can only be switched on and off.
#[derive(Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields)]
struct RawGarbageCollector {}

impl Default for Raw {
    fn default() -> Self {
        let zero = GoDuration(Duration::ZERO);
        Self {
            check_interval: zero,
            limit_mib: 0,
            spike_limit_mib: 0,
            limit_percentage: 0,
            spike_limit_percentage: 0,
            min_gc_interval_when_soft_limited: GoDuration(Duration::from_secs(10)),
            min_gc_interval_when_hard_limited: zero,
            max_gc_interval_when_soft_limited: zero,
            max_gc_interval_when_hard_limited: zero,
            garbage_collector: Optional::from(RawGarbageCollector {}),
        }
    }
}

/// Describes the configuration, for editors.
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<Raw>()
}

/// Settings of the `memory_limiter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of requests that may be in flight at once.
    pub bytes_in_flight: usize,
}

impl Settings {
    /// Reads the settings; `total_memory` tells the bytes of memory there are, for percentages.
    pub(super) fn parse(node: &Node, path: &str, total_memory: fn() -> Option<u64>) -> Result<Self, ConfigError> {
        let raw: Raw = node.parse_as(path)?;
        let error = |key: &str, message: &str| node.get(key).unwrap_or(node).error(path, message);
        if let Some(setting) = node.get("garbage_collector") {
            Warning::of_moot(setting, &format!("{path}::garbage_collector"), "there is no garbage to collect");
        }
        if raw.check_interval.0.is_zero() {
            return Err(error("check_interval", "'check_interval' must be greater than zero"));
        }
        let (limit, spike) = if raw.limit_mib > 0 {
            (raw.limit_mib.saturating_mul(MIB), raw.spike_limit_mib.saturating_mul(MIB))
        } else if raw.limit_percentage > 0 {
            if raw.limit_percentage > 100 || raw.spike_limit_percentage > 100 {
                let message = "'limit_percentage' and 'spike_limit_percentage' must be at most 100";
                return Err(error("limit_percentage", message));
            }
            let total = total_memory().ok_or_else(|| {
                error("limit_percentage", "cannot tell how much memory there is on this system: use 'limit_mib'")
            })?;
            // Divided first: a hundredth of the memory is precise enough, and cannot overflow.
            (total / 100 * raw.limit_percentage, total / 100 * raw.spike_limit_percentage)
        } else {
            return Err(error("limit_mib", "'limit_mib' or 'limit_percentage' must be greater than zero"));
        };
        let spike = if spike == 0 { limit / 5 } else { spike };
        if spike >= limit {
            return Err(error("spike_limit_mib", "'spike_limit_mib' must be smaller than 'limit_mib'"));
        }
        Ok(Self { bytes_in_flight: usize::try_from((limit - spike) / 2).unwrap_or(usize::MAX) })
    }
}

/// Bytes of memory that this process may use: its control group's limit, else the machine's memory.
pub(super) fn total_memory() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()?.checked_mul(1024)
    });
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Settings, String> {
        let node = Node::parse("weir.yaml", yaml).unwrap();
        Settings::parse(&node, "processors::memory_limiter", || Some(1000 * MIB)).map_err(|e| e.to_string())
    }

    #[test]
    fn half_of_the_soft_limit_may_be_in_flight() {
        let bytes = |yaml: &str| parse(yaml).unwrap().bytes_in_flight as u64;
        assert_eq!(bytes("{check_interval: 1s, limit_mib: 100}"), 40 * MIB);
        assert_eq!(bytes("{check_interval: 1s, limit_mib: 100, spike_limit_mib: 50}"), 25 * MIB);
        assert_eq!(bytes("{check_interval: 1s, limit_percentage: 50, spike_limit_percentage: 30}"), 100 * MIB);
        assert_eq!(bytes("{check_interval: 1s, limit_mib: 100, limit_percentage: 50}"), 40 * MIB, "limit_mib wins");
        for moot in ["", "{}", "{enabled: false}", "{enabled: true}"] {
            let yaml = format!("{{check_interval: 1s, limit_mib: 100, garbage_collector: {moot}}}");
            assert_eq!(bytes(&yaml), 40 * MIB, "{yaml}");
        }
    }

    #[test]
    fn wrong_settings_are_refused_in_the_collectors_words() {
        let refused = |yaml: &str, message: &str| {
            let error = parse(yaml).unwrap_err();
            assert!(error.contains(message), "{error}");
        };
        refused("{limit_mib: 100}", "'check_interval' must be greater than zero");
        refused("{check_interval: 1s}", "'limit_mib' or 'limit_percentage' must be greater than zero");
        refused("{check_interval: 1s, limit_mib: 10, spike_limit_mib: 10}", "weir.yaml:1:54");
        refused("{check_interval: 1s, limit_percentage: 101}", "at most 100");
        refused("{check_interval: 1s, limit_mib: 9, garbage_collector: {every: 1s}}", "unknown key `every`");
        refused("{check_interval: 1s, limit_mb: 10}", "did you mean `limit_mib`");
    }
}
