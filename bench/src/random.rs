//! Random numbers: one fast and good enough for choosing keys, one that costs what the original's stress test paid.

/// xorshift64*: a few instructions a number.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        ((self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64) < probability
    }
}

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// The Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998), which C++ programs call `std::mt19937`.
#[derive(Clone, Debug)]
pub struct MersenneTwister {
    state: Vec<u32>,
    next: usize,
}

impl MersenneTwister {
    /// Seeded as the reference implementation does it.
    pub fn new(seed: u32) -> Self {
        let mut state = Vec::with_capacity(WORDS);
        state.push(seed);
        for index in 1..WORDS as u32 {
            let last = state[index as usize - 1];
            state.push((last ^ last >> 30).wrapping_mul(1_812_433_253).wrapping_add(index));
        }
        MersenneTwister { state, next: WORDS }
    }

    /// The next number.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// A number from 1 to `high`, without bias, by rejection as `std::uniform_int_distribution` does it.
    pub fn from_one_to(&mut self, high: u32) -> u32 {
        let bound = u32::MAX - u32::MAX % high;
        loop {
            let word = self.next_u32();
            if word < bound {
                return word % high + 1;
            }
        }
    }

    fn twist(&mut self) {
        for index in 0..WORDS {
            let joined = self.state[index] & 0x8000_0000 | self.state[(index + 1) % WORDS] & 0x7fff_ffff;
            let odd = if joined & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[index] = self.state[(index + SHIFT) % WORDS] ^ joined >> 1 ^ odd;
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twister_gives_the_numbers_of_the_standard() {
        // C++ [rand.predef]: the 10000th number of a default-seeded std::mt19937 is 4123659995.
        let mut twister = MersenneTwister::new(5489);
        let last = (0..10_000).map(|_| twister.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
        assert!((0..1000).all(|_| (1..=100).contains(&twister.from_one_to(100))));
    }

    #[test]
    fn numbers_below_a_bound_are_below_it_and_reach_all_of_it() {
        let mut random = Random::new(1);
        let mut seen = [false; 10];
        (0..1000).for_each(|_| seen[random.below(10) as usize] = true);
        assert!(seen.iter().all(|seen| *seen));
        let hits = (0..10_000).filter(|_| random.chance(0.7)).count();
        assert!((6700..7300).contains(&hits), "{hits}");
    }
}
