//! The scheduling of jobs: the state of a pool without its threads. In each pool, a tenant has one queue of jobs.
//!
//! At most [`JobQueueBounds::running_max`] jobs of a queue run at the same time. Running jobs cannot be preempted. Two
//! rules ensure that a tenant does not have to wait for jobs of other tenants:
//!
//! - All queues that have jobs share [`PoolSize::threads_max`] threads equally. A queue may use more than its share
//!   only while no queue that uses less than its share has a waiting job.
//! - If all shared threads are in use, a queue with no running job gets one of [`PoolSize::reserve_max`] extra threads.
//!
//! Invariant: `ready` contains each queue that has waiting jobs and fewer running jobs than its maximum, exactly once,
//! and no other queue.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::job::Job;

/// The maximum number of threads of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSize {
    /// The number of threads that all queues share.
    pub(crate) threads_max: usize,
    /// The number of extra threads for queues with no running job. Each such queue may use one of them.
    pub(crate) reserve_max: usize,
}

/// The limits of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobQueueBounds {
    /// The maximum number of jobs that run at the same time.
    pub(crate) running_max: usize,
    /// The maximum number of jobs that wait.
    pub(crate) waiting_max: usize,
}

/// The queues that have waiting or running jobs. A queue without jobs needs no memory.
pub(super) struct JobQueues {
    size: PoolSize,
    queues: HashMap<u64, Queue>,
    /// The queues whose next job could run, in round-robin order.
    ready: VecDeque<u64>,
    running: usize,
    last_job: u64,
}

#[derive(Default)]
struct Queue {
    /// The waiting jobs, by number, which is also the order of arrival.
    jobs: BTreeMap<u64, Job>,
    running: usize,
    running_max: usize,
    is_listed: bool,
}

impl JobQueues {
    pub(super) fn new(size: PoolSize) -> Self {
        let size = PoolSize { threads_max: size.threads_max.max(1), ..size };
        Self { size, queues: HashMap::new(), ready: VecDeque::new(), running: 0, last_job: 0 }
    }

    /// Returns the maximum number of threads that run jobs at the same time, including the extra ones.
    pub(super) fn threads_max(&self) -> usize {
        self.size.threads_max + self.size.reserve_max
    }

    /// Appends a job to the queue with this number. Returns the number of the job.
    ///
    /// # Errors
    /// Returns the job if the queue is full.
    pub(super) fn push(&mut self, number: u64, bounds: JobQueueBounds, job: Job) -> Result<u64, Job> {
        let queue = self.queues.entry(number).or_default();
        if queue.jobs.len() >= bounds.waiting_max {
            return Err(job);
        }
        queue.running_max = bounds.running_max.max(1);
        self.last_job += 1;
        queue.jobs.insert(self.last_job, job);
        self.list_if_ready(number);
        Ok(self.last_job)
    }

    /// Removes a waiting job; returns `None` if the job no longer waits.
    pub(super) fn remove(&mut self, number: u64, job: u64) -> Option<Job> {
        let queue = self.queues.get_mut(&number)?;
        let job = queue.jobs.remove(&job)?;
        if queue.jobs.is_empty() {
            if queue.is_listed {
                queue.is_listed = false;
                self.ready.retain(|waiting| *waiting != number);
            }
            if queue.running == 0 {
                self.queues.remove(&number);
            }
        }
        Some(job)
    }

    /// Removes and returns the next job, with the number of its queue. The caller must call [`JobQueues::finish`] when
    /// the job has ended.
    pub(super) fn take(&mut self) -> Option<(u64, Job)> {
        let number = self.ready.remove(self.next_ready()?)?;
        let queue = self.queues.get_mut(&number)?;
        queue.is_listed = false;
        let (_, job) = queue.jobs.pop_first()?;
        queue.running += 1;
        self.running += 1;
        self.list_if_ready(number);
        Some((number, job))
    }

    pub(super) fn finish(&mut self, number: u64) {
        self.running = self.running.saturating_sub(1);
        let Some(queue) = self.queues.get_mut(&number) else { return };
        queue.running = queue.running.saturating_sub(1);
        if queue.running == 0 && queue.jobs.is_empty() {
            self.queues.remove(&number);
        } else {
            self.list_if_ready(number);
        }
    }

    /// Removes and returns all waiting jobs.
    pub(super) fn abandon(&mut self) -> Vec<Job> {
        self.ready.clear();
        let mut abandoned = Vec::new();
        for queue in self.queues.values_mut() {
            queue.is_listed = false;
            abandoned.extend(std::mem::take(&mut queue.jobs).into_values());
        }
        self.queues.retain(|_, queue| queue.running > 0);
        abandoned
    }

    /// Returns whether a waiting job could run now.
    pub(super) fn is_ready(&self) -> bool {
        self.ready_more_than(0)
    }

