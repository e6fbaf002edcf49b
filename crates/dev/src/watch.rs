//! Watching files for changes.
//!
//! The operating system reports changes only in folders that exist. So for each watched path, the existing folders that
//! affect it are watched (see `isomer_toolchain::WatchFolders`). If a part of the path to a watched file has appeared,
//! disappeared or been renamed, a new watcher is created before any file is read. The new watcher is created before the
//! old one is dropped, so that no change is missed in between.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use isomer_console::CliError;
use isomer_toolchain::{WatchFolders, WatchSet};
use notify::event::ModifyKind;
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// The maximum number of watchers that one call of [`FileWatcher::refresh`] creates if folders keep changing during the
/// call. After that, the call makes [`FileWatcher::changed`] return, so that the folders are checked again later.
const ATTEMPTS_MAX: usize = 5;

/// A watcher of a set of files.
pub(crate) struct FileWatcher {
    wanted: WatchSet,
    changed: Arc<Notify>,
    /// Whether a folder has changed in a way that requires a new watcher.
    is_stale: Arc<AtomicBool>,
    watched: Option<WatchedFolders>,
}

struct WatchedFolders {
    folders: Arc<WatchFolders>,
    _watcher: RecommendedWatcher,
}

impl FileWatcher {
    /// Starts to watch `wanted`.
    pub(crate) fn start(wanted: WatchSet) -> Result<Self, CliError> {
        let mut watch = Self { wanted, changed: Arc::default(), is_stale: Arc::default(), watched: None };
        watch.refresh()?;
        Ok(watch)
    }

    /// Replaces the watched set with `wanted`. Returns whether the two sets differ.
    pub(crate) fn follow(&mut self, wanted: WatchSet) -> Result<bool, CliError> {
        let is_other = self.wanted != wanted;
        self.wanted = wanted;
        self.refresh()?;
        Ok(is_other)
    }

    /// Makes [`FileWatcher::changed`] resolve as if a file had changed.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Creates a new watcher if the watched folders have changed. Must be called before files are read, so that every
    /// later change is reported.
    pub(crate) fn refresh(&mut self) -> Result<(), CliError> {
        for _ in 0..ATTEMPTS_MAX {
            let folders = self.wanted.folders();
            let was_stale = self.is_stale.swap(false, Ordering::SeqCst);
            if !was_stale && self.watched.as_ref().is_some_and(|watched| *watched.folders == folders) {
                return Ok(());
            }
            self.watched = Some(self.watch(folders)?);
        }
        // The folders may have changed again, so make `changed` return: its caller then checks the files again.
        self.changed.notify_one();
        Ok(())
    }

    /// Waits until a watched file has changed since the last call of this method.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn watch(&self, folders: WatchFolders) -> Result<WatchedFolders, CliError> {
        let folders = Arc::new(folders);
        let (known, changed, is_stale) = (folders.clone(), self.changed.clone(), self.is_stale.clone());
        let on_event = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if event.need_rescan() {
                // The system has lost events, so any file may have changed.
                is_stale.store(true, Ordering::SeqCst);
                changed.notify_one();
                return;
            }
            let appeared = match event.kind {
                EventKind::Access(_) => return,
                EventKind::Modify(ModifyKind::Name(_)) | EventKind::Create(_) | EventKind::Remove(_) => true,
                EventKind::Any | EventKind::Other => true,
                EventKind::Modify(_) => false,
            };
            let is_relevant = |path: &PathBuf| known.counts(path, appeared) || (appeared && known.dirs.contains(path));
            if event.paths.iter().any(is_relevant) {
                if appeared {
                    is_stale.store(true, Ordering::SeqCst);
                }
                changed.notify_one();
            }
        };
        let mut watcher = notify::recommended_watcher(on_event).context("cannot watch files")?;
        for dir in &folders.dirs {
            if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
                self.handle_error(error, dir)?;
            }
        }
        Ok(WatchedFolders { folders, _watcher: watcher })
    }

    fn handle_error(&self, error: notify::Error, dir: &Path) -> Result<(), CliError> {
        match &error.kind {
            // The folder was removed after the set of folders was computed.
            ErrorKind::PathNotFound => {}
            ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {}
            // The folder is above the app and belongs to another user. It is ignored, because the app's files cannot be
            // read through it either.
            ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::PermissionDenied => return Ok(()),
            ErrorKind::MaxFilesWatch => {
                let error = anyhow::Error::new(error).context(format!("cannot watch `{}`", dir.display()));
                let hint = "allow more watches: sudo sysctl fs.inotify.max_user_watches=524288";
                return Err(CliError::Failed(
                    isomer_diagnostics::Hinted::new(error.into_boxed_dyn_error(), hint).into(),
                ));
            }
            _ => return Err(anyhow::Error::new(error).context(format!("cannot watch `{}`", dir.display())).into()),
        }
        self.is_stale.store(true, Ordering::SeqCst);
        Ok(())
    }
}
