//! The scheduling parameters of the threads of both lanes.
//!
//! The nice value determines how large a share of a busy processor a thread gets, but not how soon. A thread that wakes
//! up cannot preempt a running thread until the running thread's slice (a few milliseconds) is over. Linux 6.12 and
//! later accept a slice for each thread (`sched_runtime` of an ordinary thread, sched_setattr(2)) and let a thread with
//! a shorter slice preempt a thread with a longer slice. Older kernels ignore the slice of a thread.

use std::io;
use std::time::Duration;

/// The maximum nice value, which is the lowest priority.
const NICE_MAX: i32 = 19;

/// The amount by which the nice value of the slow lane's threads exceeds the nice value of the process. With this
/// amount, a thread of the fast lane that wakes up runs first. A much lower priority (such as `SCHED_IDLE`) would let
/// other programs stop a slow thread for seconds, even if the thread holds a lock that the fast lane needs.
const SLOW_NICE: i32 = 10;

/// The kernel's time slice for threads of the slow lane: longer than the slice of ordinary threads (a few
/// milliseconds).
const KERNEL_SLICE_SLOW: Duration = Duration::from_millis(20);

/// The kernel's time slice for threads of the fast lane: shorter than the slice of ordinary threads.
const KERNEL_SLICE_FAST: Duration = Duration::from_micros(300);

/// Gives the calling thread the priority of the slow lane. Other threads that wake up run first, and when this thread
/// wakes up, it does not preempt them (`SCHED_BATCH`). The result does not depend on the priority of the thread that
/// started the calling thread.
///
/// # Errors
/// If the system refuses the change, as a sandbox may. The only consequence is that the thread delays other threads for
/// longer.
pub fn lower_priority() -> io::Result<()> {
    set(libc::SCHED_BATCH, (nice_of_process()? + SLOW_NICE).min(NICE_MAX), KERNEL_SLICE_SLOW)
}

/// Gives the calling thread the scheduling parameters of a thread of the tokio runtime, which runs for a short time
/// whenever it wakes up and should not have to wait.
///
/// # Errors
/// If the system refuses the change, as a sandbox may. The only consequence is that the thread may wait for longer.
pub fn prefer_latency() -> io::Result<()> {
    set(libc::SCHED_OTHER, nice()?, KERNEL_SLICE_FAST)
}

/// Returns the nice value of the process's first thread, which belongs to neither lane. The calling thread's own nice
/// value cannot be used: it was inherited from the thread that started the calling thread, which may belong to the slow
/// lane.
fn nice_of_process() -> io::Result<i32> {
    Ok(rustix::process::getpriority_process(Some(rustix::process::getpid()))?)
}

/// Returns the calling thread's own nice value. On Linux, each thread has one (setpriority(2), "C library/kernel
/// differences"), which is inherited unless it is changed.
fn nice() -> io::Result<i32> {
    Ok(rustix::process::getpriority_process(None)?)
}

#[expect(unsafe_code, reason = "a system call without a wrapper")]
fn set(policy: libc::c_int, nice: i32, slice: Duration) -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or_default(),
        sched_policy: policy.unsigned_abs(),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: u64::try_from(slice.as_nanos()).unwrap_or_default(),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes from `attributes`, which is a structure of that size and outlives the call.
    // The kernel writes no memory of this process. 0 is the calling thread, and there are no flags.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics() -> Vec<String> {
        let text = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux has this file");
        text.rsplit_once(") ")
            .expect("the thread's name ends with a parenthesis")
            .1
            .split(' ')
            .map(str::to_owned)
            .collect()
    }

    /// Returns the nice value and the policy of the calling thread: fields 19 and 41 of proc_pid_stat(5). `statistics`
    /// leaves out the first two fields, so the index of a field is its number minus 3.
    fn scheduled() -> (i32, i32) {
        let fields = statistics();
        let number = |field: usize| fields[field - 3].parse().expect("the field is a number");
        (number(19), number(41))
    }

    #[test]
    fn the_scheduling_parameters_of_a_thread_are_set() {
        std::thread::spawn(|| {
            let (before, _) = scheduled();
            prefer_latency().expect("the system accepts a shorter slice");
            assert_eq!(scheduled(), (before, libc::SCHED_OTHER));
            lower_priority().expect("the system accepts a lower priority");
            assert_eq!(scheduled(), ((before + SLOW_NICE).min(NICE_MAX), libc::SCHED_BATCH));
        })
        .join()
        .expect("the thread does not panic");
    }

    #[test]
    fn a_thread_started_by_the_slow_lane_has_the_same_priority_in_it() {
        let lowered = || {
            lower_priority().expect("the system accepts a lower priority");
            scheduled()
        };
        let (first, second) = std::thread::spawn(move || {
            (lowered(), std::thread::spawn(lowered).join().expect("the thread does not panic"))
        })
        .join()
        .expect("the thread does not panic");
        assert_eq!(first, second);
    }
}
