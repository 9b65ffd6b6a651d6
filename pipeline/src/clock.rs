//! Where time and randomness come from, so that a graph can run in a simulation (house rule 6).
//!
//! Timers use `tokio::time`, which a test can pause. Wall-clock time and random numbers come from an [`Environment`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock and random numbers.
#[derive(Clone)]
pub struct Environment {
    now: Arc<dyn Fn() -> u64 + Send + Sync>,
    random: Arc<AtomicU64>,
}

impl Environment {
    /// The machine's clock, and a seed taken from it.
    pub fn system() -> Self {
        Self::with(system_nanos, system_nanos())
    }

    /// A clock and a seed of the caller's choice.
    pub fn with(now_unix_nanos: impl Fn() -> u64 + Send + Sync + 'static, seed: u64) -> Self {
        Self { now: Arc::new(now_unix_nanos), random: Arc::new(AtomicU64::new(seed)) }
    }

    /// Nanoseconds since the epoch.
    pub fn now_unix_nanos(&self) -> u64 {
        (self.now)()
    }

    /// A random number: good enough for jitter, useless for secrets (splitmix64).
    pub fn random(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A random number in `0.0..1.0`.
    pub fn random_unit(&self) -> f64 {
        (self.random() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn system_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment")
    }
}
