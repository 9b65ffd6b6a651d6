//! The tools that a call offers to the model, and what they add to its input.
//!
//! The rule is OpenAI's own: the cookbook's "How to count tokens with tiktoken", section 7, "Counting tokens for chat
//! completions with tool calls" (github.com/openai/openai-cookbook, MIT). It counts names, types, descriptions and
//! enumerated values of a flat schema and nothing else, of chat completions of four models. What it does not cover is
//! not stretched:
//!
//! * A definition that says more: nested objects, unions, defaults, limits, references.
//! * A function or parameter without a description. On real spans the rule is two to three tokens high for each.
//! * The Responses API. On real spans the rule is four to ten tokens off.
//! * GPT-4.1 and later.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use weir_pipeline::batch::view::Value;

/// What is added for each property, besides its text.
const PER_PROPERTY: u64 = 3;
/// What is added for the properties of a function that has any.
const PER_PROPERTIES: u64 = 3;
/// What is added for each value of an enumeration but the first, besides its text. (The rule has 3 for each and −3 for
/// each enumeration.)
const PER_ENUM_VALUE: u64 = 3;
/// What is added once where there are tools.
const PER_TOOLS: u64 = 12;

/// What is added for each function, by parts of model names. The first that fits decides.
const PER_FUNCTION: &[(&str, Option<u64>)] = &[
    ("gpt-4o", Some(7)),
    ("gpt-4.1", None),
    ("gpt-4.5", None),
    ("gpt-4", Some(10)),
    ("gpt-3.5-turbo", Some(10)),
    // As Azure spells it.
    ("gpt-35-turbo", Some(10)),
];

/// Tool definitions, from whatever attributes hold them. A span may have the same ones in several.
#[derive(Debug, Default)]
pub(super) struct Tools {
    families: [BTreeMap<usize, Tool>; FAMILIES],
}

/// One function. Its parts come in attributes of their own, or all at once.
#[derive(Debug, Default)]
struct Tool {
    name: String,
    description: String,
    properties: Vec<Property>,
}

#[derive(Debug)]
struct Property {
    name: String,
    kind: String,
    description: String,
    values: Vec<String>,
}

/// Where definitions stand all together, as JSON or as an array of JSON texts.
const TOGETHER: [&str; 2] = ["gen_ai.tool.definitions", "ai.prompt.tools"];
/// Where they stand one by one: a number and the name of a part follow.
const INDEXED: [&str; 3] = ["llm.request.functions.", "gen_ai.request.functions.", "llm.tools."];
const FAMILIES: usize = TOGETHER.len() + INDEXED.len();

/// Scalars: what else a schema can have is laid out in ways that the rule does not tell.
const SCALARS: [&str; 4] = ["string", "number", "integer", "boolean"];

impl Tools {
    /// Takes an attribute if it defines tools and returns how many bytes it has; `Some(None)` if it is another one, and
    /// `None` where it defines what no rule counts.
    pub(super) fn take(&mut self, key: &str, value: Value<'_>) -> Option<Option<usize>> {
        if let Some(family) = TOGETHER.iter().position(|name| *name == key) {
            return self.take_together(family, value).map(Some);
        }
        let indexed = INDEXED.iter().enumerate().find_map(|(at, start)| Some((at, key.strip_prefix(start)?)));
        let Some((at, rest)) = indexed else { return Some(None) };
        let (number, part) = rest.split_once('.')?;
        let text = value.as_str().filter(|text| text.len() <= super::MAX_BYTES)?;
        let family = self.families.get_mut(TOGETHER.len() + at)?;
        let tool = family.entry(number.parse().ok()?).or_default();
        match part {
            "name" => text.clone_into(&mut tool.name),
            "description" => text.clone_into(&mut tool.description),
            "parameters" => tool.properties = properties(&serde_json::from_str(text).ok()?)?,
            "tool.json_schema" => *tool = Tool::of(&serde_json::from_str(text).ok()?)?,
            _ => return None,
        }
        Some(Some(text.len()))
    }

    fn take_together(&mut self, family: usize, value: Value<'_>) -> Option<usize> {
        let mut bytes = 0;
        let mut parse = |text: &str| {
            bytes += text.len();
            (bytes <= super::MAX_BYTES).then(|| serde_json::from_str::<Json>(text).ok()).flatten()
        };
        let definitions = match value {
            Value::Array(texts) => texts.iter().map(|text| parse(text.as_str()?)).collect::<Option<Vec<_>>>()?,
            text => match parse(text.as_str()?)? {
                Json::Array(definitions) => definitions,
                _ => return None,
            },
        };
        let tools = definitions.iter().map(Tool::of).collect::<Option<Vec<_>>>()?;
        *self.families.get_mut(family)? = tools.into_iter().enumerate().collect();
        Some(bytes)
    }

