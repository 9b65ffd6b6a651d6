//! What the keys of attributes mean, remembered.
//!
//! The spans of a program resemble each other: after `gen_ai.request.model` comes what came after it the last time. So
//! each key remembers its successor, and the next key is most often known after one comparison, without a hash.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use weir_pipeline::batch::ChunkRef;

use super::ASSOCIATION;
use super::content;
use super::known::{self, Slot};

/// Keys that are remembered. More than a program has; clients that make up keys must not fill the memory.
const MAX_KEYS: usize = 4096;
/// Longer keys are not remembered.
const MAX_KEY_BYTES: usize = 256;
/// The first entry: what comes before a span's first key. It stands for the empty key as well.
const START: usize = 0;

/// What an attribute is good for, to judge by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// To be kept, no more.
    Plain,
    /// It fills a slot, with this rank among the keys that do.
    Slot(Slot, u8),
    /// It belongs to a family of content: column, rank of the family, length of its prefix.
    Member(u8, u8, usize),
}

impl Meaning {
    pub(super) fn of(key: &[u8]) -> Self {
        if let Some((slot, rank)) = known::slot_of(key) {
            return Self::Slot(slot, rank);
        }
        match content::family_of(key) {
            Some((column, rank, path)) => Self::Member(column, rank, key.len() - path.len()),
            None => Self::Plain,
        }
    }
}

/// Where a key is remembered: two keys with one known place are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    const NONE: Self = Self(u32::MAX);

    #[inline]
    pub(super) fn is_known(self) -> bool {
        self != Self::NONE
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) meaning: Meaning,
    /// Whether it names an association property.
    pub(super) association: bool,
    /// Where in this span the key was before, if the place is known.
    pub(super) earlier: Option<u32>,
}

#[derive(Debug)]
struct Key {
    bytes: Box<[u8]>,
    meaning: Meaning,
    association: bool,
    /// The entry that followed last.
    next: usize,
    /// The last span that had the key, and the attribute's number there.
    span: u64,
    attribute: u32,
}

impl Key {
    fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.into(),
            meaning: Meaning::of(bytes),
            association: bytes.starts_with(ASSOCIATION.as_bytes()),
            next: START,
            span: 0,
            attribute: 0,
        }
    }

    /// What is known of it, as the attribute of a span that has it.
    #[inline(always)]
    fn found(&mut self, place: Place, span: u64, attribute: u32) -> Found {
        let earlier = (self.span == span).then_some(self.attribute);
        self.span = span;
        self.attribute = attribute;
        Found { place, meaning: self.meaning, association: self.association, earlier }
    }
}

/// Where the keys of a chunk are remembered, by their numbers there.
#[derive(Debug, Default)]
struct Chunk {
    /// Whose keys they are; 0 if nobody's.
    serial: u64,
    places: Vec<Place>,
}

/// The keys met so far, and the numbers that chunks have for them.
#[derive(Debug, Default)]
pub(super) struct ChunkKeys {
    /// By the chunk's number among the rows.
    chunks: Vec<Chunk>,
    keys: Keys,
}

impl ChunkKeys {
    /// Where the keys of a chunk are remembered, and the keys. The next ones are another span's.
    #[inline]
    pub(super) fn next_span(&mut self, number: u32, chunk: ChunkRef<'_>) -> (&[Place], &mut Keys) {
        let serial = chunk.keys_serial();
        if self.chunks.get(number as usize).is_none_or(|known| known.serial != serial) {
            self.learn(number as usize, chunk);
        }
        self.keys.next_span();
        (self.chunks.get(number as usize).map_or(&[], |known| &known.places), &mut self.keys)
    }

    #[inline(never)]
    fn learn(&mut self, number: usize, chunk: ChunkRef<'_>) {
        self.keys.next_span();
        let places = chunk.keys().map(|key| self.keys.find(key, 0).place).collect();
        if self.chunks.len() <= number {
            self.chunks.resize_with(number + 1, Chunk::default);
        }
        if let Some(known) = self.chunks.get_mut(number) {
            *known = Chunk { serial: chunk.keys_serial(), places };
        }
    }
}

