//! A map that forgets: records not used for a while, and the least recently used one where there are too many.
//!
//! It is asked several times for each call, and most answers are no. With the records of fifty thousand calls it is far
//! larger than a processor's cache, so what counts is how many places in memory a call touches:
//!
//! * A record is found under several keys and takes two cache lines.
//! * The records lie in the order in which they came. Adding one and forgetting the oldest go along memory in a row.
//! * The index is an array of buckets, each a cache line of eight slots. A slot is a number of a record and a part of
//!   a key's hash, so that a no is said without looking at records; the parts lie side by side and are compared at once.
//!   Keys that are asked for together have the same bucket.
//! * A record that is forgotten stays in the index: its number is no longer that of a record, and its slots may be taken.
//!   A bucket whose slots have all been used sends those who do not find their key there to the next one.
//!
//! ```text
//! hash ──► bucket │ tag, number │ tag, number │ … │       number = first + place in line
//! line            │ oldest │ … │ … │ … │ newest │         first: the number of the oldest
//! ```

use std::collections::VecDeque;

/// What is looked up: a part of it or another hash, and a keyed hash of it. 128 bits: two that are equal by chance do not
/// happen. The lower half of the second number chooses the bucket and its highest bits are the tag. Keys that differ in the
/// [highest two](RELATED) alone are related.
pub(super) type Key = (u64, u64);

/// In the place of a key that there is not. It leads nowhere: nothing asks for it.
const NONE: Key = (0, 0);

/// The bits of a tag that related keys have in common.
const RELATED: u16 = u16::MAX >> 2;

#[derive(Debug)]
pub(super) struct Table<V> {
    /// None before the first record.
    buckets: Vec<Bucket>,
    /// Slots that have been used.
    used: usize,
    /// The records, the next to be forgotten first. One used since it was put in line is put in line again instead.
    line: VecDeque<Record<V>>,
    /// The number of the first record in line; after the last number comes the first one again.
    first: u32,
    max: usize,
    window: u64,
}

/// Where records are or were. A slot that was never used has the tag 0, which no key has.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket {
    /// Those of four slots in a word, which are compared at once.
    tags: [u64; SLOTS / LANES],
    numbers: [u32; SLOTS],
}

/// Tags in a word.
const LANES: usize = 4;
/// A one in each tag of a word.
const ONES: u64 = 0x0001_0001_0001_0001;
/// All bits of the tags of a word but their highest.
const LOW: u64 = 0x7fff * ONES;

/// Slots of a bucket, in no order.
#[derive(Clone, Copy)]
struct Slots(u64);

impl Slots {
    /// Those whose tags are 0 in these words.
    #[inline(always)]
    fn zero([first, second]: [u64; SLOTS / LANES]) -> Self {
        // The highest bit of each tag that is 0: adding carries into it where another bit is set.
        let zero = |word: u64| !(((word & LOW) + LOW) | word) & !LOW;
        Self(zero(first) >> 1 | zero(second))
    }
}

impl Iterator for Slots {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let Self(bits) = self;
        if *bits == 0 {
            return None;
        }
        // Bit 14 of a tag is its slot's in the first word, bit 15 that in the second.
        let at = bits.trailing_zeros() as usize;
        *bits &= *bits - 1;
        Some((at / 16 + at % 2 * LANES) % SLOTS)
    }
}

impl Bucket {
    /// The slots whose keys may be related to one with this tag.
    #[inline(always)]
    fn related(&self, tag: u16) -> Slots {
        let all = u64::from(tag) * ONES;
        Slots::zero(self.tags.map(|word| (word ^ all) & (u64::from(RELATED) * ONES)))
    }

    /// Whether a slot was never used: they are used from the first to the last.
    #[inline(always)]
    fn has_unused(&self) -> bool {
        let [.., last] = self.tags;
        last >> 48 == 0
    }

    #[inline(always)]
    fn tag(&self, slot: usize) -> u16 {
        (self.tags[slot / LANES % self.tags.len()] >> (slot % LANES * 16)) as u16
    }

    /// Lets a slot lead to a record.
    #[inline(always)]
    fn set(&mut self, slot: usize, tag: u16, number: u32) {
        let (shift, word) = (slot % LANES * 16, slot / LANES % self.tags.len());
        self.tags[word] = self.tags[word] & !(0xffff << shift) | u64::from(tag) << shift;
        self.numbers[slot % SLOTS] = number;
    }
}

