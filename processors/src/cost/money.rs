//! Exact money: rates per token and amounts in pico-USD, in integers.
//!
//! A rate of `r` USD per million tokens is `r × 10⁶` pico-USD per token, so a rate with up to six decimals times a whole
//! number of tokens is a whole number of pico-USD: exact, no rounding anywhere. The few rates with more decimals (thirds
//! that somebody divided in floating point, such as `0.08333333333333334`) keep up to 18 decimals in [`Rate::rest`];
//! an amount sums these parts exactly and is rounded once, half to even, when it is [`Amount::finish`]ed.
//!
//! Nothing can overflow: a rate is at most 10⁶ USD per million (< 2⁴⁰ pico-USD per token), a count below 2⁵⁶ (a few
//! [`MAX_TOKENS`]), so a product is below 2⁹⁶ and 2³² of them fit an `u128`.

use std::fmt;
use std::ops::Add;

/// Largest token count taken for real; every whole double up to here is exact.
pub const MAX_TOKENS: u64 = 1 << 53;

/// Decimals of a rate beyond the pico-USD per token.
const REST_DECIMALS: usize = 12;
const REST_SCALE: u64 = 10u64.pow(REST_DECIMALS as u32);
/// Decimals of USD per million tokens that are whole pico-USD per token.
const PICO_DECIMALS: usize = 6;
const PICO_PER_USD: u128 = 1_000_000_000_000;
const MAX_USD_PER_MILLION: u64 = 1_000_000;
/// Largest rate, in 10⁻²⁴ USD per unit.
const MAX_UNITS: u128 = MAX_USD_PER_MILLION as u128 * 10u128.pow(PICO_DECIMALS as u32) * REST_SCALE as u128;

/// A price per million units (tokens, requests).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rate {
    /// Whole pico-USD per unit.
    pico: u64,
    /// What is left, in 10⁻¹² pico-USD per unit; below 10¹².
    rest: u64,
}

impl Rate {
    /// Reads a plain decimal of USD per million: digits, optionally a point and up to 18 digits.
    pub fn parse(text: &str) -> Result<Self, RateError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        if whole.is_empty() || fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
        {
            return Err(RateError::NotDecimal);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > PICO_DECIMALS + REST_DECIMALS {
            return Err(RateError::TooPrecise);
        }
        let usd = whole.parse::<u64>().ok().filter(|usd| *usd <= MAX_USD_PER_MILLION).ok_or(RateError::TooLarge)?;
        let digits = |range: std::ops::Range<usize>| {
            range.fold(0u64, |n, at| n * 10 + fraction.as_bytes().get(at).map_or(0, |b| u64::from(b - b'0')))
        };
        let pico = usd * 10u64.pow(PICO_DECIMALS as u32) + digits(0..PICO_DECIMALS);
        let rate = Self { pico, rest: digits(PICO_DECIMALS..PICO_DECIMALS + REST_DECIMALS) };
        if rate.units() > MAX_UNITS { Err(RateError::TooLarge) } else { Ok(rate) }
    }

    /// This rate times a factor, to 18 decimals of USD per million, rounded half to even: exact for every rate and
    /// factor that have no more decimals than that together.
    pub fn times(self, factor: Factor) -> Result<Self, RateError> {
        let product = self.units().checked_mul(u128::from(factor.0)).ok_or(RateError::TooLarge)?;
        let units = divide_half_even(product, u128::from(FACTOR_SCALE));
        if units > MAX_UNITS {
            return Err(RateError::TooLarge);
        }
        let scale = u128::from(REST_SCALE);
        // Both are below 2⁶⁴: a rate is at most 10¹² pico-USD per unit.
        Ok(Self { pico: (units / scale) as u64, rest: (units % scale) as u64 })
    }

    /// In 10⁻²⁴ USD per unit.
    fn units(self) -> u128 {
        u128::from(self.pico) * u128::from(REST_SCALE) + u128::from(self.rest)
    }

    /// A rate per thousand units as one per million.
    pub fn from_per_thousand(self) -> Result<Self, RateError> {
        let rest = self.rest * 1_000;
        let pico = self.pico * 1_000 + rest / REST_SCALE;
        if pico > MAX_USD_PER_MILLION * 10u64.pow(PICO_DECIMALS as u32) {
            return Err(RateError::TooLarge);
        }
        Ok(Self { pico, rest: rest % REST_SCALE })
    }
}

/// USD per million as a plain decimal without trailing zeros.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10u64.pow(PICO_DECIMALS as u32);
        let fraction = u128::from(self.pico % scale) * u128::from(REST_SCALE) + u128::from(self.rest);
        write_decimal(f, u128::from(self.pico / scale), fraction, PICO_DECIMALS + REST_DECIMALS)
    }
}

