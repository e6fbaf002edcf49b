//! Seeing that files have changed.
//!
//! The system tells of changes in folders that exist. Which these are depends on what is there (see `isomer_toolchain::WatchFolders`): so where
//! something on the way to a watched file has appeared, disappeared or been renamed, everything is watched again, before anything is read. The new
//! watcher is there before the old one is dropped, so there is no moment in which a change is not seen.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use isomer_console::CommandError;
use isomer_toolchain::{WatchFolders, WatchSet};
use notify::event::ModifyKind;
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// How often everything is watched again where folders change meanwhile. What is missed then counts as a change.
const ATTEMPTS_MAX: usize = 5;

/// Files that are watched.
pub(crate) struct FileWatcher {
    wanted: WatchSet,
    changed: Arc<Notify>,
    /// Has something changed that decides which folders are to be watched?
    is_stale: Arc<AtomicBool>,
    watched: Option<WatchedFolders>,
}

struct WatchedFolders {
    folders: Arc<WatchFolders>,
    _watcher: RecommendedWatcher,
}

impl FileWatcher {
    /// Watches what is wanted from now on.
    pub(crate) fn start(wanted: WatchSet) -> Result<Self, CommandError> {
        let mut watch = Self { wanted, changed: Arc::default(), is_stale: Arc::default(), watched: None };
        watch.refresh()?;
        Ok(watch)
    }

    /// Watches something else from now on. Returns whether it is something else.
    pub(crate) fn follow(&mut self, wanted: WatchSet) -> Result<bool, CommandError> {
        let is_other = self.wanted != wanted;
        self.wanted = wanted;
        self.refresh()?;
        Ok(is_other)
    }

    /// Counts as a change that was seen.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Sees to it that all folders are watched that have to be by now. To be called before files are read, so that whatever changes
    /// after that is seen.
    pub(crate) fn refresh(&mut self) -> Result<(), CommandError> {
        for _ in 0..ATTEMPTS_MAX {
            let folders = self.wanted.folders();
            let was_stale = self.is_stale.swap(false, Ordering::SeqCst);
            if !was_stale && self.watched.as_ref().is_some_and(|watched| *watched.folders == folders) {
                return Ok(());
            }
            self.watched = Some(self.watched(folders)?);
        }
        // It will be looked at once more.
        self.changed.notify_one();
        Ok(())
    }

    /// Resolves when something that counts has changed since this was last asked.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn watched(&self, folders: WatchFolders) -> Result<WatchedFolders, CommandError> {
        let folders = Arc::new(folders);
        let (known, changed, is_stale) = (folders.clone(), self.changed.clone(), self.is_stale.clone());
        let told = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if event.need_rescan() {
                // Something was missed: look at everything.
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
            let counts = |path: &PathBuf| known.counts(path, appeared) || (appeared && known.dirs.contains(path));
            if event.paths.iter().any(counts) {
                if appeared {
                    is_stale.store(true, Ordering::SeqCst);
                }
                changed.notify_one();
            }
        };
        let mut watcher = notify::recommended_watcher(told).context("cannot watch files")?;
        for dir in &folders.dirs {
            if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
                self.unwatched(error, dir)?;
            }
        }
        Ok(WatchedFolders { folders, _watcher: watcher })
    }

    fn unwatched(&self, error: notify::Error, dir: &Path) -> Result<(), CommandError> {
        match &error.kind {
            // It was removed after it was looked at.
            ErrorKind::PathNotFound => {}
            ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {}
            // Others' folders above the app: nothing in them can be read either.
            ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::PermissionDenied => return Ok(()),
            ErrorKind::MaxFilesWatch => {
                let error = anyhow::Error::new(error).context(format!("cannot watch `{}`", dir.display()));
                let hint = "allow more watches: sudo sysctl fs.inotify.max_user_watches=524288";
                return Err(CommandError::Failed(
                    isomer_diagnostics::Hinted::new(error.into_boxed_dyn_error(), hint).into(),
                ));
            }
            _ => return Err(anyhow::Error::new(error).context(format!("cannot watch `{}`", dir.display())).into()),
        }
        self.is_stale.store(true, Ordering::SeqCst);
        Ok(())
    }
}
