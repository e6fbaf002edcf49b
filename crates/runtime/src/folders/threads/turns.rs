//! Whose job is next: that of the account that has the fewest threads, and none has more than its part.

use std::collections::{HashMap, VecDeque};

use super::THREADS;

/// Threads that do the work of one account at once.
pub(super) const ACCOUNT_THREADS_MAX: usize = THREADS / 2;

pub(super) struct Turns<J> {
    /// Those that have a thread or wait for one.
    accounts: HashMap<u64, Line<J>>,
    /// Numbers the jobs.
    number: u64,
    /// Jobs of all accounts that wait.
    waiting: usize,
}

struct Line<J> {
    running: usize,
    waiting: VecDeque<(u64, J)>,
}

impl<J> Default for Turns<J> {
    fn default() -> Self {
        Self { accounts: HashMap::new(), number: 0, waiting: 0 }
    }
}

impl<J> Default for Line<J> {
    fn default() -> Self {
        Self { running: 0, waiting: VecDeque::new() }
    }
}

impl<J> Turns<J> {
    /// Threads that an account has.
    #[cfg(test)]
    pub(super) fn running(&self, account: u64) -> usize {
        self.accounts.get(&account).map_or(0, |line| line.running)
    }

    /// Puts a job at the end of its account's line.
    pub(super) fn push(&mut self, account: u64, job: J) {
        self.accounts.entry(account).or_default().waiting.push_back((self.number, job));
        self.number += 1;
        self.waiting += 1;
    }

    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Is there a job that may run now?
    pub(super) fn has_next(&self) -> bool {
        self.accounts.values().any(|line| line.running < ACCOUNT_THREADS_MAX && !line.waiting.is_empty())
    }

    /// Takes out all that waits.
    pub(super) fn abandon(&mut self) -> Vec<J> {
        self.waiting = 0;
        let lines = self.accounts.values_mut().map(|line| std::mem::take(&mut line.waiting));
        let abandoned = lines.flatten().map(|(_, job)| job).collect();
        self.accounts.retain(|_, line| line.running > 0);
        abandoned
    }

    /// The next job, with its account. [`Turns::end`] must be called when it is over.
    pub(super) fn next(&mut self) -> Option<(u64, J)> {
        let lines = self.accounts.iter().filter(|(_, line)| line.running < ACCOUNT_THREADS_MAX);
        let lines = lines.filter_map(|(account, line)| Some((line.running, line.waiting.front()?.0, *account)));
        // Of those with equally many, the one that waits longest.
        let (_, _, account) = lines.min()?;
        let line = self.accounts.get_mut(&account)?;
        let (_, job) = line.waiting.pop_front()?;
        line.running += 1;
        self.waiting -= 1;
        Some((account, job))
    }

    /// A job of `account` is over.
    pub(super) fn end(&mut self, account: u64) {
        if let Some(line) = self.accounts.get_mut(&account) {
            line.running -= 1;
            if line.running == 0 && line.waiting.is_empty() {
                self.accounts.remove(&account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_with_the_fewest_threads_is_next() {
        let mut turns = Turns::default();
        for job in ["a", "b", "c"] {
            turns.push(1, job);
        }
        assert_eq!([turns.next(), turns.next()], [Some((1, "a")), Some((1, "b"))]);
        turns.push(2, "d");
        turns.push(2, "e");
        assert_eq!(turns.next(), Some((2, "d")));
        turns.end(1);
        assert_eq!(turns.next(), Some((1, "c")), "as few, and it has waited for longer");
        assert_eq!([turns.next(), turns.next()], [Some((2, "e")), None]);
        for account in [1, 1, 2, 2] {
            turns.end(account);
        }
        assert!(turns.accounts.is_empty() && turns.waiting() == 0);
    }

    #[test]
    fn an_account_has_no_more_threads_than_it_may() {
        let mut turns = Turns::default();
        for job in 0..=ACCOUNT_THREADS_MAX {
            turns.push(1, job);
        }
        for job in 0..ACCOUNT_THREADS_MAX {
            assert_eq!(turns.next(), Some((1, job)));
        }
        assert!(turns.next().is_none() && !turns.has_next() && turns.waiting() == 1);
        turns.push(2, 100);
        assert_eq!(turns.next(), Some((2, 100)));
        turns.end(1);
        assert_eq!(turns.next(), Some((1, ACCOUNT_THREADS_MAX)));
        turns.push(2, 101);
        turns.push(3, 102);
        assert_eq!(turns.abandon().len(), 2);
        assert_eq!((turns.waiting(), turns.accounts.len()), (0, 2));
    }
}