/// A factor of a rate: a discount, the multiplier of a service tier, what a unit of another currency is worth in USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor(u64);

const FACTOR_DECIMALS: usize = 9;
const FACTOR_SCALE: u64 = 10u64.pow(FACTOR_DECIMALS as u32);
const MAX_FACTOR: u64 = 1_000;

impl Factor {
    /// One: changes nothing.
    pub const ONE: Self = Self(FACTOR_SCALE);
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// A thousandth.
    pub const THOUSANDTH: Self = Self(FACTOR_SCALE / 1_000);

    /// Reads a plain decimal from 0 to 1000 with at most 9 decimals.
    pub fn parse(text: &str) -> Result<Self, FactorError> {
        let rate = Rate::parse(text).map_err(|_| FactorError)?;
        let scale = 10u128.pow((PICO_DECIMALS + REST_DECIMALS - FACTOR_DECIMALS) as u32);
        if !rate.units().is_multiple_of(scale) || rate.units() / scale > u128::from(MAX_FACTOR * FACTOR_SCALE) {
            return Err(FactorError);
        }
        Ok(Self((rate.units() / scale) as u64))
    }
}

/// What is wrong with the text of a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a factor is a plain decimal from 0 to 1000 with at most 9 decimals, such as \"0.85\"")]
pub struct FactorError;

/// What is wrong with the text of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not `digits` or `digits.digits`.
    #[error("a rate is a plain decimal such as \"0.25\", in USD per million tokens")]
    NotDecimal,
    /// More than 18 decimals.
    #[error("a rate has at most 18 decimals")]
    TooPrecise,
    /// More than a million USD per million tokens.
    #[error("a rate is at most 1000000 USD per million")]
    TooLarge,
}

/// A sum of counts times rates, not yet rounded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Amount {
    pico: u128,
    rest: u128,
}

impl Amount {
    /// Adds `count` units at `rate`. Counts are sums of a few of at most [`MAX_TOKENS`].
    #[inline]
    pub fn add(&mut self, count: u64, rate: Rate) {
        debug_assert!(count <= 8 * MAX_TOKENS);
        self.pico += u128::from(count) * u128::from(rate.pico);
        if rate.rest != 0 {
            self.rest += u128::from(count) * u128::from(rate.rest);
        }
    }

    /// The amount in whole pico-USD, rounded half to even.
    #[inline]
    pub fn finish(self) -> Usd {
        if self.rest == 0 {
            return Usd(self.pico);
        }
        let scale = u128::from(REST_SCALE);
        let (whole, part) = (self.pico + self.rest / scale, self.rest % scale);
        Usd(whole + round_up(whole, part, scale))
    }
}

fn divide_half_even(dividend: u128, divisor: u128) -> u128 {
    let (whole, part) = (dividend / divisor, dividend % divisor);
    whole + round_up(whole, part, divisor)
}

/// 1 if `whole` and `part` of `of` are to be rounded up: to the nearest, from the middle to the even one.
fn round_up(whole: u128, part: u128, of: u128) -> u128 {
    u128::from(part * 2 > of || (part * 2 == of && whole % 2 == 1))
}

fn write_decimal(f: &mut fmt::Formatter<'_>, whole: u128, mut fraction: u128, mut decimals: usize) -> fmt::Result {
    if fraction == 0 {
        return write!(f, "{whole}");
    }
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        decimals -= 1;
    }
    write!(f, "{whole}.{fraction:0decimals$}")
}

