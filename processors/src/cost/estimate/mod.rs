//! Counts for calls of which the provider did not tell any, from the messages.
//!
//! A stream has no usage unless the client asks for it, and many do not. Where the messages are on the span, their
//! tokens are counted with the model's own tokenizer. The result is an estimate and is marked as one: the status is
//! `estimated`, and `weir.usage.method` names the tokenizer and the rules used with it (`tiktoken/o200k_base+tools`).
//!
//! Estimated are chats and completions of OpenAI models whose vocabulary is public and whose whole output is on the
//! span. What is more than text is counted where OpenAI publishes how:
//!
//! | what | rule | where it applies |
//! |---|---|---|
//! | a chat's frame | cookbook, "How to count tokens with tiktoken": three tokens and the role for each message, three for the answer's beginning | all chats |
//! | tools offered | the same, section 7 | chat completions of GPT-4o, GPT-4, GPT-3.5 Turbo; flat parameters, all described (`tools`) |
//! | images | guide "Images and vision": tiles or patches, by the size | GPT-4o, 4.1, 4.5, 4 Turbo; `detail` is `high` and the image itself on the span, or it is `low` and the model counts tiles (`images`) |
//!
//! Nothing is guessed where that does not hold. Without usage stay:
//!
//! * reasoning models: their thinking is billed and not shown;
//! * answers that call tools, and inputs with earlier calls and their results: how these are written is not published;
//! * tools that the rule does not cover, the provider's own among them, and structured outputs;
//! * images of which the span has only an address, or of `detail` `auto`, which is the default: the model chooses;
//! * audio, files, failed calls, texts of other providers' models, assistants, contents of more than [`MAX_BYTES`].
//!
//! What the span does not show cannot be counted: an application that sends tools and does not record them has used
//! more.
//!
//! In the corpus 272 of 279 outputs are within 5 % or 3 tokens of what the provider counted, and so are 19 of the 22
//! inputs whose requests are the recorded ones, and the 26 with tools that the rule covers (`tests/corpus.rs`). Of
//! images it has one whose file is on the span and that the provider counted: the rule gives its number, had the detail
//! been `high`.
//!
//! A vocabulary is read at its first use: it takes about a third of a second and 30 MB, once a process.

mod content;
mod header;
mod images;
#[cfg(test)]
mod tests;
mod tools;

use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};
use weir_pipeline::batch::Span;

use self::content::Content;
use super::{Reading, Usage};

/// The most text of one span that is counted; the images in it are not text.
pub const MAX_BYTES: usize = 256 * 1024;
/// Text is counted in pieces of this size, so that no pattern can make one take long.
const PIECE: usize = 16 * 1024;

/// Counts from a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Input, output and total.
    pub usage: Usage,
    /// The tokenizer, and the rules for what is no text: `tiktoken/o200k_base+tools`.
    pub method: &'static str,
}

