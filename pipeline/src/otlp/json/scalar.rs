//! Single JSON values: literals as they stand in the text, read without a detour through `f64` or a scratch string.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Found;
use crate::otlp::schema::Kind;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What a field of this kind takes, for error texts.
pub(super) const fn expectation(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Int32 | Kind::Sint32 => "a 32-bit integer",
        Kind::Int64 | Kind::Sfixed64 => "a 64-bit integer",
        Kind::Uint32 | Kind::Fixed32 => "an unsigned 32-bit integer",
        Kind::Uint64 | Kind::Fixed64 => "an unsigned 64-bit integer",
        Kind::Enum(_) => "an integer or the name of an enumeration's value",
        Kind::Double => r#"a number, "NaN", "Infinity" or "-Infinity""#,
        Kind::String => "a string",
        Kind::Bytes => "a string in base64",
        Kind::Id(16) => "a string of 32 hexadecimal digits, or of none",
        Kind::Id(_) => "a string of 16 hexadecimal digits, or of none",
        Kind::Message(_) => "an object",
    }
}

/// The kind of the JSON value that `raw` is the text of.
pub(super) fn found(raw: &str) -> Found {
    match raw.as_bytes().first() {
        Some(b'n') => Found::Null,
        Some(b't' | b'f') => Found::Bool,
        Some(b'"') => Found::String(raw.len().saturating_sub(2)),
        Some(b'[') => Found::Array,
        Some(b'{') => Found::Object,
        _ => Found::Number,
    }
}

/// What stands between the quotes, if `raw` is a string: escapes and all.
pub(super) fn quoted(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"')
}

/// The string that `quoted` stands for.
pub(super) fn unescaped(quoted: &str) -> Cow<'_, str> {
    if quoted.contains('\\') {
        let mut out = Vec::with_capacity(quoted.len());
        unescape_into(quoted, &mut out);
        // UTF-8 with whole characters put in between stays UTF-8, so nothing is lost here.
        Cow::Owned(String::from_utf8_lossy(&out).into_owned())
    } else {
        Cow::Borrowed(quoted)
    }
}

/// Appends the string that `quoted`, whose escapes serde_json has checked, stands for.
pub(super) fn unescape_into(quoted: &str, out: &mut Vec<u8>) {
    let mut rest = quoted;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let simple = match escape.as_bytes().first() {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'u') => {
                let (c, tail) = unicode_escape(escape);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = tail;
                continue;
            }
            Some(&other) => other,
            None => break,
        };
        out.push(simple);
        rest = escape.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// The character of `uXXXX…`, and what follows it. Half a surrogate pair is U+FFFD.
fn unicode_escape(escape: &str) -> (char, &str) {
    let unit = |s: &str| s.get(1..5).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let tail = escape.get(5..).unwrap_or_default();
    match unit(escape) {
        Some(high @ 0xd800..=0xdbff) => {
            if let Some(second) = tail.strip_prefix('\\').filter(|s| s.starts_with('u'))
                && let Some(low @ 0xdc00..=0xdfff) = unit(second)
            {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return (char::from_u32(code).unwrap_or_default(), second.get(5..).unwrap_or_default());
            }
            (char::REPLACEMENT_CHARACTER, tail)
        }
        code => (code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER), tail),
    }
}

/// The bits that a numeric or boolean field of `kind` has on the wire: of a varint its value, of fixed-size kinds their
/// little-endian bytes' value.
pub(super) fn bits(kind: Kind, raw: &str) -> Result<u64, Found> {
    match kind {
        Kind::Bool => match raw {
            "true" => Ok(1),
            "false" => Ok(0),
            _ => Err(found(raw)),
        },
        Kind::Double => double(raw).map(f64::to_bits),
        Kind::Int64 | Kind::Sfixed64 => integer::<i64>(raw).map(|v| v as u64),
        Kind::Int32 => integer::<i32>(raw).map(|v| i64::from(v) as u64),
        Kind::Sint32 => integer::<i32>(raw).map(|v| u64::from((v << 1 ^ v >> 31) as u32)),
        Kind::Uint32 | Kind::Fixed32 => integer::<u32>(raw).map(u64::from),
        Kind::Uint64 | Kind::Fixed64 => integer::<u64>(raw),
        Kind::Enum(names) => {
            let name = quoted(raw).unwrap_or_default();
            match names.iter().find(|(known, _)| *known == name) {
                Some((_, number)) => Ok(i64::from(*number) as u64),
                None => integer::<i32>(raw).map(|v| i64::from(v) as u64),
            }
        }
        Kind::String | Kind::Bytes | Kind::Id(_) | Kind::Message(_) => Err(found(raw)),
    }
}

