//! Tests that only the announced bytes are stored, and that no blob in use is removed.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, SystemTime};

use isomer_ids::Digest;
use isomer_state::{BlobError, Blobs};
use sha2::{Digest as _, Sha256};

const HOUR: Duration = Duration::from_secs(3600);

fn digest(bytes: &[u8]) -> Digest {
    Digest::from(<[u8; 32]>::from(Sha256::digest(bytes)))
}

fn put(blobs: &Blobs, bytes: &[u8]) -> Digest {
    let digest = digest(bytes);
    let mut upload = blobs.upload(&digest).unwrap();
    for piece in bytes.chunks(3) {
        upload.write(piece).unwrap();
    }
    upload.finish().unwrap();
    digest
}

#[test]
fn a_blob_is_stored_under_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
    let digest = put(&blobs, b"hello");
    assert!(blobs.has(&digest, 5).unwrap() && !blobs.has(&digest, 6).unwrap());
    assert_eq!(fs::read(blobs.path(&digest)).unwrap(), b"hello");
    assert_eq!(put(&blobs, b"hello"), digest, "a second time");
    assert!(!blobs.has(&self::digest(b"other"), 5).unwrap());
}

#[test]
fn wrong_or_unfinished_uploads_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("blobs");
    let blobs = Blobs::open(&root).unwrap();
    let said = digest(b"hello");
    let mut upload = blobs.upload(&said).unwrap();
    upload.write(b"help!").unwrap();
    assert!(matches!(upload.finish(), Err(BlobError::Digest { .. })));
    let mut upload = blobs.upload(&said).unwrap();
    upload.write(b"hel").unwrap();
    drop(upload);
    assert!(!blobs.has(&said, 5).unwrap());
    let unfinished = root.join("unfinished");
    assert_eq!(fs::read_dir(&unfinished).unwrap().count(), 0);
    // Leaves files as a killed process would.
    fs::write(unfinished.join("left"), "half").unwrap();
    Blobs::open(&root).unwrap();
    assert_eq!(fs::read_dir(&unfinished).unwrap().count(), 0);
}

#[test]
fn only_unused_blobs_without_references_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
    let all = [&b"referred"[..], b"old", b"asked for", b"new"].map(|bytes| (put(&blobs, bytes), bytes.len() as u64));
    let now = SystemTime::now();
    for (digest, _) in &all[..3] {
        let file = fs::File::open(blobs.path(digest)).unwrap();
        file.set_modified(now - 2 * HOUR).unwrap();
    }
    // `has` marks the blob as used.
    assert!(blobs.has(&all[2].0, all[2].1).unwrap());
    let referenced = HashSet::from([all[0].0.clone()]);
    assert_eq!(blobs.sweep(&referenced, now, HOUR).unwrap(), 1);
    let left = all.map(|(digest, _)| blobs.path(&digest).exists());
    assert_eq!(left, [true, false, true, true]);
}

#[test]
fn a_blob_with_other_names_is_not_replaced_by_the_same_bytes() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
    let put_again = || {
        let digest = put(&blobs, b"text");
        (blobs.path(&digest), fs::metadata(blobs.path(&digest)).unwrap().ino(), digest)
    };
    let (path, first, digest) = put_again();
    let name = folder.path().join("name");
    fs::hard_link(&path, &name).unwrap();
    assert_eq!(put_again().1, first, "a repeated upload keeps the file that releases link to");
    assert!(blobs.has(&digest, 4).unwrap());
    // An upload replaces a damaged blob.
    fs::write(&name, "tex?").unwrap();
    assert_ne!(put_again().1, first);
    assert_eq!((fs::read(&path).unwrap(), fs::read(&name).unwrap()), (b"text".to_vec(), b"tex?".to_vec()));
    // `renew` replaces a blob's file with a copy without other hard links.
    fs::remove_file(&name).unwrap();
    fs::hard_link(&path, &name).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    blobs.renew(&digest).unwrap();
    assert_ne!(fs::metadata(&path).unwrap().ino(), before);
    assert_eq!((fs::read(&path).unwrap(), fs::metadata(&path).unwrap().nlink()), (b"text".to_vec(), 1));
    assert_eq!(fs::read_dir(folder.path().join("blobs/unfinished")).unwrap().count(), 0);
}
