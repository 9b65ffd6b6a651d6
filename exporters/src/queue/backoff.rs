//! How long to wait before the next attempt.

use std::time::Duration;

use super::settings::RetrySettings;

/// Exponential back-off with jitter.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    settings: &'a RetrySettings,
    interval: Duration,
}

impl<'a> Backoff<'a> {
    /// A back-off before its first failure.
    pub(crate) fn new(settings: &'a RetrySettings) -> Self {
        Self { settings, interval: settings.initial_interval }
    }

    /// The wait after one more failure. `random` is in `0.0..1.0`.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let spread = self.settings.randomization_factor * (2.0 * random - 1.0);
        let wait = scale(self.interval, 1.0 + spread);
        self.interval = scale(self.interval, self.settings.multiplier).min(self.settings.max_interval);
        wait
    }
}

/// Saturates: neither factor nor duration is ours to trust.
fn scale(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn intervals_grow_up_to_the_maximum() {
        let settings = RetrySettings { randomization_factor: 0.0, ..RetrySettings::default() };
        let mut backoff = Backoff::new(&settings);
        let waits: Vec<f64> = (0..7).map(|_| backoff.next(0.9).as_secs_f64()).collect();
        assert_eq!(waits, [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0]);
    }

    proptest! {
        #[test]
        fn the_jitter_stays_within_its_factor(random in 0.0..1.0f64, factor in 0.0..=1.0f64, failures in 0..20usize) {
            let settings = RetrySettings { randomization_factor: factor, ..RetrySettings::default() };
            let exact = RetrySettings { randomization_factor: 0.0, ..RetrySettings::default() };
            let (mut backoff, mut centre) = (Backoff::new(&settings), Backoff::new(&exact));
            for _ in 0..=failures {
                let (wait, middle) = (backoff.next(random).as_secs_f64(), centre.next(random).as_secs_f64());
                prop_assert!((wait - middle).abs() <= middle * factor + 1e-6);
            }
        }

        #[test]
        fn no_settings_overflow(secs in any::<u64>(), multiplier in 0.0..f64::MAX, random in 0.0..1.0f64) {
            let settings = RetrySettings {
                initial_interval: Duration::from_secs(secs),
                multiplier,
                max_interval: Duration::MAX,
                ..RetrySettings::default()
            };
            let mut backoff = Backoff::new(&settings);
            let waits: Vec<Duration> = (0..10).map(|_| backoff.next(random)).collect();
            prop_assert!(waits[0] >= Duration::from_secs(secs) / 3);
        }
    }
}
