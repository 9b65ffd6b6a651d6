//! A map that forgets: entries not used for a while, and the least recently used one where there are too many.
//!
//! It is asked several times for each call, and most answers are no. With the entries of fifty thousand calls it is far
//! larger than a processor's cache, so what counts is how many places in memory a call touches:
//!
//! * The entries lie in the order in which they came. Adding one and forgetting the oldest go along memory in a row.
//! * The index is an array of buckets, each a cache line of eight slots. A slot is a number of an entry and a part of
//!   its hash, so that a no is said without looking at entries; the parts lie side by side and are compared at once.
//!   Keys that are asked for together have the same bucket.
//! * An entry that is forgotten stays in the index: its number is no longer that of an entry, and its slot may be taken.
//!   A bucket whose slots have all been used sends those who do not find their key there to the next one.
//!
//! ```text
//! hash ──► bucket │ tag, number │ tag, number │ … │       number = first + place in line
//! line            │ oldest │ … │ … │ … │ newest │         first: the number of the oldest
//! ```

use std::collections::VecDeque;

/// What is looked up: a part of it or another hash, and a keyed hash of it. 128 bits: two that are equal by chance do not
/// happen. The lower half of the second number chooses the bucket and its upper half is the tag. Keys that differ in the
/// [highest bits](RELATED) alone are related.
pub(super) type Key = (u64, u64);

/// The bits of a tag that related keys have in common.
const RELATED: u32 = u32::MAX >> 2;

#[derive(Debug)]
pub(super) struct Table<V> {
    /// None before the first entry.
    buckets: Vec<Bucket>,
    /// Slots that have been used.
    used: usize,
    /// The entries, the next to be forgotten first. One used since it was put in line is put in line again instead.
    line: VecDeque<Entry<V>>,
    /// The number of the first entry in line; after the last number comes the first one again.
    first: u32,
    max: usize,
    window: u64,
}

/// Where entries are or were. A slot that was never used has the tag 0, which no key has.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket {
    tags: [u32; SLOTS],
    numbers: [u32; SLOTS],
}

impl Bucket {
    /// A bit for each slot whose key may be related to one with this tag. All are compared at once.
    #[inline]
    fn related(&self, tag: u32) -> u32 {
        const BITS: [u32; SLOTS] = [1, 2, 4, 8, 16, 32, 64, 128];
        let alike = self.tags.iter().zip(BITS).map(|(other, bit)| if (other ^ tag) & RELATED == 0 { bit } else { 0 });
        alike.fold(0, |bits, bit| bits | bit)
    }

    /// Whether a slot was never used: they are used from the first to the last.
    #[inline]
    fn has_unused(&self) -> bool {
        self.tags[SLOTS - 1] == 0
    }
}

#[derive(Debug)]
struct Entry<V> {
    key: Key,
    value: V,
    /// When it was last used.
    used: u64,
    /// Whether it was used since it was put in line.
    is_used_again: bool,
}

const SLOTS: usize = 8;

/// Entries for which there is a bucket. Few buckets are ever full then.
const PER_BUCKET: usize = 3;

