//! `write_deps` on a real folder.

use std::fs;

use isomer_wit::{packages, write_deps};

#[test]
fn writes_only_what_has_changed_and_leaves_the_rest_alone() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let deps = dir.path().join("wit/deps");
    let files: usize = packages().iter().map(|package| package.files.len()).sum();
    assert_eq!(write_deps(&deps).expect("written").len(), files);
    assert_eq!(write_deps(&deps).expect("written"), Vec::<std::path::PathBuf>::new());

    let own = deps.join("mine/mine.wit");
    fs::create_dir_all(deps.join("mine")).expect("made");
    fs::write(&own, "package my:own;\n").expect("written");
    let spoiled = deps.join("isomer-sql-0.1.0/sql.wit");
    fs::write(&spoiled, "package isomer:sql@0.0.9;\n").expect("written");
    assert_eq!(write_deps(&deps).expect("written"), std::slice::from_ref(&spoiled));
    assert!(fs::read_to_string(&spoiled).expect("read").contains("isomer:sql@0.1.0"));
    assert_eq!(fs::read_to_string(&own).expect("read"), "package my:own;\n");
    let left_over = fs::read_dir(deps.join("isomer-sql-0.1.0")).expect("read").count();
    assert_eq!(left_over, 1, "no temporary files stay");
}

#[test]
fn the_error_names_the_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let deps = dir.path().join("deps");
    fs::write(&deps, "a file where the folder should be").expect("written");
    let error = write_deps(&deps).expect_err("a file is no folder");
    assert!(error.to_string().contains("isomer-link-0.1.0"), "{error}");
}
