//! The rules by which accounts share the engine's pool.
//!
//! A part of the pool is set aside: up to [`GUARANTEED`] accounts can always have their guaranteed share (see
//! [`Shares::own`]), whatever other accounts do. The rest of the pool is common. An account may take more of the common
//! part only as long as its amount does not exceed the amount that remains free. (Network switches share their buffers
//! between ports by the same method, which is called Dynamic Threshold.) So one busy account gets up to half of the
//! common part, two busy accounts get a third each, and three busy accounts get a quarter each. The same amount always
//! remains free for the next account. When another account becomes busy, accounts that hold more than their share get
//! nothing new until the new account has caught up.
//!
//! Three alternatives were rejected:
//!
//! - A fixed part for each account, such as a quarter of the pool. Four accounts could then take all of it, and a
//!   single busy account would be refused although the rest is idle.
//! - A part that depends on the number of accounts that exist. Most of them are idle, and room that was granted earlier
//!   stays in use when a new account is created.
//! - Ending busy instances. Their requests would fail.
//!
//! All of this applies to each [`Dimension`] of the pool separately. Accounts without limits can take everything that
//! is free.

use super::sizes::{Dimension, PoolSizes};
use super::slots::Slots;

/// The size of the pool is divided by this number: a quarter of the pool is set aside for guaranteed shares.
const SET_ASIDE: u32 = 4;

/// The number of accounts that have a guaranteed share at the same time.
pub(crate) const GUARANTEED: u32 = 64;

/// The division of one instance pool among accounts: the size of the pool, the guaranteed share of each account, and
/// the amounts that accounts hold together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    sizes: PoolSizes,
    own: PoolSizes,
    common: PoolSizes,
    held: PoolSizes,
    /// The total amount that accounts hold beyond their guaranteed shares.
    common_held: PoolSizes,
    accounts: u32,
}

/// The reasons why an account cannot have another instance now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The account holds as much as a single account may hold.
    Account(Dimension),
    /// The account holds its whole share of the common part of the pool: the part that is not set aside for guaranteed
    /// shares. The size of the share depends on how much other accounts hold now.
    Share(Dimension),
    /// The pool is full.
    Pool {
        dimension: Dimension,
        /// Whether the account would exceed its guaranteed share if it got another instance.
        is_beyond: bool,
    },
}

impl Shares {
    pub(crate) fn new(sizes: PoolSizes) -> Self {
        let one = PoolSizes::new(1);
        let part = sizes.part(SET_ASIDE * GUARANTEED);
        Self {
            sizes,
            // In a small pool, the guaranteed share is one instance, and fewer than `GUARANTEED` accounts can have a
            // guaranteed share at the same time.
            own: if one.fits(part) { part } else { one },
            common: sizes.minus(sizes.part(SET_ASIDE)),
            held: PoolSizes::default(),
            common_held: PoolSizes::default(),
            accounts: 0,
        }
    }

    /// Returns the size of the pool.
    pub(crate) fn sizes(&self) -> PoolSizes {
        self.sizes
    }

    /// Returns the part of the pool that all accounts together use.
    pub(crate) fn held(&self) -> PoolSizes {
        self.held
    }

    /// Returns the number of accounts that hold at least one instance.
    pub(crate) fn accounts(&self) -> u32 {
        self.accounts
    }

    /// Returns the guaranteed share of one account.
    pub(crate) fn own(&self) -> PoolSizes {
        self.own
    }

    /// Returns the maximum that an account with limits may hold: its guaranteed share, and half of the common part (the
    /// part of the pool that is not set aside for guaranteed shares).
    pub(crate) fn most(&self) -> PoolSizes {
        self.own.plus(self.common.part(2))
    }

