//! Durations and sizes, as people write them.
//!
//! ```
//! # use weir_pipeline::config::units;
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     #[serde(deserialize_with = "units::duration")]
//!     timeout: std::time::Duration,
//!     #[serde(default, deserialize_with = "units::optional_duration")]
//!     max_age: Option<std::time::Duration>,
//!     buckets: Vec<units::GoDuration>,
//!     memory: units::ByteSize,
//! }
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A `deserialize_with` for a [`Duration`] field: see [`GoDuration`].
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    GoDuration::deserialize(deserializer).map(|duration| duration.0)
}

/// A `deserialize_with` for an optional [`Duration`] field; add `default`.
pub fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<GoDuration>::deserialize(deserializer)?.map(|duration| duration.0))
}

/// A duration as Go writes it: `200ms`, `1h30m`, `1.5s`. Displayed as Go does: `1h30m0s`.
///
/// Decision: a bare integer is a number of nanoseconds, as the Collector decodes it, however small that is: a
/// configuration means the same here and there. Negative durations are refused; no setting has a use for one. The
/// longest is that of Go, 2^63 - 1 ns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

impl From<GoDuration> for Duration {
    fn from(duration: GoDuration) -> Self {
        duration.0
    }
}

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for GoDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let problem = |what| UnitError { text: text.to_owned(), what, accepted: DURATION_SPELLINGS };
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        if unsigned.starts_with('-') {
            return Err(problem("must not be negative"));
        }
        if unsigned == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut nanos: u64 = 0;
        let mut rest = unsigned;
        loop {
            let (number, tail) = Decimal::take(rest).ok_or_else(|| problem("is not a duration"))?;
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let unit = match unit {
                "ns" => 1,
                // U+00B5 is the micro sign and U+03BC the Greek letter; keyboards have either.
                "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                "" => return Err(problem("has no unit")),
                _ => return Err(problem("has an unknown unit")),
            };
            let part = number
                .times(unit)
                .map_err(|inexact| problem(if inexact { "is finer than a nanosecond" } else { "is too long" }))?;
            nanos = nanos
                .checked_add(part)
                .filter(|&nanos| nanos <= i64::MAX as u64)
                .ok_or_else(|| problem("is too long"))?;
            if tail.is_empty() {
                return Ok(Self(Duration::from_nanos(nanos)));
            }
            rest = tail;
        }
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let decimal = |f: &mut fmt::Formatter<'_>, nanos: u128, unit: u128, name: &str| {
            write!(f, "{}", nanos / unit)?;
            if !nanos.is_multiple_of(unit) {
                let digits = unit.ilog10() as usize;
                let fraction = format!("{:0digits$}", nanos % unit);
                write!(f, ".{}", fraction.trim_end_matches('0'))?;
            }
            f.write_str(name)
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => decimal(f, nanos, 1, "ns"),
            1_000..1_000_000 => decimal(f, nanos, 1_000, "\u{b5}s"),
            1_000_000..1_000_000_000 => decimal(f, nanos, 1_000_000, "ms"),
            _ => {
                let minutes = nanos / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                decimal(f, nanos % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnitVisitor(PhantomData))
    }
}

impl serde::Serialize for GoDuration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes: `64MiB`, `64 MB`, `1.5GiB`, or a bare integer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Units and their sizes, the first spelling of each the one displayed.
const SIZES: [(&[&str], u64); 9] = [
    (&["TiB", "Ti"], 1 << 40),
    (&["TB"], 1_000_000_000_000),
    (&["GiB", "Gi"], 1 << 30),
    (&["GB"], 1_000_000_000),
    (&["MiB", "Mi"], 1 << 20),
    (&["MB"], 1_000_000),
    (&["KiB", "Ki"], 1 << 10),
    (&["kB", "KB"], 1_000),
    (&["B", ""], 1),
];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let problem = |what| UnitError { text: text.to_owned(), what, accepted: SIZE_SPELLINGS };
        if text.starts_with('-') {
            return Err(problem("must not be negative"));
        }
        let (number, unit) = Decimal::take(text).ok_or_else(|| problem("is not a size"))?;
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let (_, unit) = SIZES
            .iter()
            .find(|(spellings, _)| spellings.contains(&unit))
            .ok_or_else(|| problem("has an unknown unit"))?;
        number
            .times(*unit)
            .map(Self)
            .map_err(|inexact| problem(if inexact { "is not a whole number of bytes" } else { "is too large" }))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The shortest exact spelling: 64MB is also 62500KiB, which nobody wrote.
        let shortest = SIZES
            .iter()
            .filter(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size))
            .filter_map(|(spellings, size)| Some((self.0 / size, *spellings.first()?)))
            .min_by_key(|(count, _)| *count);
        let (count, unit) = shortest.unwrap_or((self.0, "B"));
        write!(f, "{count}{unit}")
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnitVisitor(PhantomData))
    }
}

impl serde::Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const DURATION_SPELLINGS: &str = "write a duration like `200ms`, `1.5s` or `1h30m`; units: ns, us, ms, s, m, h";
const SIZE_SPELLINGS: &str =
    "write a size like `64MiB`, `64 MB` or `65536`; units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB";

/// A text that is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {what}: {accepted}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    accepted: &'static str,
}

/// A type with a unit, written as a text or as a bare integer of its smallest unit.
trait Unit: FromStr<Err = UnitError> {
    const EXPECTED: &'static str;
    const ACCEPTED: &'static str;

    fn from_integer(value: u64) -> Option<Self>;
}

impl Unit for GoDuration {
    const EXPECTED: &'static str = "a duration";
    const ACCEPTED: &'static str = DURATION_SPELLINGS;

