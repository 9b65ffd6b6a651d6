//! The messages of a call, from whatever attributes hold them.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use weir_pipeline::batch::Span;
use weir_pipeline::batch::view::Value;

/// Texts that went in and came out. There is none where something besides text did.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) input: Vec<String>,
    pub(super) output: Vec<String>,
    /// How many messages the input has.
    pub(super) messages: u64,
}

/// The messages that one family of attributes holds. A span may have the same ones in several.
#[derive(Debug, Default)]
struct Family {
    content: Content,
    /// Numbers of messages whose keys are indexed.
    seen: BTreeSet<u32>,
}

/// The families, the first the one that is read if there are several.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
enum Source {
    OtelJson,
    Indexed,
    OpenInference,
    VercelAi,
}

const SOURCES: usize = 4;

/// Beginnings of keys that say that there is more than text.
const MORE_THAN_TEXT: [&str; 9] = [
    "gen_ai.tool.definitions",
    "llm.request.functions.",
    "llm.tools.",
    "ai.prompt.tools",
    "ai.response.toolCalls",
    "ai.response.reasoning",
    "gen_ai.request.structured_output_schema",
    "llm.request.structured_output_schema",
    "gen_ai.request.functions.",
];

/// Where messages stand one by one: what precedes their number, what follows it, and whether they are output.
const INDEXED: [(&str, &[&str], Source, bool); 4] = [
    ("gen_ai.prompt.", &["content", "user"], Source::Indexed, false),
    ("gen_ai.completion.", &["content"], Source::Indexed, true),
    ("llm.input_messages.", &["message.content"], Source::OpenInference, false),
    ("llm.output_messages.", &["message.content"], Source::OpenInference, true),
];

/// Where they stand all together as JSON.
const TOGETHER: [(&str, Source, bool); 4] = [
    ("gen_ai.input.messages", Source::OtelJson, false),
    ("gen_ai.output.messages", Source::OtelJson, true),
    ("gen_ai.system_instructions", Source::OtelJson, false),
    ("ai.prompt.messages", Source::VercelAi, false),
];

/// The parts of an indexed message that are no content and change nothing.
const HARMLESS: [&str; 4] = ["role", "finish_reason", "message.role", "index"];

impl Content {
    /// The texts; `None` where they are not all there is.
    pub(super) fn of(span: Span<'_>) -> Option<Self> {
        let mut families: [Family; SOURCES] = Default::default();
        let mut bytes = 0;
        for kv in span.raw_attributes() {
            let key = kv.key.as_str();
            if !(key.starts_with("gen_ai.") || key.starts_with("llm.") || key.starts_with("ai.")) {
                continue;
            }
            if MORE_THAN_TEXT.iter().any(|start| key.starts_with(start)) {
                return None;
            }
            bytes += take(&mut families, key, kv.value())?;
            if bytes > super::MAX_BYTES {
                return None;
            }
        }
        let is_whole = |family: &Family| !family.content.input.is_empty() && !family.content.output.is_empty();
        let Family { mut content, seen } = families.into_iter().find(is_whole)?;
        content.messages += seen.len() as u64;
        Some(content)
    }
}

/// Reads one attribute and returns how many bytes it has that count; `None` where there is more than text.
fn take(families: &mut [Family; SOURCES], key: &str, value: Value<'_>) -> Option<usize> {
    if key == "ai.response.text" {
        let text = value.as_str()?;
        families.get_mut(Source::VercelAi as usize)?.push(text, true);
        return Some(text.len());
    }
    if let Some((_, source, is_output)) = TOGETHER.iter().find(|(name, ..)| *name == key) {
        let text = value.as_str().filter(|text| text.len() <= super::MAX_BYTES)?;
        families.get_mut(*source as usize)?.take_json(text, *is_output)?;
        return Some(text.len());
    }
    let indexed = INDEXED.iter().find_map(|(start, names, source, is_output)| {
        let (number, name) = key.strip_prefix(start)?.split_once('.')?;
        Some((number.parse::<u32>().ok()?, name, *names, *source, *is_output))
    });
    let Some((number, name, names, source, is_output)) = indexed else { return Some(0) };
    if HARMLESS.contains(&name) {
        return Some(0);
    }
    // Tool calls, images and whatever else a message has.
    let text = value.as_str().filter(|text| names.contains(&name) && text.len() <= super::MAX_BYTES)?;
    families.get_mut(source as usize)?.take_indexed(number, text, is_output)?;
    Some(text.len())
}

impl Family {
    fn take_indexed(&mut self, number: u32, text: &str, is_output: bool) -> Option<()> {
        if !is_output {
            self.seen.insert(number);
        }
        // Several parts stand in one text, as JSON.
        match serde_json::from_str::<Json>(text) {
            Ok(parts @ Json::Array(_)) if text.trim_start().starts_with("[{") => self.take_parts(&parts, is_output),
            _ => {
                self.push(text, is_output);
                Some(())
            }
        }
    }

    /// `[{role, parts | content}]`, or the parts themselves.
    fn take_json(&mut self, text: &str, is_output: bool) -> Option<()> {
        let Json::Array(messages) = serde_json::from_str::<Json>(text).ok()? else { return None };
        if messages.iter().all(|message| message.get("role").is_none()) {
            self.content.messages += u64::from(!is_output);
            return self.take_parts(&Json::Array(messages), is_output);
        }
        for message in &messages {
            self.content.messages += u64::from(!is_output);
            self.take_parts(message.get("parts").or_else(|| message.get("content"))?, is_output)?;
        }
        Some(())
    }

    fn take_parts(&mut self, parts: &Json, is_output: bool) -> Option<()> {
        match parts {
            Json::String(text) => self.push(text, is_output),
            Json::Array(parts) => {
                for part in parts {
                    let kind = part.get("type").and_then(Json::as_str)?;
                    if !matches!(kind, "text" | "input_text" | "output_text") {
                        return None;
                    }
                    let text = part.get("content").or_else(|| part.get("text")).and_then(Json::as_str)?;
                    self.push(text, is_output);
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn push(&mut self, text: &str, is_output: bool) {
        let texts = if is_output { &mut self.content.output } else { &mut self.content.input };
        texts.push(text.to_owned());
    }
}
