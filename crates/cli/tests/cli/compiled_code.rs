//! Compiled code that the tests share. Each test has its own folder for data and caches, and would otherwise compile the
//! same few components again.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Returns the folder in which compiled code is stored between tests, and between runs of the tests.
fn kept_code() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-code")
}

/// Fills the folder of compiled code of a program that is about to start. Next to this folder, stores the key with
/// which the code is sealed. Does nothing if the folder exists, or if no key is stored yet.
pub(crate) fn warm(cache: &Path) {
    let key = kept_code().with_extension("key");
    if cache.exists() || !key.exists() {
        return;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(cache).unwrap();
    fs::copy(key, cache.with_extension("key")).unwrap();
    link_code(&kept_code(), cache);
}

/// Stores the code that a program has compiled, for later tests. Code that is sealed with a key other than the stored
/// one is not stored. Only a program that started before a key was stored has compiled such code.
pub(crate) fn keep(cache: &Path) {
    let (key, kept_key) = (cache.with_extension("key"), kept_code().with_extension("key"));
    let Ok(key_bytes) = fs::read(&key) else { return };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(kept_code()).unwrap();
    // If a key is already stored, no link is created and the stored key stays.
    let _ = fs::hard_link(&key, &kept_key);
    if fs::read(&kept_key).is_ok_and(|kept| kept == key_bytes) {
        link_code(cache, &kept_code());
    }
}

/// Makes all compiled code of one folder available in another folder, except code that is still being written. The
/// files never change.
fn link_code(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with('.') {
            // No link is created if `to` already contains the file, or if the folders are on different file systems.
            let _ = fs::hard_link(&path, to.join(name));
        }
    }
}
