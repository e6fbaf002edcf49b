//! Where the capabilities of one app lie, and what its tenant may use of them.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use isomer_manifest::DirGrant;

use crate::data_dir::make_private_dir;
use crate::outbound::TenantHosts;
use crate::secrets::SecretValues;
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
    /// Its tenant's hosts; `None`: its manifest alone says where requests go.
    pub outbound: Option<Arc<TenantHosts>>,
    /// Where its secrets come from.
    pub secrets: SecretValues,
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

/// A path of a manifest leads out of what is the app's own.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is not one of the app's own files and folders", path.display())]
pub struct OutsideError {
    /// As the manifest has it.
    pub path: PathBuf,
}

impl Place {
    /// The place of the one app of a process, in its data directory. Paths of its manifest start at `app_dir`.
    #[must_use]
    pub fn of_process(app_dir: &Path, data: &DataDir) -> Self {
        Self {
            kv: data.kv(),
            sql: data.sql(),
            files: AppFiles::Anywhere(app_dir.to_owned()),
            storage: Arc::new(StorageAccount::unlimited()),
            outbound: None,
            secrets: SecretValues::FromManifest,
        }
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

impl AppFiles {
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
                let path = below(writable, &grant.host).map_err(outside)?;
                make_private_dir(writable)?;
                make_below(writable, &path)?;
                (path, Some(writable))
            }
        };
        let real = path.canonicalize()?;
        if let Some(base) = base
            && !real.starts_with(base.canonicalize()?)
        {
            // A component that may write the folder around this one has put a link in its place.
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

/// Makes `path` below `base`, which is there. Nothing is made behind a link.
fn make_below(base: &Path, path: &Path) -> io::Result<()> {
    let Ok(rest) = path.strip_prefix(base) else { return Ok(()) };
    let mut folder = base.to_owned();
    for part in rest.components() {
        folder.push(part);
        match std::fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!("`{}` is no folder", folder.display()),
                ));
            }
            Err(_) => make_private_dir(&folder)?,
        }
    }
    Ok(())
}
