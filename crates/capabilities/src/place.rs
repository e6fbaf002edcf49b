//! Where the capabilities of one app lie, and what its tenant may use of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_manifest::DirGrant;
use isomer_runtime::Account;

use crate::data_dir::make_private_dir;
use crate::grants::AppGrants;
use crate::outbound::TenantHosts;
use crate::secrets::{Secret, SecretValues};
use crate::storage::Claim;
use crate::{DataDir, StorageAccount};

/// Where one app's things are. Folders for data need not exist: what an app doesn't use isn't made.
#[derive(Debug, Clone)]
pub struct Place {
    /// Folder of its key-value stores.
    pub kv: PathBuf,
    /// Folder of its SQL stores.
    pub sql: PathBuf,
    /// The files that its manifest names: migrations, folders, secrets.
    pub files: AppFiles,
    /// Its tenant's account. All apps with the same one share its storage and its part of the threads.
    pub storage: Arc<StorageAccount>,
    /// What its tenant is charged for processor time and memory of its stores.
    pub account: Arc<Account>,
    /// How long a SQL statement may run at most, whatever its manifest says.
    pub statement_time_max: Duration,
    /// Its tenant's hosts; `None`: its manifest alone says where requests go.
    pub outbound: Option<Arc<TenantHosts>>,
    /// Where its secrets come from.
    pub secrets: SecretValues,
    /// Variables that secrets may come from beside those of the process's environment, which count first. For an app of a process.
    pub environment: Arc<BTreeMap<String, String>>,
    /// Where what a revision on trial writes goes; absent for one that serves.
    pub trial: Option<TrialPlace>,
    /// Where its grants come from, so that a denial tells how to grant it there.
    pub granted_by: GrantedBy,
}

/// Where the grants of an app come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GrantedBy {
    /// Its isomer.toml.
    #[default]
    Manifest,
    /// Flags of the command line: a component that is run from its file has no manifest.
    Flags,
}

/// Where what a revision on trial writes goes.
#[derive(Debug, Clone)]
pub struct TrialPlace {
    /// A folder of its own, for stores and for folders that the app does not have yet.
    pub folder: PathBuf,
    /// What it gets of the app's folders that components may write.
    pub folders: TrialFolders,
}

/// What a revision on trial gets of the app's folders that components may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialFolders {
    /// The folders themselves, only to be read.
    ReadOnly,
    /// Copies, made by [`Place::copy_folders`].
    Copied,
}

/// What the paths of a manifest mean.
#[derive(Debug, Clone)]
pub enum AppFiles {
    /// They start at this folder and may lead anywhere: the app is of whoever runs the process.
    Anywhere(PathBuf),
    /// They lead to the revision's own files and to the app's own folders, and nowhere else: the app is a tenant's.
    Own {
        /// The revision's files, which are only read.
        files: PathBuf,
        /// Folders that components may write to. Each is empty when it is first granted, and kept from revision to revision.
        writable: PathBuf,
    },
}

/// Longest name of a folder, in bytes: that of file systems.
const FOLDER_NAME_BYTES_MAX: usize = 255;

/// A path of a manifest leads out of what is the app's own.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is not one of the app's own files and folders", path.display())]
pub struct OutsideError {
    /// As the manifest has it.
    pub path: PathBuf,
}

impl Place {
    /// The place of an app of a tenant, whose data lies in `data` (`kv/`, `sql/` and `dirs/`, each made when it is needed) and
    /// whose revision's files lie in `files`. What its stores use is not charged until [`Place::account`] is set.
    #[must_use]
    pub fn of_tenant(
        data: &Path,
        files: &Path,
        storage: Arc<StorageAccount>,
        outbound: Arc<TenantHosts>,
        secrets: BTreeMap<String, Secret>,
    ) -> Self {
        Self {
            kv: data.join("kv"),
            sql: data.join("sql"),
            files: AppFiles::Own { files: files.to_owned(), writable: data.join("dirs") },
            storage,
            account: Account::unlimited(),
            statement_time_max: Duration::MAX,
            outbound: Some(outbound),
            secrets: SecretValues::Given(secrets),
            environment: Arc::default(),
            trial: None,
            granted_by: GrantedBy::Manifest,
        }
    }

