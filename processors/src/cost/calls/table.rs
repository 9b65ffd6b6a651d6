//! A map that forgets: entries not used for a while, and the least recently used one where there are too many.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// A keyed hash of what is looked up. 128 bits: two that are equal by chance do not happen.
pub(super) type Key = (u64, u64);

#[derive(Debug)]
pub(super) struct Table<V> {
    entries: HashMap<Key, Remembered<V>, BuildHasherDefault<Second>>,
    /// Keys with the time at which they were put in line, the oldest first. An entry used since then is put in line
    /// again instead of being forgotten.
    line: VecDeque<(Key, u64)>,
    max: usize,
    window: u64,
}

#[derive(Debug)]
struct Remembered<V> {
    value: V,
    used: u64,
}

impl<V: Copy> Table<V> {
    pub(super) fn new(max: usize, window: u64) -> Self {
        Self { entries: HashMap::default(), line: VecDeque::new(), max, window }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value, unless it was not used for the whole window.
    pub(super) fn get(&mut self, key: Key, now: u64) -> Option<V> {
        let window = self.window;
        let entry = self.entries.get_mut(&key).filter(|e| now.saturating_sub(e.used) <= window)?;
        entry.used = entry.used.max(now);
        Some(entry.value)
    }

    /// Puts a value in the place of what is there.
    pub(super) fn insert(&mut self, key: Key, value: V, now: u64) {
        if self.entries.insert(key, Remembered { value, used: now }).is_none() {
            self.line.push_back((key, now));
            self.forget(now);
        }
    }

    /// Changes the value that is there, or puts one there.
    pub(super) fn update(&mut self, key: Key, value: V, now: u64, change: impl FnOnce(&mut V)) {
        let window = self.window;
        match self.entries.get_mut(&key) {
            Some(entry) if now.saturating_sub(entry.used) <= window => {
                change(&mut entry.value);
                entry.used = entry.used.max(now);
            }
            _ => self.insert(key, value, now),
        }
    }

    fn forget(&mut self, now: u64) {
        while let Some(&(key, since)) = self.line.front() {
            if self.entries.len() <= self.max && now.saturating_sub(since) <= self.window {
                break;
            }
            self.line.pop_front();
            let Entry::Occupied(entry) = self.entries.entry(key) else { continue };
            let used = entry.get().used;
            if used > since && now.saturating_sub(used) <= self.window {
                self.line.push_back((key, used));
            } else {
                entry.remove();
            }
        }
    }
}

/// The keys are hashes already. The shard was chosen by the first half, so the second one is taken.
#[derive(Debug, Default)]
pub(super) struct Second(u64);

impl Hasher for Second {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
