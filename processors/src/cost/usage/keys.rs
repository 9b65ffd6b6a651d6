//! The attribute keys that say what a model call was and what it used, as data, and a perfect hash over them.
//!
//! A span has dozens of attributes and all but a few are none of ours, so a miss must be nearly free: three loads,
//! a multiplication and one byte of a table. The table is built at compile time; a key list without a collision-free
//! multiplier would not compile.

/// A count that a key can hold: of tokens, but for the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Count {
    Input,
    Output,
    Total,
    CacheRead,
    CacheWrite,
    CacheWrite5m,
    CacheWrite1h,
    Reasoning,
    AudioIn,
    AudioOut,
    ImageIn,
    ImageOut,
    CachedAudio,
    CachedImage,
    /// The part of the input that is not cached, which tells whether the input includes the cached part.
    Uncached,
    WebSearches,
    Requests,
}

pub(super) const COUNTS: usize = 17;

/// A text that a key can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Name {
    // Those whose text tells something about the call: [`TELLING`].
    Provider,
    /// What LangChain says the provider is, where the provider slot only says `langchain`.
    LangchainProvider,
    RequestModel,
    ResponseModel,
    Address,
    Operation,
    RequestType,
    OpenInferenceKind,
    VercelOperation,
    ServedTier,
    RequestedTier,
    /// `log` where logfire sends a log as a span, which it does at the end of a stream.
    LogfireKind,

    // Those of which it matters whether they are there.
    TraceloopKind,
    /// Attributes of agent runs of pydantic-ai, which in older formats carry plain usage keys.
    AgentRun,
    /// The sum of a crew's calls as the text of a Python object: `total_tokens=140 prompt_tokens=96 …`.
    CrewUsage,

    // Others.
    ResponseId,
    /// Currency of the given cost.
    Currency,
    /// The provider's usage object as JSON (logfire).
    RawUsage,
    /// What the provider said beside the answer, as JSON (Vercel AI SDK).
    ProviderMetadata,
    /// Costs by kind as JSON (Langfuse).
    CostDetails,
    /// What another Weir found.
    Status,
}

/// The names that tell by their text are those before this one.
pub(super) const TELLING: usize = Name::TraceloopKind as usize;
/// The bits of those that tell, by their text or by being there.
pub(super) const TELLING_BITS: u32 = Name::ResponseId.bit() - 1;

/// A bit for each of the names.
pub(super) const fn bits(names: &[Name]) -> u32 {
    let (mut bits, mut n) = (0, 0);
    while n < names.len() {
        bits |= names[n].bit();
        n += 1;
    }
    bits
}

impl Name {
    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A span without counts can be a call only if it has one of these.
pub(super) const OF_CALLS: u32 = bits(&[
    Name::RequestModel,
    Name::ResponseModel,
    Name::Operation,
    Name::RequestType,
    Name::OpenInferenceKind,
    Name::VercelOperation,
]);

/// Those that hold more than one thing.
pub(super) const TEXTS: u32 = bits(&[Name::RawUsage, Name::ProviderMetadata, Name::CrewUsage, Name::CostDetails]);

pub(super) const NAMES: usize = 21;

/// An amount of money that a key can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Money {
    Total,
    Input,
    Output,
}

pub(super) const MONIES: usize = 3;

/// What a key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Count(Count),
    Name(Name),
    Money(Money),
    Flag(Flag),
}

/// A yes or no that a key can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Flag {
    /// The provider's batch API was used.
    Batch,
    /// The answer came as a stream.
    Stream,
}

pub(super) const FLAGS: usize = 2;

impl Field {
    /// Whether Weir itself writes attributes of this kind.
    #[inline]
    pub(super) const fn may_be_output(self) -> bool {
        matches!(self, Self::Money(_) | Self::Name(Name::Currency | Name::Status))
    }
}

/// What `key` is about, and its rank among the keys of the same field: 0 is read first.
#[inline]
pub(super) fn find(key: &[u8]) -> Option<(Field, u8)> {
    let inner = usize::from(*TABLE.inner.get(key.len())?);
    let (first, last) = (key.first_chunk::<8>()?, key.last_chunk::<8>()?);
    let inner = key.get(inner..)?.first_chunk::<8>()?;
    let mixed = mix(u64::from_le_bytes(*first), u64::from_le_bytes(*inner), u64::from_le_bytes(*last), key.len());
    let at = *TABLE.slots.get(slot(mixed, TABLE.multiplier))?;
    let (name, field, rank) = KEYS.get(usize::from(at))?;
    (name.as_bytes() == key).then_some((*field, *rank))
}