    /// The place of the one app of a process, in its data directory. Paths of its manifest start at `app_dir`.
    #[must_use]
    pub fn of_process(app_dir: &Path, data: &DataDir) -> Self {
        Self {
            kv: data.kv(),
            sql: data.sql(),
            files: AppFiles::Anywhere(app_dir.to_owned()),
            storage: Arc::new(StorageAccount::unlimited()),
            account: Account::unlimited(),
            statement_time_max: Duration::MAX,
            outbound: None,
            secrets: SecretValues::FromManifest,
            environment: Arc::default(),
            trial: None,
            granted_by: GrantedBy::Manifest,
        }
    }

    /// The same place for a revision on trial: nothing that it writes gets to the app's own stores and folders. What it writes to stores goes to
    /// copies in `folder`, where stores and folders that are not there are made, too.
    #[must_use]
    pub fn on_trial(&self, folder: &Path, folders: TrialFolders) -> Self {
        Self { trial: Some(TrialPlace { folder: folder.to_owned(), folders }), ..self.clone() }
    }

    /// The app's folders that components of `app` may write, as far as they are there.
    #[must_use]
    pub fn writable_folders(&self, app: &AppGrants) -> Vec<PathBuf> {
        let folders: BTreeSet<_> = app.dirs().filter_map(|grant| self.files.writable(grant)).collect();
        folders.into_iter().filter(|folder| folder.is_dir()).collect()
    }

    /// Copies the [writable folders](Place::writable_folders) to where a revision on trial in this place finds them. Blocks.
    ///
    /// # Errors
    /// When there is no room in the tenant's storage or they cannot be copied by `deadline`. What was copied goes with the trial's folder.
    ///
    /// # Panics
    /// Never: it does nothing where the place is for no trial.
    pub fn copy_folders(&self, app: &AppGrants, deadline: Instant) -> io::Result<()> {
        let Some(trial) = &self.trial else { return Ok(()) };
        let dirs = trial.dirs();
        make_private_dir(&dirs)?;
        for folder in self.writable_folders(app) {
            let copied = dirs.join(folder.file_name().unwrap_or_default());
            // Claimed step by step, and until it is counted: the tenant's guests write meanwhile, and other tenants' to the same disk.
            let mut claim = Claim::new(&self.storage, 0);
            let more = |bytes| claim.as_mut().is_some_and(|claim| claim.grow(bytes));
            let outcome = isomer_disk::copy(&folder, &copied, deadline, more);
            self.storage.scan_folder(&copied)?;
            drop(claim);
            outcome?;
        }
        Ok(())
    }

    /// The folder of a grant, with all links resolved, and whether it may be written. One that may be written is made where the app is a tenant's.
    ///
    /// # Errors
    /// When it is not there, or not the app's own.
    pub fn directory(&self, grant: &DirGrant) -> io::Result<(PathBuf, bool)> {
        match (&self.trial, &self.files) {
            (Some(trial), AppFiles::Own { files, .. }) if grant.write => {
                let is_there = self.files.writable(grant).is_some_and(|folder| folder.exists());
                if is_there && trial.folders == TrialFolders::ReadOnly {
                    return Ok((self.files.directory(grant)?, false));
                }
                let own = AppFiles::Own { files: files.clone(), writable: trial.dirs() };
                Ok((own.directory(grant)?, true))
            }
            _ => Ok((self.files.directory(grant)?, grant.write)),
        }
    }

    /// A place for stores in `folder`; everything else is the same.
    pub(crate) fn within(&self, folder: &Path) -> Self {
        Self { kv: folder.join("kv"), sql: folder.join("sql"), ..self.clone() }
    }

