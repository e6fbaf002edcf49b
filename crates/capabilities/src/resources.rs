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
    /// The folder of its key-value stores.
    pub kv: PathBuf,
    /// The folder of its SQL stores.
    pub sql: PathBuf,
    /// The files that its manifest refers to: migrations, folders, secrets.
    pub files: AppFiles,
    /// The tenant's account of storage. All apps with the same account share its storage and its lane of the threads.
    pub storage: Arc<StorageAccount>,
    /// The tenant's account for processor time and memory of the stores.
    pub account: Arc<Account>,
    /// The maximum time of a SQL statement, whatever the manifest sets.
    pub statement_time_max: Duration,
    /// The tenant's allowed hosts; `None` if the manifest decides where requests go.
    pub outbound: Option<Arc<TenantHosts>>,
    /// The source of its secrets.
    pub secrets: SecretValues,
    /// Variables for secrets in addition to those of the process's environment, which take precedence. Used for the
    /// only app of a process.
    pub environment: Arc<BTreeMap<String, String>>,
    /// Where a candidate revision writes; `None` for a revision that serves.
    pub candidate: Option<CandidateResources>,
    /// The source of its grants, for messages about denials.
    pub granted_by: GrantedBy,
}

/// Where a candidate revision writes.
#[derive(Debug, Clone)]
pub struct CandidateResources {
    /// A folder of the candidate, for stores and for folders that the app does not have yet.
    pub folder: PathBuf,
    /// Its access to the app's folders that components may write to.
    pub folders: CandidateFolders,
}

/// The access of a candidate revision to the app's folders that components may write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateFolders {
    /// The folders themselves, read-only.
    ReadOnly,
    /// Copies of them, made by [`AppResources::copy_folders`].
    Copied,
}

impl AppResources {
    /// Returns the resources of an app of a tenant, whose data lies in `data` (`kv/`, `sql/` and `dirs/`, each created
    /// on demand) and whose revision's files lie in `files`. Its stores are not charged until [`AppResources::account`]
    /// is set.
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

    /// Returns the resources of the only app of a process, in its data directory. Paths of its manifest start at
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
    /// It writes to copies of stores in `folder`, where new stores and folders are created, too.
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
    /// finds them. Blocks.
    ///
    /// # Errors
    /// When there is not enough space in the tenant's storage or they cannot be copied by `deadline`. The copy is
    /// removed with the candidate's folder.
    ///
    /// # Panics
    /// Never: does nothing if these are not the resources of a candidate.
    pub fn copy_folders(&self, app: &AppGrants, deadline: Instant) -> io::Result<()> {
        let Some(candidate) = &self.candidate else { return Ok(()) };
        let dirs = candidate.dirs();
        make_private_dir(&dirs)?;
        for folder in self.writable_folders(app) {
            let copied = dirs.join(folder.file_name().unwrap_or_default());
            // Claimed in steps, until the copy is counted: the tenant's guests write meanwhile, and other tenants to
            // the same disk.
            let mut claim = Claim::new(&self.storage, 0);
            let more = |bytes| claim.as_mut().is_some_and(|claim| claim.grow(bytes));
            let outcome = isomer_disk::copy(&folder, &copied, deadline, more);
            self.storage.scan_folder(&copied)?;
            drop(claim);
            outcome?;
        }
        Ok(())
    }

    /// Returns the folder of a grant, with all links resolved, and whether it may be written. A tenant's folder that
    /// may be written is created if it does not exist.
    ///
    /// # Errors
    /// When it does not exist, or is not one of the app's own.
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
