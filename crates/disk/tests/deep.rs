//! Trees of a hostile tenant, in a process with few descriptors and on a thread with a small stack. These tests run in
//! a separate process, because the limit on descriptors applies to the whole process.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use isomer_disk::tree::{DEPTH_MAX, depth_below, identity_of, remove, walk};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Resource, getrlimit, setrlimit};

/// The depth of the tree. It exceeds the number of descriptors that the process may open, the number of frames that fit
/// on the thread's stack, and the number of levels that a path can have.
const DEEP: usize = 5_000;
const STACK_BYTES: usize = 128 << 10;
const DESCRIPTORS: u64 = DEPTH_MAX as u64 + 32;

/// Creates `levels` nested folders below `root`, with a file in every hundredth folder.
fn make_deep(root: &Path, levels: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    for level in 0..levels {
        rustix::fs::mkdirat(&folder, "d", Mode::RWXU).unwrap();
        if level % 100 == 0 {
            rustix::fs::openat(&folder, "f", OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR).unwrap();
        }
        folder = rustix::fs::openat(&folder, "d", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn hostile_trees_are_removed_and_counted_with_few_descriptors_and_a_small_stack() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(DESCRIPTORS), ..limit }).unwrap();
    let work = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
        deep();
        wide();
        links();
    });
    work.unwrap().join().unwrap();
}

fn deep() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("deep");
    std::fs::create_dir(&root).unwrap();
    make_deep(&root, DEEP);
    let error = walk(&root, |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "{error}");
    remove(&root).unwrap();
    assert!(!root.exists());
    assert_eq!(remove(&root).unwrap_err().kind(), io::ErrorKind::NotFound);
    // A tree of the maximum depth can be measured.
    std::fs::create_dir(&root).unwrap();
    make_deep(&root, DEPTH_MAX);
    let (mut folders, mut files) = (0, 0);
    walk(&root, |_, found| *if found.is_folder { &mut folders } else { &mut files } += 1).unwrap();
    assert_eq!((folders, files), (DEPTH_MAX, 1));
    let roots = [identity_of(&root).unwrap()];
    let mut deepest = root.clone();
    deepest.extend(vec!["d"; DEPTH_MAX]);
    let depth = |path: &Path| depth_below(std::fs::File::open(path).unwrap(), &roots).unwrap();
    assert_eq!((depth(&root), depth(&deepest)), (Some(0), Some(DEPTH_MAX)));
    std::fs::create_dir(deepest.join("d")).unwrap();
    assert_eq!((depth(&deepest.join("d")), depth(dir.path())), (None, None));
    assert!(walk(&root, |_, _| {}).is_err());
}

fn wide() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wide");
    for folder in 0..300 {
        let inner = root.join(format!("{folder}/inner/more"));
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("file"), vec![1; 5000]).unwrap();
    }
    // A removal moves nested folders to the root, under names of this form. This name exists already.
    std::fs::create_dir_all(root.join(".removed-0000000000000000/a/b")).unwrap();
    let mut bytes = 0;
    walk(&root, |_, found| bytes += found.bytes).unwrap();
    assert!(bytes >= 300 * 5000, "{bytes}");
    remove(&root).unwrap();
    assert!(!root.exists());
}

fn links() {
    let dir = tempfile::tempdir().unwrap();
    let (root, other) = (dir.path().join("root"), dir.path().join("other"));
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("kept"), "kept").unwrap();
    symlink(&other, root.join("link")).unwrap();
    symlink(&other, root.join("a/b/link")).unwrap();
    symlink("..", root.join("a/b/up")).unwrap();
    symlink(other.join("kept"), root.join("a/file")).unwrap();
    let mut found = Vec::new();
    walk(&root, |path, _| found.push(path.strip_prefix(&root).unwrap().to_owned())).unwrap();
    found.sort();
    assert_eq!(found, ["a", "a/b", "a/b/link", "a/b/up", "a/file", "link"].map(Path::new));
    remove(&root).unwrap();
    // The root is a symbolic link instead of a folder.
    symlink(&other, &root).unwrap();
    assert!(walk(&root, |_, _| {}).is_err());
    remove(&root).unwrap();
    assert!(std::fs::symlink_metadata(&root).is_err());
    assert_eq!(std::fs::read(other.join("kept")).unwrap(), b"kept");
}
