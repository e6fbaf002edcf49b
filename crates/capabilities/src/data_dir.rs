//! The data directory: a folder that holds all data of an app. Only one process at a time can open the directory, and
//! share it with the member processes that it has started.
//!
//! Two lock files ensure this. The process that opened the directory holds the lock on `LOCK`. Its members share the
//! lock on `MEMBERS`. If the process is killed, its members may still run for a short time. So the next process that
//! opens the directory waits until they have exited.
//!
//! The layout is documented in `docs/reference/data-directory.md`; no other source file depends on it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::private_files::{make_private_dir, private_file, sync_dir};
use crate::sql::finish_drafts;

const LOCK_FILE: &str = "LOCK";

const MEMBERS_FILE: &str = "MEMBERS";

/// The maximum number of bytes that are read from the lock file.
const PID_BYTES_MAX: u64 = 32;

/// The maximum time to wait for the members of an earlier process. A member exits as soon as it notices that its
/// supervisor has exited.
const MEMBERS_WAIT_MAX: Duration = Duration::from_secs(5);

/// The interval between two checks whether the members of an earlier process have exited.
const MEMBERS_WAIT_STEP: Duration = Duration::from_millis(10);

/// An open data directory. Holds the lock of the directory until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// The reason why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has opened the directory.
    #[error("the data directory `{}` is in use by process {pid}: stop that process, or use another directory with `--data DIR`", path.display())]
    InUse {
        /// The path of the directory.
        path: PathBuf,
        /// The identifier of the other process, from the lock file; `?` if the lock file cannot be read.
        pid: String,
    },
    /// The directory belongs to an app, although the data directory of a node is required.
    #[error("`{}` is the data directory of an app: use another directory for the node", path.display())]
    OfApp {
        /// The path of the directory.
        path: PathBuf,
    },
    /// A file operation on the directory failed.
    #[error("the data directory `{}` cannot be used: {action}", path.display())]
    Io {
        /// The path of the directory, or of a file in it.
        path: PathBuf,
        /// What failed, as text for the error message, such as "locking failed".
        action: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl DataDir {
    /// Opens the data directory at `path`, creates it if it does not exist, and locks it for this process.
    ///
    /// An earlier process may have been killed while it replaced a store (see [`DataDir::drafts`]). If the store's old
    /// file was already renamed, this function finishes the replacement. Otherwise, it discards the new file.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let (path, lock) = lock_dir(path)?;
        for part in ["kv", "sql", "cache"] {
            let part = path.join(part);
            make_private_dir(&part).map_err(failed(&part, "making the directory failed"))?;
        }
        sync_dir(&path).map_err(failed(&path, "syncing the directory failed"))?;
        let dir = Self { path, _lock: lock };
        let drafts = dir.drafts();
        let action = "an earlier process did not finish the replacement of an SQL store, and finishing it now failed";
        finish_drafts(&dir.sql(), &drafts).map_err(failed(&drafts, action))?;
        Ok(dir)
    }

    /// Opens the data directory as a member, that is, as a process that was started by the process that holds the
    /// directory's lock. `path` is the [`DataDir::path`] of that process. The plan decides which member opens which
    /// store; no two members open the same store.
    pub fn open_as_member(path: &Path) -> Result<Self, DataDirError> {
        let lock_path = path.join(MEMBERS_FILE);
        let lock = open_lock(&lock_path)?;
        match lock.try_lock_shared() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.to_owned(), pid: "?".to_owned() }),
            Err(TryLockError::Error(source)) => {
                Err(DataDirError::Io { path: lock_path, action: "locking failed", source })
            }
        }
    }

    /// Returns the identifier of the process that has opened the data directory at `path`, or `?` if the identifier
    /// cannot be read. Returns `None` if no process has opened the directory. Changes nothing.
    pub fn holder(path: &Path) -> Option<String> {
        let mut lock = File::open(path.join(LOCK_FILE)).ok()?;
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_pid(&mut lock)),
            _ => None,
        }
    }

    /// Returns the absolute path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the folder of the key-value stores, whose files are named `NAME.redb`.
    pub fn kv(&self) -> PathBuf {
        self.path.join("kv")
    }

    /// Returns the folder of the SQL stores, whose files are named `NAME.sqlite`, and of SQLite's additional files.
    pub fn sql(&self) -> PathBuf {
        self.path.join("sql")
    }

    /// Returns the folder in which `isomer dev` saves a copy of an SQL store before it migrates or recreates the store.
    /// Each copy is in `STORE/NUMBER`. While a store is being replaced, the folder of the copy also contains the new
    /// file of the store.
    pub fn drafts(&self) -> PathBuf {
        self.path.join("drafts")
    }

    /// Returns the folder of the app's log.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Returns the folder of the lines that tabs sent.
    pub fn tab_log(&self) -> PathBuf {
        self.path.join("tabs")
    }

    /// Returns the folder of the app's traces.
    pub fn traces(&self) -> PathBuf {
        self.path.join("traces")
    }

    /// Returns the folder of the app's access log.
    pub fn access_log(&self) -> PathBuf {
        self.path.join("access")
    }

    /// Returns the folder of compiled components. If the folder is removed, the components are compiled again.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }
}