    /// Returns whether more than `count` queues have a waiting job that could run now.
    pub(super) fn ready_more_than(&self, count: usize) -> bool {
        if self.running < self.size.threads_max {
            return self.ready.len() > count;
        }
        let can_have_reserve = |number: &&u64| self.queues.get(number).is_some_and(|queue| queue.running == 0);
        self.running < self.threads_max() && self.ready.iter().filter(can_have_reserve).nth(count).is_some()
    }

    /// Adds the queue to `ready` if it has a waiting job and may run one more, and if it is not in `ready` yet.
    fn list_if_ready(&mut self, number: u64) {
        if let Some(queue) = self.queues.get_mut(&number)
            && !queue.is_listed
            && !queue.jobs.is_empty()
            && queue.running < queue.running_max
        {
            queue.is_listed = true;
            self.ready.push_back(number);
        }
    }

    /// Returns the index in `ready` of the queue whose job runs next; `None` if no waiting job may run now.
    fn next_ready(&self) -> Option<usize> {
        let share = (self.size.threads_max / self.queues.len().max(1)).max(1);
        let shared_is_free = self.running < self.size.threads_max;
        let mut index_beyond_share = None;
        for (index, number) in self.ready.iter().enumerate() {
            let running = self.queues.get(number).map_or(0, |queue| queue.running);
            if (shared_is_free && running < share) || (running == 0 && self.running < self.threads_max()) {
                return Some(index);
            }
            if shared_is_free && index_beyond_share.is_none() {
                index_beyond_share = Some(index);
            }
        }
        index_beyond_share
    }
}

#[cfg(test)]
mod tests {
    use isomer_runtime::Account;

    use super::*;

    const BOUNDS: JobQueueBounds = JobQueueBounds { running_max: 4, waiting_max: 100 };

    fn queues(threads_max: usize, reserve_max: usize) -> JobQueues {
        JobQueues::new(PoolSize { threads_max, reserve_max })
    }

    fn push(queues: &mut JobQueues, number: u64, jobs: usize) -> Vec<u64> {
        let job = || Job::new(Box::new(|| ()), Account::unlimited(), None);
        (0..jobs).map(|_| queues.push(number, BOUNDS, job()).ok().unwrap()).collect()
    }

    fn take(queues: &mut JobQueues) -> Vec<u64> {
        std::iter::from_fn(|| queues.take().map(|(number, _)| number)).collect()
    }

    #[test]
    fn a_late_queue_gets_a_thread_immediately() {
        let mut queues = queues(8, 2);
        push(&mut queues, 1, 10);
        push(&mut queues, 2, 10);
        assert_eq!(
            take(&mut queues),
            [1, 2, 1, 2, 1, 2, 1, 2],
            "two queues share all threads, and no queue exceeds its maximum"
        );
        push(&mut queues, 3, 10);
        assert!(queues.is_ready() && !queues.ready_more_than(1));
        assert_eq!(take(&mut queues), [3]);
        push(&mut queues, 4, 1);
        push(&mut queues, 5, 1);
        assert_eq!(take(&mut queues), [4], "as many jobs as there are extra threads");
        assert!(!queues.is_ready());
        // A thread that becomes free runs a job of a queue that uses less than its share.
        queues.finish(1);
        assert_eq!(take(&mut queues), [5]);
        for _ in 0..3 {
            queues.finish(2);
        }
        assert_eq!(
            take(&mut queues),
            [3],
            "the extra threads become free first; queues get the shared threads round-robin"
        );
    }

    #[test]
    fn a_queue_has_more_than_its_share_only_while_no_other_waits() {
        let mut queues = queues(4, 4);
        push(&mut queues, 1, 1);
        push(&mut queues, 2, 10);
        assert_eq!(take(&mut queues), [1, 2, 2, 2]);
        push(&mut queues, 1, 3);
        queues.finish(2);
        assert_eq!(take(&mut queues), [1]);
        queues.finish(2);
        assert_eq!(take(&mut queues), [2]);
    }

    #[test]
    fn removed_jobs_leave_nothing_behind() {
        let mut queues = queues(1, 0);
        let jobs = push(&mut queues, 1, 3);
        assert!(queues.remove(1, jobs[1]).is_some() && queues.remove(1, jobs[1]).is_none());
        assert_eq!(take(&mut queues), [1]);
        assert!(queues.remove(1, jobs[0]).is_none(), "the job already runs");
        assert!(queues.remove(1, jobs[2]).is_some());
        push(&mut queues, 2, 5);
        assert_eq!(queues.abandon().len(), 5);
        assert_eq!((queues.queues.len(), queues.ready.len()), (1, 0));
        queues.finish(1);
        assert_eq!((queues.queues.len(), queues.running), (0, 0));
        let only = push(&mut queues, 3, 1);
        assert!(queues.remove(3, only[0]).is_some());
        assert!(queues.queues.is_empty() && queues.ready.is_empty() && queues.take().is_none());
    }
}
