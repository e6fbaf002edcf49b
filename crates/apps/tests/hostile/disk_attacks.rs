//! The attacks that use files in granted folders.

use std::path::Path;

use crate::attacks::AttackRequest;

/// The attacker's quota `storage`, in bytes.
pub(crate) const STORAGE_BYTES: u64 = 8 << 20;

/// An attack on the disk, and the expected response of the attacking guest.
pub(crate) struct OnDisk {
    /// The name of the attack, which `docs/reference/attacks.md` also lists.
    pub(crate) name: &'static str,
    pub(crate) ask: AttackRequest,
    pub(crate) contains: &'static str,
    /// The minimum number of bytes on the disk after the attack.
    pub(crate) bytes_min: u64,
}

/// All attacks on the disk.
pub(crate) const ON_DISK: &[OnDisk] = &[
    OnDisk { name: "deep folders", ask: AttackRequest::Get("deep-folders"), contains: "name-too-long", bytes_min: 0 },
    OnDisk {
        name: "filling the disk",
        ask: AttackRequest::Get("fill-disk?folders=500"),
        contains: "refused after",
        bytes_min: STORAGE_BYTES / 2,
    },
];

/// Returns the names of all attacks on the disk.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ON_DISK.iter().map(|attack| attack.name)
}

/// The line of the manifest that grants a folder.
pub(crate) const GRANT: &str = "grants.dirs = [{ host = \"shared\", guest = \"/data\", write = true }]";

/// Creates the folder `shared` in `folder`, with symbolic links that lead out of `shared`.
pub(crate) fn make_links(folder: &Path) {
    let shared = folder.join("shared");
    std::fs::create_dir_all(&shared).expect("a new folder");
    std::fs::write(folder.join("secret.txt"), "outside").expect("a new file");
    std::os::unix::fs::symlink("../secret.txt", shared.join("up")).expect("a new link");
    std::os::unix::fs::symlink("/etc", shared.join("etc")).expect("a new link");
}