/// Creates the directory if it does not exist, and locks it for this process. Returns its absolute path and its lock
/// file.
pub(crate) fn lock_dir(path: &Path) -> Result<(PathBuf, File), DataDirError> {
    make_private_dir(path).map_err(failed(path, "making the directory failed"))?;
    let path = path.canonicalize().map_err(failed(path, "resolving the path failed"))?;
    let lock_path = path.join(LOCK_FILE);
    let mut lock = open_lock(&lock_path)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(DataDirError::InUse { path, pid: read_pid(&mut lock) });
        }
        Err(TryLockError::Error(source)) => {
            return Err(DataDirError::Io { path: lock_path, action: "locking failed", source });
        }
    }
    wait_for_members(&path)?;
    let write_pid = |lock: &mut File| {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write_pid(&mut lock).map_err(failed(&lock_path, "writing the lock file failed"))?;
    Ok((path, lock))
}

/// Reads the identifier of the process that holds the lock. Returns `?` if the file does not contain one.
fn read_pid(lock: &mut File) -> String {
    let mut pid = String::new();
    let read = lock.take(PID_BYTES_MAX).read_to_string(&mut pid);
    let pid = pid.trim();
    if read.is_err() || pid.is_empty() { "?".to_owned() } else { pid.to_owned() }
}

fn open_lock(path: &Path) -> Result<File, DataDirError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    private_file(&mut options);
    options.open(path).map_err(failed(path, "opening the lock file failed"))
}

/// Waits until no member of an earlier process has the directory open.
fn wait_for_members(path: &Path) -> Result<(), DataDirError> {
    let members_path = path.join(MEMBERS_FILE);
    let members = open_lock(&members_path)?;
    let deadline = Instant::now() + MEMBERS_WAIT_MAX;
    loop {
        match members.try_lock() {
            // Dropping `members` closes the file, which unlocks it.
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(MEMBERS_WAIT_STEP),
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::InUse { path: path.to_owned(), pid: "?".to_owned() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(DataDirError::Io { path: members_path, action: "locking failed", source });
            }
        }
    }
}

pub(crate) fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { path, action, source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_second_opener_gets_the_process_and_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
        assert!(refused.contains(first.path().to_str().unwrap()) && refused.contains("--data"), "{refused}");
        assert_eq!(DataDir::holder(&path), Some(std::process::id().to_string()));
        drop(first);
        assert_eq!((DataDir::holder(&path), DataDir::holder(&path.join("missing"))), (None, None));
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn an_interrupted_replacement_is_finished_when_the_directory_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path()).unwrap());
        let (store, drafts) = (dir.path().join("sql/s.sqlite"), dir.path().join("drafts/s"));
        let read = |path: &Path| fs::read_to_string(path).ok();
        let leave_files = |number: u32, snapshot: Option<&str>, next: &str| {
            let folder = drafts.join(number.to_string());
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("s.next"), next).unwrap();
            snapshot.inspect(|text| fs::write(folder.join("s.sqlite"), text).unwrap());
        };
        // Simulates a process that was killed between the two renames of replacement 10. The unused new file of the
        // earlier replacement 9 is also still there.
        leave_files(9, None, "older");
        leave_files(10, Some("before"), "new");
        drop(DataDir::open(dir.path()).unwrap());
        assert_eq!((read(&store), read(&drafts.join("10/s.sqlite"))), (Some("new".into()), Some("before".into())));
        assert!(!drafts.join("10/s.next").exists() && !drafts.join("9/s.next").exists());
        // Simulates a process that was killed before the first rename.
        leave_files(11, None, "never");
        fs::write(drafts.join("note"), "no folder").unwrap();
        drop(DataDir::open(dir.path()).unwrap());
        assert_eq!((read(&store), drafts.join("11/s.next").exists()), (Some("new".into()), false));
    }

    #[test]
    fn members_share_the_directory_and_the_next_opener_waits_for_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let holder = DataDir::open(dir.path()).unwrap();
        let members = [0, 1].map(|_| DataDir::open_as_member(holder.path()).unwrap());
        assert_eq!(members[0].kv(), holder.kv());
        drop(holder);
        let (sender, opened) = std::sync::mpsc::channel();
        let path = dir.path().to_owned();
        let opener = std::thread::spawn(move || sender.send(DataDir::open(&path).map(drop)).unwrap());
        assert!(opened.recv_timeout(MEMBERS_WAIT_STEP * 3).is_err(), "members have the directory open");
        drop(members);
        opened.recv().unwrap().unwrap();
        opener.join().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn all_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let data = DataDir::open(&path).unwrap();
        for part in [data.path().to_owned(), data.kv(), data.sql(), data.cache()] {
            assert_eq!(fs::metadata(&part).unwrap().permissions().mode() & 0o777, 0o700, "{}", part.display());
        }
        assert_eq!(fs::metadata(path.join("LOCK")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