/// The keys met so far.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<Key>,
    places: HashMap<Box<[u8]>, usize, RandomState>,
    /// The entry found last.
    last: usize,
    /// The number of the span, from 1.
    span: u64,
}

impl Default for Keys {
    fn default() -> Self {
        let places = HashMap::from_iter([(Box::default(), START)]);
        Self { keys: vec![Key::new(b"")], places, last: START, span: 0 }
    }
}

impl Keys {
    /// The keys that follow are another span's.
    fn next_span(&mut self) {
        self.span += 1;
        self.last = START;
    }

    /// Looks up the key of the span's attribute number `attribute`.
    #[inline(always)]
    pub(super) fn find(&mut self, key: &[u8], attribute: u32) -> Found {
        let guess = self.keys.get(self.last).map_or(START, |last| last.next);
        let place = match self.keys.get(guess) {
            Some(guessed) if *guessed.bytes == *key => guess,
            _ => self.search(key),
        };
        let Some(found) = self.keys.get_mut(place) else {
            self.last = START;
            let association = key.starts_with(ASSOCIATION.as_bytes());
            return Found { place: Place::NONE, meaning: Meaning::of(key), association, earlier: None };
        };
        self.last = place;
        found.found(Place(place as u32), self.span, attribute)
    }

    /// What is known of a key at a place; `None` if the place is not known.
    #[inline(always)]
    pub(super) fn at(&mut self, place: Place, attribute: u32) -> Option<Found> {
        let span = self.span;
        Some(self.keys.get_mut(place.0 as usize)?.found(place, span, attribute))
    }

    /// The place of a key that did not come as expected; beyond the end if there is none for it.
    fn search(&mut self, key: &[u8]) -> usize {
        let place = match self.places.get(key) {
            Some(place) => *place,
            None if self.keys.len() >= MAX_KEYS || key.len() > MAX_KEY_BYTES => return usize::MAX,
            None => {
                let place = self.keys.len();
                self.keys.push(Key::new(key));
                self.places.insert(key.into(), place);
                place
            }
        };
        if let Some(last) = self.keys.get_mut(self.last) {
            last.next = place;
        }
        place
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn keys_are_known_whatever_came_before_them() {
        let mut keys = Keys::default();
        let names: [&[u8]; 5] =
            [b"", b"gen_ai.request.model", b"traceloop.association.properties.x", b"gen_ai.prompt.0.role", b"other"];
        // Each order occurs, so that each guess is wrong at some time.
        for round in 0..25 {
            keys.next_span();
            for step in 0..5 {
                let name = names[(round * step + round / 5) % 5];
                let found = keys.find(name, 0);
                assert_eq!(found.meaning, Meaning::of(name));
                assert_eq!(found.association, name.starts_with(ASSOCIATION.as_bytes()));
            }
        }
        assert_eq!(Meaning::of(names[1]), Meaning::Slot(Slot::RequestModel, 1));
        assert_eq!(Meaning::of(names[3]), Meaning::Member(0, 1, "gen_ai.prompt.".len()));
    }

    #[test]
    fn a_key_that_a_span_repeats_is_told() {
        let mut keys = Keys::default();
        for _ in 0..2 {
            keys.next_span();
            for (at, key) in (0..).zip([b"a", b"b", b"a", b"a"]) {
                let expected = [None, None, Some(0), Some(2)][at as usize];
                assert_eq!(keys.find(key, at).earlier, expected);
            }
        }
    }

    #[test]
    fn made_up_keys_are_not_remembered_for_ever() {
        let mut keys = Keys::default();
        keys.next_span();
        let name = |n: u32| format!("traceloop.association.properties.{n}").into_bytes();
        for n in 0..2 * MAX_KEYS as u32 {
            let found = keys.find(&name(n), n);
            assert!(found.association);
            assert_eq!(found.place.is_known(), n as usize + 1 < MAX_KEYS);
        }
        assert_eq!(keys.keys.len(), MAX_KEYS);
        assert_eq!(keys.find(&name(7), 0).earlier, Some(7));
        let long = vec![b'k'; MAX_KEY_BYTES + 1];
        assert!(!Keys::default().find(&long, 0).place.is_known());
    }
}
