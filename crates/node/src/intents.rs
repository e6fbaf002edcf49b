//! Intents: planned changes of an app's or a tenant's data, which are written to disk before the change is made. So a
//! change that is interrupted by a killed process or a failing disk is finished or undone later.
//!
//! An intent is a file `TENANT` or `TENANT.APP` in the folder of its kind: data to be removed, or stores to be
//! replaced. Only the files on disk are authoritative: an intent is carried out only if its file was found while its
//! app or tenant was locked, and never from a list that was read earlier.
//!
//! Invariants: an intent is written completely or not at all, and it is synced, with its folder, when
//! [`IntentLog::write`] returns. Its removal is synced when [`IntentLog::forget`] returns: an intent that reappeared
//! after a power failure could undo later changes.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use isomer_capabilities::NodeDir;
use isomer_ids::{AppName, TenantName};

/// The target of a change: an app, or a tenant as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangeTarget {
    /// The tenant.
    pub(crate) tenant: TenantName,
    /// The app; `None` for the tenant itself.
    pub(crate) app: Option<AppName>,
}

impl ChangeTarget {
    pub(crate) fn app(tenant: &TenantName, app: &AppName) -> Self {
        Self { tenant: tenant.clone(), app: Some(app.clone()) }
    }

    pub(crate) fn tenant(tenant: &TenantName) -> Self {
        Self { tenant: tenant.clone(), app: None }
    }

    /// Returns the folder of the target's data.
    pub(crate) fn data(&self, dir: &NodeDir) -> PathBuf {
        match &self.app {
            Some(app) => dir.app(self.tenant.as_str(), app.as_str()),
            None => dir.tenant(self.tenant.as_str()),
        }
    }

    /// Returns the name of the intent's file. Names of tenants and apps do not contain dots.
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

/// The intents of one kind. All functions block.
#[derive(Debug, Clone)]
pub(crate) struct IntentLog {
    folder: PathBuf,
}

impl IntentLog {
    /// Returns the intents in `folder`, which is created when the first intent is written.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes an intent. Replaces an earlier intent for the same target.
    ///
    /// # Errors
    /// When the disk fails. Then there is no intent.
    pub(crate) fn write(&self, subject: &ChangeTarget, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        // No intent has this name, because names of intents do not begin with a dot.
        let temporary = self.folder.join(format!(".{}", subject.file_name()));
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, self.path(subject)));
        written.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        let synced = sync(&self.folder).and_then(|()| sync(self.folder.parent().unwrap_or(Path::new("."))));
        // The change itself was not started, and the caller reports a failure, so the intent is removed.
        synced.inspect_err(|_| drop(self.forget(subject)))
    }

    /// Returns the text of an intent; `None` if the target has no intent.
    ///
    /// # Errors
    /// When the intent exists but cannot be read.
    pub(crate) fn read(&self, subject: &ChangeTarget) -> io::Result<Option<String>> {
        none_if_missing(fs::read_to_string(self.path(subject)))
    }

    /// Returns whether there is an intent.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn has(&self, subject: &ChangeTarget) -> io::Result<bool> {
        self.path(subject).try_exists()
    }

    /// Returns the targets of all intents.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn all(&self) -> io::Result<Vec<ChangeTarget>> {
        let Some(entries) = none_if_missing(fs::read_dir(&self.folder))? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in entries {
            found.extend(entry?.file_name().to_str().and_then(ChangeTarget::of_file));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes an intent, if there is one.
    ///
    /// # Errors
    /// When the disk fails. The intent may be removed, or reappear after a power failure.
    pub(crate) fn forget(&self, subject: &ChangeTarget) -> io::Result<()> {
        none_if_missing(fs::remove_file(self.path(subject)))?;
        // The folder is synced even if the intent did not exist: an earlier removal may not have been synced.
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
        // This is the state that a killed process leaves.
        fs::create_dir(&intents.folder).unwrap();
        fs::write(intents.folder.join(".acme"), "12").unwrap();
        fs::write(intents.folder.join(".acme.shop"), "12").unwrap();
        assert_eq!(intents.all().unwrap(), []);
        assert!(!intents.has(&subject).unwrap());
        intents.write(&subject, "123").unwrap();
        assert_eq!(intents.all().unwrap(), std::slice::from_ref(&subject));
        // A failing disk leaves no intent. Here, a folder with the name of the intent's file makes the write fail.
        intents.forget(&subject).unwrap();
        fs::create_dir(intents.path(&subject)).unwrap();
        fs::write(intents.path(&subject).join("in the way"), "").unwrap();
        intents.write(&subject, "123").unwrap_err();
        assert!(!intents.folder.join(".acme").exists());
    }
}
