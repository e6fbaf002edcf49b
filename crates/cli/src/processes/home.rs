//! The private directory of a supervisor: sockets of its members, and the components' bytes that they all run.
//!
//! Whoever may enter it may call any function of the app, so it is for this user alone (mode 0700). The kernel takes 107 bytes of
//! a socket's path, so names in it are short, and a folder is taken that leaves room for them.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use isomer_node::revision::Components;
use tempfile::TempDir;

/// The most bytes of a socket's path (`sun_path` of unix(7), without the zero at its end).
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What comes behind the folder: `/isomer-XXXXXX/NNNN.sock`.
const TAIL_BYTES: usize = "/isomer-XXXXXX/0000.sock".len();

/// Removed when dropped.
pub(super) struct Home {
    dir: TempDir,
}

impl Home {
    /// Makes it in the first folder that will do: the user's runtime folder, that for temporary files, `/tmp`.
    pub(super) fn make() -> anyhow::Result<Self> {
        let folders: Vec<_> = folders().collect();
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
        if tried.is_empty() {
            bail!("cannot make a private folder for sockets: `TMPDIR` is longer than a socket's path may be");
        }
        bail!("cannot make a private folder for sockets in {}", tried.join(" or "))
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The socket of the member with this number.
    pub(super) fn socket(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("{number}.sock"))
    }

    /// Writes the components' bytes, for members to run now and when they are started again.
    pub(super) fn keep(&self, components: &Components) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let keep = |(name, bytes): (&isomer_manifest::ComponentName, &std::sync::Arc<[u8]>)| {
            let path = self.dir.path().join(format!("{name}.wasm"));
            std::fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
            Ok((name.to_string(), path))
        };
        components.iter().map(keep).collect()
    }
}

/// Folders in which sockets can be, by preference.
pub(crate) fn folders() -> impl Iterator<Item = PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let all = runtime.into_iter().chain([std::env::temp_dir(), PathBuf::from("/tmp")]);
    let short_enough = |dir: &PathBuf| dir.as_os_str().as_bytes().len() + TAIL_BYTES <= SOCKET_PATH_BYTES_MAX;
    all.filter(|dir| dir.is_absolute() && dir.is_dir()).filter(short_enough)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_short_and_goes_away() {
        let home = Home::make().unwrap();
        let path = home.path().to_owned();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(home.socket(9999).as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
        std::os::unix::net::UnixListener::bind(home.socket(9999)).unwrap();
        drop(home);
        assert!(!path.exists());
    }
}
