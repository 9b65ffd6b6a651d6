//! Counts for calls of which the provider did not tell any, from the text of the messages.
//!
//! A stream has no usage unless the client asks for it, and many do not. Where the messages are on the span, their
//! tokens are counted with the model's own tokenizer. The result is an estimate and is marked as one: the status is
//! `estimated`, and `weir.usage.method` names the tokenizer.
//!
//! Estimated are chats and completions of OpenAI models whose vocabulary is public and whose whole output is on the
//! span. OpenAI's cookbook ("How to count tokens with tiktoken") gives what a chat adds to its texts: three tokens and
//! the role for each message, and three for the answer's beginning.
//!
//! Nothing is guessed where that does not hold: reasoning models (their thinking is billed and not shown), images,
//! audio, tools and structured outputs (the provider's text for these is not published), failed calls, texts of other
//! providers' models, assistants, and contents of more than [`MAX_BYTES`] a span stay without usage. What the span does
//! not show cannot be counted: an application that sends tools and does not record them has used more.
//!
//! In the corpus 268 of 275 outputs, and 19 of the 22 inputs whose requests are the recorded ones, are within 5 % or 3
//! tokens of what the provider counted (`tests/corpus.rs`).
//!
//! A vocabulary is read at its first use: it takes about a third of a second and 30 MB, once a process.

mod content;
#[cfg(test)]
mod tests;

use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};
use weir_pipeline::batch::Span;

use self::content::Content;
use super::{Reading, Usage};

/// The most text of one span that is counted.
pub const MAX_BYTES: usize = 256 * 1024;
/// Text is counted in pieces of this size, so that no pattern can make one take long.
const PIECE: usize = 16 * 1024;

/// Counts from a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Input, output and total.
    pub usage: Usage,
    /// `tiktoken/o200k_base`
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
    let model = if reading.response_model.is_empty() { reading.request_model } else { reading.response_model };
    let vocabulary = Vocabulary::of(model.as_str())?;
    // Logfire sends the end of a stream as a log of its own, with the usage.
    let is_told_elsewhere = !reading.is_log && span.scope().name().as_str().starts_with("logfire");
    let fields = span.fields();
    // What an assistant's run is sent is put together by the provider.
    let is_hidden = fields.name.as_str().contains("assistant");
    if is_told_elsewhere || is_hidden || fields.status_code == FAILED {
        return None;
    }
    let content = Content::of(span)?;
    let is_chat = match reading.operation.as_str() {
        "chat" | "responses" | "" => true,
        "text_completion" | "completion" => false,
        _ => return None,
    };
    let tokenizer = vocabulary.tokenizer();
    let count = |texts: &[String]| texts.iter().map(|text| count(tokenizer, text)).sum::<u64>();
    let framing = if is_chat { PER_MESSAGE * content.messages + PER_CHAT } else { 0 };
    let (input, output) = (count(&content.input) + framing, count(&content.output));
    if output == 0 {
        return None;
    }
    let usage = Usage { input: Some(input), output: Some(output), total: Some(input + output), ..Usage::default() };
    Some(Estimate { usage, method: vocabulary.method() })
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
    fn of(model: &str) -> Option<Self> {
        let model = model.rsplit('/').next().unwrap_or(model);
        // Fine-tuned models are named after what they were made of: `ft:gpt-4o-mini-2024-07-18:org::id`.
        let model = model.strip_prefix("ft:").unwrap_or(model).to_ascii_lowercase();
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

    const fn method(self) -> &'static str {
        match self {
            Self::O200k => "tiktoken/o200k_base",
            Self::Cl100k => "tiktoken/cl100k_base",
        }
    }
}
