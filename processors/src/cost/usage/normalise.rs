//! From the counts of whatever convention to one meaning: input includes cached tokens, output includes reasoning.

use super::facts::Facts;
use super::keys::{Count, Flag, Money, Name};
use super::reader::UsageReader;
use super::role::Role;
use super::{GivenCost, Reading, Resolution, Rule, Usage};
use crate::cost::{CostStatus, Usd};

/// Puts together what was collected.
#[inline(always)]
pub(super) fn reading<'a>(reader: &UsageReader<'a>, facts: &Facts) -> Reading<'a> {
    let (operation, request_type) = (reader.name(Name::Operation), reader.name(Name::RequestType));
    let mut resolution = Resolution::default();
    Reading {
        usage: usage(reader, facts, &mut resolution),
        provider: reader.name(Name::Provider),
        langchain_provider: reader.name(Name::LangchainProvider),
        request_model: reader.name(Name::RequestModel),
        response_model: reader.name(Name::ResponseModel),
        response_id: reader.name(Name::ResponseId),
        address: reader.name(Name::Address),
        operation: if operation.is_empty() { request_type } else { operation },
        service_tier: reader.name(Name::ServedTier),
        requested_service_tier: reader.name(Name::RequestedTier),
        batch: reader.flag(Flag::Batch) || facts.is_batch,
        is_stream: reader.flag(Flag::Stream) || facts.is_stream,
        given_cost: given_cost(reader),
        resolution,
        reported: [reader.count(Count::Input), reader.count(Count::Output)],
        has_output_keys: reader.has_output_keys(),
        earlier_status: reader.name(Name::Status),
        is_log: facts.is_log,
    }
}

/// The application's own cost, unless another Weir has been here, whose cost it would be.
fn given_cost<'a>(reader: &UsageReader<'a>) -> Option<GivenCost<'a>> {
    let (input, output) = (reader.money(Money::Input), reader.money(Money::Output));
    let (total, key) = match (reader.money(Money::Total), input, output) {
        (Some(total), _, _) => (total, reader.money_key(Money::Total)),
        (None, Some(input), Some(output)) => (input + output, reader.money_key(Money::Input)),
        (None, Some(one), None) | (None, None, Some(one)) => {
            (one, reader.money_key(Money::Input).or_else(|| reader.money_key(Money::Output)))
        }
        (None, None, None) => return None,
    };
    if total > Usd::MAX_OF_SPAN {
        return None;
    }
    if !reader.name(Name::Status).is_empty() {
        return None;
    }
    let currency = reader.name(Name::Currency);
    let key = key.unwrap_or("langfuse.observation.cost_details");
    Some(GivenCost { total, input, output, currency, key })
}

#[inline(always)]
fn usage(reader: &UsageReader<'_>, facts: &Facts, resolution: &mut Resolution) -> Result<Usage, CostStatus> {
    // Without a count there is nothing to bill, so only the kind of span is of interest.
    match (facts.role, reader.has_counts()) {
        (Role::CallIfCounted | Role::Outer, false) => Err(CostStatus::NotLlm),
        (Role::Outer, true) => Err(CostStatus::Aggregate),
        (Role::Call, false) => Err(CostStatus::NoUsage),
        (Role::Call | Role::CallIfCounted, true) if reader.is_invalid() => Err(CostStatus::Invalid),
        (Role::Call | Role::CallIfCounted, true) => normalised(reader, facts, resolution),
    }
}