/// Parts of model names and their vocabularies, as OpenAI's tiktoken has them. The first that fits decides.
const FAMILIES: &[(&str, Option<Vocabulary>)] = &[
    // Hear, speak, search: more than the texts is billed.
    ("audio", None),
    ("realtime", None),
    ("search", None),
    ("transcribe", None),
    ("tts", None),
    ("image", None),
    ("gpt-4o", Some(Vocabulary::O200k)),
    ("gpt-4.1", Some(Vocabulary::O200k)),
    ("gpt-4.5", Some(Vocabulary::O200k)),
    ("gpt-4", Some(Vocabulary::Cl100k)),
    ("gpt-3.5-turbo", Some(Vocabulary::Cl100k)),
    ("gpt-35-turbo", Some(Vocabulary::Cl100k)),
    ("davinci-002", Some(Vocabulary::Cl100k)),
    ("babbage-002", Some(Vocabulary::Cl100k)),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vocabulary {
    O200k,
    Cl100k,
}

/// What a chat adds to the text of each message: two marks, the role, and a line break.
const PER_MESSAGE: u64 = 4;
/// What a chat adds once: the beginning of the answer.
const PER_CHAT: u64 = 3;

/// Counts the tokens of a call that says nothing of them; `None` where that would be a guess.
pub fn estimate(span: Span<'_>, reading: &Reading<'_>) -> Option<Estimate> {
    const FAILED: i32 = 2;
    let fields = span.fields();
    // Logfire sends the end of a stream as a log of its own, with the usage.
    let is_told_elsewhere = !reading.is_log && span.scope().name().as_str().starts_with("logfire");
    if is_told_elsewhere || fields.status_code == FAILED {
        return None;
    }
    let counted = Counted::of(span, reading)?;
    let (input, output) = (counted.input, counted.output?);
    let usage = Usage { input: Some(input), output: Some(output), total: Some(input + output), ..Usage::default() };
    Some(Estimate { usage, method: counted.method })
}

/// What [`estimate`] counts for the input, and how, whatever came out: not enough for a cost, but the rules for tools
/// and images can be held against what providers counted.
pub fn input(span: Span<'_>, reading: &Reading<'_>) -> Option<(u64, &'static str)> {
    Counted::of(span, reading).map(|counted| (counted.input, counted.method))
}

/// Tokens of a call's content.
struct Counted {
    input: u64,
    /// `None` where there is none, or something besides text.
    output: Option<u64>,
    method: &'static str,
}

impl Counted {
    fn of(span: Span<'_>, reading: &Reading<'_>) -> Option<Self> {
        let model = if reading.response_model.is_empty() { reading.request_model } else { reading.response_model };
        let model = name_of(model.as_str());
        let vocabulary = Vocabulary::of(&model)?;
        // What an assistant's run is sent is put together by the provider.
        if span.fields().name.as_str().contains("assistant") {
            return None;
        }
        let content = Content::of(span)?;
        let is_chat = match reading.operation.as_str() {
            "chat" | "responses" | "" => true,
            "text_completion" | "completion" => false,
            _ => return None,
        };
        let (has_tools, has_images) = (!content.tools.is_empty(), !content.images.is_empty());
        if !is_chat && (has_tools || has_images) || has_tools && !is_chat_completion(span, reading) {
            return None;
        }
        let tokenizer = vocabulary.tokenizer();
        let count = |text: &str| count(tokenizer, text);
        let count_all = |texts: &[String]| texts.iter().map(|text| count(text)).sum::<u64>();
        let images = if has_images { images_of(&model, &content)? } else { 0 };
        let tools = content.tools.tokens(&model, count)?;
        let framing = if is_chat { PER_MESSAGE * content.messages + PER_CHAT } else { 0 };
        Some(Self {
            input: count_all(&content.input) + framing + images + tools,
            output: Some(count_all(&content.output)).filter(|tokens| *tokens > 0),
            method: vocabulary.method(has_tools, has_images),
        })
    }
}

/// Whether a call is one of the chat completions API, and not of the Responses API, as far as the span tells.
fn is_chat_completion(span: Span<'_>, reading: &Reading<'_>) -> bool {
    let id = reading.response_id.as_str();
    // `openai.response`, `Response`, `Responses API with …`; the Vercel AI SDK has `openai.responses` for provider.
    let names_response = |text: &str| text.to_ascii_lowercase().contains("response");
    let is_named = names_response(span.fields().name.as_str()) || names_response(reading.provider.as_str());
    id.starts_with("chatcmpl-") || !id.starts_with("resp_") && !is_named
}

/// What the images add to the input, if the model's rule tells of each.
fn images_of(model: &str, content: &Content) -> Option<u64> {
    let rule = images::Rule::of(model)?;
    content.images.iter().map(|image| rule.tokens(*image)).sum()
}

/// The model's name without what stands around it, in lower case. Fine-tuned models are named after what they were made
/// of: `ft:gpt-4o-mini-2024-07-18:org::id`.
fn name_of(model: &str) -> String {
    let model = model.rsplit('/').next().unwrap_or(model);
    model.strip_prefix("ft:").unwrap_or(model).to_ascii_lowercase()
}

fn count(tokenizer: &CoreBPE, mut text: &str) -> u64 {
    let mut tokens = 0;
    while !text.is_empty() {
        let end = (0..=PIECE.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        let (piece, rest) = text.split_at(end);
        tokens += tokenizer.count_ordinary(piece) as u64;
        text = rest;
    }
    tokens
}

impl Vocabulary {
    /// `model` as [`name_of`] gives it.
    fn of(model: &str) -> Option<Self> {
        let is_openai = ["gpt-", "chatgpt-", "davinci-", "babbage-"].iter().any(|prefix| model.starts_with(prefix));
        let family = FAMILIES.iter().find(|(part, _)| model.contains(part)).filter(|_| is_openai)?;
        family.1
    }

    fn tokenizer(self) -> &'static CoreBPE {
        match self {
            Self::O200k => o200k_base_singleton(),
            Self::Cl100k => cl100k_base_singleton(),
        }
    }

    const fn method(self, has_tools: bool, has_images: bool) -> &'static str {
        match (self, has_tools, has_images) {
            (Self::O200k, false, false) => "tiktoken/o200k_base",
            (Self::O200k, true, false) => "tiktoken/o200k_base+tools",
            (Self::O200k, false, true) => "tiktoken/o200k_base+images",
            (Self::O200k, true, true) => "tiktoken/o200k_base+tools+images",
            (Self::Cl100k, false, false) => "tiktoken/cl100k_base",
            (Self::Cl100k, true, false) => "tiktoken/cl100k_base+tools",
            (Self::Cl100k, false, true) => "tiktoken/cl100k_base+images",
            (Self::Cl100k, true, true) => "tiktoken/cl100k_base+tools+images",
        }
    }
}
