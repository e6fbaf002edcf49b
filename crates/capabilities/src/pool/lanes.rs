//! The scheduling of jobs: the state of a pool without its threads. A *lane* is the queue of one tenant's jobs.
//!
//! A lane may run [`LaneBounds::running_max`] jobs at the same time. Running jobs cannot be preempted. Two rules ensure
//! that a tenant does not have to wait for jobs of other tenants:
//!
//! - All lanes that have jobs share [`PoolSize::threads_max`] threads equally. A lane may use more than its share only
//!   while no lane that uses less than its share is waiting.
//! - A lane with no running job gets a thread even if all these threads are in use: one of [`PoolSize::reserve_max`]
//!   extra threads.
//!
//! Invariant: `ready` contains each lane that has waiting jobs and fewer running jobs than its maximum, exactly once,
//! and no other lane.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::job::Job;

/// The maximum number of threads of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSize {
    /// The number of threads that all lanes share.
    pub(crate) threads_max: usize,
    /// The number of extra threads for lanes with no running job. Each such lane may use one of them.
    pub(crate) reserve_max: usize,
}

/// The limits of one lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneBounds {
    /// The maximum number of jobs that run at the same time.
    pub(crate) running_max: usize,
    /// The maximum number of jobs that wait.
    pub(crate) waiting_max: usize,
}

/// The lanes that have waiting or running jobs. Other lanes need no memory.
pub(super) struct Lanes {
    size: PoolSize,
    lanes: HashMap<u64, Queue>,
    /// The lanes whose next job could run, in round-robin order.
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

impl Lanes {
    pub(super) fn new(size: PoolSize) -> Self {
        let size = PoolSize { threads_max: size.threads_max.max(1), ..size };
        Self { size, lanes: HashMap::new(), ready: VecDeque::new(), running: 0, last_job: 0 }
    }

    /// Returns the maximum number of threads that run jobs at the same time, including the extra ones.
    pub(super) fn threads_max(&self) -> usize {
        self.size.threads_max + self.size.reserve_max
    }

    /// Appends a job to the queue of a lane. Returns the number of the job.
    ///
    /// # Errors
    /// Returns the job if the queue of the lane is full.
    pub(super) fn push(&mut self, lane: u64, bounds: LaneBounds, job: Job) -> Result<u64, Job> {
        let queue = self.lanes.entry(lane).or_default();
        if queue.jobs.len() >= bounds.waiting_max {
            return Err(job);
        }
        queue.running_max = bounds.running_max.max(1);
        self.last_job += 1;
        queue.jobs.insert(self.last_job, job);
        self.list_if_ready(lane);
        Ok(self.last_job)
    }

    /// Removes a waiting job; returns `None` if the job no longer waits.
    pub(super) fn remove(&mut self, lane: u64, job: u64) -> Option<Job> {
        let queue = self.lanes.get_mut(&lane)?;
        let job = queue.jobs.remove(&job)?;
        if queue.jobs.is_empty() {
            if queue.is_listed {
                queue.is_listed = false;
                self.ready.retain(|waiting| *waiting != lane);
            }
            if queue.running == 0 {
                self.lanes.remove(&lane);
            }
        }
        Some(job)
    }

    /// Removes and returns the next job, with its lane. The caller must call [`Lanes::finish`] when the job has ended.
    pub(super) fn take(&mut self) -> Option<(u64, Job)> {
        let lane = self.ready.remove(self.next_ready()?)?;
        let queue = self.lanes.get_mut(&lane)?;
        queue.is_listed = false;
        let (_, job) = queue.jobs.pop_first()?;
        queue.running += 1;
        self.running += 1;
        self.list_if_ready(lane);
        Some((lane, job))
    }

    pub(super) fn finish(&mut self, lane: u64) {
        self.running = self.running.saturating_sub(1);
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        queue.running = queue.running.saturating_sub(1);
        if queue.running == 0 && queue.jobs.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.list_if_ready(lane);
        }
    }

    /// Removes and returns all waiting jobs.
    pub(super) fn abandon(&mut self) -> Vec<Job> {
        self.ready.clear();
        let mut abandoned = Vec::new();
        for queue in self.lanes.values_mut() {
            queue.is_listed = false;
            abandoned.extend(std::mem::take(&mut queue.jobs).into_values());
        }
        self.lanes.retain(|_, queue| queue.running > 0);
        abandoned
    }

    /// Returns whether a waiting job could run now.
    pub(super) fn is_ready(&self) -> bool {
        self.ready_more_than(0)
    }