/// With its keys in the first of its cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Record<V> {
    keys: [Key; KEYS],
    value: V,
    /// When it was last used.
    used: u64,
    /// Whether it was used since it was put in line.
    is_used_again: bool,
}

/// Keys of a record at most.
pub(super) const KEYS: usize = 3;

/// There are as many buckets as records, so of these three are in use if all records have three keys. Of a bucket as many
/// have been used as there ever were in use at one time; it takes long until that is all of them.
const SLOTS: usize = 8;

impl<V: Copy> Table<V> {
    /// Remembers `max` records, each for `window` nanoseconds.
    pub(super) fn new(max: usize, window: u64) -> Self {
        // Numbers must not run into each other.
        let max = max.clamp(1, u32::MAX as usize / 2);
        Self { buckets: Vec::new(), used: 0, line: VecDeque::new(), first: 0, max, window }
    }

    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    /// The value, unless it was not used for the whole window.
    #[inline]
    pub(super) fn get(&mut self, key: Key, now: u64) -> Option<V> {
        let window = self.window;
        let place = self.find(key)?;
        let record = self.line.get_mut(place).filter(|record| now.saturating_sub(record.used) <= window)?;
        record.use_again(now);
        Some(record.value)
    }

    /// Whether neither the key nor a related one is there. It may be said of some that are not there that they are.
    #[inline]
    pub(super) fn has_none_related(&self, key: Key) -> bool {
        let mut at = self.bucket_of(key);
        loop {
            let Some(bucket) = self.buckets.get(at) else { return true };
            if bucket.related(tag_of(key)).next().is_some() {
                return false;
            }
            if bucket.has_unused() {
                return true;
            }
            at = self.after(at);
        }
    }

    /// Puts another value under the key, where something is. What is there under other keys as well stays there.
    pub(super) fn set(&mut self, key: Key, value: V, now: u64) {
        match self.find(key).and_then(|place| self.line.get_mut(place)) {
            Some(record) if record.keys.iter().all(|other| *other == key || *other == NONE) => {
                record.value = value;
                record.use_again(now);
            }
            _ => self.add([Some(key), None, None], value, now),
        }
    }

    /// Something from where the key would be looked for, which is then at hand.
    #[inline]
    pub(super) fn touch(&self, key: Key) -> u64 {
        self.buckets.get(self.bucket_of(key)).map_or(0, |bucket| bucket.tags[0])
    }

    /// Adds a record, which is then what its keys lead to, and forgets what is too old or too much.
    pub(super) fn add(&mut self, keys: [Option<Key>; KEYS], value: V, now: u64) {
        self.make_room();
        let keys = keys.map(|key| key.unwrap_or(NONE));
        self.put_in_line(Record { keys, value, used: now, is_used_again: false });
        while let Some(oldest) = self.line.front() {
            let is_old = now.saturating_sub(oldest.used) > self.window;
            if self.line.len() <= self.max && !is_old {
                break;
            }
            let again = if oldest.is_used_again && !is_old { Some(*oldest) } else { None };
            self.line.pop_front();
            self.first = self.first.wrapping_add(1);
            if let Some(oldest) = again {
                self.put_in_line(Record { is_used_again: false, ..oldest });
            }
        }
    }

    #[inline]
    fn put_in_line(&mut self, record: Record<V>) {
        let number = self.first.wrapping_add(self.line.len() as u32);
        // Before its slots are taken, which would otherwise look free.
        self.line.push_back(record);
        for key in record.keys {
            if key != NONE {
                self.note(key, number);
            }
        }
    }

    /// The place in line of the record with this key.
    #[inline]
    fn find(&self, key: Key) -> Option<usize> {
        let mut at = self.bucket_of(key);
        loop {
            let bucket = self.buckets.get(at)?;
            if let Some((_, place)) = self.find_in(bucket, key, None) {
                return Some(place);
            }
            if bucket.has_unused() {
                return None;
            }
            at = self.after(at);
        }
    }

    /// The slot of the bucket that leads to the key, and the place in line; not of the record of the number `except`.
    #[inline(always)]
    fn find_in(&self, bucket: &Bucket, key: Key, except: Option<u32>) -> Option<(usize, usize)> {
        for slot in bucket.related(tag_of(key)) {
            let number = bucket.numbers[slot];
            let place = number.wrapping_sub(self.first) as usize;
            if self.line.get(place).is_some_and(|record| record.keys.contains(&key)) && except != Some(number) {
                return Some((slot, place));
            }
        }
        None
    }

