//! Medians over rounds and the table they are printed in.

use std::fmt;

/// What was measured of one contender, round by round.
#[derive(Debug, Default)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    /// CPU time per span in microseconds.
    pub(crate) cpu: Vec<f64>,
    /// Spans per second of wall clock.
    pub(crate) rate: Vec<f64>,
    /// 99th percentile of the latency of a request, in milliseconds.
    pub(crate) p99: Vec<f64>,
    /// Minor page faults per request.
    pub(crate) faults: Vec<f64>,
    /// Bytes, the most of all rounds.
    pub(crate) peak_rss: u64,
}

/// Median, smallest and largest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Of no values at all, everything is not a number.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        Self { median: f64::midpoint(at(low), at(high)), min: at(0), max: sorted.last().copied().unwrap_or(f64::NAN) }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = f.precision().unwrap_or(3);
        write!(f, "{:.precision$} ({:.precision$}–{:.precision$})", self.median, self.min, self.max)
    }
}

/// The rows of a table, one for each contender.
pub(crate) fn table(series: &[Series]) -> String {
    let mut lines = vec![format!(
        "  {:<22} {:>25} {:>11} {:>9} {:>11} {:>10}",
        "", "CPU µs/span (min–max)", "spans/s", "p99 ms", "faults/req", "peak RSS"
    )];
    for one in series {
        lines.push(format!(
            "  {:<22} {:>25} {:>11.0} {:>9.2} {:>11.1} {:>6.1} MiB",
            one.name,
            format!("{:.3}", Summary::of(&one.cpu)),
            Summary::of(&one.rate).median,
            Summary::of(&one.p99).median,
            Summary::of(&one.faults).median,
            mebibytes(one.peak_rss),
        ));
    }
    lines.join("\n")
}

/// `a[i] / b[i]` or `a[i] - b[i]` for each round, so that drift between rounds cancels.
pub(crate) fn paired(a: &[f64], b: &[f64], combine: fn(f64, f64) -> f64) -> Summary {
    let values: Vec<_> = a.iter().zip(b).map(|(a, b)| combine(*a, *b)).collect();
    Summary::of(&values)
}

/// "target ≤ 1.35: met", or nothing where none was set.
pub(crate) fn verdict(value: f64, target: Option<f64>, unit: &str) -> String {
    match target {
        Some(target) => {
            let word = if value <= target { "met" } else { "missed" };
            format!("   target ≤ {target}{unit}: {word}")
        }
        None => String::new(),
    }
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]), Summary { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert!(Summary::of(&[]).median.is_nan());
        assert_eq!(format!("{:.1}", Summary::of(&[1.0, 2.0, 3.0])), "2.0 (1.0–3.0)");
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine was twice as slow in the second round; the ratio does not notice.
        let ratio = paired(&[2.6, 5.2, 2.8], &[2.0, 4.0, 2.0], |a, b| a / b);
        assert_eq!((ratio.median, ratio.min, ratio.max), (1.3, 1.3, 1.4));
    }

    #[test]
    fn targets_are_met_missed_or_absent() {
        assert!(verdict(1.35, Some(1.35), "").ends_with("met"));
        assert!(verdict(1.36, Some(1.35), "").ends_with("missed"));
        assert_eq!(verdict(9.0, None, ""), "");
    }
}