#[inline(always)]
fn normalised(reader: &UsageReader<'_>, facts: &Facts, resolution: &mut Resolution) -> Result<Usage, CostStatus> {
    let reported_total = reader.count(Count::Total);
    let cache_read = reader.count(Count::CacheRead);
    let (write_5m, write_1h) = (reader.count(Count::CacheWrite5m), reader.count(Count::CacheWrite1h));
    let split = write_5m.unwrap_or(0) + write_1h.unwrap_or(0);
    let cache_write = reader.count(Count::CacheWrite).or((write_5m.is_some() || write_1h.is_some()).then_some(split));
    let mut reasoning = reader.count(Count::Reasoning);
    let (mut input, mut output) = (reader.count(Count::Input), reader.count(Count::Output));
    if input.unwrap_or(0) == 0 && output.unwrap_or(0) == 0 && reported_total.unwrap_or(0) == 0 {
        return Err(CostStatus::NoUsage);
    }

    let cached = cache_read.unwrap_or(0) + cache_write.unwrap_or(0);
    if let Some(n) = input
        && cached > 0
    {
        resolution.input = cached_rule(reader, facts, n, cached);
        if resolution.input.is_exclusive() {
            input = Some(n + cached);
        }
    }

    if facts.is_input_only {
        input = input.or(reported_total);
    } else {
        // One direction and the total tell the other; a direction and no total do not.
        if input.is_none() {
            input = reported_total.and_then(|total| total.checked_sub(output?));
            resolution.input = Rule::TotalLessOther;
        }
        if output.is_none() {
            output = reported_total.and_then(|total| total.checked_sub(input?));
            resolution.output = Rule::TotalLessOther;
        }
        let (Some(n), Some(out)) = (input, output) else { return Err(CostStatus::NoUsage) };
        let beyond = reported_total.unwrap_or(0).saturating_sub(n + out);
        let reasoned = reasoning.unwrap_or(0);
        if reasoned > 0 && (beyond == reasoned || reasoned > out) {
            resolution.output = if beyond == reasoned { Rule::TotalAddsUp } else { Rule::LargerThanWhole };
            output = Some(out + reasoned);
        } else if beyond > 0 && facts.is_google {
            resolution.output = Rule::TotalIsLarger;
            output = Some(out + beyond);
            reasoning = reasoning.or(Some(beyond));
        } else if reasoned > 0 {
            resolution.output = Rule::Inclusive;
        }
    }

    let sum = input.unwrap_or(0) + output.unwrap_or(0);
    let usage = Usage {
        input,
        output,
        cache_read,
        cache_write,
        cache_write_1h: write_1h,
        reasoning,
        audio_in: reader.count(Count::AudioIn),
        audio_out: reader.count(Count::AudioOut),
        image_in: reader.count(Count::ImageIn),
        image_out: reader.count(Count::ImageOut),
        cached_audio: reader.count(Count::CachedAudio),
        cached_image: reader.count(Count::CachedImage),
        web_searches: reader.count(Count::WebSearches),
        requests: reader.count(Count::Requests),
        total: Some(reported_total.map_or(sum, |total| total.max(sum))),
    };
    if split > cache_write.unwrap_or(0) || !parts_fit(&usage) {
        return Err(CostStatus::Inconsistent);
    }
    Ok(usage)
}

/// Whether no part is larger than what it is a part of.
fn parts_fit(usage: &Usage) -> bool {
    let n = |count: Option<u64>| count.unwrap_or(0);
    let cached_media = n(usage.cached_audio) + n(usage.cached_image);
    n(usage.audio_in) + n(usage.image_in) <= n(usage.input)
        && n(usage.audio_out) + n(usage.image_out) <= n(usage.output)
        && (cached_media == 0 || cached_media <= usage.cache_read.unwrap_or(cached_media))
        && n(usage.cached_audio) <= usage.audio_in.unwrap_or(u64::MAX)
        && n(usage.cached_image) <= usage.image_in.unwrap_or(u64::MAX)
}

/// Whether `input` includes the `cached` tokens, and what tells.
fn cached_rule(reader: &UsageReader<'_>, facts: &Facts, input: u64, cached: u64) -> Rule {
    if facts.is_raw_bedrock {
        return Rule::EmitterExcludes;
    }
    if cached > input {
        return Rule::LargerThanWhole;
    }
    if let Some(uncached) = reader.count(Count::Uncached) {
        return if uncached == input { Rule::UncachedIsInput } else { Rule::Inclusive };
    }
    match (reader.count(Count::Total), reader.count(Count::Output)) {
        (Some(total), Some(output)) if total == input + output + cached => Rule::TotalAddsUp,
        _ if facts.is_vercel_raw && !has_vercel_details(reader) => Rule::SdkExcludes,
        _ => Rule::Inclusive,
    }
}

/// Whether the span has the keys of version 6 of the Vercel AI SDK, whose input includes cached tokens.
fn has_vercel_details(reader: &UsageReader<'_>) -> bool {
    reader.is_from(Count::CacheRead, "ai.usage.inputTokenDetails.cacheReadTokens")
        || reader.is_from(Count::CacheWrite, "ai.usage.inputTokenDetails.cacheWriteTokens")
}