    /// Lets the key lead to the record of this number: in the slot that led to another one, which then has the key no
    /// more, else in one that is no longer needed.
    #[inline]
    fn note(&mut self, key: Key, number: u32) {
        let (mut at, mut free) = (self.bucket_of(key), None);
        while let Some(bucket) = self.buckets.get(at) {
            // Another key of the record itself may have the same tag: each has a slot.
            if let Some((slot, place)) = self.find_in(bucket, key, Some(number)) {
                if let Some(record) = self.line.get_mut(place) {
                    record.lose(key);
                }
                free = Some((at, slot));
                break;
            }
            free = free.or_else(|| self.free_in(bucket).map(|slot| (at, slot)));
            if bucket.has_unused() {
                break;
            }
            at = self.after(at);
        }
        let Some((at, slot)) = free else { return };
        let Some(bucket) = self.buckets.get_mut(at) else { return };
        self.used += usize::from(bucket.tag(slot) == 0);
        bucket.set(slot, tag_of(key), number);
    }

    /// The first slot that was never used or leads to a record that is forgotten.
    #[inline]
    fn free_in(&self, bucket: &Bucket) -> Option<usize> {
        let (first, len) = (self.first, self.line.len());
        let is_forgotten = |number: u32| number.wrapping_sub(first) as usize >= len;
        (0..SLOTS).find(|slot| bucket.tag(*slot) == 0 || is_forgotten(bucket.numbers[*slot]))
    }

    /// Makes room for one more record: grows as a vector would, but not beyond what it will hold, which is one more than
    /// `max` while the oldest is still there. The index is made anew when a bucket has but one unused slot on average:
    /// later, a no would take looking at several buckets.
    #[inline]
    fn make_room(&mut self) {
        let Self { line, buckets, used, .. } = self;
        if line.len() == line.capacity() || *used >= buckets.len() * (SLOTS - 1) {
            self.make_more_room();
        }
    }

    #[cold]
    fn make_more_room(&mut self) {
        let Self { line, max, buckets, .. } = self;
        if line.len() == line.capacity() {
            let all = (2 * line.len()).max(16).min(*max + 1);
            line.reserve_exact(all.saturating_sub(line.len()));
            self.build(all);
        } else {
            let buckets = buckets.len();
            self.build(buckets);
        }
    }

    /// Makes the index of what is there anew, so that slots are unused again.
    fn build(&mut self, buckets: usize) {
        self.buckets.clear();
        self.buckets.shrink_to(buckets);
        self.buckets.reserve_exact(buckets);
        self.buckets.resize(buckets, Bucket::default());
        self.used = 0;
        for place in 0..self.line.len() {
            let keys = self.line.get(place).map_or([NONE; KEYS], |record| record.keys);
            for key in keys.into_iter().filter(|key| *key != NONE) {
                self.note(key, self.first.wrapping_add(place as u32));
            }
        }
    }

    #[inline]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 < self.buckets.len() { bucket + 1 } else { 0 }
    }

    #[inline]
    fn bucket_of(&self, (_, hash): Key) -> usize {
        // The lower half as a fraction of one, of that many buckets.
        (((hash & u64::from(u32::MAX)) * self.buckets.len() as u64) >> 32) as usize
    }
}

#[inline]
fn tag_of((_, hash): Key) -> u16 {
    (hash >> 48) as u16 | 1
}

impl<V> Record<V> {
    #[inline]
    fn use_again(&mut self, now: u64) {
        self.used = self.used.max(now);
        self.is_used_again = true;
    }