impl<V: Copy> Table<V> {
    /// Remembers `max` entries, each for `window` nanoseconds.
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
        self.fresh(key, now).map(|entry| entry.value)
    }

    /// Puts a value in the place of what is there.
    pub(super) fn insert(&mut self, key: Key, value: V, now: u64) {
        match self.find(key) {
            Some(entry) => {
                entry.value = value;
                entry.use_again(now);
            }
            None => self.add(key, value, now),
        }
    }

    /// Whether neither the key nor a related one is there. It may be said of some that are not there that they are.
    #[inline]
    pub(super) fn has_none_related(&self, key: Key) -> bool {
        let mut at = self.bucket_of(key);
        loop {
            let Some(bucket) = self.buckets.get(at) else { return true };
            if bucket.related(tag_of(key)) != 0 {
                return false;
            }
            if bucket.has_unused() {
                return true;
            }
            at = self.after(at);
        }
    }

    /// Changes the value that is there, or puts one there.
    pub(super) fn update(&mut self, key: Key, value: V, now: u64, change: impl FnOnce(&mut V)) {
        match self.fresh(key, now) {
            Some(entry) => change(&mut entry.value),
            None => self.insert(key, value, now),
        }
    }

    /// Something from where the key would be looked for, which is then at hand.
    #[inline]
    pub(super) fn touch(&self, key: Key) -> u32 {
        self.buckets.get(self.bucket_of(key)).map_or(0, |bucket| bucket.tags[0])
    }

    /// The entry if it was used within the window, which it now is again.
    #[inline]
    fn fresh(&mut self, key: Key, now: u64) -> Option<&mut Entry<V>> {
        let window = self.window;
        let entry = self.find(key).filter(|entry| now.saturating_sub(entry.used) <= window)?;
        entry.use_again(now);
        Some(entry)
    }

    #[inline]
    fn find(&mut self, key: Key) -> Option<&mut Entry<V>> {
        let (tag, mut at) = (tag_of(key), self.bucket_of(key));
        loop {
            let bucket = self.buckets.get(at)?;
            let mut alike = bucket.related(tag);
            while alike != 0 {
                let number = bucket.numbers[alike.trailing_zeros() as usize % SLOTS];
                let place = number.wrapping_sub(self.first) as usize;
                if self.line.get(place).is_some_and(|entry| entry.key == key) {
                    return self.line.get_mut(place);
                }
                alike &= alike - 1;
            }
            if bucket.has_unused() {
                return None;
            }
            at = self.after(at);
        }
    }

    /// Adds a key that is not there, and forgets what is too old or too much.
    pub(super) fn add(&mut self, key: Key, value: V, now: u64) {
        self.make_room();
        self.put_in_line(Entry { key, value, used: now, is_used_again: false });
        while let Some(oldest) = self.line.front() {
            let is_old = now.saturating_sub(oldest.used) > self.window;
            if self.line.len() <= self.max && !is_old {
                break;
            }
            let is_used_again = oldest.is_used_again && !is_old;
            let oldest = self.line.pop_front();
            self.first = self.first.wrapping_add(1);
            if let Some(oldest) = oldest.filter(|_| is_used_again) {
                self.put_in_line(Entry { is_used_again: false, ..oldest });
            }
        }
    }

    fn put_in_line(&mut self, entry: Entry<V>) {
        let number = self.first.wrapping_add(self.line.len() as u32);
        self.note(entry.key, number);
        self.line.push_back(entry);
    }

    /// Writes a number into the index, where one is or was that is no longer needed.
    fn note(&mut self, key: Key, number: u32) {
        let (mut at, first, len) = (self.bucket_of(key), self.first, self.line.len());
        loop {
            let Some(bucket) = self.buckets.get_mut(at) else { return };
            let slots = bucket.tags.iter_mut().zip(&mut bucket.numbers);
            let is_free = |tag: u32, number: u32| tag == 0 || number.wrapping_sub(first) as usize >= len;
            for (slot_tag, slot_number) in slots {
                if is_free(*slot_tag, *slot_number) {
                    self.used += usize::from(*slot_tag == 0);
                    (*slot_tag, *slot_number) = (tag_of(key), number);
                    return;
                }
            }
            at = self.after(at);
        }
    }

    /// Makes room for one more entry: grows as a vector would, but not beyond what it will hold, which is one more than
    /// `max` while the oldest is still there.
    fn make_room(&mut self) {
        let Self { line, max, buckets, used, .. } = self;
        if line.len() == line.capacity() {
            let all = (2 * line.len()).max(16).min(*max + 1);
            line.reserve_exact(all.saturating_sub(line.len()));
            self.build(all.div_ceil(PER_BUCKET) + 1);
        } else if *used >= buckets.len() * SLOTS / 4 * 3 {
            let buckets = buckets.len();
            self.build(buckets);
        }
    }

    /// Makes the index of what is there anew, so that slots are unused again.
    fn build(&mut self, buckets: usize) {
        self.buckets.clear();
        self.buckets.shrink_to(buckets);
        self.buckets.resize(buckets, Bucket::default());
        self.used = 0;
        for place in 0..self.line.len() {
            if let Some(key) = self.line.get(place).map(|entry| entry.key) {
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
fn tag_of((_, hash): Key) -> u32 {
    (hash >> 32) as u32 | 1
}

impl<V> Entry<V> {
    #[inline]
    fn use_again(&mut self, now: u64) {
        self.used = self.used.max(now);
        self.is_used_again = true;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Key {
        // Some in the same bucket, some with the same hash.
        (u64::from(n), u64::from(n / 6) << 62 | u64::from(n / 3) << 29)
    }

    /// What the table must do, in the plainest way.
    #[derive(Default)]
    struct Plain {
        /// Key, value, when it was used, whether again; in line.
        line: Vec<(Key, u32, u64, bool)>,
    }

    impl Plain {
        fn fresh(&mut self, key: Key, now: u64, window: u64) -> Option<&mut (Key, u32, u64, bool)> {
            let entry = self.line.iter_mut().find(|e| e.0 == key && now.saturating_sub(e.2) <= window)?;
            (entry.2, entry.3) = (entry.2.max(now), true);
            Some(entry)
        }

        fn insert(&mut self, key: Key, value: u32, now: u64, max: usize, window: u64) {
            if let Some(entry) = self.line.iter_mut().find(|e| e.0 == key) {
                *entry = (key, value, entry.2.max(now), true);
                return;
            }
            self.line.push((key, value, now, false));
            while let Some(&(key, value, used, again)) = self.line.first() {
                let is_old = now.saturating_sub(used) > window;
                if self.line.len() <= max && !is_old {
                    break;
                }
                self.line.remove(0);
                if again && !is_old {
                    self.line.push((key, value, used, false));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_remembers_what_the_plain_one_remembers(
            max in 1..12_usize,
            start in prop_oneof![Just(0), Just(u32::MAX - 3)],
            steps in prop::collection::vec((0..3_u8, 0..24_u8, 0..40_u64), 1..200),
        ) {
            let (mut table, mut plain, mut now) = (Table::new(max, 100), Plain::default(), 1_000);
            table.first = start;
            for (n, (what, name, later)) in (0..).zip(steps) {
                now += later;
                let key = key(name);
                match what {
                    0 => {
                        let expected = plain.fresh(key, now, 100).map(|entry| entry.1);
                        prop_assert_eq!(table.get(key, now), expected);
                    }
                    1 => {
                        table.insert(key, n, now);
                        plain.insert(key, n, now, max, 100);
                    }
                    _ => {
                        table.update(key, n, now, |value| *value += 1);
                        match plain.fresh(key, now, 100) {
                            Some(entry) => entry.1 += 1,
                            None => plain.insert(key, n, now, max, 100),
                        }
                    }
                }
                prop_assert!(table.len() <= max);
                prop_assert_eq!(table.len(), plain.line.len());
            }
        }
    }

    #[test]
    fn it_takes_no_more_room_than_it_needs() {
        let mut table = Table::new(2_343, u64::MAX);
        let hasher = foldhash::quality::FixedState::default();
        let key = |n: u64| (n, hasher.hash_one(n));
        for n in 0..100_000_u64 {
            table.insert(key(n), n, n);
        }
        assert_eq!(table.len(), 2_343);
        assert!(table.line.capacity() <= 2_344, "{}", table.line.capacity());
        assert!(table.buckets.capacity() <= 2_344 / 3 + 2, "{}", table.buckets.capacity());
        assert_eq!((100_000 - 2_343..100_000).find(|n| table.get(key(*n), 100_000) != Some(*n)), None);
        assert_eq!((0..100_000 - 2_343).find(|n| table.get(key(*n), 100_000).is_some()), None);
    }
}
