//! Replaces the complete file of a store with a copy that has a later schema, or with an earlier copy.
//!
//! The new file is made next to the store's own file, which is only read, so that no byte of the store changes before
//! the switch. To make this possible, the store is *paused*: its transactions and statements have ended, its
//! connections are closed, its log has been copied into its file, and new requests wait. The switch consists of two
//! renames. First, the store's old file is renamed and becomes the snapshot. Then the new file is renamed to the
//! store's name. Between the two renames the store does not exist, so nothing can be written to the wrong file.
//!
//! We considered two other designs. The first one makes the snapshot with a hard link, so that the store exists at any
//! time. But some file systems have no hard links. The failure would come too late to refuse the replacement, because
//! the switch is recorded before the snapshot is made. The second one migrates the store in place, and restores a
//! snapshot if the take-over fails. But if the process were killed before the restoration, the store would have to be
//! repaired before it is read. In addition, the restored file would be a copy, and not the original file.
//!
//! Between [`Sql::replace`] and [`Replacing::switch`], the caller records which of the two files is the store. After a
//! crash, the caller follows this record: it calls [`roll_forward`], or removes the folder that contains the new file.
//! A switch that has failed is repeated when the store is opened, and by
//! [`Engines::finish_replacements`](crate::Engines::finish_replacements). The store cannot be used until the switch
//! succeeds.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::candidate::companion_file;
use super::memory;
use super::migrations::{Migrations, Schema};
use super::open_store::OpenStore;
use super::session::{Access, Opening, Session};
use super::{Sql, SqlOpenError};
use crate::file_copy::FileCopyError;
use crate::open_files::{FileHold, Unfinished};
use crate::pool::locked;
use crate::private_files::{make_private_dir, make_private_file, sync_dir};
use crate::storage::bytes_on_disk;
use crate::{StorageAccount, check_store_name};

/// The maximum time that [`Sql::finish_replacements`] waits for stores that are being opened or closed.
const FINISH_WAIT_MAX: Duration = Duration::from_secs(10);

/// The extension of the new files in a folder of replacements. A snapshot in the same folder has the extension of the
/// store's own file, `.sqlite`.
const NEXT: &str = ".next";

/// The content of a store's new file.
#[derive(Debug, Clone)]
pub enum Replacement {
    /// A copy of the current store, to which the migrations of this folder are applied.
    Migrated(PathBuf),
    /// A copy of the file at the first path, which contains an earlier state of the store. If there is a second path,
    /// it is a folder of migrations, which are applied to the copy.
    Restored(PathBuf, Option<PathBuf>),
}

/// A paused store, and the new file that will replace its file.
pub struct Replacing {
    paused: Paused,
    path: PathBuf,
    folder: PathBuf,
    account: Arc<StorageAccount>,
    /// The migrations that were pending before the new file was migrated, and those that only a later revision has.
    pub schema: Schema,
    /// The size of the store's file in bytes; 0 if the store does not exist.
    pub bytes: u64,
}

/// A store whose connections stay closed until this is dropped.
struct Paused {
    store: Option<Arc<OpenStore>>,
    permits: Vec<OwnedSemaphorePermit>,
    /// Prevents the store from being opened. `None` only while this is dropped.
    held: Option<FileHold<OpenStore>>,
    /// The operation that failed when the store's file was replaced, and that must be repeated successfully before the
    /// store may be used; `None` if it did not fail.
    unfinished: Option<Unfinished>,
}

impl Sql {
    /// Pauses the store `name`, and makes the new file in `folder` that will replace the store's file. Returns after
    /// the new file has been synced.
    ///
    /// # Errors
    /// If running statements do not end in time, if there is not enough space or time for a copy, or if a migration
    /// fails. The store then continues unchanged, and the caller removes the files in `folder`.
    pub(crate) async fn replace(
        &self,
        name: &str,
        by: Replacement,
        folder: &Path,
        deadline: Instant,
    ) -> Result<Replacing, SqlOpenError> {
        check_store_name(name)?;
        let path = self.path_of(name);
        let paused = self.pause(name, &path, deadline).await?;
        let staging = Staging {
            name: name.to_owned(),
            next: folder.join(format!("{name}{NEXT}")),
            folder: folder.to_owned(),
            opening: Opening {
                path: path.clone(),
                limits: self.engine.limits.clone(),
                statement_time: self.engine.limits.statement_time,
                account: self.account.clone(),
                tenant_account: self.job_queue.account().clone(),
                heap: memory::heap(self.job_queue.account()),
            },
            by,
            deadline,
        };
        let (folder, account) = (folder.to_owned(), self.account.clone());
        let staged = self.job_queue.run(move || staging.carry_out()).await.map_err(|_| SqlOpenError::Abandoned)?;
        let (schema, bytes) = staged?;
        Ok(Replacing { paused, path, folder, account, schema, bytes })
    }

