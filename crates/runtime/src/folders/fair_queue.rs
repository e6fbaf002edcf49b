//! A queue of jobs that shares threads fairly between accounts. The next job belongs to the account with the fewest
//! threads, and no account has more threads than its share. This module only keeps the state: it starts no threads.
//!
//! A running job cannot be interrupted. To prevent accounts with slow jobs from delaying all other accounts, an account
//! without a thread gets one of [`RESERVE`] extra threads if all [`THREADS`] are in use.

use std::collections::{BTreeMap, HashMap};

/// The number of threads that all accounts share. More threads would not make a busy disk faster.
pub(super) const THREADS: usize = 16;

/// The number of extra threads. An account that has no thread can get one of them.
pub(super) const RESERVE: usize = 16;

/// The maximum number of threads that one account may use at a time.
pub(super) const ACCOUNT_THREADS_MAX: usize = THREADS / 2;

pub(super) struct FairJobQueue<J> {
    /// The accounts that have running or waiting jobs.
    accounts: HashMap<u64, AccountJobs<J>>,
    /// The number of the job that was added last.
    number: u64,
    /// The number of running jobs of all accounts.
    running: usize,
}

struct AccountJobs<J> {
    running: usize,
    /// The waiting jobs by number. Numbers increase in the order in which jobs are added.
    waiting: BTreeMap<u64, J>,
}

impl<J> Default for FairJobQueue<J> {
    fn default() -> Self {
        Self { accounts: HashMap::new(), number: 0, running: 0 }
    }
}

impl<J> Default for AccountJobs<J> {
    fn default() -> Self {
        Self { running: 0, waiting: BTreeMap::new() }
    }
}

impl<J> AccountJobs<J> {
    fn is_over(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }
}

impl<J> FairJobQueue<J> {
    /// Returns the number of waiting jobs of an account.
    #[cfg(test)]
    pub(super) fn waiting(&self, account: u64) -> usize {
        self.accounts.get(&account).map_or(0, |jobs| jobs.waiting.len())
    }

    /// Adds a job after the other jobs of `account`. Returns the number of the new job.
    pub(super) fn push(&mut self, account: u64, job: J) -> u64 {
        self.number += 1;
        self.accounts.entry(account).or_default().waiting.insert(self.number, job);
        self.number
    }

    /// Removes a waiting job from the queue. Returns `None` if the job is not waiting any more.
    pub(super) fn remove(&mut self, account: u64, number: u64) -> Option<J> {
        let jobs = self.accounts.get_mut(&account)?;
        let job = jobs.waiting.remove(&number)?;
        if jobs.is_over() {
            self.accounts.remove(&account);
        }
        Some(job)
    }

    /// Returns the current maximum number of threads per account. An account with fewer threads can get another thread.
    fn account_max(&self) -> usize {
        if self.running < THREADS { ACCOUNT_THREADS_MAX } else { usize::from(self.running < THREADS + RESERVE) }
    }

    /// Returns the number of waiting jobs that could run now if there were enough idle threads.
    pub(super) fn ready(&self) -> usize {
        let (mut ready, mut newcomers) = (0, 0);
        for jobs in self.accounts.values() {
            ready += jobs.waiting.len().min(ACCOUNT_THREADS_MAX.saturating_sub(jobs.running));
            newcomers += usize::from(jobs.running == 0 && !jobs.waiting.is_empty());
        }
        // `next` serves accounts without a thread first. So they take the free shared threads before they need extra
        // ones.
        let shared = THREADS.saturating_sub(self.running);
        let reserve = (THREADS + RESERVE).saturating_sub(self.running.max(THREADS));
        ready.min(shared) + newcomers.saturating_sub(shared).min(reserve)
    }

    /// Returns whether [`FairJobQueue::next`] would return a job.
    pub(super) fn has_next(&self) -> bool {
        self.ready() > 0
    }

    /// Removes all waiting jobs and returns them.
    pub(super) fn abandon(&mut self) -> Vec<J> {
        let waiting_jobs = self.accounts.values_mut().map(|jobs| std::mem::take(&mut jobs.waiting));
        let abandoned = waiting_jobs.flat_map(BTreeMap::into_values).collect();
        self.accounts.retain(|_, jobs| !jobs.is_over());
        abandoned
    }

