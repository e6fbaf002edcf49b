//! The resource usage of a process, as Linux shows it in `/proc`.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks per second in `/proc/PID/stat`. This constant of Linux's interface to programs does not depend on the
/// kernel's own tick rate.
const TICKS_PER_S: f64 = 100.0;

/// The resource usage of a process at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Resident memory in bytes; shared pages are counted completely.
    pub resident_bytes: u64,
    /// Resident memory in bytes; the size of a shared page is divided by the number of processes that share it.
    pub proportional_bytes: u64,
    /// Anonymous memory in bytes: pages without a file. They are not shared, and only the process can release them.
    pub anonymous_bytes: u64,
    /// The number of memory mappings.
    pub mappings: u64,
    /// The number of open file descriptors.
    pub descriptors: u64,
    /// The number of threads.
    pub threads: u64,
    /// Processor time since the start of the process, in user and kernel mode.
    pub cpu: Duration,
}

impl Usage {
    /// Returns the resource usage of the process `pid`.
    ///
    /// # Errors
    /// If the process has exited, or belongs to another user.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))
        };
        let count = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            Ok::<_, anyhow::Error>(
                std::fs::read_dir(&path).with_context(|| format!("cannot read `{path}`"))?.count() as u64
            )
        };
        let memory = read("smaps_rollup")?;
        let bytes = |key: &str| {
            let kib = number_after(&memory, key).with_context(|| format!("`smaps_rollup` lacks `{key}`"))?;
            Ok::<_, anyhow::Error>(kib * 1024)
        };
        Ok(Self {
            resident_bytes: bytes("Rss:")?,
            proportional_bytes: bytes("Pss:")?,
            anonymous_bytes: bytes("Anonymous:")?,
            mappings: read("maps")?.lines().count() as u64,
            descriptors: count("fd")?,
            threads: count("task")?,
            cpu: cpu(&read("stat")?).context("`/proc/PID/stat` has an unknown format")?,
        })
    }
}

/// Returns the number after `key` in the first line of `text` that begins with `key`.
fn number_after(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Returns `utime + stime` (fields 14 and 15 of `/proc/PID/stat`). Fields are counted from the end of the program's
/// name, because the name may contain spaces and brackets.
fn cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / TICKS_PER_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_of_a_process_is_observed() {
        let before = Usage::of(std::process::id()).unwrap();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let block = vec![1_u8; 64 << 20];
        let after = Usage::of(std::process::id()).unwrap();
        assert!(after.anonymous_bytes >= before.anonymous_bytes + (32 << 20), "{before:?} {after:?}");
        assert!(after.resident_bytes >= after.anonymous_bytes && after.threads >= 1 && after.mappings > 1);
        drop((file, block));
        assert!(Usage::of(u32::MAX).is_err());
    }

    #[test]
    fn files_of_proc_are_parsed() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 40 2 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu(stat), Some(Duration::from_millis(420)));
        assert_eq!(number_after("Pss_Anon:  1 kB\nPss:     2048 kB\n", "Pss:"), Some(2048));
    }
}
