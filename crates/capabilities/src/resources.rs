//! The folders, accounts and secrets that the capabilities of one app use.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_manifest::DirGrant;
use isomer_runtime::Account;
use isomer_telemetry::metrics::SeriesGroup;

use crate::app_files::AppFiles;
use crate::app_origin::AppOrigin;
use crate::data_dir::DataDir;
use crate::grants::{AppGrants, GrantedBy};
use crate::outbound::TenantHosts;
use crate::private_files::make_private_dir;
use crate::secrets::{Secret, SecretValues};
use crate::storage::{Claim, StorageAccount};

/// The name of the file with the key of an app's sessions.
pub const SESSION_KEY_FILE: &str = "sessions.key";

/// The folders, accounts and secrets of one app. Data folders are created on demand, so they need not exist.
#[derive(Debug, Clone)]
pub struct AppResources {
    /// The folder of the app's key-value stores.
    pub kv: PathBuf,
    /// The folder of the app's SQL stores.
    pub sql: PathBuf,
    /// The file with the key of the app's sessions, in an app with a browser group.
    pub session_key: PathBuf,
    /// The files to which the paths in the app's manifest may refer: migrations, folders, secrets.
    pub files: AppFiles,
    /// The tenant's storage account. Apps with the same account share its quota, and its share of the engines' threads.
    pub storage: Arc<StorageAccount>,
    /// The account to which the stores charge processor time and memory.
    pub account: Arc<Account>,
    /// The maximum time limit of an SQL store's statements. The manifest can only set a lower limit.
    pub statement_time_max: Duration,
    /// The hosts to which the tenant's apps may send requests; `None` if only the manifest restricts the hosts.
    pub outbound: Option<Arc<TenantHosts>>,
    /// The source of the app's secrets.
    pub secrets: SecretValues,
    /// Environment variables for secrets, used if the environment of the process has no variable of that name. Only set
    /// in a process that runs one app.
    pub environment: Arc<BTreeMap<String, String>>,
    /// The folders that a candidate revision writes to; `None` for a revision that serves requests.
    pub candidate: Option<CandidateResources>,
    /// The series in which operations on the stores are measured.
    pub series: Arc<SeriesGroup>,
    /// The source of the app's grants, for the messages about denials.
    pub granted_by: GrantedBy,
}

/// The folders that a candidate revision writes to.
#[derive(Debug, Clone)]
pub struct CandidateResources {
    /// The candidate's own folder, for copies of stores, and for stores and folders that the app does not have yet.
    pub folder: PathBuf,
    /// Determines whether the candidate reads the app's writable folders or writes to copies of them.
    pub folders: CandidateFolders,
}

/// The access of a candidate revision to the app's writable folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateFolders {
    /// The candidate can read the app's own folders.
    ReadOnly,
    /// The candidate can read and write copies of the app's folders, made by [`AppResources::copy_folders`].
    Copied,
}

