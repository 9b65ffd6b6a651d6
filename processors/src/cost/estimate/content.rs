//! The messages of a call, from whatever attributes hold them.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use weir_pipeline::batch::Span;
use weir_pipeline::batch::view::Value;

use super::images::Image;
use super::tools::Tools;

/// What went in and came out. There is none where something went in that no rule counts.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) input: Vec<String>,
    /// None where something besides text came out: how calls of tools are written is not published.
    pub(super) output: Vec<String>,
    /// How many messages the input has.
    pub(super) messages: u64,
    /// Images of the input.
    pub(super) images: Vec<Image>,
    pub(super) tools: Tools,
}

/// What is found on the way through the attributes.
#[derive(Debug, Default)]
struct Reader {
    families: [Family; SOURCES],
    tools: Tools,
    /// Whether something besides text came out.
    is_more_than_text: bool,
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

/// Beginnings of keys that say that more went in than text, images and tools.
const MORE_INPUT: [&str; 2] = ["gen_ai.request.structured_output_schema", "llm.request.structured_output_schema"];

/// Beginnings of keys that say that more came out than text.
const MORE_OUTPUT: [&str; 2] = ["ai.response.toolCalls", "ai.response.reasoning"];

/// Why the model stopped: some emitters leave out what it called.
const FINISH_REASONS: [&str; 3] = ["gen_ai.response.finish_reasons", "ai.response.finishReason", "llm.finish_reason"];

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
const HARMLESS: [&str; 1] = ["index"];
/// Of a message that is a tool's answer it is not published how it is counted.
const ROLES: [&str; 2] = ["role", "message.role"];
const TOOL_ROLES: [&str; 2] = ["tool", "function"];

/// The most bytes of one span that are looked at, images included.
const MAX_RAW_BYTES: usize = 16 * 1024 * 1024;

impl Content {
    /// What went in and came out; `None` where what went in is not all there or cannot be counted.
    pub(super) fn of(span: Span<'_>) -> Option<Self> {
        let mut reader = Reader::default();
        let (mut bytes, mut raw_bytes) = (0, 0);
        for kv in span.raw_attributes() {
            let key = kv.key.as_str();
            if !(key.starts_with("gen_ai.") || key.starts_with("llm.") || key.starts_with("ai.")) {
                continue;
            }
            raw_bytes += kv.any_value.len();
            if raw_bytes > MAX_RAW_BYTES {
                return None;
            }
            bytes += reader.take(key, kv.value())?;
            if bytes > super::MAX_BYTES {
                return None;
            }
        }
        let Reader { families, tools, is_more_than_text } = reader;
        let has_input = |family: &&Family| !family.content.input.is_empty();
        let is_whole = |family: &&Family| has_input(family) && !family.content.output.is_empty();
        let at = families.iter().position(|family| is_whole(&family));
        let at = at.or_else(|| families.iter().position(|family| has_input(&family)))?;
        let Family { mut content, seen } = families.into_iter().nth(at)?;
        content.messages += seen.len() as u64;
        content.tools = tools;
        if is_more_than_text {
            content.output.clear();
        }
        // What looks like an image and stands in a text was not counted above.
        let text_bytes: usize = content.input.iter().chain(&content.output).map(String::len).sum();
        (text_bytes <= super::MAX_BYTES).then_some(content)
    }
}

impl Reader {
    /// Reads one attribute and returns how many bytes it has that count; `None` where no rule counts what went in.
    fn take(&mut self, key: &str, value: Value<'_>) -> Option<usize> {
        if MORE_INPUT.iter().any(|start| key.starts_with(start)) {
            return None;
        }
        if let Some(bytes) = self.tools.take(key, value)? {
            return Some(bytes);
        }
        if key == "ai.prompt.toolChoice" {
            // What it takes to demand a tool, or to forbid all, is not published.
            return value.as_str().filter(|choice| choice.contains("\"auto\"")).map(str::len);
        }
        let is_more_output = MORE_OUTPUT.iter().any(|start| key.starts_with(start));
        if is_more_output || FINISH_REASONS.contains(&key) && names_tools(value) {
            self.is_more_than_text = true;
            return Some(0);
        }
        if key == "ai.response.text" {
            let text = value.as_str()?;
            self.families.get_mut(Source::VercelAi as usize)?.push(text, true);
            return Some(text.len());
        }
        if let Some((_, source, is_output)) = TOGETHER.iter().find(|(name, ..)| *name == key) {
            let text = value.as_str()?;
            let bytes = bytes_but_images(text);
            let family = self.families.get_mut(*source as usize)?;
            let taken = (bytes <= super::MAX_BYTES).then(|| family.take_json(text, *is_output)).flatten();
            return self.unless_output(taken.map(|()| bytes), *is_output);
        }
        let indexed = INDEXED.iter().find_map(|(start, names, source, is_output)| {
            let (number, name) = key.strip_prefix(start)?.split_once('.')?;
            Some((number.parse::<u32>().ok()?, name, *names, *source, *is_output))
        });
        let Some((number, name, names, source, is_output)) = indexed else { return Some(0) };
        if HARMLESS.contains(&name) {
            return Some(0);
        }
        if ROLES.contains(&name) {
            let is_tool = value.as_str().is_some_and(|role| TOOL_ROLES.contains(&role));
            return self.unless_output((!is_tool).then_some(0), is_output);
        }
        if name == "finish_reason" {
            self.is_more_than_text |= names_tools(value);
            return Some(0);
        }
        // Calls of tools, and whatever else a message has.
        let Some(text) = value.as_str().filter(|_| names.contains(&name)) else {
            return self.unless_output(None, is_output);
        };
        let bytes = bytes_but_images(text);
        let family = self.families.get_mut(source as usize)?;
        let taken = (bytes <= super::MAX_BYTES).then(|| family.take_indexed(number, text, is_output)).flatten();
        self.unless_output(taken.map(|()| bytes), is_output)
    }

