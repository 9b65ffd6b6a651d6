//! What metrics mean: kind, unit, help text, and from which level of detail on they are shown.

use serde::Deserialize;

/// What a metric means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Whether it only goes up.
    pub kind: Kind,
    /// The unit after division by `divisor`, as UCUM writes it: `s`, `By`, `{spans}`; empty if it has none.
    pub unit: &'static str,
    /// What is counted, in one sentence; empty if nobody has said.
    pub help: &'static str,
    /// The counted number is divided by this where it is shown: 1,000,000,000 shows nanoseconds as seconds.
    pub divisor: u64,
    /// The least level of detail at which it is shown.
    pub level: Level,
}

/// Whether a metric only goes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only goes up, from the start of the process.
    Counter,
    /// The level of something.
    Gauge,
}

/// How much of Weir's own telemetry is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing.
    None,
    /// What receivers and exporters count, and the process.
    Basic,
    /// Also what processors count.
    Normal,
    /// Also what the books of each destination are kept with.
    Detailed,
}

impl Description {
    /// A count of something.
    pub const fn counter(help: &'static str) -> Self {
        Self { kind: Kind::Counter, unit: "", help, divisor: 1, level: Level::Basic }
    }

    /// The level of something.
    pub const fn gauge(help: &'static str) -> Self {
        Self { kind: Kind::Gauge, unit: "", help, divisor: 1, level: Level::Basic }
    }

    /// The same with a unit, as UCUM writes it.
    #[must_use]
    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// The same, shown divided by `divisor`; 0 counts as 1.
    #[must_use]
    pub const fn divided_by(mut self, divisor: u64) -> Self {
        self.divisor = if divisor == 0 { 1 } else { divisor };
        self
    }

    /// The same, shown from this level of detail on.
    #[must_use]
    pub const fn at(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

impl Default for Description {
    /// A count that nobody has described.
    fn default() -> Self {
        Self::counter("")
    }
}

/// The descriptions of what this crate counts itself.
pub(super) fn well_known(name: &str) -> Option<Description> {
    let (name, unit) = match name {
        _ if name.ends_with("_spans") => (name.strip_suffix("spans")?, "{spans}"),
        _ if name.ends_with("_metric_points") => (name.strip_suffix("metric_points")?, "{datapoints}"),
        _ if name.ends_with("_log_records") => (name.strip_suffix("log_records")?, "{records}"),
        _ => (name, ""),
    };
    let described = match name {
        "otelcol_receiver_accepted_" => Description::counter("Records that clients were told are taken."),
        "otelcol_receiver_refused_" => Description::counter("Records that a pipeline did not take."),
        "weir_receiver_failed_requests" => {
            Description::counter("Requests that were no valid data, or too large.").unit("{requests}")
        }
        "otelcol_processor_incoming_items" => {
            Description::counter("Records handed to the processor.").unit("{items}").at(Level::Normal)
        }
        "otelcol_processor_outgoing_items" => {
            Description::counter("Records that came out of the processor.").unit("{items}").at(Level::Normal)
        }
        "otelcol_exporter_sent_" => Description::counter("Records that the destination took."),
        "otelcol_exporter_send_failed_" => {
            Description::counter("Records given up after retries, or refused for good by the destination.")
        }
        "otelcol_exporter_enqueue_failed_" => Description::counter("Records for which the sending queue had no room."),
        "otelcol_exporter_queue_size" => {
            Description::gauge("What is in the sending queue, in units of its `sizer`.").unit("{batches}")
        }
        "otelcol_exporter_queue_capacity" => {
            Description::gauge("What the sending queue can hold, in units of its `sizer`.").unit("{batches}")
        }
        "weir_exporter_dropped" => Description::counter("Records that the destination will not get, by reason."),
        "weir_exporter_consumed_" => Description::counter("Records handed to the exporter, as it says itself."),
        "weir_exporter_in_flight_" => Description::gauge("Records that the exporter holds."),
        "weir_exporter_offered_" => {
            Description::counter("Records handed to the exporter, as the graph says.").at(Level::Detailed)
        }
        "weir_exporter_in_transfer_" => {
            Description::gauge("Records that are being handed to the exporter.").at(Level::Detailed)
        }
        // Money is counted in whole picodollars, so that sums stay exact, and shown in dollars.
        _ if name.ends_with("_picousd") => {
            Description::counter("Money, in US dollars.").unit("USD").divided_by(1_000_000_000_000)
        }
        "weir_config_reloads" => Description::counter("Attempts to load the configuration anew, by result."),
        _ => return None,
    };
    Some(if described.unit.is_empty() { described.unit(unit) } else { described })
}
