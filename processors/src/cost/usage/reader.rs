//! One pass over the attributes: of each field the value whose key has the lowest rank.

use weir_pipeline::batch::view::{KeyValue, Text, Value};
use weir_pipeline::batch::{Span, TakeAttribute};

use super::facts::{Facts, Naming};
use super::keys::{self, COUNTS, Count, FLAGS, Field, Flag, MONIES, Money, NAMES, Name};
use super::number::{self, Number};
use super::{OUTPUT_PREFIXES, Reading, normalise, raw};
use crate::cost::Usd;

/// Collects from a span's attributes what [`Reading`] needs.
#[derive(Debug, Clone, Copy)]
pub struct UsageReader<'a> {
    /// Ranks of the keys that were read, by kind of field; [`UNSET`] where none was.
    count_ranks: [u8; COUNTS],
    name_ranks: [u8; NAMES],
    money_ranks: [u8; MONIES],
    counts: [u64; COUNTS],
    names: [Text<'a>; NAMES],
    monies: [Usd; MONIES],
    /// A bit for each count that was read, …
    counted: u32,
    /// … each whose value is none, …
    invalid: u32,
    /// … and each name that is not empty.
    named: u32,
    flags: [Option<bool>; FLAGS],
    flag_ranks: [u8; FLAGS],
    has_output_keys: bool,
}

/// What an attribute's key says to a [`UsageReader`].
#[derive(Debug, Clone, Copy)]
pub struct Meaning {
    field: Option<(Field, u8)>,
    /// Whether it is of the kind that Weir writes itself.
    is_output: bool,
}

impl Meaning {
    /// What a key means; `None` if nothing.
    pub fn of(key: &[u8]) -> Option<Self> {
        let field = keys::find(key);
        let is_output = field.is_none_or(|(field, _)| field.may_be_output()) && is_output_key(key);
        (field.is_some() || is_output).then_some(Self { field, is_output })
    }
}

/// A rank worse than any.
const UNSET: u8 = u8::MAX;

const _: () = assert!(COUNTS <= u32::BITS as usize);
const _: () = assert!(NAMES <= u32::BITS as usize);

impl Default for UsageReader<'_> {
    fn default() -> Self {
        Self {
            count_ranks: [UNSET; COUNTS],
            name_ranks: [UNSET; NAMES],
            money_ranks: [UNSET; MONIES],
            counts: [0; COUNTS],
            names: [Text::default(); NAMES],
            monies: [Usd::ZERO; MONIES],
            counted: 0,
            invalid: 0,
            named: 0,
            flags: [None; FLAGS],
            flag_ranks: [UNSET; FLAGS],
            has_output_keys: false,
        }
    }
}

impl<'a> TakeAttribute<'a, Meaning> for UsageReader<'a> {
    /// Looks at an attribute whose key is known to mean something.
    #[inline(always)]
    fn take(&mut self, meaning: Meaning, attribute: KeyValue<'a>) {
        match meaning {
            Meaning { field: Some((Field::Name(name), rank)), is_output: false }
                if let Some(text) = attribute.plain_text() =>
            {
                self.take_name(name, rank, text);
            }
            Meaning { field: Some((Field::Count(count), rank)), is_output: false }
                if let Some(n) = attribute.plain_small_int() =>
            {
                self.take_count(count, rank, Number::Tokens(u64::from(n)));
            }
            _ => self.visit_any(meaning, attribute.value()),
        }
    }
}

impl<'a> UsageReader<'a> {
    /// Looks at one attribute.
    #[inline]
    pub fn visit(&mut self, key: &[u8], value: Value<'a>) {
        if let Some(meaning) = Meaning::of(key) {
            self.visit_any(meaning, value);
        }
    }

    /// Looks at all attributes of a span.
    pub fn visit_all(&mut self, span: Span<'a>) {
        for attribute in span.raw_attributes() {
            if let Some(meaning) = Meaning::of(attribute.key.as_bytes()) {
                self.take(meaning, attribute);
            }
        }
    }

    #[inline(never)]
    fn visit_any(&mut self, meaning: Meaning, value: Value<'a>) {
        self.has_output_keys |= meaning.is_output;
        if let Some((field, rank)) = meaning.field {
            self.take_field(field, rank, value);
        }
    }