    /// The place of the next revision of the app, whose files lie in `dir`; everything else stays.
    #[must_use]
    pub fn with_files(&self, dir: &Path) -> Self {
        let files = match &self.files {
            AppFiles::Anywhere(_) => AppFiles::Anywhere(dir.to_owned()),
            AppFiles::Own { writable, .. } => AppFiles::Own { files: dir.to_owned(), writable: writable.clone() },
        };
        Self { files, ..self.clone() }
    }
}

impl TrialPlace {
    /// Folders that components may write.
    fn dirs(&self) -> PathBuf {
        self.folder.join("dirs")
    }
}

impl AppFiles {
    /// The folder of a grant with `write`, whether it is there or not; `None` where the app belongs to the user who runs the process.
    fn writable(&self, grant: &DirGrant) -> Option<PathBuf> {
        match self {
            Self::Own { writable, .. } if grant.write => Some(writable.join(folder_name(&grant.host).ok()?)),
            _ => None,
        }
    }

    /// How an error names a path of the manifest: where it leads, to whoever runs the process; as written, to a tenant, whom a
    /// node's folders do not concern.
    #[must_use]
    pub fn shown(&self, path: &Path) -> PathBuf {
        match self {
            Self::Anywhere(base) => base.join(path),
            Self::Own { .. } => path.to_owned(),
        }
    }

    /// The path of a file or folder that the manifest names and that is only read.
    ///
    /// # Errors
    /// When it is not the app's own.
    pub fn read_only(&self, path: &Path) -> Result<PathBuf, OutsideError> {
        match self {
            Self::Anywhere(base) => Ok(base.join(path)),
            Self::Own { files, .. } => below(files, path),
        }
    }

    /// The folder of a grant, with all links resolved. One that may be written is made where the app is a tenant's.
    ///
    /// # Errors
    /// When it is not there, or not the app's own.
    pub fn directory(&self, grant: &DirGrant) -> io::Result<PathBuf> {
        let outside = |error| io::Error::new(io::ErrorKind::PermissionDenied, error);
        let (path, base) = match self {
            Self::Anywhere(base) => (base.join(&grant.host), None),
            Self::Own { files, .. } if !grant.write => (below(files, &grant.host).map_err(outside)?, Some(files)),
            Self::Own { writable, .. } => {
                let path = writable.join(folder_name(&grant.host).map_err(outside)?);
                make_private_dir(&path)?;
                (path, Some(writable))
            }
        };
        let real = path.canonicalize()?;
        if let Some(base) = base
            && !real.starts_with(base.canonicalize()?)
        {
            // A link stands where a folder should.
            return Err(outside(OutsideError { path: grant.host.clone() }));
        }
        std::fs::read_dir(&real)?;
        Ok(real)
    }
}

/// `path` below `base`, unless it is absolute or goes up.
fn below(base: &Path, path: &Path) -> Result<PathBuf, OutsideError> {
    let mut joined = base.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(part) => joined.push(part),
            Component::CurDir => {}
            _ => return Err(OutsideError { path: path.to_owned() }),
        }
    }
    Ok(joined)
}

