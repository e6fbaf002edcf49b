//! The resources of this process, as the operating system counts them.

use std::fs;

use crate::harness::until;

/// The number of additional open descriptors that are tolerated, for connections that the peer has closed and the node
/// is about to close.
const DESCRIPTORS_SLACK: usize = 4;

/// The number of additional threads that are tolerated: tokio starts threads for blocking work, and keeps them for a
/// while.
const THREADS_SLACK: usize = 8;

/// The maximum number of bytes that the process may grow by during an attack. It covers an instance's memory at its
/// limit, the platform's copies of data from that memory, and data in transmission.
const GROWTH_MAX_BYTES: u64 = 320 << 20;

/// The resources of this process at one point in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessResources {
    descriptors: usize,
    threads: usize,
    resident_bytes: u64,
}

impl ProcessResources {
    /// Counts the resources, and resets the kernel's peak of resident memory.
    pub(crate) fn take() -> Self {
        // Writing 5 resets the peak of resident memory (proc(5)).
        fs::write("/proc/self/clear_refs", "5").expect("this process's own file");
        Self::count()
    }

    fn count() -> Self {
        let entries = |path| fs::read_dir(path).expect("this process's own folder").count();
        let (descriptors, threads) = (entries("/proc/self/fd"), entries("/proc/self/task"));
        Self { descriptors, threads, resident_bytes: status_bytes("VmRSS:") }
    }

    /// Checks that memory has stayed within its limit since `self` was taken, and waits until the descriptors and
    /// threads that were opened since then are closed again. Only the kernel knows these numbers, and it announces no
    /// change, so they are read repeatedly.
    pub(crate) async fn come_back(self, after: &str) {
        let growth = status_bytes("VmHWM:").saturating_sub(self.resident_bytes);
        assert!(growth < GROWTH_MAX_BYTES, "{after}: the process grew by {} MiB", growth >> 20);
        let what = format!("{after}: as few descriptors and threads as before ({self:?})");
        until(&what, async || {
            let now = Self::count();
            let well =
                now.descriptors <= self.descriptors + DESCRIPTORS_SLACK && now.threads <= self.threads + THREADS_SLACK;
            well.then_some(())
        })
        .await;
    }
}

/// Returns the number of this process's descriptors for files whose path ends with `suffix`.
pub(crate) fn open_files(suffix: &str) -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").expect("this process's own folder");
    let paths = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
    paths.filter(|path| path.to_string_lossy().ends_with(suffix)).count()
}

/// Returns the resident memory of this process, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// Returns in bytes a value that `/proc/self/status` states in kB.
fn status_bytes(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this process's own file");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel lists it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