    /// The tools of the first family that has any.
    fn first(&self) -> Option<&BTreeMap<usize, Tool>> {
        self.families.iter().find(|tools| !tools.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// What they add to the input of a model, whose name is in lower case; `None` where the rule does not say.
    pub(super) fn tokens(&self, model: &str, count: impl Fn(&str) -> u64) -> Option<u64> {
        let Some(tools) = self.first() else { return Some(0) };
        let (_, per_function) = PER_FUNCTION.iter().find(|(part, _)| model.contains(part))?;
        // Where parts stand one by one some may not have been recorded.
        let is_described = |tool: &Tool| !tool.name.is_empty() && !tool.description.is_empty();
        let each = tools.values().map(|tool| Some((*per_function)? + is_described(tool).then(|| tool.tokens(&count))?));
        Some(each.sum::<Option<u64>>()? + PER_TOOLS)
    }
}

impl Tool {
    /// `{name, description, parameters}`, or the same as `function` of an object.
    fn of(definition: &Json) -> Option<Self> {
        let outer = definition.as_object()?;
        // The provider's own tools (search, code interpreter) are texts that are not published.
        if outer.get("type").is_some_and(|kind| kind != "function") {
            return None;
        }
        let function = outer.get("function").map_or(Some(outer), Json::as_object)?;
        let mut tool = Self::default();
        for (key, value) in said(function) {
            match key.as_str() {
                "name" => value.as_str()?.clone_into(&mut tool.name),
                "description" => value.as_str()?.clone_into(&mut tool.description),
                "parameters" | "inputSchema" | "input_schema" => tool.properties = properties(value)?,
                "type" | "strict" => {}
                _ => return None,
            }
        }
        Some(tool)
    }

    fn tokens(&self, count: impl Fn(&str) -> u64) -> u64 {
        let line = count(&format!("{}:{}", self.name, without_stop(&self.description)));
        let properties = self.properties.iter().map(|property| property.tokens(&count)).sum::<u64>();
        line + properties + if self.properties.is_empty() { 0 } else { PER_PROPERTIES }
    }
}

impl Property {
    fn of(name: &str, schema: &Json) -> Option<Self> {
        let (mut kind, mut description, mut values) = (None, String::new(), Vec::new());
        for (key, value) in said(schema.as_object()?) {
            match key.as_str() {
                "type" => kind = value.as_str(),
                "description" => value.as_str()?.clone_into(&mut description),
                "enum" => {
                    let texts = value.as_array()?.iter().map(|value| value.as_str().map(str::to_owned));
                    values = texts.collect::<Option<Vec<_>>>()?;
                }
                // Of an array the rule counts the name, type and description: all there is where its items are scalars.
                "items" if is_scalar(value) => {}
                "title" => {}
                _ => return None,
            }
        }
        let kind = kind.filter(|kind| SCALARS.contains(kind) || *kind == "array")?;
        if description.is_empty() {
            return None;
        }
        Some(Self { name: name.to_owned(), kind: kind.to_owned(), description, values })
    }

    fn tokens(&self, count: impl Fn(&str) -> u64) -> u64 {
        let line = count(&format!("{}:{}:{}", self.name, self.kind, without_stop(&self.description)));
        let values = self.values.iter().map(|value| count(value) + PER_ENUM_VALUE).sum::<u64>();
        PER_PROPERTY + line + values.saturating_sub(PER_ENUM_VALUE)
    }
}

/// The properties of a function's parameters; `None` where the schema says what the rule does not count.
fn properties(schema: &Json) -> Option<Vec<Property>> {
    let mut properties = Vec::new();
    for (key, value) in said(schema.as_object()?) {
        match key.as_str() {
            "properties" => {
                let named = value.as_object()?.iter().map(|(name, schema)| Property::of(name, schema));
                properties = named.collect::<Option<Vec<_>>>()?;
            }
            "type" if value == "object" => {}
            "required" | "additionalProperties" | "title" | "$schema" => {}
            _ => return None,
        }
    }
    Some(properties)
}

fn is_scalar(schema: &Json) -> bool {
    schema.as_object().is_some_and(|schema| {
        let kind = schema.get("type").and_then(Json::as_str);
        kind.is_some_and(|kind| SCALARS.contains(&kind)) && schema.len() == 1
    })
}

/// The fields that say something: some emitters write all that there could be, as `null`.
fn said(object: &Map<String, Json>) -> impl Iterator<Item = (&String, &Json)> {
    object.iter().filter(|(_, value)| !value.is_null())
}

/// The rule leaves off the full stop at the end of a description.
fn without_stop(description: &str) -> &str {
    description.strip_suffix('.').unwrap_or(description)
}
