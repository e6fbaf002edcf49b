//! The folders, accounts and secrets that the capabilities of one app use.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_manifest::DirGrant;
use isomer_runtime::Account;

use crate::app_files::AppFiles;
use crate::data_dir::DataDir;
use crate::grants::{AppGrants, GrantedBy};
use crate::outbound::TenantHosts;
use crate::private_files::make_private_dir;
use crate::secrets::{Secret, SecretValues};
use crate::storage::{Claim, StorageAccount};

/// The folders, accounts and secrets of one app. Folders for data need not exist: they are created on demand.
#[derive(Debug, Clone)]
pub struct AppResources {
    /// The folder of the app's key-value stores.
    pub kv: PathBuf,
    /// The folder of the app's SQL stores.
    pub sql: PathBuf,
    /// The files that the app's manifest refers to: migrations, folders, secrets.
    pub files: AppFiles,
    /// The tenant's account of storage. All apps with the same account share its storage and its lane of threads.
    pub storage: Arc<StorageAccount>,
    /// The tenant's account for processor time and memory of the stores.
    pub account: Arc<Account>,
    /// The maximum time limit of a SQL statement. The manifest can only set a shorter one.
    pub statement_time_max: Duration,
    /// The tenant's allowed hosts; `None` if only the manifest restricts where requests go.
    pub outbound: Option<Arc<TenantHosts>>,
    /// The source of the app's secrets.
    pub secrets: SecretValues,
    /// Variables for secrets, in addition to those in the environment of the process, which take precedence. Used when
    /// the process has only one app.
    pub environment: Arc<BTreeMap<String, String>>,
    /// The folder that a candidate revision writes to; `None` for a revision that serves requests.
    pub candidate: Option<CandidateResources>,
    /// The source of the app's grants, for messages about denials.
    pub granted_by: GrantedBy,
}

/// The folders that a candidate revision writes to.
#[derive(Debug, Clone)]
pub struct CandidateResources {
    /// A folder of the candidate, for copies of stores, and for stores and folders that the app does not have yet.
    pub folder: PathBuf,
    /// The candidate's access to the app's folders that components may write to.
    pub folders: CandidateFolders,
}

/// The access of a candidate revision to the app's folders that components may write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateFolders {
    /// The app's own folders, read-only.
    ReadOnly,
    /// Copies of the app's folders, made by [`AppResources::copy_folders`].
    Copied,
}

impl AppResources {
    /// Returns the resources of an app of a tenant. The app's data lies in `data` (`kv/`, `sql/` and `dirs/`, each
    /// created on demand), and the files of its revision in `files`. Its stores are not charged until
    /// [`AppResources::account`] is set.
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
            candidate: None,
            granted_by: GrantedBy::Manifest,
        }
    }

    /// Returns the resources of the only app of a process, in its data directory. Paths of its manifest are relative to
    /// `app_dir`.
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
            candidate: None,
            granted_by: GrantedBy::Manifest,
        }
    }

    /// Returns the same resources for a candidate revision, whose writes do not reach the app's own stores and folders.
    /// The candidate writes to copies of stores in `folder`, where new stores and folders are also created.
    #[must_use]
    pub fn for_candidate(&self, folder: &Path, folders: CandidateFolders) -> Self {
        Self { candidate: Some(CandidateResources { folder: folder.to_owned(), folders }), ..self.clone() }
    }

    /// Returns the existing folders that components may write to.
    #[must_use]
    pub fn writable_folders(&self, app: &AppGrants) -> Vec<PathBuf> {
        let folders: BTreeSet<_> = app.dirs().filter_map(|grant| self.files.writable(grant)).collect();
        folders.into_iter().filter(|folder| folder.is_dir()).collect()
    }

    /// Copies the [writable folders](AppResources::writable_folders) to where a candidate revision with these resources
    /// uses them. Blocks.
    ///
    /// # Errors
    /// If there is not enough space in the tenant's storage, or the folders cannot be copied by `deadline`. The
    /// incomplete copy is removed with the candidate's folder.
    ///
    /// # Panics
    /// Never: does nothing if these are not the resources of a candidate.
    pub fn copy_folders(&self, app: &AppGrants, deadline: Instant) -> io::Result<()> {
        let Some(candidate) = &self.candidate else { return Ok(()) };
        let dirs = candidate.dirs();
        make_private_dir(&dirs)?;
        for folder in self.writable_folders(app) {
            let copied = dirs.join(folder.file_name().unwrap_or_default());
            // The space is claimed in steps, until the copy has been measured: meanwhile the tenant's guests write, and
            // other tenants write to the same disk.
            let mut claim = Claim::new(&self.storage, 0);
            let more = |bytes| claim.as_mut().is_some_and(|claim| claim.grow(bytes));
            let outcome = isomer_disk::copy(&folder, &copied, deadline, more);
            self.storage.scan_folder(&copied)?;
            drop(claim);
            outcome?;
        }
        Ok(())
    }

    /// Returns the folder of a grant, with all links resolved, and whether it may be written. Creates a tenant's
    /// writable folder if it does not exist.
    ///
    /// # Errors
    /// If the folder does not exist, or is not one of the app's own.
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

    /// Returns the same resources with the stores in `folder`.
    pub(crate) fn within(&self, folder: &Path) -> Self {
        Self { kv: folder.join("kv"), sql: folder.join("sql"), ..self.clone() }
    }

    /// Returns the same resources for the next revision of the app, whose files lie in `dir`.
    #[must_use]
    pub fn with_files(&self, dir: &Path) -> Self {
        let files = match &self.files {
            AppFiles::Anywhere(_) => AppFiles::Anywhere(dir.to_owned()),
            AppFiles::Own { writable, .. } => AppFiles::Own { files: dir.to_owned(), writable: writable.clone() },
        };
        Self { files, ..self.clone() }
    }
}

impl CandidateResources {
    /// The folder of folders that components may write to.
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
        assert!(storage.used_in(&candidate) >= 4096, "the copy is counted");
        // Space that guests of the serving app have claimed is not available for a copy.
        let left = storage.room();
        assert!(storage.claim(left));
        let second = resources.for_candidate(&dir.path().join("second"), CandidateFolders::Copied);
        assert!(second.copy_folders(&app, Instant::now() + Duration::from_secs(600)).is_err());
        storage.settle(left);
        storage.set_limit(0);
        let refused = resources.for_candidate(&dir.path().join("other"), CandidateFolders::Copied);
        assert!(refused.copy_folders(&app, Instant::now() + Duration::from_secs(600)).is_err());
    }
}
