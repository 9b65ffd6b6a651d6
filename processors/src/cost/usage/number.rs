//! Token counts as emitters write them: integers, doubles (`7.0`), strings.

use weir_pipeline::batch::view::Value;

use crate::cost::Usd;
use crate::cost::money::MAX_TOKENS;

/// An attribute's value read as a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// No value, or an empty string.
    Absent,
    /// A count, at most [`MAX_TOKENS`].
    Tokens(u64),
    /// Anything else.
    Invalid,
}

impl Number {
    #[inline]
    pub(super) fn read(value: Value<'_>) -> Self {
        match value {
            Value::Int(n) => Self::from_int(n),
            Value::Double(n) => Self::from_double(n),
            Value::Str(text) => Self::from_text(text.as_str()),
            Value::Empty => Self::Absent,
            Value::Bool(_) | Value::Array(_) | Value::KvList(_) | Value::Bytes(_) => Self::Invalid,
        }
    }

    fn from_int(n: i64) -> Self {
        match u64::try_from(n) {
            Ok(n) if n <= MAX_TOKENS => Self::Tokens(n),
            _ => Self::Invalid,
        }
    }

    fn from_double(n: f64) -> Self {
        // Both comparisons are false for NaN; -0.0 is 0.
        if n >= 0.0 && n <= MAX_TOKENS as f64 && n.fract() == 0.0 { Self::Tokens(n as u64) } else { Self::Invalid }
    }

    fn from_text(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() {
            return Self::Absent;
        }
        match text.parse::<i64>() {
            Ok(n) => Self::from_int(n),
            Err(_) => text.parse::<f64>().map_or(Self::Invalid, Self::from_double),
        }
    }
}

/// An attribute's value read as an amount; nothing where it is none (negative, NaN, no number).
pub(in crate::cost) fn money(value: Value<'_>) -> Option<Usd> {
    match value {
        Value::Double(n) => usd(n),
        Value::Int(n) => usd(n as f64),
        Value::Str(text) => usd(text.as_str().trim().parse().ok()?),
        Value::Empty | Value::Bool(_) | Value::Array(_) | Value::KvList(_) | Value::Bytes(_) => None,
    }
}

/// The nearest amount in whole pico-USD.
pub(super) fn usd(n: f64) -> Option<Usd> {
    let most = Usd::MAX_OF_SPAN.to_f64();
    (0.0..=most).contains(&n).then(|| Usd::from_pico((n * 1e12).round() as u128)).filter(|usd| *usd <= Usd::MAX_OF_SPAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_in_three_types() {
        for value in [Value::Int(7), Value::Double(7.0), Value::Str("7".into()), Value::Str(" 7.0 ".into())] {
            assert_eq!(Number::read(value), Number::Tokens(7), "{value:?}");
        }
        assert_eq!(Number::read(Value::Double(-0.0)), Number::Tokens(0));
        assert_eq!(Number::read(Value::Int(MAX_TOKENS as i64)), Number::Tokens(MAX_TOKENS));
        for value in [Value::Empty, Value::Str("".into()), Value::Str("  ".into())] {
            assert_eq!(Number::read(value), Number::Absent, "{value:?}");
        }
    }

    #[test]
    fn amounts_are_read_to_the_nearest_pico_usd() {
        for value in [Value::Double(0.000_361_35), Value::Str(" 0.00036135 ".into())] {
            assert_eq!(money(value), Some(Usd::from_pico(361_350_000)), "{value:?}");
        }
        assert_eq!(money(Value::Int(2)), Some(Usd::from_pico(2_000_000_000_000)));
        for bad in [f64::NAN, -0.5, f64::INFINITY, 1e10, 1e6] {
            assert_eq!(money(Value::Double(bad)), None, "{bad}");
        }
        assert_eq!(money(Value::Str("cheap".into())), None);
    }

    #[test]
    fn anything_else_is_invalid() {
        let doubles = [f64::NAN, f64::INFINITY, -1.0, 0.5, 1e300, MAX_TOKENS as f64 * 2.0].map(Value::Double);
        let ints = [-1, i64::MIN, i64::MAX, MAX_TOKENS as i64 + 1].map(Value::Int);
        let texts = ["seven", "-7", "1e400", "nan", "7 tokens", "99999999999999999999"].map(|s| Value::Str(s.into()));
        for value in doubles.into_iter().chain(ints).chain(texts).chain([Value::Bool(true), Value::Bytes(b"7")]) {
            assert_eq!(Number::read(value), Number::Invalid, "{value:?}");
        }
    }
}
