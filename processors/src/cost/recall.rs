//! A bounded cache from bytes to an answer, for one lane.
//!
//! Set-associative like a processor's: a key has [`WAYS`] places it can be in, so a lookup compares at most that many
//! hashes and one key, and nobody can make it slow or large by choosing names. A full set gives up its places in turn.

/// Places of one key.
const WAYS: usize = 4;
const SETS: usize = 256;

/// Answers by key. Looking up neither allocates nor changes anything.
#[derive(Debug)]
pub(super) struct Cache<V> {
    /// [`SETS`] sets, or none before the first insertion.
    sets: Vec<Set<V>>,
}

#[derive(Debug)]
struct Set<V> {
    /// 0 where empty; [`hash`] is never 0.
    hashes: [u64; WAYS],
    slots: [Option<(Box<[u8]>, V)>; WAYS],
    next: u8,
}

impl<V: Copy> Cache<V> {
    pub(super) fn new() -> Self {
        Self { sets: Vec::new() }
    }

    #[inline]
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<V> {
        let set = self.sets.get(hash as usize % SETS)?;
        for (stored, slot) in set.hashes.iter().zip(&set.slots) {
            if *stored == hash
                && let Some((stored, value)) = slot
                && **stored == *key
            {
                return Some(*value);
            }
        }
        None
    }

    pub(super) fn insert(&mut self, hash: u64, key: &[u8], value: V) {
        if self.sets.is_empty() {
            self.sets.resize_with(SETS, || Set { hashes: [0; WAYS], slots: [const { None }; WAYS], next: 0 });
        }
        let Some(set) = self.sets.get_mut(hash as usize % SETS) else { return };
        let at = usize::from(set.next) % WAYS;
        set.next = set.next.wrapping_add(1);
        if let (Some(stored), Some(slot)) = (set.hashes.get_mut(at), set.slots.get_mut(at)) {
            *stored = hash;
            *slot = Some((key.into(), value));
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sets.iter().flat_map(|set| &set.slots).flatten().count()
    }
}

/// A hash of the bytes, never 0. It need not resist collisions on purpose: they cost a lookup, no more.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut state = 0x243F_6A88_85A3_08D3 ^ bytes.len() as u64;
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    fold(state ^ u64::from_le_bytes(last)).max(1)
}

#[inline]
fn fold(word: u64) -> u64 {
    let product = u128::from(word) * 0x9E37_79B9_7F4A_7C15;
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_found_until_it_gives_way() {
        let mut cache = Cache::new();
        assert_eq!(cache.get(hash(b"a"), b"a"), None);
        cache.insert(hash(b"a"), b"a", 1);
        assert_eq!(cache.get(hash(b"a"), b"a"), Some(1));
        assert_eq!(cache.get(hash(b"a"), b"b"), None, "the key decides, not its hash");
        for n in 0..WAYS as u32 {
            cache.insert(hash(b"a"), &n.to_le_bytes(), 2);
        }
        assert_eq!(cache.get(hash(b"a"), b"a"), None);
    }

    #[test]
    fn it_is_bounded() {
        let mut cache = Cache::new();
        for n in 0..100_000u32 {
            let key = n.to_le_bytes();
            cache.insert(hash(&key), &key, n);
            assert_eq!(cache.get(hash(&key), &key), Some(n));
        }
        assert!(cache.len() <= SETS * WAYS);
        assert!(cache.len() > SETS * WAYS / 2, "the hash spreads over the sets");
    }
}
