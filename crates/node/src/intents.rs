//! Intents. An intent records a planned change of an app's or a tenant's data on disk, before the change starts. If a
//! killed process or a failing disk interrupts the change, the node finds the intent later and finishes or undoes the
//! change.
//!
//! An intent is a file named `TENANT` or `TENANT.APP`. There is one folder for each kind of change: removing data, and
//! replacing stores. An intent may be carried out only if its file is read while its app or tenant is locked. A list of
//! intents that was read without the lock may be outdated.
//!
//! Invariants:
//!
//! - An intent is written completely or not at all. When [`IntentLog::write`] returns, the file and its folder are
//!   synced.
//! - When [`IntentLog::forget`] returns, the removal is synced. If an intent reappeared after a power failure, the node
//!   could undo later changes.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use isomer_capabilities::NodeDir;
use isomer_ids::{AppName, TenantName};

/// The target of a change: a tenant, or one app of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangeTarget {
    pub(crate) tenant: TenantName,
    /// The app; `None` if the target is the tenant itself.
    pub(crate) app: Option<AppName>,
}

impl ChangeTarget {
    pub(crate) fn app(tenant: &TenantName, app: &AppName) -> Self {
        Self { tenant: tenant.clone(), app: Some(app.clone()) }
    }

    pub(crate) fn tenant(tenant: &TenantName) -> Self {
        Self { tenant: tenant.clone(), app: None }
    }

    /// Returns the path of the folder with the target's data.
    pub(crate) fn data(&self, dir: &NodeDir) -> PathBuf {
        match &self.app {
            Some(app) => dir.app(self.tenant.as_str(), app.as_str()),
            None => dir.tenant(self.tenant.as_str()),
        }
    }

    /// Returns the name of the target's intent file. The name is unambiguous, because names of tenants and apps contain
    /// no dots.
    fn file_name(&self) -> String {
        self.app.as_ref().map_or_else(|| self.tenant.to_string(), |app| format!("{}.{app}", self.tenant))
    }

    fn of_file(name: &str) -> Option<Self> {
        let (tenant, app) = match name.split_once('.') {
            Some((tenant, app)) => (tenant, Some(app.parse().ok()?)),
            None => (name, None),
        };
        Some(Self { tenant: tenant.parse().ok()?, app })
    }
}

impl fmt::Display for ChangeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.app {
            Some(app) => write!(f, "app `{app}` of tenant `{}`", self.tenant),
            None => write!(f, "tenant `{}`", self.tenant),
        }
    }
}

/// The intents for one kind of change. All methods except `new` block.
#[derive(Debug, Clone)]
pub(crate) struct IntentLog {
    folder: PathBuf,
}

impl IntentLog {
    /// Returns a log whose intents are files in `folder`. Reads nothing. The folder is created when the first intent is
    /// written.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes an intent: `text` describes a change of `subject` that has not started yet. Replaces an existing intent
    /// for `subject`.
    ///
    /// # Errors
    /// If the disk fails. In this case, the new intent is not stored.
    pub(crate) fn write(&self, subject: &ChangeTarget, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        // This cannot be the name of an intent, because names of intents do not begin with a dot.
        let temporary = self.folder.join(format!(".{}", subject.file_name()));
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, self.path(subject)));
        written.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        let synced = sync(&self.folder).and_then(|()| sync(self.folder.parent().unwrap_or(Path::new("."))));
        // If the sync fails, the caller reports a failure and does not start the change, so the intent is removed.
        synced.inspect_err(|_| drop(self.forget(subject)))
    }

    /// Returns the text of the intent for `subject`, which describes an unfinished change; `None` if there is no
    /// intent.
    ///
    /// # Errors
    /// If the intent exists but cannot be read.
    pub(crate) fn read(&self, subject: &ChangeTarget) -> io::Result<Option<String>> {
        none_if_missing(fs::read_to_string(self.path(subject)))
    }

    /// Returns whether there is an intent for `subject`.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn has(&self, subject: &ChangeTarget) -> io::Result<bool> {
        self.path(subject).try_exists()
    }

    /// Returns the targets of all intents, in sorted order.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(crate) fn all(&self) -> io::Result<Vec<ChangeTarget>> {
        let Some(entries) = none_if_missing(fs::read_dir(&self.folder))? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in entries {
            found.extend(entry?.file_name().to_str().and_then(ChangeTarget::of_file));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes the intent for `subject`. Does nothing if there is none.
    ///
    /// # Errors
    /// If the disk fails. In this case, the intent may still exist, or reappear after a power failure.
    pub(crate) fn forget(&self, subject: &ChangeTarget) -> io::Result<()> {
        none_if_missing(fs::remove_file(self.path(subject)))?;
        // Sync the folder even if the intent did not exist, because an earlier call may have failed after the removal.
        none_if_missing(sync(&self.folder)).map(drop)
    }

    fn path(&self, subject: &ChangeTarget) -> PathBuf {
        self.folder.join(subject.file_name())
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn none_if_missing<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intents_are_found_by_their_target() {
        let folder = tempfile::tempdir().unwrap();
        let intents = IntentLog::new(folder.path().join("kind"));
        let tenant: TenantName = "acme".parse().unwrap();
        let subjects = [ChangeTarget::tenant(&tenant), ChangeTarget::app(&tenant, &"new".parse().unwrap())];
        assert_eq!(intents.all().unwrap(), []);
        for subject in &subjects {
            intents.forget(subject).unwrap();
            assert!(!intents.has(subject).unwrap() && intents.read(subject).unwrap().is_none());
            intents.write(subject, "first").unwrap();
            intents.write(subject, &subject.to_string()).unwrap();
        }
        assert_eq!(intents.all().unwrap(), subjects);
        for subject in &subjects {
            assert_eq!(intents.read(subject).unwrap().unwrap(), subject.to_string());
            intents.forget(subject).unwrap();
            assert!(!intents.has(subject).unwrap());
        }
    }

    #[test]
    fn an_incomplete_intent_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let intents = IntentLog::new(folder.path().join("kind"));
        let subject = ChangeTarget::tenant(&"acme".parse().unwrap());
        // A killed process leaves temporary files like these.
        fs::create_dir(&intents.folder).unwrap();
        fs::write(intents.folder.join(".acme"), "12").unwrap();
        fs::write(intents.folder.join(".acme.shop"), "12").unwrap();
        assert_eq!(intents.all().unwrap(), []);
        assert!(!intents.has(&subject).unwrap());
        intents.write(&subject, "123").unwrap();
        assert_eq!(intents.all().unwrap(), std::slice::from_ref(&subject));
        // A write that fails leaves no intent. A folder with the name of the intent's file makes the write fail.
        intents.forget(&subject).unwrap();
        fs::create_dir(intents.path(&subject)).unwrap();
        fs::write(intents.path(&subject).join("in the way"), "").unwrap();
        intents.write(&subject, "123").unwrap_err();
        assert!(!intents.folder.join(".acme").exists());
    }
}
