//! A queue that shares time fairly between accounts: the next job belongs to the account that has used the least time.
//! This module only keeps the state: it starts no threads.
//!
//! Each account has a virtual time, which grows by the time that its jobs used. An account that has had no job for a
//! while gets no credit for that period: it resumes at the virtual time of the account that was served last. When no
//! job waits or runs, all accounts are equal again. This is start-time fair queueing (Goyal, Vin and Cheng, 1996) with
//! equal weights.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// The number that identifies an account in the queue.
pub(crate) type AccountId = u64;

/// The waiting jobs by account, and the virtual time of each account.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    accounts: HashMap<AccountId, AccountEntry<T>>,
    /// The accounts that have waiting jobs, ordered by virtual time.
    order: BTreeSet<(u64, AccountId)>,
    /// The virtual time of the account that was served last.
    virtual_ns: u64,
    /// The largest virtual time that any account has had so far.
    virtual_ns_max: u64,
    /// The number of jobs that wait.
    waiting: usize,
    /// The number of jobs that run.
    running: usize,
    /// The number of entries after the last clean-up, which removed entries without jobs.
    cleaned: usize,
}

#[derive(Debug)]
struct AccountEntry<T> {
    virtual_ns: u64,
    jobs: VecDeque<T>,
    running: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            accounts: HashMap::new(),
            order: BTreeSet::new(),
            virtual_ns: 0,
            virtual_ns_max: 0,
            waiting: 0,
            running: 0,
            cleaned: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Adds a job after the other jobs of `account`.
    pub(crate) fn push(&mut self, account: AccountId, job: T) {
        self.clean_up();
        let now = self.virtual_ns;
        let entry = self.accounts.entry(account).or_insert_with(|| AccountEntry {
            virtual_ns: now,
            jobs: VecDeque::new(),
            running: 0,
        });
        if entry.jobs.is_empty() {
            if entry.running == 0 {
                entry.virtual_ns = entry.virtual_ns.max(now);
            }
            self.order.insert((entry.virtual_ns, account));
        }
        entry.jobs.push_back(job);
        self.waiting += 1;
    }

    /// Removes the next job from the queue and returns it. [`Self::finish`] must be called after the job has run.
    pub(crate) fn pop(&mut self) -> Option<(AccountId, T)> {
        let (virtual_ns, account) = self.order.pop_first()?;
        let entry = self.accounts.get_mut(&account)?;
        let job = entry.jobs.pop_front()?;
        entry.running += 1;
        self.waiting -= 1;
        self.running += 1;
        self.virtual_ns = self.virtual_ns.max(virtual_ns);
        if !entry.jobs.is_empty() {
            self.order.insert((entry.virtual_ns, account));
        }
        Some((account, job))
    }

    /// Records that a job of `account` has run, and adds `used_ns` to the account's virtual time.
    pub(crate) fn finish(&mut self, account: AccountId, used_ns: u64) {
        let Some(entry) = self.accounts.get_mut(&account) else { return };
        entry.running = entry.running.saturating_sub(1);
        let waits = !entry.jobs.is_empty();
        if waits {
            self.order.remove(&(entry.virtual_ns, account));
        }
        entry.virtual_ns = entry.virtual_ns.saturating_add(used_ns);
        if waits {
            self.order.insert((entry.virtual_ns, account));
        }
        self.virtual_ns_max = self.virtual_ns_max.max(entry.virtual_ns);
        self.running = self.running.saturating_sub(1);
        if self.running == 0 && self.order.is_empty() {
            self.virtual_ns = self.virtual_ns_max;
        }
    }

    /// Returns the number of waiting jobs.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// If there are many more entries than after the last clean-up, removes those that have no waiting or running job
    /// and whose virtual time is not ahead of the queue's virtual time.
    fn clean_up(&mut self) {
        if self.accounts.len() < 2 * self.cleaned + 16 {
            return;
        }
        let now = self.virtual_ns;
        self.accounts.retain(|_, entry| !entry.jobs.is_empty() || entry.running > 0 || entry.virtual_ns > now);
        self.cleaned = self.accounts.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(queue: &mut FairQueue<char>, used_ns: u64) -> char {
        let (account, job) = queue.pop().expect("a job waits");
        queue.finish(account, used_ns);
        job
    }

    #[test]
    fn accounts_alternate_however_many_jobs_they_have() {
        let mut queue = FairQueue::default();
        for _ in 0..4 {
            queue.push(1, 'a');
        }
        queue.push(2, 'b');
        queue.push(2, 'b');
        let order: String = (0..6).map(|_| run(&mut queue, 10)).collect();
        assert_eq!(order, "ababaa");
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn an_account_whose_jobs_are_long_has_fewer_of_them() {
        let mut queue = FairQueue::default();
        for _ in 0..20 {
            queue.push(1, 'a');
            queue.push(2, 'b');
        }
        let mut order = String::new();
        for _ in 0..12 {
            let (account, job) = queue.pop().expect("a job waits");
            queue.finish(account, if account == 1 { 30 } else { 10 });
            order.push(job);
        }
        assert_eq!(order.matches('b').count(), 9, "{order}");
    }

    #[test]
    fn accounts_that_were_idle_save_up_nothing_and_debts_are_remembered() {
        let mut queue = FairQueue::default();
        queue.push(1, 'a');
        queue.push(1, 'a');
        queue.push(1, 'a');
        run(&mut queue, 1_000);
        run(&mut queue, 1_000);
        // A new account begins at the queue's virtual time: the virtual time of the account that was served last.
        queue.push(2, 'b');
        queue.push(2, 'b');
        let order: String = (0..3).map(|_| run(&mut queue, 600)).collect();
        assert_eq!(order, "bba");
    }

    #[test]
    fn accounts_are_even_after_a_pause() {
        let mut queue = FairQueue::default();
        queue.push(2, 'b');
        run(&mut queue, 1_000_000);
        queue.push(1, 'a');
        queue.push(2, 'b');
        queue.push(1, 'a');
        queue.push(2, 'b');
        let order: String = (0..4).map(|_| run(&mut queue, 10)).collect();
        assert_eq!(order, "abab");
    }

    #[test]
    fn accounts_without_jobs_are_removed() {
        let mut queue = FairQueue::default();
        for account in 0..10_000 {
            queue.push(account, 'a');
            run(&mut queue, 1);
        }
        assert!(queue.accounts.len() < 100, "{}", queue.accounts.len());
    }
}
