//! What a plain scalar means: the YAML 1.2 core schema, as far as the Collector follows it.

/// A plain scalar, typed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Typed {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

/// Types a plain scalar.
pub(crate) fn resolve(text: &str) -> Typed {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Typed::Null,
        "true" | "True" | "TRUE" => Typed::Bool(true),
        "false" | "False" | "FALSE" => Typed::Bool(false),
        _ => integer(text).map(Typed::Int).or_else(|| float(text).map(Typed::Float)).unwrap_or(Typed::Text),
    }
}

/// An integer: decimal, `0x`, `0o` or `0b`, with `_` between digits. A decimal with leading zeros is none: YAML 1.1
/// reads it as octal and YAML 1.2 as decimal, so only its author knows.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, digits.get(2..)?),
        Some("0o" | "0O") => (8, digits.get(2..)?),
        Some("0b" | "0B") => (2, digits.get(2..)?),
        _ => (10, digits),
    };
    if radix == 10 && has_leading_zero(digits) {
        return None;
    }
    let mut value: i128 = 0;
    let mut after_digit = false;
    for c in digits.chars() {
        if c == '_' && after_digit {
            after_digit = false;
            continue;
        }
        value = value.checked_mul(i128::from(radix))?.checked_add(i128::from(c.to_digit(radix)?))?;
        after_digit = true;
    }
    after_digit.then_some(if negative { -value } else { value })
}

/// An integer that is written as a float, as some tools do with large ones: `1e+06`, `16.0`.
pub(crate) fn whole(text: &str) -> Option<i128> {
    // 2^53: above it a double is no exact integer.
    let value = float(text).filter(|value| value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0)?;
    Some(value as i128)
}

/// Whether a text is an integer but for its leading zeros.
pub(crate) fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

fn float(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    // Rust also reads `inf`, `nan` and `infinity`, which YAML takes for words.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    let digit_first = text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if !numeric || !digit_first || has_leading_zero(text) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_typed_as_yaml_does() {
        for (text, typed) in [
            ("", Typed::Null),
            ("~", Typed::Null),
            ("null", Typed::Null),
            ("nil", Typed::Text),
            ("true", Typed::Bool(true)),
            ("False", Typed::Bool(false)),
            ("yes", Typed::Text),
            ("on", Typed::Text),
            ("t", Typed::Text),
            ("0", Typed::Int(0)),
            ("-7", Typed::Int(-7)),
            ("+7", Typed::Int(7)),
            ("1_000_000", Typed::Int(1_000_000)),
            ("1__0", Typed::Text),
            ("_1", Typed::Text),
            ("1_", Typed::Text),
            ("0x1F", Typed::Int(31)),
            ("0o17", Typed::Int(15)),
            ("0b101", Typed::Int(5)),
            ("0x", Typed::Text),
            ("0123", Typed::Text),
            ("00", Typed::Text),
            ("18446744073709551615", Typed::Int(u64::MAX as i128)),
            ("1.5", Typed::Float(1.5)),
            (".5", Typed::Float(0.5)),
            ("1.", Typed::Float(1.0)),
            ("1e3", Typed::Float(1000.0)),
            ("-1.5E-1", Typed::Float(-0.15)),
            (".inf", Typed::Float(f64::INFINITY)),
            ("1e999", Typed::Text),
            ("inf", Typed::Text),
            ("nan", Typed::Text),
            (".", Typed::Text),
            ("e3", Typed::Text),
            ("1.2.3", Typed::Text),
            ("-", Typed::Text),
            ("1s", Typed::Text),
            ("localhost:4317", Typed::Text),
        ] {
            assert_eq!(resolve(text), typed, "{text}");
        }
        assert!(matches!(resolve(".nan"), Typed::Float(value) if value.is_nan()));
    }
}
