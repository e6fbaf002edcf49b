//! Checks that the guests build, that each is a component, and that a test on the host uses each.

use std::fs;
use std::path::{Path, PathBuf};

/// The first bytes of a component: the magic number, version 13, layer 1.
const COMPONENT: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

#[test]
fn every_guest_is_a_component() {
    for name in guests() {
        assert_eq!(isomer_test_guests::bytes(&name)[..8], COMPONENT, "{name}");
    }
}

/// Checks that a test uses each guest. A test names the guests that it uses, so the sources of the tests must contain
/// the names of all guests.
#[test]
fn every_guest_has_a_host_test() {
    let sources: String = host_tests().iter().map(|file| fs::read_to_string(file).expect("a text file")).collect();
    let unused: Vec<String> = guests().into_iter().filter(|name| !sources.contains(&format!("\"{name}\""))).collect();
    assert!(unused.is_empty(), "no host test uses the guests {unused:?}");
}

/// Returns the names of the guests: the folders in the guests' workspace, except the library that guests share.
fn guests() -> Vec<String> {
    let dir = isomer_test_guests::guests_dir();
    let entries = fs::read_dir(&dir).expect("the folder can be read").flatten();
    let guests = entries.filter(|entry| entry.path().join("Cargo.toml").is_file());
    let mut names: Vec<String> = guests
        .map(|entry| entry.file_name().into_string().expect("names are UTF-8"))
        .filter(|name| name != "support")
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no guests at all");
    names
}

/// Returns the sources of the crates whose tests use guests.
fn host_tests() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let crates = ["crates", "bench"].map(|folder| fs::read_dir(root.join(folder)).expect("the folder can be read"));
    let mut files = Vec::new();
    for krate in crates.into_iter().flatten().flatten().map(|entry| entry.path()) {
        let manifest = fs::read_to_string(krate.join("Cargo.toml")).unwrap_or_default();
        let (_, dependencies) = manifest.split_once("dependencies]").unwrap_or_default();
        if dependencies.contains("isomer-test-guests") {
            rust_files(&krate.join("tests"), &mut files);
            rust_files(&krate.join("src"), &mut files);
        }
    }
    files
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
