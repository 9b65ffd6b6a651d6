//! From counts and rates to an exact cost.
//!
//! Reported counts are inclusive, so a count is split into leaves: what a more specific rate takes is taken away from
//! the general one, the rest stays with it. Cached tokens are a part of the input and have their own leaf if the
//! catalog has a rate for them; if not, they stay in the input leaf at its rate. Reasoning stays in the output.
//!
//! A tier is a cliff: with more input tokens (all of them, cached ones included) than its start, the whole call has
//! the tier's rates, output included.
//!
//! Not covered by the catalog and so not by the cost: batch, flex and priority processing, discounts, images, video,
//! tool and web search fees.

use super::catalog::{PriceRef, UNITS, Unit};
use super::money::{Amount, Rate, Usd};
use super::{CostStatus, Usage};

/// What one call cost. The parts are exact in pico-USD (rates with more than six decimals: rounded half to even, each
/// part once), and `total` is their sum to the last digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Input that has no rate of its own below, audio included.
    pub input: Usd,
    /// Output, with reasoning and audio.
    pub output: Usd,
    /// Input read from the cache, where that has a rate of its own.
    pub cache_read: Usd,
    /// Input written to the cache, where that has a rate of its own.
    pub cache_write: Usd,
    /// The fee per request, which a few models have.
    pub request: Usd,
    /// All of it.
    pub total: Usd,
}

/// The cost of a call: [`CostStatus::NoRate`] if tokens are left that have no rate, [`CostStatus::Inconsistent`] if
/// the parts of a count are more than the count.
pub fn price(usage: &Usage, price: PriceRef<'_>) -> Result<Cost, CostStatus> {
    let total_input = usage.input.unwrap_or(0);
    let rates = Rates(price.rates(total_input));

    let mut cache_read = Amount::default();
    let read = rates.take(&mut cache_read, Unit::CacheRead, usage.cache_read, 0)?;
    let mut cache_write = Amount::default();
    let write_1h = rates.take(&mut cache_write, Unit::CacheWrite1h, usage.cache_write_1h, 0)?;
    let write = rates.take(&mut cache_write, Unit::CacheWrite, usage.cache_write, write_1h)?;

    let mut input = Amount::default();
    let audio = rates.take(&mut input, Unit::InputAudio, usage.audio_in, 0)?;
    // Without a rate for five-minute writes those for an hour are still no longer input.
    let cached_or_audio = read + write.max(write_1h) + audio;
    rates.rest(&mut input, Unit::Input, total_input, cached_or_audio)?;

    let mut output = Amount::default();
    let audio = rates.take(&mut output, Unit::OutputAudio, usage.audio_out, 0)?;
    let reasoning = rates.take(&mut output, Unit::OutputReasoning, usage.reasoning, 0)?;
    rates.rest(&mut output, Unit::Output, usage.output.unwrap_or(0), audio + reasoning)?;

    let mut request = Amount::default();
    rates.take(&mut request, Unit::Request, Some(1), 0)?;

    let (input, output) = (input.finish(), output.finish());
    let (cache_read, cache_write, request) = (cache_read.finish(), cache_write.finish(), request.finish());
    let total = input + output + cache_read + cache_write + request;
    Ok(Cost { input, output, cache_read, cache_write, request, total })
}

struct Rates([Option<Rate>; UNITS]);

impl Rates {
    #[inline]
    fn get(&self, unit: Unit) -> Option<Rate> {
        self.0.get(unit as usize).copied().flatten()
    }

    /// Adds the leaf `count - parts`, if there is a rate for it, and returns how many tokens are accounted for: all
    /// with a rate, none without.
    #[inline]
    fn take(&self, to: &mut Amount, unit: Unit, count: Option<u64>, parts: u64) -> Result<u64, CostStatus> {
        let (Some(count), Some(rate)) = (count, self.get(unit)) else { return Ok(0) };
        let leaf = count.checked_sub(parts).ok_or(CostStatus::Inconsistent)?;
        to.add(leaf, rate);
        Ok(count)
    }

    /// Adds the leaf `count - parts`, which must have a rate unless it is empty.
    #[inline]
    fn rest(&self, to: &mut Amount, unit: Unit, count: u64, parts: u64) -> Result<(), CostStatus> {
        let leaf = count.checked_sub(parts).ok_or(CostStatus::Inconsistent)?;
        match self.get(unit) {
            Some(rate) => to.add(leaf, rate),
            None if leaf == 0 => {}
            None => return Err(CostStatus::NoRate),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
