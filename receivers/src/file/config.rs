//! `otlp_json_file` as it is written.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use glob::Pattern;
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, units};

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct FileConfig {
    include: Vec<String>,
    exclude: Vec<String>,
    start_at: StartAt,
    replay_file: bool,
    #[serde(deserialize_with = "units::duration")]
    poll_interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum StartAt {
    Beginning,
    End,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<FileConfig>()
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            start_at: StartAt::End,
            replay_file: false,
            poll_interval: Duration::from_millis(200),
        }
    }
}

/// What the braces of one pattern may come to.
const MAX_ALTERNATIVES: usize = 1000;
/// Bytes of a pattern: looking for partners of braces takes the square of it.
const MAX_LEN: usize = 4096;

/// The patterns that a pattern with braces stands for, as in the Collector: `/{a,b{1,2}}/*` is `/a/*`, `/b1/*` and
/// `/b2/*`. Braces within `[]`, and those without a partner, are characters like any other. `None`: there are too many,
/// or it is too long.
fn alternatives(text: &str) -> Option<Vec<String>> {
    if text.len() > MAX_LEN {
        return None;
    }
    let (mut all, mut done) = (vec![text.to_owned()], Vec::new());
    while let Some(pattern) = all.pop() {
        let Some((start, end, commas)) = first_braces(&pattern) else {
            done.push(pattern);
            continue;
        };
        if all.len() + done.len() + commas.len() >= MAX_ALTERNATIVES {
            return None;
        }
        let ends = [&[start][..], &commas, &[end]].concat();
        for part in ends.windows(2).rev() {
            all.push([&pattern[..start], &pattern[part[0] + 1..part[1]], &pattern[end + 1..]].concat());
        }
    }
    Some(done)
}

/// Where the first pair of braces opens and closes, and the commas right in it.
fn first_braces(pattern: &str) -> Option<(usize, usize, Vec<usize>)> {
    let bytes = pattern.as_bytes();
    let mut from = 0;
    while let Some(start) = find_outside_classes(bytes, from, |byte| byte == b'{') {
        let (mut depth, mut commas, mut at) = (1_usize, Vec::new(), start + 1);
        while let Some(found) = find_outside_classes(bytes, at, |byte| matches!(byte, b'{' | b'}' | b',')) {
            match bytes.get(found) {
                Some(b'{') => depth += 1,
                Some(b',') if depth == 1 => commas.push(found),
                Some(b'}') if depth == 1 => return Some((start, found, commas)),
                Some(b'}') => depth -= 1,
                _ => {}
            }
            at = found + 1;
        }
        from = start + 1;
    }
    None
}

/// The first such byte that is not in a class of characters, from a place that is in none either.
fn find_outside_classes(bytes: &[u8], from: usize, is_it: impl Fn(u8) -> bool) -> Option<usize> {
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'[' {
            // `]` right at the beginning, or behind `!`, is one of the characters.
            let first = at + 1 + usize::from(bytes.get(at + 1) == Some(&b'!')) + 1;
            let closing = bytes.get(first..).and_then(|rest| rest.iter().position(|byte| *byte == b']'));
            at = closing.map_or(at, |closing| first + closing);
        } else if is_it(*byte) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// `otlp_json_file`, validated.
#[derive(Debug, Clone)]
pub(super) struct FileSettings {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    /// Whether files that are there at the start are read from their beginning.
    pub(super) from_beginning: bool,
    pub(super) replays: bool,
    pub(super) poll_interval: Duration,
}

impl FileSettings {
    pub(super) fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let FileConfig { include, exclude, start_at, replay_file, poll_interval } = node.parse_as(path)?;
        let error =
            |key: &str, message: String| node.get(key).unwrap_or(node).error(&format!("{path}::{key}"), message);
        if include.is_empty() {
            return Err(error("include", "must name at least one file or pattern".to_owned()));
        }
        if poll_interval.is_zero() {
            return Err(error("poll_interval", "must be positive".to_owned()));
        }
        let patterns = |key: &str, texts: &[String]| -> Result<Vec<Pattern>, ConfigError> {
            let pattern = |text: &String| {
                Pattern::new(text).map_err(|e| error(key, format!("{text:?} is not a pattern: {} at {}", e.msg, e.pos)))
            };
            let mut patterns = Vec::new();
            for text in texts {
                let Some(all) = alternatives(text) else {
                    let limits = format!("more than {MAX_ALTERNATIVES} patterns, or is longer than {MAX_LEN} bytes");
                    return Err(error(key, format!("{text:?} stands for {limits}")));
                };
                patterns.extend(all.iter().map(pattern).collect::<Result<Vec<_>, _>>()?);
            }
            Ok(patterns)
        };
        Ok(Self {
            include: patterns("include", &include)?,
            exclude: patterns("exclude", &exclude)?,
            // What is read again and again is read whole.
            from_beginning: start_at == StartAt::Beginning || replay_file,
            replays: replay_file,
            poll_interval,
        })
    }

    /// The files that match now, in the order of their names. Folders that cannot be read have none.
    pub(super) fn paths(&self) -> BTreeSet<PathBuf> {
        let found = self.include.iter().filter_map(|pattern| glob::glob(pattern.as_str()).ok()).flatten().flatten();
        found.filter(|path| path.is_file() && !self.exclude.iter().any(|pattern| pattern.matches_path(path))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_alternatives() {
        for (pattern, all) in [
            ("/var/*.json", &["/var/*.json"][..]),
            ("/{a,b}/*.json", &["/a/*.json", "/b/*.json"]),
            ("/{a,b{1,2}c}{,.json}", &["/a", "/a.json", "/b1c", "/b1c.json", "/b2c", "/b2c.json"]),
            ("{a}{", &["a{"]),
            ("}{a,b", &["}{a,b"]),
            ("{{a,b}", &["{a", "{b"]),
            ("{}ä{ö,ü}", &["äö", "äü"]),
            ("/x/[{]a,b[}]{1,2}", &["/x/[{]a,b[}]1", "/x/[{]a,b[}]2"]),
            ("{[,}],[]}],[!]}],c}", &["[,}]", "[]}]", "[!]}]", "c"]),
            ("[{a,b}", &["[a", "[b"]),
        ] {
            assert_eq!(alternatives(pattern).unwrap(), all, "{pattern}");
        }
        assert_eq!(alternatives(&"{a,b}".repeat(9)).unwrap().len(), 512);
        for too_much in ["{a,b}".repeat(400), format!("{{{}}}", ",".repeat(1000)), "{".repeat(MAX_LEN + 1)] {
            assert_eq!(alternatives(&too_much), None);
        }
    }
}
