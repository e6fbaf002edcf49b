//! Where the capabilities of one app lie, and what its tenant may use of them.

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

/// Where one app's things are. Folders for data need not exist: what an app doesn't use isn't made.
#[derive(Debug, Clone)]
pub struct AppResources {
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
    /// Where what a candidate revision writes goes; absent for one that serves.
    pub candidate: Option<CandidateResources>,
    /// Where its grants come from, so that a denial tells how to grant it there.
    pub granted_by: GrantedBy,
}

/// Where what a candidate revision writes goes.
#[derive(Debug, Clone)]
pub struct CandidateResources {
    /// A folder of its own, for stores and for folders that the app does not have yet.
    pub folder: PathBuf,
    /// What it gets of the app's folders that components may write.
    pub folders: CandidateFolders,
}

/// What a candidate revision gets of the app's folders that components may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateFolders {
    /// The folders themselves, only to be read.
    ReadOnly,
    /// Copies, made by [`AppResources::copy_folders`].
    Copied,
}

impl AppResources {
    /// The resources of an app of a tenant, whose data lies in `data` (`kv/`, `sql/` and `dirs/`, each made when it is needed) and
    /// whose revision's files lie in `files`. What its stores use is not charged until [`AppResources::account`] is set.
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

    /// The resources of the one app of a process, in its data directory. Paths of its manifest start at `app_dir`.
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

    /// The same place for a candidate revision: nothing that it writes gets to the app's own stores and folders. What it writes to stores goes to
    /// copies in `folder`, where stores and folders that are not there are made, too.
    #[must_use]
    pub fn for_candidate(&self, folder: &Path, folders: CandidateFolders) -> Self {
        Self { candidate: Some(CandidateResources { folder: folder.to_owned(), folders }), ..self.clone() }
    }

    /// The app's folders that components of `app` may write, as far as they are there.
    #[must_use]
    pub fn writable_folders(&self, app: &AppGrants) -> Vec<PathBuf> {
        let folders: BTreeSet<_> = app.dirs().filter_map(|grant| self.files.writable(grant)).collect();
        folders.into_iter().filter(|folder| folder.is_dir()).collect()
    }

    /// Copies the [writable folders](AppResources::writable_folders) to where a candidate revision in this resources finds them. Blocks.
    ///
    /// # Errors
    /// When there is no room in the tenant's storage or they cannot be copied by `deadline`. What was copied goes with the candidate's folder.
    ///
    /// # Panics
    /// Never: it does nothing where the resources is for no candidate.
    pub fn copy_folders(&self, app: &AppGrants, deadline: Instant) -> io::Result<()> {
        let Some(candidate) = &self.candidate else { return Ok(()) };
        let dirs = candidate.dirs();
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

    /// A place for stores in `folder`; everything else is the same.
    pub(crate) fn within(&self, folder: &Path) -> Self {
        Self { kv: folder.join("kv"), sql: folder.join("sql"), ..self.clone() }
    }

    /// The resources of the next revision of the app, whose files lie in `dir`; everything else stays.
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
    /// Folders that components may write.
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
    fn a_trial_reads_the_apps_folders_or_writes_copies_and_makes_what_is_not_there_elsewhere() {
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
        // What guests of the app that serves have claimed is not left for a copy.
        let left = storage.room();
        assert!(storage.claim(left));
        let beside = resources.for_candidate(&dir.path().join("beside"), CandidateFolders::Copied);
        assert!(beside.copy_folders(&app, Instant::now() + Duration::from_secs(600)).is_err());
        storage.settle(left);
        storage.set_limit(0);
        let refused = resources.for_candidate(&dir.path().join("other"), CandidateFolders::Copied);
        assert!(refused.copy_folders(&app, Instant::now() + Duration::from_secs(600)).is_err());
    }
}