    /// What cannot be counted ends the reading where it went in. Where it came out, what went in can still be counted.
    fn unless_output(&mut self, taken: Option<usize>, is_output: bool) -> Option<usize> {
        let is_more = taken.is_none() && is_output;
        self.is_more_than_text |= is_more;
        if is_more { Some(0) } else { taken }
    }
}

/// Whether a finish reason is a call of a tool: `tool_calls`, `tool-calls`, `function_call`.
fn is_call(reason: &str) -> bool {
    reason.contains("tool") || reason.contains("function")
}

/// Whether the finish reason that an attribute holds, or one of several, is a call of a tool.
fn names_tools(value: Value<'_>) -> bool {
    match value {
        Value::Array(reasons) => reasons.iter().any(|reason| reason.as_str().is_some_and(is_call)),
        reason => reason.as_str().is_some_and(is_call),
    }
}

/// How long a text is without the images in it, of which only the first bytes are looked at.
fn bytes_but_images(text: &str) -> usize {
    const MARK: &str = ";base64,";
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let images = text.match_indices(MARK).map(|(at, mark)| {
        text.as_bytes().get(at + mark.len()..).unwrap_or_default().iter().take_while(|byte| is_base64(byte)).count()
    });
    text.len().saturating_sub(images.sum())
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
            let text = |key: &str| message.get(key).and_then(Json::as_str).unwrap_or_default();
            if is_output && is_call(text("finish_reason")) || TOOL_ROLES.contains(&text("role")) {
                return None;
            }
            self.take_parts(message.get("parts").or_else(|| message.get("content"))?, is_output)?;
        }
        Some(())
    }

    fn take_parts(&mut self, parts: &Json, is_output: bool) -> Option<()> {
        match parts {
            Json::String(text) => self.push(text, is_output),
            Json::Array(parts) => {
                for part in parts {
                    match part.get("type").and_then(Json::as_str)? {
                        "text" | "input_text" | "output_text" => {
                            let text = part.get("content").or_else(|| part.get("text")).and_then(Json::as_str)?;
                            self.push(text, is_output);
                        }
                        "image_url" | "input_image" | "uri" | "blob" if !is_output => {
                            self.content.images.push(Image::of(part)?);
                        }
                        _ => return None,
                    }
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
