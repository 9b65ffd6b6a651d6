//! The attribute keys that say what a model call was and what it used, as data, and a perfect hash over them.
//!
//! A span has dozens of attributes and all but a few are none of ours, so a miss must be nearly free: three loads,
//! a multiplication and one byte of a table. The table is built at compile time; a key list without a collision-free
//! multiplier would not compile.

/// A token count that a key can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Count {
    Input,
    Output,
    Total,
    CacheRead,
    CacheWrite,
    CacheWrite1h,
    Reasoning,
    AudioIn,
    AudioOut,
    /// The part of the input that is not cached, which tells whether the input includes the cached part.
    Uncached,
}

pub(super) const COUNTS: usize = 10;

/// A text that a key can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Name {
    Provider,
    /// What LangChain says the provider is, where the provider slot only says `langchain`.
    LangchainProvider,
    RequestModel,
    ResponseModel,
    Address,
    Operation,
    RequestType,
    TraceloopKind,
    OpenInferenceKind,
    VercelOperation,
    /// Attributes of agent runs of pydantic-ai, which in older formats carry plain usage keys.
    AgentRun,
}

pub(super) const NAMES: usize = 11;

/// What a key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Count(Count),
    Name(Name),
}

/// What `key` is about, and its rank among the keys of the same field: 0 is read first.
#[inline]
pub(super) fn find(key: &[u8]) -> Option<(Field, u8)> {
    let (first, last) = (key.first_chunk::<8>()?, key.last_chunk::<8>()?);
    let inner = key.get(inner(key.len())..)?.first_chunk::<8>()?;
    let mixed = mix(u64::from_le_bytes(*first), u64::from_le_bytes(*inner), u64::from_le_bytes(*last), key.len());
    let at = *TABLE.slots.get(slot(mixed, TABLE.multiplier))?;
    let (name, field, rank) = KEYS.get(usize::from(at))?;
    (name.as_bytes() == key).then_some((*field, *rank))
}

macro_rules! keys {
    ($($kind:ident :: $field:ident: $($key:literal),+ ;)+) => {
        &[$(
            (Field::$kind($kind::$field), &[$($key),+]),
        )+]
    };
}

/// Every key in its reading order. The conventions are told apart by their keys alone; see the module documentation of
/// `usage` for who writes which.
const GROUPS: &[(Field, &[&str])] = keys! {
    Count::Input: "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt",
        "ai.usage.inputTokens", "ai.usage.promptTokens", "llm.usage.prompt_tokens";
    Count::Output: "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion",
        "ai.usage.outputTokens", "ai.usage.completionTokens", "llm.usage.completion_tokens";
    Count::Total: "gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total",
        "ai.usage.totalTokens";
    Count::CacheRead: "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_read_tokens", "llm.token_count.prompt_details.cache_read",
        "ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens",
        "gen_ai.usage.details.cache_read_tokens", "gen_ai.usage.details.cache_read_input_tokens",
        "gen_ai.usage.input_cached_tokens";
    Count::CacheWrite: "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.cache_write_tokens",
        "llm.token_count.prompt_details.cache_write", "ai.usage.inputTokenDetails.cacheWriteTokens",
        "gen_ai.usage.details.cache_write_tokens", "gen_ai.usage.details.cache_creation_input_tokens";
    Count::CacheWrite1h: "anthropic.usage.cache_creation.ephemeral_1h_input_tokens",
        "gen_ai.usage.cache_creation.input_tokens.ephemeral_1h";
    Count::Reasoning: "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens", "llm.token_count.completion_details.reasoning",
        "ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens",
        "gen_ai.usage.details.reasoning_tokens";
    Count::AudioIn: "gen_ai.usage.audio.input_tokens", "gen_ai.usage.audio_input_tokens",
        "llm.token_count.prompt_details.audio", "gen_ai.usage.details.input_audio_tokens";
    Count::AudioOut: "gen_ai.usage.audio.output_tokens", "gen_ai.usage.audio_output_tokens",
        "llm.token_count.completion_details.audio", "gen_ai.usage.details.output_audio_tokens";
    Count::Uncached: "ai.usage.inputTokenDetails.noCacheTokens";
    Name::Provider: "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider";
    Name::LangchainProvider: "traceloop.association.properties.ls_provider";
    Name::RequestModel: "gen_ai.request.model", "llm.request.model_name", "llm.model_name", "ai.model.id",
        "embedding.model_name";
    Name::ResponseModel: "gen_ai.response.model", "llm.response.model_name", "ai.response.model";
    Name::Address: "gen_ai.openai.api_base", "openai.api_base", "server.address";
    Name::Operation: "gen_ai.operation.name";
    Name::RequestType: "llm.request.type";
    Name::TraceloopKind: "traceloop.span.kind";
    Name::OpenInferenceKind: "openinference.span.kind";
    Name::VercelOperation: "ai.operationId";
    Name::AgentRun: "pydantic_ai.all_messages", "all_messages_events";
};

