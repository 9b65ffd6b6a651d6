//! All of Weir's own metrics, as they are at one moment.

use weir_pipeline::host::Host;
use weir_pipeline::telemetry::{Balance, Description, Family, Level};

use super::process::Usage;
use super::since::Since;

/// What is shown, whatever the format.
pub(crate) struct Collected {
    /// What components count.
    pub(crate) families: Vec<Family>,
    /// The books of each destination.
    pub(crate) balances: Vec<Balance>,
    /// What the process uses.
    pub(crate) process: Vec<Family>,
}

/// The name of what [`Collected::balances`] come to.
pub(super) const DIFFERENCE: &str = "weir_accounting_difference";

/// What that means.
pub(super) const DIFFERENCE_IS: Description =
    Description::gauge("Records of a destination that vanished uncounted, or (negative) counted twice.");

impl Collected {
    /// What is shown at `level`.
    pub(crate) fn now(host: &Host, level: Level) -> Self {
        let mut families = host.telemetry().families();
        let balances = Balance::of(&families);
        families.retain(|family| family.description.level <= level);
        Self { families, balances, process: process(host) }
    }

    /// A destination was sent these at this moment.
    pub(super) fn be_known_to(&self, since: &mut Since, unix_nanos: u64) {
        since.advance(self.families.iter().chain(&self.process), unix_nanos);
    }
}

fn process(host: &Host) -> Vec<Family> {
    const NANOS: u64 = 1_000_000_000;
    let usage = Usage::now();
    let uptime = Description::counter("How long the process has been running.").unit("s").divided_by(NANOS);
    let cpu = Description::counter("CPU time that the process has used.").unit("s").divided_by(NANOS);
    let memory = Description::gauge("Memory of the process that is resident.").unit("By");
    let family = |name: &str, description, value| Family {
        name: name.to_owned(),
        description,
        series: vec![(Vec::new(), value)],
    };
    let mut families = vec![
        family("otelcol_process_uptime", uptime, host.uptime_nanos()),
        family("otelcol_process_cpu_seconds", cpu, usage.cpu_nanos),
    ];
    families.extend(usage.resident_bytes.map(|bytes| family("otelcol_process_memory_rss", memory, bytes)));
    families
}

/// The name of a metric: it is called after what is counted, but what is shown has been divided.
pub(crate) fn shown_name(name: &str, description: Description) -> String {
    match name.strip_suffix("_picousd").filter(|_| description.unit == "USD") {
        Some(base) => format!("{base}_usd"),
        None => name.to_owned(),
    }
}
