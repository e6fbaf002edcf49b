//! Reproducible pseudo-random numbers: SplitMix64 (Steele, Lea and Flood, 2014).

/// A generator of pseudo-random numbers. Two generators with the same seed generate the same numbers.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Creates a generator from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Creates the generator of one actor, which is a task of the soak, for example a client. The generated numbers
    /// depend on the seed and on the actor's number, and not on how many numbers other actors draw.
    #[must_use]
    pub fn for_actor(seed: u64, actor: u64) -> Self {
        let mut mixed = Self(seed ^ actor.wrapping_mul(0xd134_2543_de82_ef95));
        mixed.next();
        mixed
    }

    /// Returns the next 64-bit number.
    #[allow(clippy::should_implement_trait, reason = "a source without an end needs no `Option`")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `count - 1`; 0 if `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        // The remainder favours some numbers, with a bias of at most `count` in 2^64.
        if count == 0 { 0 } else { (self.next() % count as u64) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_actors_differ() {
        let draw = |mut chance: Chance| (0..4).map(|_| chance.next()).collect::<Vec<_>>();
        assert_eq!(draw(Chance::new(7)), draw(Chance::new(7)));
        assert_ne!(draw(Chance::for_actor(7, 1)), draw(Chance::for_actor(7, 2)));
        // The first number that the reference implementation generates for seed 0.
        assert_eq!(Chance::new(0).next(), 0xe220_a839_7b1d_cdaf);
        assert!((0..100).map(|seed| Chance::new(seed).below(3)).all(|drawn| drawn < 3));
    }
}
