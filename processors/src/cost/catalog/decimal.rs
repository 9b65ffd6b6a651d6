//! Decimals from the texts of JSON numbers, never through a float.

/// A JSON number times a power of ten as a plain decimal: `2.5e-06` and 6 give `2.5`.
///
/// # Errors
/// The text is no number, is negative, or is absurdly large or small.
pub fn decimal(number: &str, power: i32) -> Result<String, String> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().map_err(|_| format!("`{number}` is not a number"))?;
    let digits = format!("{whole}{fraction}");
    let is_number = !whole.is_empty() && digits.len() <= 64 && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number || !(-40..=40).contains(&exponent) || !(-12..=12).contains(&power) {
        return Err(format!("`{number}` is not a price"));
    }
    let point = whole.len() as i32 + exponent + power;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    let digits = format!("{}{digits}{}", zeros(1 - point), zeros(point - digits.len() as i32));
    let (whole, fraction) = digits.split_at_checked(point.max(1) as usize).unwrap_or((&digits, ""));
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(if fraction.is_empty() { whole.into() } else { format!("{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::decimal;

    #[test]
    fn numbers_become_plain_decimals() {
        let cases = [
            ("5", 0, "5"),
            ("0.25", 0, "0.25"),
            ("2.50", 0, "2.5"),
            ("600.0", 0, "600"),
            ("0", 0, "0"),
            ("0.0", 6, "0"),
            ("1e-06", 0, "0.000001"),
            ("1.25e-1", 0, "0.125"),
            ("2.5E+1", 0, "25"),
            ("1.5e3", 0, "1500"),
            ("0.08333333333333334", 0, "0.08333333333333334"),
            ("2.5e-06", 6, "2.5"),
            ("1.5e-7", 6, "0.15"),
            ("0.0000004", 6, "0.4"),
            ("3", 6, "3000000"),
            ("1234.5", -3, "1.2345"),
        ];
        for (number, power, expected) in cases {
            assert_eq!(decimal(number, power).as_deref(), Ok(expected), "{number}");
        }
        for bad in ["-1", "null", "", ".5", "1e", "1e999", "NaN", "\"1\"", "1 ", &"9".repeat(65)] {
            assert!(decimal(bad, 0).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_shift_and_its_opposite_are_nothing(whole in 0u64..1_000_000, fraction in 0u32..1_000_000, power in -12i32..=12) {
            let plain = decimal(&format!("{whole}.{fraction:06}"), 0).unwrap();
            let there = decimal(&plain, power).unwrap();
            prop_assert_eq!(decimal(&there, -power).unwrap(), plain);
        }

        #[test]
        fn any_text_has_an_answer(text in ".{0,80}", power: i32) {
            let _ = decimal(&text, power);
        }
    }
}