    fn from_integer(value: u64) -> Option<Self> {
        i64::try_from(value).ok().map(|_| Self(Duration::from_nanos(value)))
    }
}

impl Unit for ByteSize {
    const EXPECTED: &'static str = "a size";
    const ACCEPTED: &'static str = SIZE_SPELLINGS;

    fn from_integer(value: u64) -> Option<Self> {
        Some(Self(value))
    }
}

struct UnitVisitor<T>(PhantomData<T>);

impl<T: Unit> UnitVisitor<T> {
    fn problem<E: Error>(value: impl fmt::Display, what: &'static str) -> E {
        E::custom(UnitError { text: value.to_string(), what, accepted: T::ACCEPTED })
    }
}

impl<T: Unit> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::from_integer(value).ok_or_else(|| Self::problem(value, "is out of range"))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(Self::problem(value, "must not be negative")),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        Err(Self::problem(value, "has no unit"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// A decimal number, exactly.
struct Decimal {
    digits: u128,
    /// A power of ten.
    divisor: u128,
}

impl Decimal {
    /// The number at the beginning of a text, and the rest. None if there is none, or one with too many digits.
    fn take(text: &str) -> Option<(Self, &str)> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // Zeros at the end add nothing but a larger divisor.
        let significant = fraction.trim_end_matches('0');
        let has_digits = !whole.is_empty() || !fraction.is_empty();
        if !has_digits || fraction.contains('.') || whole.len() + significant.len() > 30 {
            return None;
        }
        let digits = format!("0{whole}{significant}").parse().ok()?;
        let divisor = 10_u128.checked_pow(u32::try_from(significant.len()).ok()?)?;
        Some((Self { digits, divisor }, rest))
    }

    /// The product with a unit; otherwise whether that is not a whole number (true) or too large (false).
    fn times(&self, unit: u64) -> Result<u64, bool> {
        let product = self.digits.checked_mul(u128::from(unit)).ok_or(false)?;
        if !product.is_multiple_of(self.divisor) {
            return Err(true);
        }
        u64::try_from(product / self.divisor).map_err(|_| false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("1ns", 1),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("200ms", 200_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1m1m", 120_000_000_000),
            ("1.500000000000s", 1_500_000_000),
            ("9223372036854775807ns", i64::MAX as u64),
        ] {
            assert_eq!(text.parse::<GoDuration>(), Ok(GoDuration(Duration::from_nanos(nanos))), "{text}");
        }
        for (text, what) in [
            ("", "is not a duration"),
            ("s", "is not a duration"),
            (".s", "is not a duration"),
            ("1.2.3s", "is not a duration"),
            (" 1s", "is not a duration"),
            ("-1s", "must not be negative"),
            ("1", "has no unit"),
            ("1.5", "has no unit"),
            ("1d", "has an unknown unit"),
            ("1 s", "has an unknown unit"),
            ("1S", "has an unknown unit"),
            ("1h30", "has no unit"),
            ("0.1ns", "is finer than a nanosecond"),
            ("9223372036854775808ns", "is too long"),
            ("99999999999h", "is too long"),
            ("2562047h47m16.854775808s", "is too long"),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap_err().what, what, "{text}");
        }
        let message = "10 parsecs".parse::<GoDuration>().unwrap_err().to_string();
        assert_eq!(
            message,
            "`10 parsecs` has an unknown unit: \
             write a duration like `200ms`, `1.5s` or `1h30m`; units: ns, us, ms, s, m, h"
        );
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (text, displayed) in [
            ("0s", "0s"),
            ("999ns", "999ns"),
            ("1500ns", "1.5µs"),
            ("200ms", "200ms"),
            ("1001us", "1.001ms"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1.05s", "1.05s"),
            ("100h0.000000001s", "100h0m0.000000001s"),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), displayed);
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes, displayed) in [
            ("0", 0, "0B"),
            ("1", 1, "1B"),
            ("1024", 1024, "1KiB"),
            ("64MiB", 64 << 20, "64MiB"),
            ("64Mi", 64 << 20, "64MiB"),
            ("64 MB", 64_000_000, "64MB"),
            ("1.5GiB", 3 << 29, "1536MiB"),
            ("1KB", 1000, "1kB"),
            ("10 B", 10, "10B"),
            ("18446744073709551615", u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(ByteSize(bytes).to_string(), displayed);
        }
        for (text, what) in [
            ("", "is not a size"),
            ("MiB", "is not a size"),
            ("1.2.3", "is not a size"),
            ("-1MiB", "must not be negative"),
            ("1 parsec", "has an unknown unit"),
            ("1Mb", "has an unknown unit"),
            ("1  MB", "has an unknown unit"),
            ("0.5B", "is not a whole number of bytes"),
            ("16777216TiB", "is too large"),
            ("18446744073709551616", "is too large"),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap_err().what, what, "{text}");
        }
    }

    proptest! {
        #[test]
        fn durations_round_trip(nanos in 0..=i64::MAX as u64) {
            let duration = GoDuration(Duration::from_nanos(nanos));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn round_durations_round_trip(hours in 0_u64..100, minutes in 0_u64..60, millis in 0_u64..60_000) {
            let duration = GoDuration(Duration::from_millis((hours * 60 + minutes) * 60_000 + millis));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn sizes_round_trip(bytes: u64, shift in 0_u32..64) {
            for size in [ByteSize(bytes), ByteSize(bytes >> shift << shift)] {
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,12}|[0-9.]{0,40}(s|ms|h|MiB|B)?") {
            let _ = text.parse::<GoDuration>();
            let _ = text.parse::<ByteSize>();
        }
    }
}