/// The conventions a key can belong to: who writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Convention {
    /// OpenTelemetry GenAI, and what OpenLLMetry, logfire and pydantic-ai write the same way.
    Otel,
    /// OpenTelemetry GenAI of 2024, and OpenLLMetry of then.
    OtelOld,
    OpenLlmetry,
    OpenInference,
    VercelAi,
    PydanticAi,
    Logfire,
    Anthropic,
    OpenAi,
    Langfuse,
    CrewAi,
    LangChain,
    Weir,
}

impl Convention {
    /// For people to read.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Otel => "OpenTelemetry GenAI",
            Self::OtelOld => "OpenTelemetry GenAI before 1.37",
            Self::OpenLlmetry => "OpenLLMetry",
            Self::OpenInference => "OpenInference",
            Self::VercelAi => "Vercel AI SDK",
            Self::PydanticAi => "pydantic-ai",
            Self::Logfire => "logfire",
            Self::Anthropic => "Anthropic SDK",
            Self::OpenAi => "OpenTelemetry OpenAI",
            Self::Langfuse => "Langfuse",
            Self::CrewAi => "CrewAI",
            Self::LangChain => "LangChain",
            Self::Weir => "Weir",
        }
    }
}

/// A key and who writes it.
type Key = (&'static str, Convention);

macro_rules! keys {
    ($($field:expr => $($convention:ident $key:literal),+ ;)+) => {
        &[$(
            ($field, &[$(($key, Convention::$convention)),+]),
        )+]
    };
}

/// Every key, by field and within a field in its reading order.
const GROUPS: &[(Field, &[Key])] = keys! {
    Field::Count(Count::Input) => Otel "gen_ai.usage.input_tokens", OtelOld "gen_ai.usage.prompt_tokens",
        OpenInference "llm.token_count.prompt", VercelAi "ai.usage.inputTokens", VercelAi "ai.usage.promptTokens",
        OpenLlmetry "llm.usage.prompt_tokens";
    Field::Count(Count::Output) => Otel "gen_ai.usage.output_tokens", OtelOld "gen_ai.usage.completion_tokens",
        OpenInference "llm.token_count.completion", VercelAi "ai.usage.outputTokens",
        VercelAi "ai.usage.completionTokens", OpenLlmetry "llm.usage.completion_tokens";
    Field::Count(Count::Total) => OpenLlmetry "gen_ai.usage.total_tokens", OpenLlmetry "llm.usage.total_tokens",
        OpenInference "llm.token_count.total", VercelAi "ai.usage.totalTokens";
    Field::Count(Count::CacheRead) => Otel "gen_ai.usage.cache_read.input_tokens",
        OpenLlmetry "gen_ai.usage.cache_read_input_tokens", OpenLlmetry "gen_ai.usage.cache_read_tokens",
        OpenInference "llm.token_count.prompt_details.cache_read",
        VercelAi "ai.usage.inputTokenDetails.cacheReadTokens", VercelAi "ai.usage.cachedInputTokens",
        PydanticAi "gen_ai.usage.details.cache_read_tokens",
        PydanticAi "gen_ai.usage.details.cache_read_input_tokens", OpenLlmetry "gen_ai.usage.input_cached_tokens";
    Field::Count(Count::CacheWrite) => Otel "gen_ai.usage.cache_creation.input_tokens",
        Otel "gen_ai.usage.cache_write.input_tokens", OpenLlmetry "gen_ai.usage.cache_creation_input_tokens",
        OpenLlmetry "gen_ai.usage.cache_write_tokens", OpenInference "llm.token_count.prompt_details.cache_write",
        VercelAi "ai.usage.inputTokenDetails.cacheWriteTokens",
        PydanticAi "gen_ai.usage.details.cache_write_tokens",
        PydanticAi "gen_ai.usage.details.cache_creation_input_tokens";
    Field::Count(Count::CacheWrite5m) => Anthropic "anthropic.usage.cache_creation.ephemeral_5m_input_tokens",
        OpenLlmetry "gen_ai.usage.cache_creation.input_tokens.ephemeral_5m";
    Field::Count(Count::CacheWrite1h) => Anthropic "anthropic.usage.cache_creation.ephemeral_1h_input_tokens",
        OpenLlmetry "gen_ai.usage.cache_creation.input_tokens.ephemeral_1h";
    Field::Count(Count::Reasoning) => Otel "gen_ai.usage.reasoning.output_tokens",
        OpenLlmetry "gen_ai.usage.reasoning_tokens", OpenLlmetry "llm.usage.reasoning_tokens",
        OpenInference "llm.token_count.completion_details.reasoning",
        VercelAi "ai.usage.outputTokenDetails.reasoningTokens", VercelAi "ai.usage.reasoningTokens",
        PydanticAi "gen_ai.usage.details.reasoning_tokens";
    Field::Count(Count::AudioIn) => Otel "gen_ai.usage.audio.input_tokens",
        OtelOld "gen_ai.usage.audio_input_tokens", OpenInference "llm.token_count.prompt_details.audio",
        PydanticAi "gen_ai.usage.details.input_audio_tokens";
    Field::Count(Count::AudioOut) => Otel "gen_ai.usage.audio.output_tokens",
        OtelOld "gen_ai.usage.audio_output_tokens", OpenInference "llm.token_count.completion_details.audio",
        PydanticAi "gen_ai.usage.details.output_audio_tokens";
    Field::Count(Count::ImageIn) => Otel "gen_ai.usage.image.input_tokens";
    Field::Count(Count::ImageOut) => Otel "gen_ai.usage.image.output_tokens";
    Field::Count(Count::CachedAudio) => Otel "gen_ai.usage.audio.cache_read.input_tokens",
        PydanticAi "gen_ai.usage.details.cache_audio_read_tokens";
    Field::Count(Count::CachedImage) => Otel "gen_ai.usage.image.cache_read.input_tokens";
    Field::Count(Count::Uncached) => VercelAi "ai.usage.inputTokenDetails.noCacheTokens";
    Field::Count(Count::WebSearches) => OpenLlmetry "gen_ai.usage.web_search_requests",
        PydanticAi "gen_ai.usage.details.web_search_requests",
        Anthropic "anthropic.usage.server_tool_use.web_search_requests",
        OpenLlmetry "gen_ai.usage.server_tool_use.web_search_requests";
    Field::Count(Count::Requests) => OpenLlmetry "gen_ai.usage.requests",
        PydanticAi "gen_ai.usage.details.requests";
    Field::Name(Name::Provider) => Otel "gen_ai.provider.name", OtelOld "gen_ai.system",
        OpenInference "llm.provider", OpenInference "llm.system", VercelAi "ai.model.provider";
    Field::Name(Name::LangchainProvider) => LangChain "traceloop.association.properties.ls_provider";
    Field::Name(Name::RequestModel) => Otel "gen_ai.request.model", OpenInference "llm.request.model_name",
        OpenInference "llm.model_name", VercelAi "ai.model.id", OpenInference "embedding.model_name";
    Field::Name(Name::ResponseModel) => Otel "gen_ai.response.model",
        OpenInference "llm.response.model_name", VercelAi "ai.response.model";
    Field::Name(Name::ResponseId) => Otel "gen_ai.response.id", VercelAi "ai.response.id";
    Field::Name(Name::Address) => OpenLlmetry "gen_ai.openai.api_base", OpenLlmetry "openai.api_base",
        Otel "server.address";
    Field::Name(Name::Operation) => Otel "gen_ai.operation.name";
    Field::Name(Name::RequestType) => OpenLlmetry "llm.request.type";
    Field::Name(Name::TraceloopKind) => OpenLlmetry "traceloop.span.kind";
    Field::Name(Name::OpenInferenceKind) => OpenInference "openinference.span.kind";
    Field::Name(Name::VercelOperation) => VercelAi "ai.operationId";
    Field::Name(Name::AgentRun) => PydanticAi "pydantic_ai.all_messages", PydanticAi "all_messages_events";
    Field::Name(Name::ServedTier) => OpenAi "openai.response.service_tier", Otel "gen_ai.response.service_tier",
        OtelOld "gen_ai.openai.response.service_tier", Anthropic "anthropic.response.service_tier",
        Anthropic "gen_ai.anthropic.service_tier";
    Field::Name(Name::RequestedTier) => OpenAi "openai.request.service_tier", Otel "gen_ai.request.service_tier",
        OtelOld "gen_ai.openai.request.service_tier", Anthropic "anthropic.request.service_tier";
    Field::Name(Name::Currency) => Otel "gen_ai.usage.cost.currency";
    Field::Name(Name::RawUsage) => Logfire "gen_ai.usage.raw";
    Field::Name(Name::ProviderMetadata) => VercelAi "ai.response.providerMetadata";
    Field::Name(Name::CrewUsage) => CrewAi "crewai.crew.token_usage";
    Field::Name(Name::CostDetails) => Langfuse "langfuse.observation.cost_details";
    Field::Name(Name::Status) => Weir "weir.cost.status";
    Field::Name(Name::LogfireKind) => Logfire "logfire.span_type";
    Field::Money(Money::Total) => Otel "gen_ai.usage.cost.amount", OpenLlmetry "gen_ai.usage.cost",
        OpenLlmetry "gen_ai.usage.total_cost", OpenInference "llm.cost.total", Logfire "operation.cost";
    Field::Money(Money::Input) => OpenLlmetry "gen_ai.usage.input_cost", OpenInference "llm.cost.prompt";
    Field::Money(Money::Output) => OpenLlmetry "gen_ai.usage.output_cost", OpenInference "llm.cost.completion";
    Field::Flag(Flag::Batch) => Otel "gen_ai.request.batch";
    Field::Flag(Flag::Stream) => OpenLlmetry "gen_ai.is_streaming", OpenLlmetry "llm.is_streaming",
        Otel "gen_ai.request.stream";
};

/// All fields, in the order of the table.
pub(super) fn fields() -> impl Iterator<Item = Field> {
    GROUPS.iter().map(|(field, _)| *field)
}

/// The key that a field was read from, and who writes it.
pub(super) fn source(field: Field, rank: u8) -> Option<(&'static str, &'static str)> {
    let (_, names) = GROUPS.iter().find(|(f, _)| *f == field)?;
    names.get(usize::from(rank)).map(|(key, convention)| (*key, convention.as_str()))
}

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
            assert!(names[rank].0.len() >= 8, "the hash reads eight bytes at either end");
            keys[n] = (names[rank].0, field, rank as u8);
            n += 1;
            rank += 1;
        }
        group += 1;
    }
    keys
};