    /// Decides what the span is and what it used. `scope_name` is the instrumentation scope's, empty if unknown.
    pub fn finish(&mut self, scope_name: &str) -> Reading<'a> {
        self.complete();
        self.reading(&Facts::of(self, scope_name))
    }

    /// Fills in what only texts tell. The first half of [`finish`](Self::finish).
    #[inline]
    pub(in crate::cost) fn complete(&mut self) {
        if self.named & keys::TEXTS != 0 {
            raw::complete(self);
        }
    }

    /// The second half, for whoever knows what the names say.
    #[inline(always)]
    pub(in crate::cost) fn reading(&self, facts: &Facts) -> Reading<'a> {
        normalise::reading(self, facts)
    }

    /// Whether the span has nothing to do with models: it counts nothing and names neither a model nor an operation.
    #[inline]
    pub(in crate::cost) fn is_unrelated(&self) -> bool {
        !self.has_counts() && self.named & keys::OF_CALLS == 0
    }

    /// What [`Facts`] depend on.
    #[inline]
    pub(in crate::cost) fn naming<'n>(&'n self, scope_name: &'n str) -> Naming<'n, 'a> {
        Naming::new(&self.names, self.named, scope_name)
    }

    /// The keys that were read, with who writes them: field, key, convention.
    pub fn sources(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        keys::fields().filter_map(|field| {
            let rank = match field {
                Field::Count(count) => self.count_ranks.get(count as usize),
                Field::Name(name) => self.name_ranks.get(name as usize),
                Field::Money(money) => self.money_ranks.get(money as usize),
                Field::Flag(flag) => self.flag_ranks.get(flag as usize),
            };
            keys::source(field, *rank.filter(|rank| **rank != UNSET)?)
        })
    }

    #[inline(always)]
    fn take_field(&mut self, field: Field, rank: u8, value: Value<'a>) {
        match field {
            Field::Count(count) => self.take_count(count, rank, Number::read(value)),
            Field::Name(name) => {
                if let Value::Str(text) = value {
                    self.take_name(name, rank, text);
                }
            }
            Field::Money(money) => {
                let at = money as usize;
                let (Some(best), Some(slot)) = (self.money_ranks.get_mut(at), self.monies.get_mut(at)) else { return };
                if let Some(usd) = number::money(value)
                    && rank <= *best
                {
                    (*best, *slot) = (rank, usd);
                }
            }
            Field::Flag(flag) => {
                let at = flag as usize;
                let (Some(best), Some(slot)) = (self.flag_ranks.get_mut(at), self.flags.get_mut(at)) else { return };
                let value = match value {
                    Value::Bool(yes) => yes,
                    Value::Str(text) => text.as_bytes().eq_ignore_ascii_case(b"true"),
                    _ => return,
                };
                if rank <= *best {
                    (*best, *slot) = (rank, Some(value));
                }
            }
        }
    }

    #[inline(always)]
    fn take_name(&mut self, name: Name, rank: u8, text: Text<'a>) {
        let at = name as usize;
        let (Some(best), Some(slot)) = (self.name_ranks.get_mut(at), self.names.get_mut(at)) else { return };
        if rank <= *best && !text.is_empty() {
            (*best, *slot) = (rank, text);
            self.named |= name.bit();
        }
    }

    #[inline(always)]
    fn take_count(&mut self, count: Count, rank: u8, number: Number) {
        let at = count as usize;
        let (Some(best), Some(slot)) = (self.count_ranks.get_mut(at), self.counts.get_mut(at)) else { return };
        if rank > *best {
            return;
        }
        let bit = 1 << at;
        let (number, invalid) = match number {
            Number::Tokens(n) => (n, 0),
            Number::Invalid => (0, bit),
            Number::Absent => return,
        };
        (*best, *slot) = (rank, number);
        self.counted |= bit;
        self.invalid = self.invalid & !bit | invalid;
    }

    /// Gives a count that no key gave.
    pub(super) fn fill(&mut self, count: Count, n: Option<u64>) {
        let at = count as usize;
        let (Some(best), Some(slot), Some(n)) = (self.count_ranks.get_mut(at), self.counts.get_mut(at), n) else {
            return;
        };
        if *best == UNSET {
            // The last of the ranks, which no key has.
            (*best, *slot) = (UNSET - 1, n);
            self.counted |= 1 << at;
        }
    }

    /// Gives a text that no key gave.
    pub(super) fn fill_name(&mut self, name: Name, text: Option<&'a str>) {
        if let (Some(slot), Some(text)) = (self.names.get_mut(name as usize), text)
            && slot.is_empty()
            && !text.is_empty()
        {
            *slot = text.into();
            self.named |= name.bit();
        }
    }

    /// Gives an amount that no key gave.
    pub(super) fn fill_money(&mut self, money: Money, usd: Option<Usd>) {
        let at = money as usize;
        if let (Some(best), Some(slot), Some(usd)) = (self.money_ranks.get_mut(at), self.monies.get_mut(at), usd)
            && *best == UNSET
        {
            (*best, *slot) = (UNSET - 1, usd);
        }
    }

    #[inline]
    pub(super) fn name(&self, name: Name) -> Text<'a> {
        self.names.get(name as usize).copied().unwrap_or_default()
    }

    /// The count, if there is one. Invalid ones are 0; see [`Self::is_invalid`].
    #[inline]
    pub(super) fn count(&self, count: Count) -> Option<u64> {
        let at = count as usize;
        if self.counted >> at & 1 == 0 { None } else { self.counts.get(at).copied() }
    }

    /// Whether the count was read from this key.
    pub(super) fn is_from(&self, count: Count, key: &str) -> bool {
        let rank = self.count_ranks.get(count as usize).copied().unwrap_or(UNSET);
        keys::source(Field::Count(count), rank).is_some_and(|(source, _)| source == key)
    }

    pub(super) fn money(&self, money: Money) -> Option<Usd> {
        let at = money as usize;
        self.monies.get(at).copied().filter(|_| self.money_ranks.get(at) != Some(&UNSET))
    }

    /// The key an amount was read from.
    pub(super) fn money_key(&self, money: Money) -> Option<&'static str> {
        let rank = *self.money_ranks.get(money as usize)?;
        Some(keys::source(Field::Money(money), rank)?.0)
    }

    #[inline]
    pub(super) fn has_counts(&self) -> bool {
        self.counted != 0
    }

    pub(super) fn is_invalid(&self) -> bool {
        self.invalid != 0
    }

    pub(super) fn flag(&self, flag: Flag) -> bool {
        self.flags.get(flag as usize).copied().flatten().unwrap_or(false)
    }

    pub(super) fn has_output_keys(&self) -> bool {
        self.has_output_keys
    }
}

#[inline]
fn is_output_key(key: &[u8]) -> bool {
    OUTPUT_PREFIXES.iter().any(|prefix| key.starts_with(prefix.as_bytes()))
}