/// The name of the folder for what a manifest calls `path`. Folders that components may write lie side by side, whatever their
/// paths: were one inside of another, who may write the outer one could put a link in place of the inner one.
fn folder_name(path: &Path) -> Result<String, OutsideError> {
    let outside = || OutsideError { path: path.to_owned() };
    let relative = below(Path::new(""), path)?;
    let text = relative.to_str().ok_or_else(outside)?;
    let mut name = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '%' => name.push_str("%25"),
            '/' | '\\' => name.push_str("%2F"),
            '\0' => return Err(outside()),
            other => name.push(other),
        }
    }
    // The app's folder itself.
    if name.is_empty() {
        name.push('%');
    }
    if name.len() > FOLDER_NAME_BYTES_MAX { Err(outside()) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::ComponentGrants;

    fn grant(host: &str, write: bool) -> DirGrant {
        DirGrant { host: host.into(), guest: "/data".to_owned(), write }
    }

    #[test]
    fn a_tenants_paths_lead_to_its_own_files_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let own = AppFiles::Own { files: dir.path().join("files"), writable: dir.path().join("dirs") };
        std::fs::create_dir_all(dir.path().join("files/templates")).unwrap();
        for path in ["/etc", "..", "../dirs", "templates/../../dirs", "a/../../b"] {
            assert!(own.read_only(Path::new(path)).is_err(), "{path}");
            for write in [true, false] {
                let refused = own.directory(&grant(path, write)).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{path}: {refused}");
            }
        }
        assert_eq!(own.directory(&grant("missing", false)).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(own.directory(&grant("./templates", false)).unwrap().ends_with("files/templates"));
        assert!(!dir.path().join("dirs").exists(), "made with the first that is granted");
        let names = ["data", "data/inner", "data%2Finner", "templates", "."];
        let folders: std::collections::BTreeSet<_> =
            names.iter().map(|name| own.directory(&grant(name, true)).unwrap()).collect();
        assert_eq!(folders.len(), names.len(), "each has one of its own");
        let real = dir.path().join("dirs").canonicalize().unwrap();
        assert!(folders.iter().all(|folder| folder.parent() == Some(&real)), "side by side: {folders:?}");
    }

    #[test]
    fn a_trial_reads_the_apps_folders_or_writes_copies_and_makes_what_is_not_there_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (data, trial) = (dir.path().join("data"), dir.path().join("trial"));
        let hosts = Arc::new(TenantHosts::new(None).unwrap());
        let storage = Arc::new(StorageAccount::new(1 << 20));
        let place = Place::of_tenant(&data, &dir.path().join("files"), storage.clone(), hosts, BTreeMap::new());
        let dirs = vec![grant("notes", true), grant("new", true)];
        let component = isomer_manifest::ComponentName::new("c").unwrap();
        let grants = ComponentGrants { dirs, ..ComponentGrants::default() };
        let app = AppGrants { components: BTreeMap::from([(component, grants)]), ..AppGrants::default() };
        let (notes, _) = place.directory(&grant("notes", true)).unwrap();
        std::fs::write(notes.join("mine"), "text").unwrap();
        let reading = place.on_trial(&trial, TrialFolders::ReadOnly);
        assert_eq!(reading.directory(&grant("notes", true)).unwrap(), (notes.clone(), false));
        let (new, may_write) = reading.directory(&grant("new", true)).unwrap();
        assert!(may_write && new.starts_with(trial.canonicalize().unwrap()) && !data.join("dirs/new").exists());
        std::fs::remove_dir_all(&trial).unwrap();
        std::fs::create_dir(&trial).unwrap();
        let writing = place.on_trial(&trial, TrialFolders::Copied);
        writing.copy_folders(&app, Instant::now() + Duration::from_secs(600)).unwrap();
        let (copied, may_write) = writing.directory(&grant("notes", true)).unwrap();
        assert!(may_write && copied.starts_with(trial.canonicalize().unwrap()));
        assert_eq!(std::fs::read(copied.join("mine")).unwrap(), b"text");
        assert!(storage.used_in(&trial) >= 4096, "the copy is counted");
        // What guests of the app that serves have claimed is not left for a copy.
        let left = storage.room();
        assert!(storage.claim(left));
        let beside = place.on_trial(&dir.path().join("beside"), TrialFolders::Copied);
        assert!(beside.copy_folders(&app, Instant::now() + Duration::from_secs(600)).is_err());
        storage.settle(left);
        storage.set_limit(0);
        let refused = place.on_trial(&dir.path().join("other"), TrialFolders::Copied);
        assert!(refused.copy_folders(&app, Instant::now() + Duration::from_secs(600)).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_place_of_a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = AppFiles::Own { files: dir.path().join("files"), writable: dir.path().join("dirs") };
        for folder in ["files", "dirs", "secret"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            std::os::unix::fs::symlink("../secret", dir.path().join(folder).join("data")).unwrap();
        }
        for write in [true, false] {
            let refused = own.directory(&grant("data", write)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{refused}");
        }
    }
}