    async fn pause(&self, name: &str, path: &Path, deadline: Instant) -> Result<Paused, SqlOpenError> {
        let busy = |_| SqlOpenError::Busy { store: name.to_owned() };
        let mut held = tokio::time::timeout_at(deadline.into(), self.engine.files.hold(path)).await.map_err(busy)?;
        if let Some(job) = held.unfinished() {
            let done = self.job_queue.run(move || job.carry_out()).await.map_err(|_| SqlOpenError::Abandoned)?;
            done.map_err(|source| SqlOpenError::Unfinished { store: name.to_owned(), source })?;
            held.finish();
        }
        let Some(store) = held.store.clone() else {
            return Ok(Paused { store: None, permits: Vec::new(), held: Some(held), unfinished: None });
        };
        let closed = "a store's semaphores are never closed";
        let readers = u32::try_from(store.limits.readers.max(1)).unwrap_or(u32::MAX);
        let (slot, reading) = (store.writer().slot.clone(), store.reading.clone());
        let all = async { (slot.acquire_owned().await, reading.acquire_many_owned(readers).await) };
        let (slot, reading) = tokio::time::timeout_at(deadline.into(), all).await.map_err(busy)?;
        let permits = vec![slot.expect(closed), reading.expect(closed)];
        let paused = Paused { store: Some(store.clone()), permits, held: Some(held), unfinished: None };
        let job = move || {
            // Closes the readers first, so that closing the writer, as the last connection, copies the log into the
            // file.
            locked(&store.open().readers).clear();
            drop(locked(&store.writer().session).take());
        };
        self.job_queue.run(job).await.map_err(|_| SqlOpenError::Abandoned)?;
        Ok(paused)
    }

