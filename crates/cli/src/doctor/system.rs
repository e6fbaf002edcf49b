//! Limits of the system that many instances or connections run into.

use std::fs;

use super::Finding;

const MAPS: &str = "mappings";
const FILES: &str = "open files";

/// Linux' default. Every instance takes some mappings, so less than this is few instances.
const MAP_COUNT_MIN: u64 = 65_530;

/// A connection takes one; the front door accepts ten thousand.
const OPEN_FILES_MIN: u64 = 10_240;

/// `vm.max_map_count`.
pub(crate) fn map_count() -> Finding {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    judge_map_count(text.trim().parse().ok())
}

fn judge_map_count(count: Option<u64>) -> Finding {
    match count {
        Some(count) if count >= MAP_COUNT_MIN => Finding::ok(MAPS, format!("vm.max_map_count is {count}")),
        Some(count) => Finding::warn(
            MAPS,
            format!("vm.max_map_count is {count}: few instances can run at once"),
            format!("sudo sysctl vm.max_map_count={}", MAP_COUNT_MIN * 4),
        ),
        None => Finding::ok(MAPS, "this system has no limit that can be read"),
    }
}

/// The soft limit of open files.
pub(crate) fn open_files() -> Finding {
    judge_open_files(&fs::read_to_string("/proc/self/limits").unwrap_or_default())
}

fn judge_open_files(limits: &str) -> Finding {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    match soft.parse::<u64>() {
        Ok(soft) if soft < OPEN_FILES_MIN => Finding::warn(
            FILES,
            format!("{soft} at once: that many connections, files and stores"),
            "before `isomer run`: ulimit -n 65536",
        ),
        Ok(soft) => Finding::ok(FILES, format!("{soft} at once")),
        Err(_) => Finding::ok(FILES, "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn low_limits_are_told() {
        assert_eq!(judge_map_count(Some(65_530)).state, State::Ok);
        assert_eq!(judge_map_count(Some(1_000)).state, State::Warn);
        assert_eq!(judge_map_count(None).state, State::Ok);
        let limits = |soft: &str| {
            format!("Limit      Soft Limit  Hard Limit  Units\nMax open files   {soft}   1048576   files\n")
        };
        assert_eq!(judge_open_files(&limits("1024")).state, State::Warn);
        assert_eq!(judge_open_files(&limits("1048576")).state, State::Ok);
        assert_eq!(judge_open_files(&limits("unlimited")).state, State::Ok);
    }
}
