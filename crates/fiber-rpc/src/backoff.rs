//! Capped exponential back-off with jitter, from a seed.
//!
//! The n-th delay is drawn evenly from `[base / 2, base]` with `base = min(initial * 2^n, max)`: half of it is kept, so
//! that a dead peer is never hammered, and half is random, so that the clients of a restarted server do not
//! come back in step.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Bounds of the delays between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// Longest first delay. Default 50 ms.
    pub initial: Duration,
    /// Longest delay ever. Default 2 s.
    pub max: Duration,
}

impl Default for BackoffConfig {
    fn default() -> BackoffConfig {
        BackoffConfig { initial: Duration::from_millis(50), max: Duration::from_secs(2) }
    }
}

/// A sequence of delays. The same seed gives the same sequence.
#[derive(Clone, Debug)]
pub struct Backoff {
    config: BackoffConfig,
    attempt: u32,
    random: SplitMix64,
}

impl Backoff {
    /// Starts at the first delay.
    pub fn new(config: BackoffConfig, seed: u64) -> Backoff {
        Backoff { config, attempt: 0, random: SplitMix64(seed) }
    }

    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let factor = 1u32 << self.attempt.min(31);
        let base = self.config.initial.saturating_mul(factor).min(self.config.max);
        self.attempt = self.attempt.saturating_add(1);
        let half = base / 2;
        let span = u64::try_from((base - half).as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(self.random.below_or_equal(span))
    }

    /// An attempt succeeded: the next delay is the first one again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Delays drawn since the last [`reset`](Self::reset).
    pub fn attempts(&self) -> u32 {
        self.attempt
    }
}

/// A seed for callers that were given none: the simulator's in a simulation, else one of the operating system.
pub(crate) fn random_seed() -> u64 {
    if fiber_runtime::sim::is_simulated() {
        return fiber_runtime::sim::random_u64();
    }
    // Each RandomState carries fresh keys, so hashing a constant yields a random number without a dependency.
    RandomState::new().hash_one(0u8)
}

/// Steele, Lea and Flood's SplitMix64: one addition and three mixes; enough for jitter.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below_or_equal(&mut self, limit: u64) -> u64 {
        // The high half of a 128-bit product maps the draw onto the range with a bias below 2^-32 for any delay.
        ((u128::from(self.next()) * (u128::from(limit) + 1)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BackoffConfig =
        BackoffConfig { initial: Duration::from_millis(10), max: Duration::from_millis(160) };

    #[test]
    fn delays_double_up_to_the_cap_and_keep_half() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(CONFIG, seed);
            for base in [10, 20, 40, 80, 160, 160, 160] {
                let (base, delay) = (Duration::from_millis(base), backoff.next_delay());
                assert!(delay >= base / 2 && delay <= base, "seed {seed}: {delay:?} for {base:?}");
            }
        }
    }

    #[test]
    fn same_seed_gives_the_same_delays_and_another_seed_others() {
        let delays = |seed| {
            let mut backoff = Backoff::new(CONFIG, seed);
            std::iter::repeat_with(move || backoff.next_delay()).take(8).collect::<Vec<_>>()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
    }

    #[test]
    fn reset_starts_over() {
        let mut backoff = Backoff::new(CONFIG, 1);
        for _ in 0..1000 {
            backoff.next_delay();
        }
        backoff.reset();
        assert!(backoff.next_delay() <= CONFIG.initial);
    }
}