impl AppResources {
    /// Returns the resources of a tenant's app. The app's data is in `data` (`kv/`, `sql/` and `dirs/`, each created on
    /// demand), and the files of its revision are in `files`. The stores charge no account until the caller sets
    /// [`AppResources::account`].
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
            session_key: data.join(SESSION_KEY_FILE),
            files: AppFiles::Own { files: files.to_owned(), writable: data.join("dirs") },
            storage,
            account: Account::unlimited(),
            statement_time_max: Duration::MAX,
            outbound: Some(outbound),
            secrets: SecretValues::Given(secrets),
            environment: Arc::default(),
            candidate: None,
            series: Arc::default(),
            granted_by: GrantedBy::Manifest,
        }
    }

    /// Returns the resources of an app that runs in a process without other apps. `data` is the data directory of the
    /// process. Paths in the app's manifest are relative to `app_dir`.
    #[must_use]
    pub fn of_process(app_dir: &Path, data: &DataDir) -> Self {
        Self {
            kv: data.kv(),
            sql: data.sql(),
            session_key: data.path().join(SESSION_KEY_FILE),
            files: AppFiles::Anywhere(app_dir.to_owned()),
            storage: Arc::new(StorageAccount::unlimited()),
            account: Account::unlimited(),
            statement_time_max: Duration::MAX,
            outbound: None,
            secrets: SecretValues::FromManifest,
            environment: Arc::default(),
            candidate: None,
            series: Arc::default(),
            granted_by: GrantedBy::Manifest,
        }
    }

    /// Returns the resources of an app from `origin` that runs in a process without other apps. `data` is the data
    /// directory of the process. `files` is the app's folder, or the folder with the files of its release.
    #[must_use]
    pub fn of_origin(origin: AppOrigin, files: &Path, data: &DataDir) -> Self {
        let resources = Self::of_process(files, data);
        let outside = match origin {
            AppOrigin::Sources => return resources,
            AppOrigin::Program => true,
            AppOrigin::Unpacked => false,
        };
        let writable = data.path().join("dirs");
        Self { files: AppFiles::Shipped { files: files.to_owned(), writable, outside }, ..resources }
    }

    /// Returns these resources for a candidate revision, whose writes do not reach the app's own stores and folders.
    /// The candidate writes to copies of stores in `folder`. Stores and folders that the app does not have yet are
    /// created there too.
    #[must_use]
    pub fn for_candidate(&self, folder: &Path, folders: CandidateFolders) -> Self {
        Self { candidate: Some(CandidateResources { folder: folder.to_owned(), folders }), ..self.clone() }
    }

    /// Returns the existing folders to which components may write.
    #[must_use]
    pub fn writable_folders(&self, app: &AppGrants) -> Vec<PathBuf> {
        let folders: BTreeSet<_> = app.dirs().filter_map(|grant| self.files.writable(grant)).collect();
        folders.into_iter().filter(|folder| folder.is_dir()).collect()
    }

    /// Copies the [writable folders](AppResources::writable_folders) to the folder of the candidate revision. Does
    /// nothing if these are not the resources of a candidate. Blocks the thread.
    ///
    /// # Errors
    /// If there is not enough space in the tenant's storage, or if the folders cannot be copied by `deadline`. The
    /// incomplete copy is removed later, with the candidate's folder.
    pub fn copy_folders(&self, app: &AppGrants, deadline: Instant) -> io::Result<()> {
        let Some(candidate) = &self.candidate else { return Ok(()) };
        let dirs = candidate.dirs();
        make_private_dir(&dirs)?;
        for folder in self.writable_folders(app) {
            let copied = dirs.join(folder.file_name().unwrap_or_default());
            // Reserves the space of the copy in steps, because the tenant's guests and other tenants write to the same
            // disk at the same time. The reservation is released after the copy has been measured.
            let mut claim = Claim::new(&self.storage, 0);
            let more = |bytes| claim.as_mut().is_some_and(|claim| claim.grow(bytes));
            let outcome = isomer_disk::copy(&folder, &copied, deadline, more);
            self.storage.scan_folder(&copied)?;
            drop(claim);
            outcome?;
        }
        Ok(())
    }

    /// Returns the folder of a grant, with all symbolic links resolved, and whether the component may write to it.
    /// Creates the folder if it is writable, belongs to a tenant and does not exist.
    ///
    /// # Errors
    /// If the folder cannot be read or created, or is not one of the app's own folders.
    pub fn directory(&self, grant: &DirGrant) -> io::Result<(PathBuf, bool)> {
        match (&self.candidate, &self.files) {
            (Some(candidate), AppFiles::Own { files, .. }) if grant.write => {
                let is_there = self.files.writable(grant).is_some_and(|folder| folder.exists());
                if is_there && candidate.folders == CandidateFolders::ReadOnly {
                    return Ok((self.files.directory(grant)?, false));
                }
                let own = AppFiles::Own { files: files.clone(), writable: candidate.dirs() };
                Ok((own.directory(grant)?, true))
            }
            _ => Ok((self.files.directory(grant)?, grant.write)),
        }
    }

    /// Returns a copy of these resources in which the stores are in `folder`.
    pub(crate) fn within(&self, folder: &Path) -> Self {
        Self { kv: folder.join("kv"), sql: folder.join("sql"), ..self.clone() }
    }

    /// Returns these resources for the next revision of the app, whose files are in `dir`.
    #[must_use]
    pub fn with_files(&self, dir: &Path) -> Self {
        let files = match &self.files {
            AppFiles::Anywhere(_) => AppFiles::Anywhere(dir.to_owned()),
            AppFiles::Own { writable, .. } => AppFiles::Own { files: dir.to_owned(), writable: writable.clone() },
            AppFiles::Shipped { writable, outside, .. } => {
                AppFiles::Shipped { files: dir.to_owned(), writable: writable.clone(), outside: *outside }
            }
        };
        Self { files, ..self.clone() }
    }
}

