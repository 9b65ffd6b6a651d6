//! Texts as numbers, as Go reads them.

use std::borrow::Cow;

/// A text as Go's `strconv.ParseFloat` reads it; `None` also for a number that is too large, where Go speaks of a range
/// error.
pub(crate) fn float(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => hexadecimal(&without_underscores(digits, true)?)?,
        None if digits.starts_with(['+', '-']) => return None,
        None => without_underscores(digits, false)?.parse().ok()?,
    };
    let is_number = digits.contains(|c: char| c.is_ascii_digit());
    if is_number && value.is_infinite() || value.is_nan() && digits.len() < text.len() {
        return None;
    }
    Some(sign * value)
}

/// The text without underscores, if each of them stands between digits; before hexadecimal ones it may come first.
fn without_underscores(text: &str, is_hexadecimal: bool) -> Option<Cow<'_, str>> {
    if !text.contains('_') {
        return Some(Cow::Borrowed(text));
    }
    let is_digit = |c: &u8| if is_hexadecimal { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
    let bytes = text.as_bytes();
    let separates = |at: usize| {
        let follows_digit = at.checked_sub(1).map_or(is_hexadecimal, |before| is_digit(&bytes[before]));
        follows_digit && bytes.get(at + 1).is_some_and(is_digit)
    };
    text.match_indices('_').all(|(at, _)| separates(at)).then(|| Cow::Owned(text.replace('_', "")))
}

/// A number such as `1.8p-2`; the exponent, of two, must be there.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    if !exponent.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // An exponent that no i32 can hold is as good as its sign.
    let exponent = match exponent.parse::<i32>() {
        Ok(exponent) => exponent,
        Err(_) if !exponent.trim_start_matches(['+', '-']).bytes().all(|c| c.is_ascii_digit()) => return None,
        Err(_) if exponent.starts_with('-') => i32::MIN,
        Err(_) => i32::MAX,
    };
    let mut bits: u64 = 0;
    let mut scale: i64 = exponent.into();
    let digits = whole.chars().map(|c| (c, 0)).chain(fraction.chars().map(|c| (c, 4)));
    for (c, behind_point) in digits {
        let digit = u64::from(c.to_digit(16)?);
        scale -= behind_point;
        if bits >> 60 == 0 {
            bits = bits << 4 | digit;
        } else {
            // The last bit says that something was cut off, which is all that rounding needs to know.
            bits |= u64::from(digit != 0);
            scale += 4;
        }
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // In two steps, as neither factor alone may be a number.
    let scale = scale.clamp(-2000, 2000) as i32;
    Some(bits as f64 * 2f64.powi(scale / 2) * 2f64.powi(scale - scale / 2))
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn texts_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("1", Some(1.0)),
            ("+1.5", Some(1.5)),
            ("-.5", Some(-0.5)),
            ("1.", Some(1.0)),
            ("1e3", Some(1000.0)),
            ("1E-2", Some(0.01)),
            ("1e-400", Some(0.0)),
            ("1.7976931348623157e308", Some(f64::MAX)),
            ("1e400", None),
            ("-1e400", None),
            ("inf", Some(f64::INFINITY)),
            ("+Infinity", Some(f64::INFINITY)),
            ("-INF", Some(f64::NEG_INFINITY)),
            ("infi", None),
            ("+nan", None),
            ("1_000.0_1e0_1", Some(10_000.1)),
            ("0x_1_0p0_1", Some(32.0)),
            ("_1", None),
            ("1_", None),
            ("1__0", None),
            ("1_.5", None),
            ("1._5", None),
            ("0x1_p1", None),
            ("in_f", None),
            ("1e5_0", Some(1e50)),
            ("0x.p1", None),
            ("0x1.p1", Some(2.0)),
            ("0x1.00000000000008p0", Some(1.0)),
            ("0x1.000000000000080000000001p0", Some(1.000_000_000_000_000_2)),
            ("0x1.00000000000018p0", Some(1.000_000_000_000_000_4)),
            ("0x1.fffffffffffff8p1023", None),
            ("0x1.fffffffffffff7fffp1023", Some(f64::MAX)),
            ("0x0p99999999999", Some(0.0)),
            ("0e99999999999", Some(0.0)),
            ("0x1p0.5", None),
            ("1f", None),
            (" 1", None),
            ("", None),
            ("-", None),
            (".", None),
            ("+-1", None),
            ("1e", None),
            ("0x1p-2", Some(0.25)),
            ("-0X1.8P+1", Some(-3.0)),
            ("0x.8p0", Some(0.5)),
            ("0x1.fffffffffffffp1023", Some(f64::MAX)),
            ("0x1p1024", None),
            ("0x1p-1074", Some(5e-324)),
            ("0x10000000000000000001p-76", Some(1.0)),
            ("0x1p99999999999", None),
            ("0x1p-99999999999", Some(0.0)),
            ("0x1", None),
            ("0xp1", None),
            ("0x1p", None),
            ("0x1p+-1", None),
            ("0xgp1", None),
        ] {
            assert_eq!(float(text), expected, "{text:?}");
        }
        assert!(float("NaN").is_some_and(f64::is_nan));
    }
}
