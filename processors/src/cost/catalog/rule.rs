//! Match rules of providers and models, and the arena they live in.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

/// A string of the catalog's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Str {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// A rule over a lower-cased name. Texts are lower-case, patterns as they are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    Equals(Str),
    StartsWith(Str),
    EndsWith(Str),
    Contains(Str),
    /// Number of the pattern.
    Regex(u32),
    /// Any of `count` rules from `first` on.
    Or(Children),
    /// All of them.
    And(Children),
}

impl Rule {
    /// Whether it is the rule of a provider whose every model has the same price.
    pub(super) fn takes_everything(self) -> bool {
        matches!(self, Self::StartsWith(Str { len: 0, .. }))
    }
}

/// Rules that lie side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Children {
    pub(super) first: u32,
    pub(super) count: u16,
}

impl Children {
    pub(super) fn of<T>(self, rules: &[T]) -> &[T] {
        let first = self.first as usize;
        rules.get(first..first + usize::from(self.count)).unwrap_or_default()
    }
}

/// A regular expression that is compiled when it is first asked: few ever are, and each takes tens of microseconds and
/// of kilobytes.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) source: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(super) fn new(source: &str) -> Self {
        Self { source: source.into(), compiled: OnceLock::new() }
    }

    /// Compiles it now, to learn whether it is one.
    pub(super) fn check(&self) -> Result<(), regex::Error> {
        compile(&self.source).map(drop)
    }

    fn is_match(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| compile(&self.source).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text.as_bytes()))
    }
}

fn compile(source: &str) -> Result<Regex, regex::Error> {
    // Without Unicode classes the automata are a tenth of the size.
    RegexBuilder::new(source).unicode(false).size_limit(1 << 20).build()
}

/// Rules with everything they refer to.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) text: Box<str>,
    pub(super) rules: Box<[Rule]>,
    pub(super) patterns: Box<[Pattern]>,
}

impl Rules {
    pub(super) fn str(&self, s: Str) -> &str {
        self.text.get(s.start as usize..(s.start + s.len) as usize).unwrap_or_default()
    }

    /// Whether the rule holds for `name`, which must be lower-case.
    pub(super) fn matches(&self, rule: Rule, name: &str) -> bool {
        match rule {
            Rule::Equals(s) => s.len as usize == name.len() && self.str(s) == name,
            Rule::StartsWith(s) => name.starts_with(self.str(s)),
            Rule::EndsWith(s) => name.ends_with(self.str(s)),
            Rule::Contains(s) => s.len as usize <= name.len() && name.contains(self.str(s)),
            Rule::Regex(at) => self.patterns.get(at as usize).is_some_and(|p| p.is_match(name)),
            Rule::Or(children) => children.of(&self.rules).iter().any(|r| self.matches(*r, name)),
            Rule::And(children) => children.of(&self.rules).iter().all(|r| self.matches(*r, name)),
        }
    }
}