    /// Returns whether more than `count` lanes have a waiting job that could run now.
    pub(super) fn ready_more_than(&self, count: usize) -> bool {
        if self.running < self.size.threads_max {
            return self.ready.len() > count;
        }
        let can_have_reserve = |lane: &&u64| self.lanes.get(lane).is_some_and(|queue| queue.running == 0);
        self.running < self.threads_max() && self.ready.iter().filter(can_have_reserve).nth(count).is_some()
    }

    /// Adds the lane to `ready` if it has a waiting job and may run one more, and if it is not in `ready` yet.
    fn list_if_ready(&mut self, lane: u64) {
        if let Some(queue) = self.lanes.get_mut(&lane)
            && !queue.is_listed
            && !queue.jobs.is_empty()
            && queue.running < queue.running_max
        {
            queue.is_listed = true;
            self.ready.push_back(lane);
        }
    }

    /// Returns the index in `ready` of the lane whose job runs next; `None` if no thread may run a job.
    fn next_ready(&self) -> Option<usize> {
        let share = (self.size.threads_max / self.lanes.len().max(1)).max(1);
        let shared_is_free = self.running < self.size.threads_max;
        let mut index_beyond_share = None;
        for (index, lane) in self.ready.iter().enumerate() {
            let running = self.lanes.get(lane).map_or(0, |queue| queue.running);
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

    const BOUNDS: LaneBounds = LaneBounds { running_max: 4, waiting_max: 100 };

    fn lanes(threads_max: usize, reserve_max: usize) -> Lanes {
        Lanes::new(PoolSize { threads_max, reserve_max })
    }

    fn push(lanes: &mut Lanes, lane: u64, jobs: usize) -> Vec<u64> {
        let job = || Job::new(Box::new(|| ()), Account::unlimited(), None);
        (0..jobs).map(|_| lanes.push(lane, BOUNDS, job()).ok().unwrap()).collect()
    }

    fn take(lanes: &mut Lanes) -> Vec<u64> {
        std::iter::from_fn(|| lanes.take().map(|(lane, _)| lane)).collect()
    }

    #[test]
    fn a_late_lane_gets_a_thread_immediately() {
        let mut lanes = lanes(8, 2);
        push(&mut lanes, 1, 10);
        push(&mut lanes, 2, 10);
        assert_eq!(
            take(&mut lanes),
            [1, 2, 1, 2, 1, 2, 1, 2],
            "two lanes share all threads, and no lane exceeds its maximum"
        );
        push(&mut lanes, 3, 10);
        assert!(lanes.is_ready() && !lanes.ready_more_than(1));
        assert_eq!(take(&mut lanes), [3]);
        push(&mut lanes, 4, 1);
        push(&mut lanes, 5, 1);
        assert_eq!(take(&mut lanes), [4], "as many jobs as there are extra threads");
        assert!(!lanes.is_ready());
        // A thread that becomes free runs a job of a lane that uses less than its share.
        lanes.finish(1);
        assert_eq!(take(&mut lanes), [5]);
        for _ in 0..3 {
            lanes.finish(2);
        }
        assert_eq!(
            take(&mut lanes),
            [3],
            "the extra threads become free first; lanes get the shared threads round-robin"
        );
    }

    #[test]
    fn a_lane_has_more_than_its_share_only_while_no_other_waits() {
        let mut lanes = lanes(4, 4);
        push(&mut lanes, 1, 1);
        push(&mut lanes, 2, 10);
        assert_eq!(take(&mut lanes), [1, 2, 2, 2]);
        push(&mut lanes, 1, 3);
        lanes.finish(2);
        assert_eq!(take(&mut lanes), [1]);
        lanes.finish(2);
        assert_eq!(take(&mut lanes), [2]);
    }

    #[test]
    fn removed_jobs_leave_nothing_behind() {
        let mut lanes = lanes(1, 0);
        let jobs = push(&mut lanes, 1, 3);
        assert!(lanes.remove(1, jobs[1]).is_some() && lanes.remove(1, jobs[1]).is_none());
        assert_eq!(take(&mut lanes), [1]);
        assert!(lanes.remove(1, jobs[0]).is_none(), "the job already runs");
        assert!(lanes.remove(1, jobs[2]).is_some());
        push(&mut lanes, 2, 5);
        assert_eq!(lanes.abandon().len(), 5);
        assert_eq!((lanes.lanes.len(), lanes.ready.len()), (1, 0));
        lanes.finish(1);
        assert_eq!((lanes.lanes.len(), lanes.running), (0, 0));
        let only = push(&mut lanes, 3, 1);
        assert!(lanes.remove(3, only[0]).is_some());
        assert!(lanes.lanes.is_empty() && lanes.ready.is_empty() && lanes.take().is_none());
    }
}