    /// Removes the next job from the queue and returns it with its account. [`FairJobQueue::end`] must be called when
    /// the job is done.
    pub(super) fn next(&mut self) -> Option<(u64, J)> {
        let most = self.account_max();
        let waiting_jobs = self.accounts.iter().filter(|(_, jobs)| jobs.running < most);
        let waiting_jobs =
            waiting_jobs.filter_map(|(account, jobs)| Some((jobs.running, *jobs.waiting.keys().next()?, *account)));
        // Among accounts with the same number of threads, chooses the account whose first job has waited longest.
        let (_, _, account) = waiting_jobs.min()?;
        let jobs = self.accounts.get_mut(&account)?;
        let (_, job) = jobs.waiting.pop_first()?;
        jobs.running += 1;
        self.running += 1;
        Some((account, job))
    }

    /// Records that a job of `account` is done.
    pub(super) fn end(&mut self, account: u64) {
        if let Some(jobs) = self.accounts.get_mut(&account) {
            jobs.running -= 1;
            self.running -= 1;
            if jobs.is_over() {
                self.accounts.remove(&account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<J>(queue: &mut FairJobQueue<J>) -> Vec<u64> {
        std::iter::from_fn(|| queue.next().map(|(account, _)| account)).collect()
    }

    #[test]
    fn the_account_with_the_fewest_threads_is_next() {
        let mut queue = FairJobQueue::default();
        for job in ["a", "b", "c"] {
            queue.push(1, job);
        }
        assert_eq!([queue.next(), queue.next()], [Some((1, "a")), Some((1, "b"))]);
        queue.push(2, "d");
        queue.push(2, "e");
        assert_eq!(queue.next(), Some((2, "d")));
        queue.end(1);
        assert_eq!(
            queue.next(),
            Some((1, "c")),
            "both accounts have one thread, but the job that has waited longer is not chosen"
        );
        assert_eq!([queue.next(), queue.next()], [Some((2, "e")), None]);
        for account in [1, 1, 2, 2] {
            queue.end(account);
        }
        assert!(queue.accounts.is_empty() && queue.running == 0);
    }

    #[test]
    fn an_account_has_no_more_threads_than_it_may() {
        let mut queue = FairJobQueue::default();
        for job in 0..=ACCOUNT_THREADS_MAX {
            queue.push(1, job);
        }
        assert_eq!(queue.ready(), ACCOUNT_THREADS_MAX);
        for job in 0..ACCOUNT_THREADS_MAX {
            assert_eq!(queue.next(), Some((1, job)));
        }
        assert!(queue.next().is_none() && !queue.has_next() && queue.waiting(1) == 1);
        queue.push(2, 100);
        assert_eq!(queue.next(), Some((2, 100)));
        queue.end(1);
        assert_eq!(queue.next(), Some((1, ACCOUNT_THREADS_MAX)));
        queue.push(2, 101);
        queue.push(3, 102);
        assert_eq!(queue.abandon().len(), 2);
        assert_eq!((queue.ready(), queue.accounts.len()), (0, 2));
    }

    #[test]
    fn accounts_whose_jobs_do_not_end_leave_a_thread_to_each_other_one() {
        let mut queue = FairJobQueue::default();
        let slow = (THREADS / ACCOUNT_THREADS_MAX) as u64;
        for account in 0..slow {
            for job in 0..2 * ACCOUNT_THREADS_MAX {
                queue.push(account, job);
            }
        }
        assert_eq!((all(&mut queue).len(), queue.ready()), (THREADS, 0));
        for account in [100, 100, 101] {
            queue.push(account, 0);
        }
        assert_eq!(queue.ready(), 2);
        assert_eq!(all(&mut queue), [100, 101], "accounts without a thread do not get exactly one extra thread each");
        queue.end(0);
        assert!(all(&mut queue).is_empty(), "a job starts although an extra thread is in use");
        for account in 200..200 + RESERVE as u64 {
            queue.push(account, 0);
        }
        assert_eq!(queue.ready(), RESERVE - 1);
        assert_eq!(all(&mut queue).len(), RESERVE - 1);
        assert_eq!((queue.running, queue.ready(), queue.next()), (THREADS + RESERVE, 0, None));
    }

    #[test]
    fn a_job_that_is_removed_leaves_nothing_behind() {
        let mut queue = FairJobQueue::default();
        let jobs: Vec<_> = ["a", "b", "c"].into_iter().map(|job| queue.push(1, job)).collect();
        assert_eq!((queue.remove(1, jobs[1]), queue.remove(1, jobs[1])), (Some("b"), None));
        assert_eq!((queue.next(), queue.remove(1, jobs[0])), (Some((1, "a")), None), "a running job is removed");
        assert_eq!((queue.remove(1, jobs[2]), queue.remove(2, jobs[2])), (Some("c"), None));
        queue.end(1);
        let only = queue.push(3, "d");
        assert_eq!(queue.remove(3, only), Some("d"));
        assert!(queue.accounts.is_empty());
    }
}