const SLOTS: usize = 4096;
const _: () = assert!(COUNT < NONE as usize);
const NONE: u8 = u8::MAX;

/// Keys of this length or more are none of ours.
const LENGTHS: usize = 64;

struct Table {
    /// By the length of a key: where the third load is, so that it tells all keys of that length apart. [`NONE`], which
    /// is behind every key, where no key has the length.
    inner: [u8; LENGTHS],
    multiplier: u64,
    /// Index into [`KEYS`], or [`NONE`].
    slots: [u8; SLOTS],
}

static TABLE: Table = {
    let inner = {
        let mut inner = [NONE; LENGTHS];
        let mut len = 8;
        while len < LENGTHS {
            inner[len] = inner_of(len);
            len += 1;
        }
        inner
    };
    let mut mixed = [0u64; COUNT];
    let mut n = 0;
    while n < COUNT {
        let key = KEYS[n].0.as_bytes();
        assert!(key.len() < LENGTHS, "longer keys are not looked up");
        mixed[n] = mix_key(key, inner[key.len()] as usize);
        n += 1;
    }
    let mut multiplier = 0x9E37_79B9_7F4A_7C15u64;
    // About one multiplier in six does; the bound turns an impossible list into an error of the compiler.
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
            break Table { inner, multiplier, slots };
        }
        multiplier = multiplier.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(2);
    }
};

