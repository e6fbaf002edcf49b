//! The key of an app's sessions, in a file of the app's data. Sessions of visitors survive a restart as long as the file
//! exists.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::private_files::{make_private_dir, private_file};

/// The length of a key in bytes.
pub const SESSION_KEY_BYTES: usize = 32;

/// The number that the next temporary file name of this process contains.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Reads the key from the file at `path`, or creates the file with a random key if it does not exist. If several
/// processes create the file at the same time, all of them get the same key. Blocks.
///
/// # Errors
/// If the file cannot be read or created, or if it contains no key. A damaged key is not replaced, because all visitors
/// would lose their sessions.
pub fn open_session_key(path: &Path) -> io::Result<[u8; SESSION_KEY_BYTES]> {
    match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    if let Some(folder) = path.parent() {
        make_private_dir(folder)?;
    }
    let temporary = temporary_path(path);
    let made = write_new(&temporary).and_then(|()| match isomer_disk::rename_new(&temporary, path) {
        // Another process has just created the file. This process uses its key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        named => named,
    });
    // After a successful rename, the temporary file does not exist any more.
    let _ = fs::remove_file(&temporary);
    made?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    read(path)
}

fn read(path: &Path) -> io::Result<[u8; SESSION_KEY_BYTES]> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SESSION_KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let damaged = |_| io::Error::new(io::ErrorKind::InvalidData, "the key of the app's sessions is damaged");
    bytes.try_into().map_err(damaged)
}

/// Writes a random key to a new file that only its owner can read.
fn write_new(path: &Path) -> io::Result<()> {
    let mut key = [0; SESSION_KEY_BYTES];
    getrandom::fill(&mut key).map_err(|_| io::Error::other("the system has no random bytes"))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private_file(&mut options);
    let mut file = options.open(path)?;
    file.write_all(&key)?;
    file.sync_all()
}

fn temporary_path(path: &Path) -> PathBuf {
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{number}.new", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_created_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/sessions.key");
        let key = open_session_key(&path).unwrap();
        assert_eq!(open_session_key(&path).unwrap(), key);
        assert_ne!(open_session_key(&dir.path().join("other.key")).unwrap(), key);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let names: Vec<_> =
            fs::read_dir(dir.path().join("data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["sessions.key"]);
    }

    #[test]
    fn concurrent_openers_get_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let openers: Vec<_> = (0..8).map(|_| scope.spawn(|| open_session_key(&path).unwrap())).collect();
            openers.into_iter().map(|opener| opener.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_damaged_key_is_an_error_and_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.key");
        for content in [&b""[..], &[1; SESSION_KEY_BYTES - 1], &[1; SESSION_KEY_BYTES + 1]] {
            fs::write(&path, content).unwrap();
            assert_eq!(open_session_key(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }
}