impl CandidateResources {
    /// Returns the folder that contains the writable folders of the candidate: copies of the app's folders, and new
    /// folders.
    fn dirs(&self) -> PathBuf {
        self.folder.join("dirs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::ComponentGrants;

    fn grant(host: &str, write: bool) -> DirGrant {
        DirGrant { host: host.into(), guest: "/data".to_owned(), write }
    }

    #[test]
    fn a_candidate_reads_the_apps_folders_or_writes_to_copies() {
        let dir = tempfile::tempdir().unwrap();
        let (data, candidate) = (dir.path().join("data"), dir.path().join("candidate"));
        let hosts = Arc::new(TenantHosts::new(None).unwrap());
        let storage = Arc::new(StorageAccount::new(1 << 20));
        let resources =
            AppResources::of_tenant(&data, &dir.path().join("files"), storage.clone(), hosts, BTreeMap::new());
        let dirs = vec![grant("notes", true), grant("new", true)];
        let component = isomer_ids::ComponentName::new("c").unwrap();
        let grants = ComponentGrants { dirs, ..ComponentGrants::default() };
        let app = AppGrants { components: BTreeMap::from([(component, grants)]), ..AppGrants::default() };
        let (notes, _) = resources.directory(&grant("notes", true)).unwrap();
        std::fs::write(notes.join("mine"), "text").unwrap();
        let reading = resources.for_candidate(&candidate, CandidateFolders::ReadOnly);
        assert_eq!(reading.directory(&grant("notes", true)).unwrap(), (notes.clone(), false));
        let (new, may_write) = reading.directory(&grant("new", true)).unwrap();
        assert!(may_write && new.starts_with(candidate.canonicalize().unwrap()) && !data.join("dirs/new").exists());
        std::fs::remove_dir_all(&candidate).unwrap();
        std::fs::create_dir(&candidate).unwrap();
        let writing = resources.for_candidate(&candidate, CandidateFolders::Copied);
        writing.copy_folders(&app, Instant::now() + Duration::from_secs(600)).unwrap();
        let (copied, may_write) = writing.directory(&grant("notes", true)).unwrap();
        assert!(may_write && copied.starts_with(candidate.canonicalize().unwrap()));
        assert_eq!(std::fs::read(copied.join("mine")).unwrap(), b"text");
        assert!(storage.used_in(&candidate) >= 4096, "the copy is added to the used storage");
        // The copy cannot use space that is reserved for guests of the serving revision.
        let left = storage.room();
        assert!(storage.claim(left));
        let second = resources.for_candidate(&dir.path().join("second"), CandidateFolders::Copied);
        assert!(second.copy_folders(&app, Instant::now() + Duration::from_secs(600)).is_err());
        storage.release_claim(left);
        storage.set_limit(0);
        let refused = resources.for_candidate(&dir.path().join("other"), CandidateFolders::Copied);
        assert!(refused.copy_folders(&app, Instant::now() + Duration::from_secs(600)).is_err());
    }
}