    /// Checks whether an account that holds `has` may have another instance that takes `slots`.
    pub(crate) fn admit(&self, has: PoolSizes, slots: Slots, is_limited: bool) -> Result<(), Shortage> {
        let one = PoolSizes::of(slots);
        let after = has.plus(one);
        if is_limited {
            let (before, beyond) = (has.minus(self.own), after.minus(self.own));
            let taken = self.common_held.plus(beyond.minus(before));
            for dimension in Dimension::ALL {
                let of = |sizes: PoolSizes| u64::from(sizes.get(dimension));
                if of(beyond) == of(before) {
                    continue;
                }
                if 2 * of(beyond) > of(self.common) {
                    return Err(Shortage::Account(dimension));
                }
                if of(beyond) + of(taken) > of(self.common) {
                    return Err(Shortage::Share(dimension));
                }
            }
        }
        match self.held.plus(one).exceeds(self.sizes) {
            None => Ok(()),
            Some(dimension) => Err(Shortage::Pool { dimension, is_beyond: is_limited && !after.fits(self.own) }),
        }
    }

    /// Adds an admitted instance to the amounts that accounts hold. `has` is the amount that the instance's account
    /// held before. Returns the account's new amount.
    pub(crate) fn take(&mut self, has: PoolSizes, slots: Slots) -> PoolSizes {
        let after = has.plus(PoolSizes::of(slots));
        self.held = self.held.plus(PoolSizes::of(slots));
        self.common_held = self.common_held.plus(after.minus(self.own).minus(has.minus(self.own)));
        self.accounts += u32::from(has.instances == 0);
        after
    }