    fn lose(&mut self, key: Key) {
        self.keys.iter_mut().filter(|own| **own == key).for_each(|own| *own = NONE);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Key {
        // Some in the same bucket, some with the same hash.
        (u64::from(n) + 1, u64::from(n / 6) << 62 | u64::from(n / 3) << 29)
    }

    /// What the table must do, in the plainest way.
    #[derive(Default)]
    struct Plain {
        line: Vec<PlainRecord>,
        max: usize,
    }

    #[derive(Clone)]
    struct PlainRecord {
        keys: Vec<Key>,
        value: u32,
        used: u64,
        is_used_again: bool,
    }

    const WINDOW: u64 = 100;

    impl Plain {
        fn get(&mut self, key: Key, now: u64) -> Option<u32> {
            let record =
                self.line.iter_mut().find(|r| r.keys.contains(&key) && now.saturating_sub(r.used) <= WINDOW)?;
            (record.used, record.is_used_again) = (record.used.max(now), true);
            Some(record.value)
        }

        fn set(&mut self, key: Key, value: u32, now: u64) {
            match self.line.iter_mut().find(|r| r.keys == [key]) {
                Some(r) => *r = PlainRecord { keys: vec![key], value, used: r.used.max(now), is_used_again: true },
                None => self.add(vec![key], value, now),
            }
        }

        fn add(&mut self, keys: Vec<Key>, value: u32, now: u64) {
            self.line.iter_mut().for_each(|r| r.keys.retain(|key| !keys.contains(key)));
            self.line.push(PlainRecord { keys, value, used: now, is_used_again: false });
            while let Some(oldest) = self.line.first().cloned() {
                let is_old = now.saturating_sub(oldest.used) > WINDOW;
                if self.line.len() <= self.max && !is_old {
                    break;
                }
                self.line.remove(0);
                if oldest.is_used_again && !is_old {
                    self.line.push(PlainRecord { is_used_again: false, ..oldest });
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_remembers_what_the_plain_one_remembers(
            max in 1..12_usize,
            start in prop_oneof![Just(0), Just(u32::MAX - 3)],
            steps in prop::collection::vec((0..3_u8, prop::collection::btree_set(0..24_u8, 1..4), 0..40_u64), 1..200),
        ) {
            let (mut table, mut plain, mut now) = (Table::new(max, WINDOW), Plain { max, ..Plain::default() }, 1_000);
            table.first = start;
            for (n, (what, names, later)) in (0..).zip(steps) {
                now += later;
                let keys: Vec<Key> = names.into_iter().map(key).collect();
                match what {
                    0 => prop_assert_eq!(table.get(keys[0], now), plain.get(keys[0], now)),
                    1 => {
                        table.add([0, 1, 2].map(|at| keys.get(at).copied()), n, now);
                        plain.add(keys, n, now);
                    }
                    _ => {
                        table.set(keys[0], n, now);
                        plain.set(keys[0], n, now);
                    }
                }
                prop_assert!(table.len() <= max);
                prop_assert_eq!(table.len(), plain.line.len());
                for key in (0..24).map(key) {
                    let is_there = plain.line.iter().any(|record| record.keys.contains(&key));
                    prop_assert_eq!(table.find(key).is_some(), is_there);
                    prop_assert!(!is_there || !table.has_none_related(key));
                }
            }
        }
    }

    #[test]
    fn a_record_takes_two_cache_lines() {
        assert_eq!(size_of::<Record<[u64; 8]>>(), 128);
    }

    /// While it is made anew all lanes wait, tens of milliseconds in a table of the usual size.
    #[test]
    fn its_index_is_seldom_made_anew() {
        const MAX: u64 = 2_000;
        for keys in 1..=KEYS {
            let mut table = Table::new(MAX as usize, u64::MAX);
            let hasher = foldhash::quality::FixedState::default();
            let key = |n: u64| (n, hasher.hash_one(n));
            let (mut used, mut anew) = (0, 0);
            for n in 0..100 * MAX {
                let keys = [0, 1, 2].map(|at| (at < keys).then(|| key(3 * n + at as u64)));
                table.add(keys, n, n);
                anew += u32::from(table.used < used && n > MAX);
                used = table.used;
            }
            assert!(anew <= 12, "{anew} times for a hundred tables of records of {keys} keys");
        }
    }

    #[test]
    fn it_takes_no_more_room_than_it_needs() {
        let mut table = Table::new(2_343, u64::MAX);
        let hasher = foldhash::quality::FixedState::default();
        let key = |n: u64| (n, hasher.hash_one(n));
        for n in 0..100_000_u64 {
            table.add([Some(key(n)), Some(key(!n)), None], n, n);
        }
        assert_eq!(table.len(), 2_343);
        assert!(table.line.capacity() <= 2_344, "{}", table.line.capacity());
        assert!(table.buckets.capacity() <= 2_344, "{}", table.buckets.capacity());
        let mut is_there = |n: u64| [n, !n].map(|n| table.get(key(n), 100_000)) == [Some(n); 2];
        assert_eq!((100_000 - 2_343..100_000).find(|n| !is_there(*n)), None);
        assert_eq!((0..100_000 - 2_343).find(|n| is_there(*n)), None);
    }
}