    /// Finishes the replacements in `folder`. Does not use the tenant's threads, because the tenant's statements may
    /// occupy them for an unlimited time.
    ///
    /// # Errors
    /// If the disk fails, if one of the stores is open, or if one of them is still being opened or closed after
    /// [`FINISH_WAIT_MAX`].
    pub(crate) async fn finish_replacements(&self, folder: &Path) -> io::Result<()> {
        let deadline = Instant::now() + FINISH_WAIT_MAX;
        let replacements_folder = folder.to_owned();
        let names = tokio::task::spawn_blocking(move || replacements(&replacements_folder))
            .await
            .map_err(io::Error::other)??;
        for name in names {
            let path = self.path_of(&name);
            let in_use =
                |what| io::Error::new(io::ErrorKind::ResourceBusy, format!("the SQL store `{name}` is {what}"));
            let held = tokio::time::timeout_at(deadline.into(), self.engine.files.hold(&path)).await;
            let mut held = held.map_err(|_| in_use("being opened"))?;
            if held.store.is_some() {
                return Err(in_use("open"));
            }
            let (folder, account) = (folder.to_owned(), self.account.clone());
            // The job owns `held` until it has ended, even if the caller stops waiting.
            let job = move || {
                switch_and_measure(&path, &folder, &name, &account)?;
                held.finish();
                Ok::<(), io::Error>(())
            };
            tokio::task::spawn_blocking(job).await.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

impl Drop for Paused {
    /// Lets the store be used again, with the file that is now at its path: the new file after a successful switch of
    /// the files, or the old file if there was no switch. If a switch has failed, the existing handles of the store
    /// stay unusable, and the next opening of the store repeats the switch.
    fn drop(&mut self) {
        let (held, permits) = (self.held.take(), std::mem::take(&mut self.permits));
        let store = self.store.take();
        if let (Some(unfinished), Some(held)) = (self.unfinished.take(), held) {
            if let Some(store) = &store {
                store.abandon_file();
            }
            held.fail(unfinished);
            return;
        }
        let Some(store) = store else { return };
        let job_queue = store.job_queue.clone();
        job_queue.spawn(move || {
            // If the connection cannot be opened now, the next write tries to open it.
            if let Err(error) = store.open_writer().map(|session| *locked(&store.writer().session) = Some(session)) {
                tracing::error!(store = store.name, %error, "cannot open an SQL store again after a replacement");
            }
            drop(permits);
        });
    }
}

impl Replacing {
    /// Returns the store's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.file_stem().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Replaces the store's file with the new file, and keeps the old file as a snapshot in the folder of the new file.
    /// Blocks the thread.
    ///
    /// # Errors
    /// If the disk fails. The store then cannot be used until the switch succeeds. The switch is repeated when the
    /// store is opened, and by [`roll_forward`] at the next start.
    pub fn switch(&mut self) -> io::Result<()> {
        let name = self.name().to_owned();
        let (path, folder, account) = (self.path.clone(), self.folder.clone(), self.account.clone());
        let switch = move || switch_and_measure(&path, &folder, &name, &account);
        let switched = switch();
        self.paused.unfinished = switched.is_err().then(|| Unfinished::new(switch));
        switched
    }
}

/// Finishes interrupted replacements of stores in the folder `sql`. The files of the replacements are in `folder`. None
/// of the stores may be open. Blocks the thread.
///
/// # Errors
/// If the disk fails.
pub fn roll_forward(sql: &Path, folder: &Path) -> io::Result<()> {
    for name in replacements(folder)? {
        switch(&sql.join(snapshot_name(&name)), folder, &name)?;
    }
    Ok(())
}

/// Finishes or discards the replacements that a killed process left in the folders `drafts/STORE/NUMBER`. The stores
/// are in the folder `sql`, and no process may have them open. Blocks the thread.
///
/// There is no record of these replacements. A replacement renames the store's file first, and then renames the new
/// file to the store's path. If the store has a file, the store was not replaced, so the new file is removed. If the
/// store has no file, the process was killed between the two renames, so the replacement is finished.
///
/// # Errors
/// If the disk fails.
pub(crate) fn finish_drafts(sql: &Path, drafts: &Path) -> io::Result<()> {
    for store in entries(drafts)? {
        let mut numbers: Vec<u64> = entries(&store)?.iter().filter_map(|path| number(path)).collect();
        // Starts with the last replacement, which is the interrupted one. Earlier ones may also have left new files.
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        for folder in numbers.iter().map(|number| store.join(number.to_string())) {
            for name in replacements(&folder)? {
                let path = sql.join(snapshot_name(&name));
                if path.try_exists()? {
                    fs::remove_file(folder.join(format!("{name}{NEXT}")))?;
                } else {
                    switch(&path, &folder, &name)?;
                }
            }
        }
    }
    Ok(())
}

/// Returns the paths of the folders in `folder`; none if `folder` does not exist.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let found = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let paths: Vec<PathBuf> = found.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Returns the names of the stores that have a new file in `folder`.
fn replacements(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?.file_name();
        names.extend(entry.to_str().and_then(|name| name.strip_suffix(NEXT)).map(str::to_owned));
    }
    Ok(names)
}

/// Returns the file name of a store's snapshot, which is also the name of the store's own file.
#[must_use]
pub fn snapshot_name(store: &str) -> String {
    format!("{store}.sqlite")
}

fn switch_and_measure(path: &Path, folder: &Path, name: &str, account: &StorageAccount) -> io::Result<()> {
    let switched = switch(path, folder, name);
    for file in [path.to_owned(), folder.join(snapshot_name(name)), folder.join(format!("{name}{NEXT}"))] {
        account.measure(&file);
    }
    switched
}

/// Performs the two renames of a switch. If an earlier call was interrupted at any point, the function can be called
/// again.
fn switch(path: &Path, folder: &Path, name: &str) -> io::Result<()> {
    let (snapshot, next) = (folder.join(snapshot_name(name)), folder.join(format!("{name}{NEXT}")));
    let sql = path.parent().unwrap_or(Path::new("."));
    make_private_dir(sql)?;
    if next.try_exists()? {
        // Removes the log of the old file. A log exists only if another process opened the store after it was closed
        // here.
        unless_missing(fs::remove_file(companion_file(path, "-shm")))?;
        unless_missing(fs::rename(companion_file(path, "-wal"), companion_file(&snapshot, "-wal")))?;
        if !snapshot.try_exists()? {
            unless_missing(fs::rename(path, &snapshot))?;
            // The store's old file now has the name of the snapshot. This name must be synced before the new file gets
            // the store's name, because the old file must still have a name after a crash.
            sync_dir(folder)?;
            sync_dir(sql)?;
        }
        fs::rename(&next, path)?;
    } else if !path.try_exists()? {
        return Err(io::Error::new(io::ErrorKind::NotFound, "neither the store nor its replacement exists"));
    }
    sync_dir(sql)?;
    sync_dir(folder)
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The preparation of the new file that will replace a store's file.
struct Staging {
    name: String,
    next: PathBuf,
    folder: PathBuf,
    /// The settings for opening the store's current file.
    opening: Opening,
    by: Replacement,
    deadline: Instant,
}

impl Staging {
    fn carry_out(&self) -> Result<(Schema, u64), SqlOpenError> {
        let io = |source| SqlOpenError::Io { path: self.next.clone(), source };
        let path = &self.opening.path;
        let is_there = path.exists();
        if is_there {
            self.merge_log()?;
        }
        // Measures the files again, because the log has been copied into the store's file.
        self.opening.measure();
        let bytes = fs::metadata(path).map_or(0, |metadata| bytes_on_disk(&metadata));
        let (from, migrations) = match &self.by {
            Replacement::Migrated(folder) => (is_there.then_some(path), Some(folder)),
            Replacement::Restored(from, folder) => (Some(from), folder.as_ref()),
        };
        make_private_dir(&self.folder).map_err(io)?;
        make_private_file(&self.next).map_err(io)?;
        if let Some(from) = from {
            self.copy(from)?;
        }
        let schema = match migrations {
            Some(folder) => self.migrate(folder)?,
            None => Schema::default(),
        };
        File::open(&self.next).and_then(|file| file.sync_all()).map_err(io)?;
        sync_dir(&self.folder).map_err(io)?;
        self.opening.account.measure(&self.next);
        Ok((schema, bytes))
    }

    /// If a killed process has left a log, copies it into the store's file, so that the store consists of one file.
    fn merge_log(&self) -> Result<(), SqlOpenError> {
        let path = &self.opening.path;
        if companion_file(path, "-wal").exists() {
            let open = |source| SqlOpenError::Open { path: path.clone(), source };
            drop(Session::open(&self.opening, Access::Write).map_err(open)?);
        }
        if companion_file(path, "-wal").exists() {
            return Err(SqlOpenError::Busy { store: self.name.clone() });
        }
        Ok(())
    }

    fn copy(&self, from: &Path) -> Result<(), SqlOpenError> {
        let account = &self.opening.account;
        let in_time = || Instant::now() < self.deadline;
        account.copy_file(from, &self.next, in_time).map_err(|error| match error {
            FileCopyError::NoRoom { bytes } => {
                SqlOpenError::NoRoom { store: self.name.clone(), bytes, limit: account.limit() }
            }
            FileCopyError::Stopped => SqlOpenError::Busy { store: self.name.clone() },
            FileCopyError::Io(source) => SqlOpenError::Io { path: from.to_owned(), source },
        })
    }

    fn migrate(&self, folder: &Path) -> Result<Schema, SqlOpenError> {
        let open = |source| SqlOpenError::Open { path: self.next.clone(), source };
        let session = Session::open(&Opening { path: self.next.clone(), ..self.opening.clone() }, Access::Write);
        let session = session.map_err(open)?;
        let deadline = self.deadline.min(Instant::now() + self.opening.limits.migration_time);
        let schema = Migrations::read(&self.name, folder)?.apply(&session, deadline);
        self.check_time()?;
        let schema = schema?;
        drop(session);
        if companion_file(&self.next, "-wal").exists() {
            return Err(SqlOpenError::Busy { store: self.name.clone() });
        }
        Ok(schema)
    }

    fn check_time(&self) -> Result<(), SqlOpenError> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(SqlOpenError::Busy { store: self.name.clone() }) }
    }
}
