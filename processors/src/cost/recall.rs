//! What names led to before: a bounded cache for one lane.
//!
//! Set-associative like a processor's: a set of names has [`WAYS`] places it can be in, so a lookup compares at most that
//! many hashes and one key, and nobody can make it slow or large by choosing names. A full set gives up its places in
//! turn.

use super::usage::{Facts, Naming};
use super::{CostStatus, Found, Match};

/// What a span's names lead to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) facts: Facts,
    /// The model, or why there is none.
    pub(super) found: Result<Match, CostStatus>,
}

/// Places of one key.
const WAYS: usize = 4;
const SETS: usize = 256;

impl Known {
    /// Of spans that have nothing to do with models.
    pub(super) const UNRELATED: Self = Self { facts: Facts::UNRELATED, found: Err(CostStatus::NotLlm) };

    #[inline]
    pub(super) fn found(&self) -> Found {
        Found(self.found)
    }
}

/// Answers by names. Looking up neither allocates nor changes anything.
#[derive(Debug, Default)]
pub(super) struct Recall {
    /// [`SETS`] sets, or none before the first insertion.
    sets: Vec<Set>,
}

#[derive(Debug, Default)]
struct Set {
    /// Of the names in each place.
    hashes: [u64; WAYS],
    slots: [Option<(Vec<u8>, Known)>; WAYS],
    next: u8,
}

impl Recall {
    /// What these names led to, if that is still known.
    #[inline(always)]
    pub(super) fn get(&self, hash: u64, naming: &Naming<'_, '_>) -> Option<&Known> {
        let set = self.sets.get(hash as usize % SETS)?;
        for (stored, slot) in set.hashes.iter().zip(&set.slots) {
            if *stored == hash
                && let Some((key, known)) = slot
                && naming.has_key(key)
            {
                return Some(known);
            }
        }
        None
    }

    /// Remembers what these names lead to, unless they are too long.
    pub(super) fn insert(&mut self, hash: u64, naming: &Naming<'_, '_>, known: Known) {
        if self.sets.is_empty() {
            self.sets.resize_with(SETS, Set::default);
        }
        let (Some(set), Some(key)) = (self.sets.get_mut(hash as usize % SETS), naming.key()) else { return };
        let at = usize::from(set.next) % WAYS;
        set.next = set.next.wrapping_add(1);
        if let (Some(stored), Some(slot)) = (set.hashes.get_mut(at), set.slots.get_mut(at)) {
            *stored = hash;
            *slot = Some((key, known));
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sets.iter().flat_map(|set| &set.slots).flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use weir_pipeline::batch::view::Value;

    use super::*;
    use crate::cost::UsageReader;

    fn insert(recall: &mut Recall, model: &str, hash: u64) {
        let mut reader = UsageReader::default();
        reader.visit(b"gen_ai.request.model", Value::Str(model.into()));
        let known = Known { facts: Facts::of(&reader, ""), found: Err(CostStatus::UnknownModel) };
        recall.insert(hash, &reader.naming(""), known);
    }

    fn knows(recall: &Recall, model: &str, scope: &str, hash: u64) -> bool {
        let mut reader = UsageReader::default();
        reader.visit(b"gen_ai.request.model", Value::Str(model.into()));
        recall.get(hash, &reader.naming(scope)).is_some()
    }

    #[test]
    fn what_was_inserted_is_found_until_it_gives_way() {
        let mut recall = Recall::default();
        assert!(!knows(&recall, "a", "", 7));
        insert(&mut recall, "a", 7);
        assert!(knows(&recall, "a", "", 7));
        assert!(!knows(&recall, "b", "", 7) && !knows(&recall, "aa", "", 7), "the names decide, not their hash");
        assert!(!knows(&recall, "a", "scope", 7), "the scope is one of them");
        for n in 0..WAYS {
            insert(&mut recall, &n.to_string(), 7);
        }
        assert!(!knows(&recall, "a", "", 7));
    }

    #[test]
    fn names_that_are_the_same_when_put_together_are_not_the_same_names() {
        fn read<'a>(provider: &'a str, model: &'a str) -> UsageReader<'a> {
            let mut reader = UsageReader::default();
            reader.visit(b"gen_ai.provider.name", Value::Str(provider.into()));
            reader.visit(b"gen_ai.request.model", Value::Str(model.into()));
            reader
        }
        let reader = read("openai", "gpt-4o");
        let mut recall = Recall::default();
        let known = Known { facts: Facts::of(&reader, ""), found: Err(CostStatus::UnknownModel) };
        recall.insert(7, &reader.naming(""), known);
        assert!(recall.get(7, &reader.naming("")).is_some());
        for (provider, model) in
            [("openaigpt-4o", ""), ("", "openaigpt-4o"), ("opena", "igpt-4o"), ("gpt-4o", "openai")]
        {
            assert!(recall.get(7, &read(provider, model).naming("")).is_none(), "{provider} {model}");
        }
    }

    #[test]
    fn names_that_are_too_long_are_not_remembered() {
        let mut recall = Recall::default();
        insert(&mut recall, &"m".repeat(255), 7);
        insert(&mut recall, &"m".repeat(256), 7);
        assert_eq!(recall.len(), 1);
    }

    #[test]
    fn it_is_bounded() {
        let mut recall = Recall::default();
        for n in 0..20_000_u64 {
            let model = format!("model-{n}");
            let mut reader = UsageReader::default();
            reader.visit(b"gen_ai.request.model", Value::Str(model.as_str().into()));
            let hash = reader.naming("").hash();
            insert(&mut recall, &model, hash);
            assert!(knows(&recall, &model, "", hash));
        }
        assert!(recall.len() <= SETS * WAYS);
        assert!(recall.len() > SETS * WAYS / 2, "the hash spreads over the sets");
    }
}
