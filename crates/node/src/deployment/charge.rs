//! The disk space that is charged to a tenant for the revisions of its apps.
//!
//! A revision uses disk space in addition to its parts: its release and package are stored in the node's state, and its
//! files need folders and directory entries. For a release with many small or identical files that have long paths,
//! this additional space is most of the disk space that the release uses. So it is charged to the tenant's quota
//! `storage`. The charge begins before the space is used, and ends when no app of the tenant has the revision any more.
//! The first [`UNCHARGED_BYTES_MAX`] bytes of each revision are free, because a tenant without free storage must still
//! be able to deploy a revision that frees storage.
//!
//! A separate limit was rejected: the operator of a node should limit a tenant's disk space by a single number.

use std::collections::BTreeSet;
use std::path::PathBuf;

use isomer_api::{ApiProblem, PartPath, Release};
use isomer_ids::{AppName, ReleaseDigest, TenantName};
use isomer_state::{Contents, StateError};

use super::checks::check_tree;
use crate::node::Node;
use crate::problems;

/// The number of bytes of each revision that are not charged. The total of these bytes is limited by the quota `apps`
/// and by the maximum number of revisions per app.
const UNCHARGED_BYTES_MAX: u64 = 256 << 10;

/// The size in bytes of a small folder on common file systems.
const FOLDER_BYTES: u64 = 4096;

/// The size in bytes of a file's entry in its folder, without the name.
const ENTRY_BYTES: u64 = 32;

/// The minimum size in bytes of a page in the database of the node's state.
const PAGE_BYTES: u64 = 4096;

/// The size in bytes of a digest in the node's state, with its separator.
const DIGEST_BYTES: u64 = 68;

/// The charge for a new revision, and the limit for the charges of its tenant.
#[derive(Debug, Clone, Copy)]
pub(super) struct StorageCharge {
    pub(super) bytes: u64,
    pub(super) all_max: u64,
}

impl Node {
    /// Returns the charge to `tenant` for a new revision of `app`. Blocks.
    ///
    /// # Errors
    /// If the charge would exceed the tenant's quota `storage`, or if the revision would use disk space that the node
    /// reserves.
    pub(super) fn charge_of(
        &self,
        (tenant, app, revision): (&TenantName, &AppName, &ReleaseDigest),
        release: &Release,
        granted: &BTreeSet<PathBuf>,
        contents: &Contents,
    ) -> Result<StorageCharge, ApiProblem> {
        let bytes = bytes_of(release, check_tree(release, granted)?, contents);
        if !self.state.has_revision(revision) && self.reserve().room() < bytes {
            return Err(problems::no_room(self.reserve()));
        }
        let charge =
            StorageCharge { bytes: bytes.saturating_sub(UNCHARGED_BYTES_MAX), all_max: self.charges_max(tenant) };
        let charged = self.state.charged_with(tenant, app, revision, charge.bytes);
        if charged > charge.all_max && charged > self.state.charged(tenant) {
            let error = StateError::NoRoom { tenant: tenant.clone(), charge: charged, max: charge.all_max };
            return Err(self.state_refusal(error));
        }
        Ok(charge)
    }
}

/// Returns the number of bytes that a revision uses on disk in addition to its parts. (The revision's files are hard
/// links to the parts, so the files themselves use no further space.)
fn bytes_of(release: &Release, folders: usize, contents: &Contents) -> u64 {
    // The database stores a large value in a separate page. The size of a page is a power of two.
    let in_state = |bytes: u64| bytes.next_power_of_two().max(PAGE_BYTES);
    let digests = contents.blobs.len() as u64 * DIGEST_BYTES;
    let names = release.files.keys().map(|path| name_of(path).len() as u64 + ENTRY_BYTES).sum::<u64>();
    in_state(contents.package.len() as u64) + in_state(digests) + folders as u64 * FOLDER_BYTES + names
}

fn name_of(path: &PartPath) -> &str {
    path.as_str().rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use isomer_api::ReleasePart;
    use isomer_ids::Digest;

    use super::*;

    #[test]
    fn paths_and_folders_determine_the_charge() {
        let part = ReleasePart { digest: Digest::from([1; 32]), bytes: 1 };
        let release = |files: usize, path: &str| Release {
            manifest: String::new(),
            shape: "monolith".to_owned(),
            components: [("c".to_owned(), part.clone())].into(),
            files: (0..files).map(|number| (format!("{number}{path}").parse().unwrap(), part.clone())).collect(),
            folders: BTreeSet::new(),
            hosts: None,
            message: None,
            signatures: Vec::new(),
        };
        let taken = |release: &Release| {
            let package = serde_json::to_vec(release).unwrap();
            let contents = Contents { package, blobs: [part.digest.clone()].into(), ..Contents::default() };
            bytes_of(release, check_tree(release, &BTreeSet::new()).unwrap(), &contents)
        };
        assert!(taken(&release(100, ".html")) < UNCHARGED_BYTES_MAX, "a usual release is not charged");
        let long = format!("/{}/{}", "x".repeat(250), "y".repeat(250));
        assert!(taken(&release(4000, &long)) > 4000 * (500 + 2 * FOLDER_BYTES));
    }
}
