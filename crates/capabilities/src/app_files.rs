//! Resolves the paths in a manifest to files and folders that the app may use.

use std::io;
use std::path::{Component, Path, PathBuf};

use isomer_manifest::DirGrant;

use crate::private_files::make_private_dir;

/// The files and folders that the paths in a manifest may refer to.
#[derive(Debug, Clone)]
pub enum AppFiles {
    /// The app belongs to the user who runs the process. Paths are relative to this folder and may lead to any file.
    Anywhere(PathBuf),
    /// The app belongs to a tenant. Paths lead only to the files of the revision and to the app's own folders.
    Own {
        /// The folder of the revision's files, which components can only read.
        files: PathBuf,
        /// The parent folder of the folders that components may write to. Each of these folders is empty when it is
        /// first granted, and later revisions use the same folder.
        writable: PathBuf,
    },
    /// The app was built elsewhere, and runs in a process of its user. Relative paths lead to the files of the release and
    /// to the app's own folders.
    Shipped {
        /// The folder of the release's files, which components can only read.
        files: PathBuf,
        /// The parent folder of the folders that components may write to.
        writable: PathBuf,
        /// Whether absolute paths lead to any file of this machine. Otherwise they are refused.
        outside: bool,
    },
}

/// The maximum length of a folder's name, in bytes. Most file systems have this limit.
const FOLDER_NAME_BYTES_MAX: usize = 255;

/// The error for a path in a manifest that leads to a place outside the app's own files and folders.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is not one of the app's own files and folders", path.display())]
pub struct OutsideError {
    /// The path as it is written in the manifest.
    pub path: PathBuf,
}

impl AppFiles {
    /// Returns the path of the folder to which a writable grant leads. The folder need not exist. Returns `None` for a
    /// read-only grant, or if the app belongs to the user who runs the process.
    pub(crate) fn writable(&self, grant: &DirGrant) -> Option<PathBuf> {
        match self {
            Self::Own { writable, .. } | Self::Shipped { writable, .. } if grant.write => {
                Some(writable.join(folder_name(&grant.host).ok()?))
            }
            _ => None,
        }
    }

    /// Returns a path of the manifest in the form for error messages. This is the resolved path if the app belongs to
    /// the user who runs the process. Otherwise, it is the path in the manifest, because a tenant must not learn the
    /// paths of the node's folders.
    #[must_use]
    pub fn shown(&self, path: &Path) -> PathBuf {
        match self {
            Self::Anywhere(base) => base.join(path),
            Self::Own { .. } | Self::Shipped { .. } => path.to_owned(),
        }
    }

    /// Returns the path of a file or folder that the app only reads.
    ///
    /// # Errors
    /// If the path leads to a place outside the app's own files.
    pub fn read_only(&self, path: &Path) -> Result<PathBuf, OutsideError> {
        match self {
            Self::Anywhere(base) => Ok(base.join(path)),
            Self::Own { files, .. } => below(files, path),
            Self::Shipped { outside: true, .. } if path.is_absolute() => Ok(path.to_owned()),
            Self::Shipped { files, .. } => below(files, path),
        }
    }

    /// Returns the folder of a grant, with all symbolic links resolved. Creates the folder if it is writable, belongs
    /// to a tenant and does not exist.
    ///
    /// # Errors
    /// If the folder cannot be read or created, or is not one of the app's own folders.
    pub fn directory(&self, grant: &DirGrant) -> io::Result<PathBuf> {
        let outside = |error| io::Error::new(io::ErrorKind::PermissionDenied, error);
        let (path, base) = match self {
            Self::Anywhere(base) => (base.join(&grant.host), None),
            Self::Shipped { outside: true, .. } if grant.host.is_absolute() => (grant.host.clone(), None),
            Self::Own { files, .. } | Self::Shipped { files, .. } if !grant.write => {
                (below(files, &grant.host).map_err(outside)?, Some(files))
            }
            Self::Own { writable, .. } | Self::Shipped { writable, .. } => {
                let path = writable.join(folder_name(&grant.host).map_err(outside)?);
                make_private_dir(&path)?;
                (path, Some(writable))
            }
        };
        let real = path.canonicalize()?;
        if let Some(base) = base
            && !real.starts_with(base.canonicalize()?)
        {
            // The path contains a symbolic link that leads out of the app's own folders.
            return Err(outside(OutsideError { path: grant.host.clone() }));
        }
        std::fs::read_dir(&real)?;
        Ok(real)
    }
}

/// Joins `path` to `base`. Refuses an absolute path, and a path that contains `..`.
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

/// Returns the name of the writable folder for a `path` of the manifest. All writable folders are at the same level,
/// whatever their paths in the manifest. If they were nested, a component with a grant for an outer folder could
/// replace an inner folder with a symbolic link.
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
    // The path is the app's folder itself, for example `.`.
    if name.is_empty() {
        name.push('%');
    }
    if name.len() > FOLDER_NAME_BYTES_MAX { Err(outside()) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!dir.path().join("dirs").exists(), "the folder is created with the first grant");
        let names = ["data", "data/inner", "data%2Finner", "templates", "."];
        let folders: std::collections::BTreeSet<_> =
            names.iter().map(|name| own.directory(&grant(name, true)).unwrap()).collect();
        assert_eq!(folders.len(), names.len(), "each grant has its own folder");
        let real = dir.path().join("dirs").canonicalize().unwrap();
        assert!(
            folders.iter().all(|folder| folder.parent() == Some(&real)),
            "all folders are at the same level: {folders:?}"
        );
    }

    #[test]
    fn only_a_shipped_program_may_name_absolute_paths() {
        let dir = tempfile::tempdir().unwrap();
        let files =
            |outside| AppFiles::Shipped { files: dir.path().join("files"), writable: dir.path().join("dirs"), outside };
        let own = files(true);
        std::fs::create_dir_all(dir.path().join("files/templates")).unwrap();
        assert!(own.directory(&grant("templates", false)).unwrap().ends_with("files/templates"));
        assert!(own.directory(&grant("uploads", true)).unwrap().ends_with("dirs/uploads"));
        assert!(own.read_only(Path::new("../dirs")).is_err());
        let outside = dir.path().canonicalize().unwrap();
        let shown = outside.to_str().unwrap();
        assert_eq!(own.read_only(&outside).unwrap(), outside);
        assert!([true, false].iter().all(|write| own.directory(&grant(shown, *write)).unwrap() == outside));
        let unpacked = files(false);
        assert!(unpacked.directory(&grant("templates", false)).unwrap().ends_with("files/templates"));
        assert!(unpacked.directory(&grant(".", true)).unwrap().starts_with(outside.join("dirs")));
        for path in [shown, "/", "..", "../dirs", "templates/../../dirs"] {
            assert!(unpacked.read_only(Path::new(path)).is_err(), "{path}");
            for write in [true, false] {
                let refused = unpacked.directory(&grant(path, write)).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{path}: {refused}");
            }
        }
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