    /// Subtracts a dropped instance from the amounts that accounts hold. `has` is the amount that the instance's
    /// account held before. Returns the account's new amount.
    pub(crate) fn give_back(&mut self, has: PoolSizes, slots: Slots) -> PoolSizes {
        let after = has.minus(PoolSizes::of(slots));
        self.held = self.held.minus(PoolSizes::of(slots));
        self.common_held = self.common_held.minus(has.minus(self.own).minus(after.minus(self.own)));
        self.accounts -= u32::from(has.instances > 0 && after.instances == 0);
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Slots = Slots { memories: 1, tables: 1, stacks: 2 };

    /// Takes instances for the account at `index` until no more are admitted. Returns the number of instances.
    fn take_all(shares: &mut Shares, accounts: &mut [PoolSizes], index: usize, slots: Slots) -> u32 {
        let mut taken = 0;
        while shares.admit(accounts[index], slots, true).is_ok() {
            accounts[index] = shares.take(accounts[index], slots);
            taken += 1;
        }
        taken
    }

    #[test]
    fn one_account_has_up_to_half_and_each_further_one_as_much_as_is_left() {
        let mut shares = Shares::new(PoolSizes::of_a_node());
        let mut accounts = [PoolSizes::default(); 3];
        assert_eq!(take_all(&mut shares, &mut accounts, 0, SMALL), 8 + 1536 / 2);
        assert_eq!(shares.admit(accounts[0], SMALL, true), Err(Shortage::Account(Dimension::Instances)));
        assert_eq!(take_all(&mut shares, &mut accounts, 1, SMALL), 8 + 1536 / 4);
        assert_eq!(take_all(&mut shares, &mut accounts, 2, SMALL), 8 + 1536 / 8);
        assert_eq!(shares.admit(accounts[1], SMALL, true), Err(Shortage::Share(Dimension::Instances)));
        assert!(
            shares.admit(accounts[1], SMALL, false).is_ok(),
            "an account without limits is refused although the pool has room"
        );
        assert_eq!(shares.accounts(), 3);
    }

    #[test]
    fn accounts_that_release_and_take_again_become_equal() {
        let mut shares = Shares::new(PoolSizes::of_a_node());
        let mut accounts = [PoolSizes::default(); 5];
        for index in 0..5 {
            take_all(&mut shares, &mut accounts, index, SMALL);
        }
        for _ in 0..2000 {
            for account in &mut accounts {
                *account = shares.give_back(*account, SMALL);
            }
            // The order is unfair: the first account always takes first, although it already holds the most.
            for account in &mut accounts {
                while shares.admit(*account, SMALL, true).is_ok() {
                    *account = shares.take(*account, SMALL);
                }
            }
        }
        let fair = 8 + 1536 / 6;
        for account in accounts {
            assert!(
                account.instances.abs_diff(fair) <= 10,
                "the account got {} instances instead of about {fair}",
                account.instances
            );
        }
    }

    #[test]
    fn each_dimension_is_shared_separately() {
        // Even if 39 accounts take all the memories, tables or stacks of the pool that they can get, some are left for
        // another account.
        for (slots, dimension) in [
            (Slots { memories: 256, tables: 1, stacks: 2 }, Dimension::Memories),
            (Slots { memories: 1, tables: 512, stacks: 2 }, Dimension::Tables),
            (Slots { memories: 1, tables: 1, stacks: 256 }, Dimension::Stacks),
        ] {
            let mut shares = Shares::new(PoolSizes::of_a_node());
            let mut accounts = [PoolSizes::default(); 40];
            for index in 0..39 {
                take_all(&mut shares, &mut accounts, index, slots);
            }
            let full = shares.admit(accounts[38], slots, true);
            assert!(matches!(full, Err(Shortage::Share(of)) if of == dimension), "{full:?}");
            assert_eq!(shares.admit(accounts[39], SMALL, true), Ok(()), "{dimension}");
        }
    }

    #[test]
    fn everything_that_is_released_is_free_again() {
        let mut shares = Shares::new(PoolSizes::new(100));
        let mut accounts = [PoolSizes::default(); 4];
        let slots = Slots { memories: 3, tables: 2, stacks: 4 };
        let taken = (0..4).map(|index| take_all(&mut shares, &mut accounts, index, slots)).collect::<Vec<_>>();
        for (index, taken) in taken.into_iter().enumerate() {
            for _ in 0..taken {
                accounts[index] = shares.give_back(accounts[index], slots);
            }
        }
        assert_eq!((shares.held, shares.common_held, shares.accounts), Default::default());
    }

    /// A generator of pseudo-random numbers. The same seed gives the same numbers.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u32) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(self.0 >> 33).unwrap_or_default() % bound
        }
    }

    #[test]
    fn a_new_account_always_finds_its_guaranteed_share() {
        let rounds = if std::env::var_os("ISOMER_LONG").is_some() { 20_000 } else { 200 };
        for seed in 0..rounds {
            let mut random = Random(seed);
            let sizes = PoolSizes::new(256 + random.below(2000));
            let mut shares = Shares::new(sizes);
            let active = random.below(GUARANTEED) as usize;
            let mut accounts = vec![PoolSizes::default(); active];
            let mut claims = vec![Vec::new(); active];
            for _ in 0..if active == 0 { 0 } else { 3000 } {
                let index = random.below(u32::try_from(active).unwrap()) as usize;
                if random.below(4) == 0 {
                    if let Some(slots) = claims[index].pop() {
                        accounts[index] = shares.give_back(accounts[index], slots);
                    }
                    continue;
                }
                let large = if random.below(8) == 0 { 250 } else { 6 };
                let mut some = || 1 + random.below(large);
                let slots = Slots { memories: some(), tables: some(), stacks: some() };
                if shares.admit(accounts[index], slots, true).is_ok() {
                    accounts[index] = shares.take(accounts[index], slots);
                    claims[index].push(slots);
                }
            }
            assert!(shares.held.fits(sizes), "seed {seed}");
            // Whatever other accounts did, the guaranteed share is free: for small instances one after another, or for
            // a single large instance.
            let own = shares.own;
            let whole = Slots { memories: own.memories, tables: own.tables, stacks: own.stacks };
            assert_eq!(shares.admit(PoolSizes::default(), whole, true), Ok(()), "seed {seed}: {shares:?}");
            let mut newcomer = PoolSizes::default();
            for _ in 0..own.instances {
                assert_eq!(shares.admit(newcomer, SMALL, true), Ok(()), "seed {seed}: {shares:?}");
                newcomer = shares.take(newcomer, SMALL);
            }
        }
    }
}
