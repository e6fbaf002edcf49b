//! Tests that the next start finishes a recorded replacement of a store, wherever it was interrupted, on every file
//! system.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use isomer_capabilities::sql::{roll_forward, snapshot_name};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Makes hard links fail on this thread, as on a file system that does not support them.
fn without_links() {
    let calls = [
        Some(libc::SYS_linkat),
        #[cfg(target_arch = "x86_64")]
        Some(libc::SYS_link),
    ];
    let rules = calls.into_iter().flatten().map(|call| (call, Vec::new())).collect::<BTreeMap<_, _>>();
    let refuse = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into().unwrap());
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// A folder after an interrupted replacement. Contains the store's file, the new file and the snapshot, each of them
/// optional.
struct Broken {
    dir: tempfile::TempDir,
}

impl Broken {
    fn off(store: Option<&str>, next: Option<&str>, snapshot: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let broken = Self { dir };
        for folder in ["sql", "snapshots"] {
            fs::create_dir(broken.dir.path().join(folder)).unwrap();
        }
        for (file, content) in [("sql/s.sqlite", store), ("snapshots/s.next", next), ("snapshots/s.sqlite", snapshot)] {
            if let Some(content) = content {
                fs::write(broken.dir.path().join(file), content).unwrap();
            }
        }
        broken
    }

    fn roll_forward(&self) -> io::Result<()> {
        roll_forward(&self.dir.path().join("sql"), &self.dir.path().join("snapshots"))
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.dir.path().join(file)).ok()
    }

    fn found(&self) -> (Option<String>, Option<String>, Option<String>) {
        (self.read("sql/s.sqlite"), self.read("snapshots/s.next"), self.read("snapshots/s.sqlite"))
    }
}

#[test]
fn an_interrupted_replacement_is_finished_even_without_hard_links() {
    let work = || {
        without_links();
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(a.path().join("x"), "").unwrap();
        fs::hard_link(a.path().join("x"), b.path().join("x")).unwrap_err();
        let done = || (Some("new".to_owned()), None, Some("old".to_owned()));
        let broken = [
            Broken::off(Some("old"), Some("new"), None),
            Broken::off(None, Some("new"), Some("old")),
            Broken::off(Some("new"), None, Some("old")),
        ];
        for broken in broken {
            for _ in 0..2 {
                broken.roll_forward().unwrap();
                assert_eq!(broken.found(), done());
            }
        }
        // Before this replacement, the store did not exist.
        let made = Broken::off(None, Some("new"), None);
        made.roll_forward().unwrap();
        assert_eq!(made.found(), (Some("new".to_owned()), None, None));
    };
    std::thread::spawn(work).join().unwrap();
}

#[test]
fn a_replacement_that_an_earlier_version_interrupted_is_finished() {
    // An earlier Isomer version made a hard link for the snapshot before it replaced the store's file.
    let broken = Broken::off(Some("old"), Some("new"), None);
    let dir = broken.dir.path();
    fs::hard_link(dir.join("sql/s.sqlite"), dir.join("snapshots/s.sqlite")).unwrap();
    broken.roll_forward().unwrap();
    assert_eq!(broken.found(), (Some("new".to_owned()), None, Some("old".to_owned())));
}

#[test]
fn a_left_over_log_stays_with_its_file() {
    let broken = Broken::off(Some("old"), Some("new"), None);
    for suffix in ["-wal", "-shm"] {
        fs::write(broken.dir.path().join(format!("sql/s.sqlite{suffix}")), "of old").unwrap();
    }
    broken.roll_forward().unwrap();
    let name = snapshot_name("s");
    assert_eq!(broken.read(&format!("snapshots/{name}-wal")).as_deref(), Some("of old"));
    assert!(
        ["-wal", "-shm"]
            .iter()
            .all(|suffix| !Path::new(broken.dir.path()).join(format!("sql/{name}{suffix}")).exists())
    );
}
