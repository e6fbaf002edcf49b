//! A file of records of one size, to which a program adds without waiting. It contains, for example, the ended sessions
//! of an app.
//!
//! Records are written in the background, in the order in which they were added. A write that fails is reported in the
//! log, and its records are lost: the caller has them in memory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use crate::private_files::{make_private_dir, private_file, sync_dir};
use crate::storage::StorageAccount;

/// A file of records. Its content is charged to a storage account.
#[derive(Debug, Clone)]
pub struct RecordFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    record_bytes: u64,
    bytes_max: u64,
    storage: Arc<StorageAccount>,
    runtime: Handle,
    waiting: Mutex<Waiting>,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Waiting {
    /// The records that replace the content of the file.
    replacement: Option<Vec<u8>>,
    /// The records that are added afterwards.
    added: Vec<u8>,
    is_writing: bool,
}

impl RecordFile {
    /// Opens the file at `path`, which need not exist. The file has at most `bytes_max` bytes. Returns its complete
    /// records. Blocks.
    ///
    /// # Errors
    /// If the file exists, but cannot be read.
    pub fn open(
        path: PathBuf,
        (record_bytes, bytes_max): (usize, usize),
        storage: Arc<StorageAccount>,
        runtime: Handle,
    ) -> io::Result<(Self, Vec<u8>)> {
        let mut content = Vec::new();
        match File::open(&path) {
            Ok(file) => drop(file.take(bytes_max as u64).read_to_end(&mut content)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        content.truncate(content.len() / record_bytes * record_bytes);
        let (record_bytes, bytes_max) = (record_bytes as u64, bytes_max as u64);
        let waiting = Mutex::default();
        Ok((Self(Arc::new(Shared { path, record_bytes, bytes_max, storage, runtime, waiting })), content))
    }

    /// Adds a record. Returns at once.
    pub fn add(&self, record: &[u8]) {
        let mut waiting = self.0.waiting();
        if (waiting.added.len() + record.len()) as u64 > self.0.bytes_max {
            tracing::warn!(file = %self.0.path.display(), "a record is lost, because the disk is too slow");
            return;
        }
        waiting.added.extend_from_slice(record);
        self.0.start(waiting);
    }

    /// Replaces the content of the file by `records`. Returns at once.
    pub fn replace(&self, records: Vec<u8>) {
        let mut waiting = self.0.waiting();
        waiting.replacement = Some(records);
        waiting.added.clear();
        self.0.start(waiting);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to write, unless a thread is writing already.
    fn start(self: &Arc<Self>, mut waiting: MutexGuard<'_, Waiting>) {
        if !waiting.is_writing {
            waiting.is_writing = true;
            let shared = self.clone();
            drop(self.runtime.spawn_blocking(move || shared.write_all()));
        }
    }

    /// Writes until nothing waits.
    fn write_all(&self) {
        loop {
            let (replacement, added) = {
                let mut waiting = self.waiting();
                if waiting.replacement.is_none() && waiting.added.is_empty() {
                    waiting.is_writing = false;
                    return;
                }
                (waiting.replacement.take(), std::mem::take(&mut waiting.added))
            };
            let replaced = replacement.map_or(Ok(()), |records| self.write_new(&records));
            let written = replaced.and_then(|()| if added.is_empty() { Ok(()) } else { self.append(&added) });
            if let Err(error) = written {
                tracing::error!(file = %self.path.display(), %error, "records cannot be written");
            }
            self.storage.measure(&self.path);
        }
    }

    fn append(&self, records: &[u8]) -> io::Result<()> {
        self.check_room(records)?;
        let mut file = self.create(&self.path, false)?;
        // After an incomplete write, the next record would not begin at a multiple of the size.
        let end = file.metadata()?.len() / self.record_bytes * self.record_bytes;
        if end + records.len() as u64 > self.bytes_max {
            return Err(io::Error::other("the file is full"));
        }
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(records)?;
        file.sync_data()
    }

    fn write_new(&self, records: &[u8]) -> io::Result<()> {
        self.check_room(records)?;
        let temporary = self.path.with_extension("new");
        let written = self.create(&temporary, true).and_then(|mut file| {
            file.write_all(records)?;
            file.sync_data()?;
            fs::rename(&temporary, &self.path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        self.path.parent().map_or(Ok(()), sync_dir)
    }

    fn check_room(&self, records: &[u8]) -> io::Result<()> {
        if self.storage.room() < records.len() as u64 {
            self.storage.refuse();
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the tenant's quota `storage` is exhausted"));
        }
        Ok(())
    }

    fn create(&self, path: &Path, is_truncated: bool) -> io::Result<File> {
        if let Some(folder) = path.parent() {
            make_private_dir(folder)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(is_truncated);
        private_file(&mut options);
        options.open(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, storage: StorageAccount) -> (RecordFile, Vec<u8>) {
        RecordFile::open(path.to_owned(), (2, 8), Arc::new(storage), Handle::current()).unwrap()
    }

    /// Waits until everything is written.
    async fn written(file: &RecordFile) {
        while file.0.waiting().is_writing {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn records_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app/records");
        let (file, records) = open(&path, StorageAccount::unlimited());
        assert!(records.is_empty() && !path.exists());
        file.add(b"ab");
        file.add(b"cd");
        written(&file).await;
        assert_eq!(open(&path, StorageAccount::unlimited()).1, b"abcd");
        // An incomplete record, as a crash leaves it, is replaced by the next one.
        fs::write(&path, b"abcde").unwrap();
        let (file, records) = open(&path, StorageAccount::unlimited());
        assert_eq!(records, b"abcd");
        file.add(b"ef");
        written(&file).await;
        assert_eq!(fs::read(&path).unwrap(), b"abcdef");
        file.add(b"xx");
        file.replace(b"gh".to_vec());
        file.add(b"ij");
        written(&file).await;
        assert_eq!(fs::read(&path).unwrap(), b"ghij");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn the_file_does_not_exceed_its_size_or_the_quota() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let (file, _) = open(&path, StorageAccount::unlimited());
        for _ in 0..10 {
            file.add(b"ab");
            written(&file).await;
        }
        assert_eq!(fs::read(&path).unwrap().len(), 8);
        assert!(file.0.storage.used() > 0, "the file is charged");
        fs::write(&path, [0; 100]).unwrap();
        assert_eq!(open(&path, StorageAccount::unlimited()).1.len(), 8);

        let other = dir.path().join("other");
        let (file, _) = open(&other, StorageAccount::new(1));
        file.add(b"ab");
        written(&file).await;
        assert!(!other.exists() && file.0.storage.refused() == 1);
    }
}