/// A whole number of any notation, in a string or not.
fn integer<T: std::str::FromStr + TryFrom<i128>>(raw: &str) -> Result<T, Found> {
    if let Ok(plain) = quoted(raw).unwrap_or(raw).parse() {
        return Ok(plain);
    }
    let text = number_text(raw)?;
    let value = match text.parse::<i128>() {
        Ok(value) => value,
        Err(_) => whole(&text).ok_or_else(|| found(raw))??,
    };
    T::try_from(value).map_err(|_| Found::OutOfRange)
}

/// The value of a decimal with fraction or exponent; `None` if `text` is no decimal at all. Exact: `f64` would round
/// what lies above 2^53.
fn whole(text: &str) -> Option<Result<i128, Found>> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (units, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let decimal = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let magnitude = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if units.is_empty() || magnitude.is_empty() || !decimal(units) || !decimal(fraction) || !decimal(magnitude) {
        return None;
    }
    let digits = format!("{units}{fraction}");
    let significant = digits.trim_end_matches('0');
    let trimmed = digits.len() - significant.len();
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some(Ok(0));
    }
    // An exponent past i64 is as far out as the largest i64.
    let exponent: i64 = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    let scale = exponent.saturating_add(trimmed as i64).saturating_sub(fraction.len() as i64);
    if scale < 0 {
        return Some(Err(Found::Fraction));
    }
    let value = u32::try_from(scale)
        .ok()
        .and_then(|scale| 10i128.checked_pow(scale))
        .and_then(|power| significant.parse::<i128>().ok()?.checked_mul(power));
    Some(value.map(|v| if negative { -v } else { v }).ok_or(Found::OutOfRange))
}

fn double(raw: &str) -> Result<f64, Found> {
    let text = number_text(raw);
    if quoted(raw).is_some() {
        match text.as_deref() {
            Ok("NaN") => return Ok(f64::NAN),
            Ok("Infinity" | "+Inf" | "Inf") => return Ok(f64::INFINITY),
            Ok("-Infinity" | "-Inf") => return Ok(f64::NEG_INFINITY),
            _ => {}
        }
    }
    // Rust also reads "inf" and "nan", which JSON does not know.
    match text?.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) if raw.bytes().any(|b| b.is_ascii_digit()) => Err(Found::OutOfRange),
        _ => Err(found(raw)),
    }
}

/// The text of a number, or of a string, which may hold one.
fn number_text(raw: &str) -> Result<Cow<'_, str>, Found> {
    match (quoted(raw), found(raw)) {
        (Some(quoted), _) => Ok(unescaped(quoted)),
        (None, Found::Number) => Ok(Cow::Borrowed(raw)),
        (None, other) => Err(other),
    }
}

/// Appends the bytes that a hexadecimal id stands for.
pub(super) fn hex_into(raw: &str, out: &mut Vec<u8>) -> Result<(), Found> {
    let text = unescaped(quoted(raw).ok_or_else(|| found(raw))?);
    let digit = |b: &u8| char::from(*b).to_digit(16).map(|d| d as u8);
    for pair in text.as_bytes().chunks(2) {
        match pair {
            [high, low] => out.push(digit(high).zip(digit(low)).map(|(h, l)| h << 4 | l).ok_or_else(|| found(raw))?),
            _ => return Err(found(raw)),
        }
    }
    Ok(())
}

/// Appends the bytes that a base64 string stands for.
pub(super) fn base64_into(raw: &str, out: &mut Vec<u8>) -> Result<(), Found> {
    let text = unescaped(quoted(raw).ok_or_else(|| found(raw))?);
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    engine.decode_vec(text.as_bytes(), out).map_err(|_| found(raw))
}