const COUNT: usize = {
    let (mut n, mut group) = (0, 0);
    while group < GROUPS.len() {
        n += GROUPS[group].1.len();
        group += 1;
    }
    n
};

static KEYS: [(&str, Field, u8); COUNT] = {
    let mut keys = [("", GROUPS[0].0, 0); COUNT];
    let (mut n, mut group) = (0, 0);
    while group < GROUPS.len() {
        let (field, names) = GROUPS[group];
        let mut rank = 0;
        while rank < names.len() {
            assert!(names[rank].len() >= 8, "the hash reads eight bytes at either end");
            keys[n] = (names[rank], field, rank as u8);
            n += 1;
            rank += 1;
        }
        group += 1;
    }
    keys
};

const SLOTS: usize = 1024;
const _: () = assert!(COUNT < NONE as usize);
const NONE: u8 = u8::MAX;

struct Table {
    multiplier: u64,
    /// Index into [`KEYS`], or [`NONE`].
    slots: [u8; SLOTS],
}

static TABLE: Table = {
    let mut mixed = [0u64; COUNT];
    let (mut n, mut group) = (0, 0);
    while group < GROUPS.len() {
        let names = GROUPS[group].1;
        let mut rank = 0;
        while rank < names.len() {
            let key = names[rank].as_bytes();
            let len = key.len();
            mixed[n] = mix(load(key, 0), load(key, inner(len)), load(key, len - 8), len);
            n += 1;
            rank += 1;
        }
        group += 1;
    }
    let mut multiplier = 0x9E37_79B9_7F4A_7C15u64;
    // About one multiplier in thirty does; the bound turns an impossible list into an error of the compiler.
    let mut tries = 0;
    loop {
        tries += 1;
        assert!(tries < 500, "two keys mix to the same word");
        let mut slots = [NONE; SLOTS];
        let mut at = 0;
        while at < COUNT && slots[slot(mixed[at], multiplier)] == NONE {
            slots[slot(mixed[at], multiplier)] = at as u8;
            at += 1;
        }
        if at == COUNT {
            break Table { multiplier, slots };
        }
        multiplier = multiplier.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(2);
    }
};

const fn load(key: &[u8], from: usize) -> u64 {
    let (mut word, mut at) = (0, 0);
    while at < 8 {
        word |= (key[from + at] as u64) << (8 * at);
        at += 1;
    }
    word
}

/// Where the third load is: about two thirds in, which tells `cache_read.input_tokens` from `cache_read_input_tokens`.
#[inline]
const fn inner(len: usize) -> usize {
    (len - 8) * 11 / 16
}

#[inline]
const fn mix(first: u64, inner: u64, last: u64, len: usize) -> u64 {
    first.rotate_left(19) ^ inner.rotate_left(41) ^ last ^ (len as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[inline]
const fn slot(mixed: u64, multiplier: u64) -> usize {
    (mixed.wrapping_mul(multiplier) >> (64 - SLOTS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_only_those() {
        for (name, field, rank) in &KEYS {
            assert_eq!(find(name.as_bytes()), Some((*field, *rank)), "{name}");
            let mut other = name.as_bytes().to_vec();
            let middle = other.len() / 2;
            other[middle] ^= 1;
            assert_eq!(find(&other), None, "{name}");
        }
        for key in ["", "a", "gen_ai.", "gen_ai.prompt.0.content", "gen_ai.aggregated_usage.input_tokens"] {
            assert_eq!(find(key.as_bytes()), None, "{key}");
        }
    }

    #[test]
    fn the_fields_fit_their_arrays() {
        for (_, field, _) in &KEYS {
            match field {
                Field::Count(count) => assert!((*count as usize) < COUNTS),
                Field::Name(name) => assert!((*name as usize) < NAMES),
            }
        }
    }
}
