//! The core's own randomness: a seeded generator that draws election timeouts, so that equal seeds give equal runs.

use std::ops::Range;

/// SplitMix64 (Steele, Lea, Flood 2014): one 64-bit word of state, full period, good enough to spread timeouts.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// A generator whose draws are a function of `seed` alone.
    pub(super) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 bits.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number of `range`, or its start if it is empty. The bias of the multiplication is below 2^-32.
    pub(super) fn within(&mut self, range: Range<u32>) -> u32 {
        let width = range.end.saturating_sub(range.start);
        range.start + (((self.next() >> 32) * u64::from(width)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn draws_stay_in_range_and_reach_both_ends() {
        let mut random = Random::new(7);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[(random.within(10..15) - 10) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(random.within(3..3), 3);
    }

    #[test]
    fn equal_seeds_draw_equal_numbers() {
        let (mut a, mut b) = (Random::new(42), Random::new(42));
        assert!((0..100).all(|_| a.next() == b.next()));
        assert_ne!(Random::new(1).next(), Random::new(2).next());
    }
}