/// An exact amount of US dollars in whole pico-USD (10⁻¹²). Displays as a plain decimal without trailing zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Usd(u128);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The most that a span can cost: more is a mistake, and would not fit the `Decimal(18, 12)` of tables, which ends
    /// below a million. The nearest double fits as well.
    pub const MAX_OF_SPAN: Self = Self(999_999_999_999 * 1_000_000);

    /// From pico-USD.
    pub const fn from_pico(pico: u128) -> Self {
        Self(pico)
    }

    /// In pico-USD.
    pub const fn as_pico(self) -> u128 {
        self.0
    }

    /// The nearest double; correctly rounded below 9,007 USD, where both operands of the division are exact.
    #[inline]
    pub fn to_f64(self) -> f64 {
        // A conversion from 64 bits is a few instructions, from 128 a call.
        match u64::try_from(self.0) {
            Ok(pico) => pico as f64 / 1e12,
            Err(_) => self.large_to_f64(),
        }
    }

    #[cold]
    #[inline(never)]
    fn large_to_f64(self) -> f64 {
        self.0 as f64 / 1e12
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0 / PICO_PER_USD, self.0 % PICO_PER_USD, PICO_PER_USD.ilog10() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(count: u64, rate: &str) -> String {
        let mut amount = Amount::default();
        amount.add(count, Rate::parse(rate).unwrap());
        amount.finish().to_string()
    }

    #[test]
    fn amounts_are_exact_decimals() {
        assert_eq!(amount(1, "2.5"), "0.0000025");
        assert_eq!(amount(1_000_000, "2.5"), "2.5");
        assert_eq!(amount(1, "0.000001"), "0.000000000001");
        assert_eq!(amount(0, "15"), "0");
        assert_eq!(amount(3_000_000, "5"), "15");
        assert_eq!(amount(12, "0.08333333333333334"), "0.000001");
        assert_eq!(amount(MAX_TOKENS, "1000000"), "9007199254740992");
    }

    #[test]
    fn the_rest_is_rounded_once_and_half_to_even() {
        // Half a pico-USD per token.
        assert_eq!(amount(1, "0.0000005"), "0");
        assert_eq!(amount(2, "0.0000005"), "0.000000000001");
        assert_eq!(amount(3, "0.0000005"), "0.000000000002");
        assert_eq!(amount(5, "0.0000005"), "0.000000000002");
        assert_eq!(amount(1, "0.000000500000000001"), "0.000000000001");
        // The whole amount is to be even, not what its small part comes to: 2123725636.5 pico-USD.
        assert_eq!(amount(1_545, "1.3745797"), "0.002123725636");
    }

    #[test]
    fn bad_rates_are_refused() {
        for text in ["", ".", "1.", ".5", "-1", "1e-6", "0x1", "1,5", " 1", "1.2.3", "NaN", "٣"] {
            assert_eq!(Rate::parse(text), Err(RateError::NotDecimal), "{text:?}");
        }
        assert_eq!(Rate::parse("0.0000000000000000001"), Err(RateError::TooPrecise));
        assert_eq!(Rate::parse("1000001"), Err(RateError::TooLarge));
        assert_eq!(Rate::parse("1000000.5"), Err(RateError::TooLarge));
        assert_eq!(Rate::parse("9223372036854775808"), Err(RateError::TooLarge));
        assert_eq!(Rate::parse("99999999999999999999999"), Err(RateError::TooLarge));
        assert_eq!(Rate::parse("1.5000000000000000000000"), Rate::parse("1.5"));
    }

    #[test]
    fn per_thousand_becomes_per_million() {
        let per_thousand = |text: &str| Rate::parse(text).unwrap().from_per_thousand();
        assert_eq!(per_thousand("12"), Rate::parse("12000"));
        assert_eq!(per_thousand("0.0000000015"), Rate::parse("0.0000015"));
        assert_eq!(per_thousand("1001"), Err(RateError::TooLarge));
    }

    #[test]
    fn factors_are_exact_or_rounded_half_to_even() {
        let times = |rate: &str, factor: &str| {
            Rate::parse(rate).unwrap().times(Factor::parse(factor).unwrap()).map(|rate| rate.to_string())
        };
        assert_eq!(times("2.5", "0.5").as_deref(), Ok("1.25"));
        assert_eq!(times("0.275", "0.85").as_deref(), Ok("0.23375"));
        assert_eq!(times("15", "1.8").as_deref(), Ok("27"));
        assert_eq!(times("0.08333333333333334", "0.5").as_deref(), Ok("0.04166666666666667"));
        assert_eq!(times("0.000000000000000003", "0.5").as_deref(), Ok("0.000000000000000002"));
        assert_eq!(times("0.000000000000000001", "0.5").as_deref(), Ok("0"));
        assert_eq!(times("7", "0").as_deref(), Ok("0"));
        assert_eq!(times("1000000", "1").as_deref(), Ok("1000000"));
        assert_eq!(times("1000000", "1.000000001"), Err(RateError::TooLarge));
        assert_eq!(times("1000000", "1000"), Err(RateError::TooLarge));
        for bad in ["", "-1", "1000.1", "1001", "0.0000000001", "NaN", "1e2", "9223372036854775808", "0. 5"] {
            assert_eq!(Factor::parse(bad), Err(FactorError), "{bad:?}");
        }
    }

    #[test]
    fn rates_are_written_as_they_are_read() {
        for text in ["0", "2.5", "0.08333333333333334", "1000000", "0.000000000000000001", "12.000001"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_most_that_a_span_can_cost_is_below_a_million_also_as_a_double() {
        assert_eq!(Usd::MAX_OF_SPAN.to_string(), "999999.999999");
        assert!(Usd::MAX_OF_SPAN.to_f64() < 1e6);
    }

    #[test]
    fn doubles_are_the_nearest() {
        assert_eq!(Usd::from_pico(2_500_000).to_f64(), 0.000_002_5);
        assert_eq!(Usd::from_pico(10_000_000_000_000).to_f64(), 10.0);
        assert_eq!(Usd::from_pico(123_456_789_012).to_f64(), 0.123_456_789_012);
    }
}
