//! The private folder of a supervisor: the sockets of its members, and files that all members read.
//!
//! A process that can enter the folder can call any function of the app, so the folder has mode 0700. The kernel
//! accepts at most 107 bytes for a socket's path, so names in the folder are short, and the folder is created inside a
//! folder with a short path.

use std::fs::Permissions;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The maximum length of a socket's path in bytes (`sun_path` of unix(7), without the terminating zero).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The length in bytes of the part of a socket's path that follows the path of one of the [`socket_folders`]:
/// `/isomer-XXXXXX/NNNN.sock`.
const TAIL_BYTES: usize = "/isomer-XXXXXX/0000.sock".len();

/// The reason why a private folder cannot be created or written to.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirError {
    /// The path of every folder for temporary files is too long for a socket.
    #[error("cannot create a private folder for sockets: the path in `TMPDIR` is too long for a socket")]
    PathTooLong,
    /// None of the folders in `tried` is writable.
    #[error("cannot create a private folder for sockets in {}", .tried.join(" or "))]
    NotWritable {
        /// The folders that were tried, in backticks.
        tried: Vec<String>,
    },
    /// A file in the private folder cannot be written.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A private folder, removed when dropped.
pub struct PrivateDir {
    dir: TempDir,
}

impl PrivateDir {
    /// Creates the folder inside the first writable one of the [`socket_folders`].
    ///
    /// # Errors
    /// If none of the [`socket_folders`] is writable.
    pub fn create() -> Result<Self, PrivateDirError> {
        let folders: Vec<_> = socket_folders().collect();
        for folder in &folders {
            let made = tempfile::Builder::new()
                .prefix("isomer-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(folder);
            if let Ok(dir) = made {
                return Ok(Self { dir });
            }
        }
        let tried: Vec<_> = folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        Err(if tried.is_empty() { PrivateDirError::PathTooLong } else { PrivateDirError::NotWritable { tried } })
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the path of the socket of member `number`.
    pub fn socket(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("{number}.sock"))
    }

    /// Writes a file that members read when they start or restart. Returns the path of the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, PrivateDirError> {
        let path = self.dir.path().join(name);
        match std::fs::write(&path, bytes) {
            Ok(()) => Ok(path),
            Err(source) => Err(PrivateDirError::Write { path, source }),
        }
    }
}

/// Returns the folders in which a private folder may be created, the preferred one first: the user's runtime folder,
/// the folder for temporary files, `/tmp`. Omits folders whose path is too long.
pub fn socket_folders() -> impl Iterator<Item = PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let all = runtime.into_iter().chain([std::env::temp_dir(), PathBuf::from("/tmp")]);
    let short_enough = |dir: &PathBuf| dir.as_os_str().as_bytes().len() + TAIL_BYTES <= SOCKET_PATH_BYTES_MAX;
    all.filter(|dir| dir.is_absolute() && dir.is_dir()).filter(short_enough)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_private_has_short_paths_and_is_removed() {
        let private_dir = PrivateDir::create().unwrap();
        let path = private_dir.path().to_owned();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(private_dir.socket(9999).as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
        std::os::unix::net::UnixListener::bind(private_dir.socket(9999)).unwrap();
        drop(private_dir);
        assert!(!path.exists());
    }
}
