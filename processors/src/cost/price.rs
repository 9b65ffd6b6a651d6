//! From counts and rates to an exact cost.
//!
//! Reported counts are inclusive, so a count is split into leaves: what a more specific rate takes is taken away from
//! the general one, the rest stays with it. Cached tokens are a part of the input and have their own leaf if the
//! catalog has a rate for them; if not, they stay in the input leaf at its rate. Reasoning stays in the output. A token
//! is never billed twice: cached audio is billed as such, else as cached, else as audio, else as input.
//!
//! Cache writes: those for an hour have a rate of their own, or that of the others. Tiers: by the size of the whole
//! input, cached tokens included, as the catalog's price says (`format`). Service tiers: the price is already that of
//! the tier, and [`Cost::tier_unknown`] if there is none. Fees: per request, and per web search; where a fee is due that
//! the catalog does not know, the cost is without it and [`Cost::fee_unknown`].
//!
//! Not covered by the counts that spans carry and so not by the cost: video, seconds and pages, storage of caches, fees
//! of other tools.

use super::catalog::{PriceRef, RateSet, Unit};
use super::money::{Amount, Usd};
use super::{CostStatus, Usage};

/// What one call cost. The parts are exact in pico-USD (rates with more than six decimals: rounded half to even, each
/// part once), and `total` is their sum to the last digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Input that has no rate of its own below, audio and images included.
    pub input: Usd,
    /// Output, with reasoning, audio and images.
    pub output: Usd,
    /// Input read from the cache, where that has a rate of its own.
    pub cache_read: Usd,
    /// Input written to the cache, where that has a rate of its own.
    pub cache_write: Usd,
    /// The fee per request, which a few models have.
    pub request: Usd,
    /// The fee for web searches that the provider made.
    pub web_search: Usd,
    /// All of it.
    pub total: Usd,
    /// The call was processed in a service tier that the catalog has no price of: these are the standard rates.
    pub tier_unknown: bool,
    /// The provider made web searches that the catalog has no price of: they are not in the cost.
    pub fee_unknown: bool,
}

/// The cost of a call: [`CostStatus::NoRate`] if tokens are left that have no rate, [`CostStatus::Inconsistent`] if
/// the parts of a count are more than the count.
#[inline(always)]
pub fn price(usage: &Usage, price: PriceRef<'_>) -> Result<Cost, CostStatus> {
    price_observed(usage, price, |_, _| {})
}

/// [`price`], which tells on the way how many of which unit it bills.
#[inline(always)]
pub(super) fn price_observed(
    usage: &Usage,
    price: PriceRef<'_>,
    observe: impl Fn(Unit, u64),
) -> Result<Cost, CostStatus> {
    let total_input = usage.input.unwrap_or(0);
    // Borrowed, not moved: a copy of what was just written in small pieces is slow.
    let rates = price.rates(total_input);
    let leaves = Leaves(&rates, observe);

    let mut cache_read = Amount::default();
    // Most calls are text: one look spares what follows from audio and images.
    let media = [usage.audio_in, usage.image_in, usage.cached_audio, usage.cached_image];
    let has_media = media.iter().any(Option::is_some);
    let (mut cached_audio, mut cached_image) = (0, 0);
    if has_media {
        cached_audio = leaves.take(&mut cache_read, Unit::CacheAudioRead, usage.cached_audio, 0)?;
        cached_image = leaves.take(&mut cache_read, Unit::CacheImageRead, usage.cached_image, 0)?;
    }
    let cached_media = cached_audio + cached_image;
    let read = leaves.take(&mut cache_read, Unit::CacheRead, usage.cache_read, cached_media)?.max(cached_media);

    let mut cache_write = Amount::default();
    let write_1h = leaves.take(&mut cache_write, Unit::CacheWrite1h, usage.cache_write_1h, 0)?;
    let write = leaves.take(&mut cache_write, Unit::CacheWrite, usage.cache_write, write_1h)?;

    let mut input = Amount::default();
    let (mut audio, mut image) = (0, 0);
    if has_media {
        // What is billed as cached is no longer audio or image.
        let any_cached = leaves.0.has(Unit::CacheRead) && usage.cache_read.is_some();
        let cached_too = |count: Option<u64>, billed: u64| if any_cached { count.unwrap_or(0) } else { billed };
        let no_audio = cached_too(usage.cached_audio, cached_audio);
        let no_image = cached_too(usage.cached_image, cached_image);
        audio = leaves.take(&mut input, Unit::InputAudio, usage.audio_in, no_audio)?.saturating_sub(no_audio);
        image = leaves.take(&mut input, Unit::InputImage, usage.image_in, no_image)?.saturating_sub(no_image);
    }
    // Without a rate for five-minute writes those for an hour are still no longer input.
    let special = read + write.max(write_1h) + audio + image;
    leaves.rest(&mut input, Unit::Input, total_input, special)?;

    let mut output = Amount::default();
    let audio = leaves.take(&mut output, Unit::OutputAudio, usage.audio_out, 0)?;
    let image = leaves.take(&mut output, Unit::OutputImage, usage.image_out, 0)?;
    let reasoning = leaves.take(&mut output, Unit::OutputReasoning, usage.reasoning, 0)?;
    leaves.rest(&mut output, Unit::Output, usage.output.unwrap_or(0), audio + image + reasoning)?;

    let mut request = Amount::default();
    leaves.take(&mut request, Unit::Request, Some(usage.requests.unwrap_or(1)), 0)?;
    let mut web_search = Amount::default();
    leaves.take(&mut web_search, Unit::WebSearch, usage.web_searches, 0)?;

    let (input, output) = (input.finish(), output.finish());
    let (cache_read, cache_write) = (cache_read.finish(), cache_write.finish());
    let (request, web_search) = (request.finish(), web_search.finish());
    Ok(Cost {
        input,
        output,
        cache_read,
        cache_write,
        request,
        web_search,
        total: input + output + cache_read + cache_write + request + web_search,
        tier_unknown: price.tier_unknown(),
        fee_unknown: usage.web_searches.is_some_and(|n| n > 0) && !leaves.0.has(Unit::WebSearch),
    })
}

struct Leaves<'a, F>(&'a RateSet<'a>, F);

impl<F: Fn(Unit, u64)> Leaves<'_, F> {
    /// Adds the leaf `count - parts`, if there is a rate for it, and returns how many tokens are accounted for: all
    /// with a rate, none without.
    #[inline]
    fn take(&self, to: &mut Amount, unit: Unit, count: Option<u64>, parts: u64) -> Result<u64, CostStatus> {
        let Some(count) = count.filter(|_| self.0.has(unit)) else { return Ok(0) };
        let leaf = count.checked_sub(parts).ok_or(CostStatus::Inconsistent)?;
        self.1(unit, leaf);
        self.0.add(to, unit, leaf);
        Ok(count)
    }

    /// Adds the leaf `count - parts`, which must have a rate unless it is empty.
    #[inline]
    fn rest(&self, to: &mut Amount, unit: Unit, count: u64, parts: u64) -> Result<(), CostStatus> {
        let leaf = count.checked_sub(parts).ok_or(CostStatus::Inconsistent)?;
        if leaf > 0 && !self.0.has(unit) {
            return Err(CostStatus::NoRate);
        }
        self.1(unit, leaf);
        self.0.add(to, unit, leaf);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vendors;
