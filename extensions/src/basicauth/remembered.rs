//! Names and passwords that were right, so that a client which sends the same with each request pays for it once.
//!
//! They are kept as keyed hashes, with a key that lives and dies with the process: nothing here can be turned back into
//! a password.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Pairs that are remembered. A user has one, but bcrypt reads 72 bytes of a password and forgives the rest.
const MAX: usize = 10_000;

/// How long a pair is remembered after its last use.
const UNUSED: Duration = Duration::from_secs(3600);

/// A key which nobody else has. `None`: the system has no random numbers, and nothing is remembered.
static KEY: LazyLock<Option<[u8; 32]>> = LazyLock::new(|| {
    let mut key = [0; 32];
    getrandom::fill(&mut key).ok()?;
    Some(key)
});

/// The keyed hash of a name and a password.
#[derive(Clone, Copy)]
pub(super) struct Pair([u8; 32]);

impl Pair {
    /// `None` if nothing can be remembered.
    pub(super) fn of(name: &str, password: &str) -> Option<Self> {
        let key = KEY.as_ref()?;
        let length = (name.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] = [key, &length, name.as_bytes(), password.as_bytes()];
        // The lengths are part of what is hashed, and the result never leaves the process: no HMAC is needed.
        Some(Self(parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()))
    }

    /// What it is found by. Two pairs that share it push each other out, which happens to nobody.
    fn slot(&self) -> u64 {
        self.0.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

/// The pairs, each with the time of its last use.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<u64, (Pair, Instant)>>);

impl Remembered {
    /// Whether this pair was right; it counts as used.
    pub(super) fn has(&self, pair: &Pair, now: Instant) -> bool {
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match pairs.get_mut(&pair.slot()) {
            Some((known, used)) if now.saturating_duration_since(*used) < UNUSED && known.0.ct_eq(&pair.0).into() => {
                *used = now;
                true
            }
            _ => false,
        }
    }

    /// Remembers a pair that was right, if need be in place of the one that was not used for longest.
    pub(super) fn add(&self, pair: Pair, now: Instant) {
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() >= MAX {
            pairs.retain(|_, (_, used)| now.saturating_duration_since(*used) < UNUSED);
            // Looking at all of them is little beside the check that went before.
            let oldest = pairs.iter().min_by_key(|(_, (_, used))| *used).map(|(slot, _)| *slot);
            if let Some(oldest) = oldest.filter(|_| pairs.len() >= MAX) {
                pairs.remove(&oldest);
            }
        }
        pairs.insert(pair.slot(), (pair, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let (remembered, start) = (Remembered::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (used, unused) = (Pair::of("a", "b").unwrap(), Pair::of("ab", "").unwrap());
        remembered.add(used, start);
        remembered.add(unused, start);
        assert!(remembered.has(&used, at(3000)) && !remembered.has(&Pair::of("a", "c").unwrap(), start));
        assert!(remembered.has(&used, at(6000)) && !remembered.has(&unused, at(3600)));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let (remembered, start) = (Remembered::default(), Instant::now());
        let pair = |n: usize| Pair::of("user", &n.to_string()).unwrap();
        for n in 0..MAX {
            remembered.add(pair(n), start + Duration::from_millis(n as u64));
        }
        let now = start + Duration::from_secs(60);
        assert!(remembered.has(&pair(0), now));
        remembered.add(pair(MAX), now);
        assert!(remembered.has(&pair(0), now) && remembered.has(&pair(MAX), now) && !remembered.has(&pair(1), now));
        assert_eq!(remembered.0.lock().unwrap().len(), MAX);
    }
}
