//! Where the content columns come from.
//!
//! A content column takes over the text of one attribute, or puts a family of attributes together. Either way the
//! attributes are not stored a second time, and [`crate::rebuild`] can restore them.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::any::{Any, text, write_json, write_string};
use super::known::Slot;

/// A place content may come from; the position in its list is its rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// One attribute's text.
    Text(&'static str),
    /// The attributes `<prefix>N.…` with the second segment that their instrumentation puts everywhere, if it does.
    Family(&'static str, Option<&'static str>),
}

use Source::{Family, Text};

/// The sources of one column, best first.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) slot: Slot,
    pub(crate) sources: &'static [Source],
}

/// `input`, `output` and `tool_definitions`.
pub(crate) const COLUMNS: [Column; 3] = [
    Column {
        slot: Slot::Input,
        sources: &[
            Text("gen_ai.input.messages"),
            Family("gen_ai.prompt.", None),
            Family("llm.input_messages.", Some("message")),
            Family("llm.prompts.", None),
            Text("ai.prompt.messages"),
            Text("ai.prompt"),
            Text("pydantic_ai.all_messages"),
            Text("traceloop.entity.input"),
            Text("input.value"),
            Text("gen_ai.tool.call.arguments"),
            Text("tool_arguments"),
            Text("ai.toolCall.args"),
        ],
    },
    Column {
        slot: Slot::Output,
        sources: &[
            Text("gen_ai.output.messages"),
            Family("gen_ai.completion.", None),
            Family("llm.output_messages.", Some("message")),
            Family("llm.choices.", None),
            Text("ai.response.text"),
            Text("ai.response.object"),
            Text("ai.response.toolCalls"),
            Text("traceloop.entity.output"),
            Text("output.value"),
            Text("final_result"),
            Text("gen_ai.tool.call.result"),
            Text("tool_response"),
            Text("ai.toolCall.result"),
        ],
    },
    Column {
        slot: Slot::ToolDefinitions,
        sources: &[
            Text("gen_ai.tool.definitions"),
            Family("llm.request.functions.", None),
            Family("llm.tools.", Some("tool")),
        ],
    },
];

/// Every attribute whose text may become content: slot, rank and key.
pub(crate) fn texts() -> impl Iterator<Item = (Slot, u8, &'static str)> {
    COLUMNS.iter().flat_map(|column| {
        column.sources.iter().zip(0u8..).filter_map(|(source, rank)| match source {
            Text(key) => Some((column.slot, rank, *key)),
            Family(..) => None,
        })
    })
}

/// An attribute that belongs to a family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    /// Index into [`COLUMNS`].
    pub(crate) column: u8,
    /// Rank of the family among the column's sources.
    pub(crate) rank: u8,
    /// Index of the attribute.
    pub(crate) attribute: u32,
    /// The key behind the family's prefix: `0.content`.
    pub(crate) path: &'a str,
    pub(crate) value: Any<'a>,
}

/// The family a key belongs to: column, rank and the rest of the key.
pub(crate) fn family_of(key: &[u8]) -> Option<(u8, u8, &str)> {
    // Most keys of a span are none of a family; two comparisons tell.
    if !(key.starts_with(b"gen_ai.") || key.starts_with(b"llm.")) {
        return None;
    }
    let is_index = |path: &&[u8]| path.first().is_some_and(u8::is_ascii_digit);
    for (column, index) in COLUMNS.iter().zip(0u8..) {
        for (source, rank) in column.sources.iter().zip(0u8..) {
            if let Family(prefix, _) = source
                && let Some(path) = key.strip_prefix(prefix.as_bytes()).filter(is_index)
            {
                return Some((index, rank, text(path)));
            }
        }
    }
    None
}

/// The name under which a source is recorded: the key, or the family's pattern.
pub(crate) fn source_name(source: Source, stripped: bool) -> Cow<'static, str> {
    match source {
        Text(key) => key.into(),
        Family(prefix, Some(second)) if stripped => format!("{prefix}*.{second}").into(),
        Family(prefix, _) => format!("{prefix}*").into(),
    }
}

/// The source recorded under a name, and whether its second segment was stripped.
pub(crate) fn source_named(name: &str) -> Option<(Source, bool)> {
    let sources = COLUMNS.iter().flat_map(|c| c.sources).copied();
    sources.flat_map(|s| [(s, false), (s, true)]).find(|(source, stripped)| source_name(*source, *stripped) == name)
}

/// Puts a family together as JSON and says whether the family's second segment was stripped. `None` if the attributes
/// could not be restored from the JSON.
pub(crate) fn assemble(members: &mut [Member<'_>], second: Option<&str>, out: &mut Vec<u8>) -> Option<bool> {
    members.sort_unstable_by(|a, b| compare_paths(a.path, b.path));
    let stripped = second.is_some_and(|second| {
        members.iter().all(|m| m.path.split('.').nth(1) == Some(second) && m.path.split('.').count() > 2)
    });
    let skip = if stripped { second } else { None };
    put(members, 0, skip, out).then_some(stripped)
}

/// Writes the members that agree in the first `at` bytes of their paths.
fn put(members: &[Member<'_>], at: usize, skip: Option<&str>, out: &mut Vec<u8>) -> bool {
    if members.iter().any(|m| at > m.path.len()) {
        // The end of a path: a leaf, unless another path goes on from here.
        let [leaf] = members else { return false };
        let natural = match leaf.value {
            Any::Str(_) | Any::Bool(_) | Any::Int(_) => true,
            Any::Double(d) => d.is_finite(),
            _ => false,
        };
        return natural && write_json(out, leaf.value);
    }
    let groups = || members.chunk_by(|a, b| segment(a, at) == segment(b, at));
    let len = |group: &[Member<'_>]| group.first().map_or("", |m| segment(m, at)).len();
    let is_array = groups().zip(0..).all(|(group, n)| group.first().and_then(|m| index(segment(m, at))) == Some(n));
    out.push(if is_array { b'[' } else { b'{' });
    for (n, group) in groups().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        if let (false, Some(first)) = (is_array, group.first()) {
            write_string(out, segment(first, at).as_bytes());
            out.push(b':');
        }
        // Past the segment, its dot, and the segment that all members share.
        let next = at + len(group) + 1 + skip.map_or(0, |s| s.len() + 1);
        if !put(group, next, None, out) {
            return false;
        }
    }
    out.push(if is_array { b']' } else { b'}' });
    true
}

/// The segment of a member's path that begins at `at`.
fn segment<'a>(member: &Member<'a>, at: usize) -> &'a str {
    member.path.get(at..).and_then(|rest| rest.split('.').next()).unwrap_or_default()
}

/// Orders paths segment by segment, numbers by value and before names.
fn compare_paths(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let ordering = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (index(a), index(b)) {
                (Some(m), Some(n)) => m.cmp(&n),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => a.cmp(b),
            },
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
}

/// A list index as instrumentations write it: digits without a leading zero.
fn index(segment: &str) -> Option<u32> {
    let canonical = segment == "0" || (!segment.starts_with('0') && segment.bytes().all(|b| b.is_ascii_digit()));
    if canonical { segment.parse().ok() } else { None }
}