/// The first place for the third load that makes the keys of this length mix to different words.
const fn inner_of(len: usize) -> u8 {
    let mut offset = 0;
    while offset + 8 <= len {
        let (mut at, mut keys, mut apart) = (0, 0, true);
        while at < COUNT {
            let key = KEYS[at].0.as_bytes();
            if key.len() == len {
                keys += 1;
                let mut other = 0;
                while other < at {
                    let before = KEYS[other].0.as_bytes();
                    apart &= before.len() != len || mix_key(before, offset) != mix_key(key, offset);
                    other += 1;
                }
            }
            at += 1;
        }
        if keys == 0 {
            return NONE;
        }
        if apart {
            return offset as u8;
        }
        offset += 1;
    }
    panic!("no place tells the keys of this length apart")
}

const fn mix_key(key: &[u8], inner: usize) -> u64 {
    let len = key.len();
    mix(load(key, 0), load(key, inner), load(key, len - 8), len)
}

const fn load(key: &[u8], from: usize) -> u64 {
    let (mut word, mut at) = (0, 0);
    while at < 8 {
        word |= (key[from + at] as u64) << (8 * at);
        at += 1;
    }
    word
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
                Field::Money(money) => assert!((*money as usize) < MONIES),
                Field::Flag(flag) => assert!((*flag as usize) < FLAGS),
            }
        }
    }
}
