//! Checks the data directory, and the free space on its disk.

use std::path::Path;

use isomer_capabilities::DataDir;
use isomer_display::size;

use super::Finding;

const DATA: &str = "data";
const SPACE: &str = "disk";

/// The free space in bytes below which a warning is shown, because stores will soon be unable to write.
const SPACE_BYTES_WARN: u64 = 1 << 30;

/// The free space in bytes below which the check fails, because a build or the first write would fail.
const SPACE_BYTES_FAIL: u64 = 64 << 20;

/// Checks that files can be created in the data directory, and that no other process uses it.
pub(crate) fn data_directory(dir: &Path) -> Vec<Finding> {
    let shown = dir.display();
    let elsewhere = "name another folder: --data DIR";
    let mut findings = Vec::new();
    if !dir.exists() {
        let above = existing(dir);
        findings.push(match writable(&above) {
            Ok(()) => Finding::ok(DATA, format!("`{shown}` will be created by the first run")),
            Err(error) => Finding::fail(DATA, format!("`{shown}` cannot be created: {error}"), elsewhere),
        });
        return findings;
    }
    findings.push(match writable(dir) {
        Ok(()) => Finding::ok(DATA, format!("`{shown}` can be written")),
        Err(error) => Finding::fail(DATA, format!("`{shown}` cannot be written: {error}"), elsewhere),
    });
    if let Some(process) = DataDir::holder(dir) {
        findings.push(Finding::warn(
            DATA,
            format!("`{shown}` is in use by process {process}"),
            format!("stop that process, or {elsewhere}"),
        ));
    }
    findings
}

/// Checks the free space on the data directory's disk.
pub(crate) fn space(dir: &Path) -> Finding {
    let hint = "free some space, or name a folder on another disk: --data DIR";
    match fs4::available_space(existing(dir)) {
        Err(error) => Finding::warn(SPACE, format!("the free space cannot be determined: {error}"), hint),
        Ok(free) => {
            let found = format!("{} free", size(free));
            match free {
                ..SPACE_BYTES_FAIL => Finding::fail(SPACE, found, hint),
                SPACE_BYTES_FAIL..SPACE_BYTES_WARN => Finding::warn(SPACE, found, hint),
                _ => Finding::ok(SPACE, found),
            }
        }
    }
}

/// Returns `dir`, or the nearest folder above it that exists.
fn existing(dir: &Path) -> std::path::PathBuf {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    absolute.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Checks that a file can be created in `dir`. The file is anonymous, so the operating system removes it when it is
/// closed.
fn writable(dir: &Path) -> std::io::Result<()> {
    tempfile::tempfile_in(dir).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::CheckState;
    use super::*;

    fn states(dir: &Path) -> Vec<(CheckState, String)> {
        data_directory(dir).into_iter().map(|finding| (finding.state, finding.found)).collect()
    }

    #[test]
    fn a_data_directory_is_missing_free_or_in_use() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b");
        let missing = states(&dir);
        assert!(
            missing.len() == 1 && missing[0].0 == CheckState::Ok && missing[0].1.contains("first run"),
            "{missing:?}"
        );
        assert!(!home.path().join("a").exists(), "a check changes nothing");
        let open = DataDir::open(&dir).unwrap();
        let used = states(&dir);
        let process = format!("process {}", std::process::id());
        assert!(used.len() == 2 && used[1].0 == CheckState::Warn && used[1].1.ends_with(&process), "{used:?}");
        drop(open);
        assert_eq!(states(&dir).len(), 1);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 5, "LOCK, MEMBERS, kv, sql, cache");
    }

    #[test]
    fn an_unwritable_data_directory_fails() {
        let found = states(Path::new("/proc/isomer-data"));
        assert_eq!(found[0].0, CheckState::Fail, "{found:?}");
    }
}
