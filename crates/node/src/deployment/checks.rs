//! Checks of a release before it is compiled: its size, whether its parts are uploaded, and whether the caller may use
//! its host names.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use isomer_admin::Caller;
use isomer_api::deploy::{FOLDERS_MAX, MANIFEST_BYTES_MAX, PARTS_MAX, SIGNATURE_BYTES_MAX, SIGNATURES_MAX};
use isomer_api::{ApiProblem, MissingParts, PartPath, ProblemKind, Release};
use isomer_ids::HostPattern;
use isomer_parcel::parts;
use isomer_state::App;
use isomer_state::model::REVISIONS_MAX;

use crate::node::Node;
use crate::problems;
use crate::revisions::release::RELEASE_BYTES_MAX;

/// The maximum number of bytes in the parts of all revisions of a tenant: sixteen releases of the maximum size. It
/// applies to deployments with the tenant's own tokens.
const KEPT_BYTES_MAX: u64 = 16 * RELEASE_BYTES_MAX;

/// The maximum number of parts in all revisions of a tenant, for deployments with the tenant's own tokens.
const KEPT_PARTS_MAX: usize = 10 * PARTS_MAX;

impl Node {
    /// Returns the parts of a release that the caller must upload before the deployment. If the caller is a tenant,
    /// these include parts that the node stores but that this tenant has neither deployed nor uploaded.
    pub(crate) fn missing_of(&self, caller: &Caller, release: &Release) -> Result<MissingParts, ApiProblem> {
        check_size(release)?;
        // The release's tree of files and folders is checked before the client uploads parts, so that no part of a
        // refused release is uploaded. The manifest is not parsed yet, so the tree is checked again later, together
        // with the folders that the manifest grants.
        check_tree(release, &BTreeSet::new())?;
        let foreign = match caller.tenant() {
            Some(tenant) => {
                let wanted = parts(release).map(|part| part.digest.clone()).filter(|it| !self.uploads.has(tenant, it));
                self.state.parts_not_of(tenant, &wanted.collect()).map_err(problems::of_state)?
            }
            None => BTreeSet::new(),
        };
        let mut digests = Vec::new();
        for part in parts(release) {
            let is_there = || self.blobs.has(&part.digest, part.bytes).map_err(problems::of_blob);
            if foreign.contains(&part.digest) || !is_there()? {
                digests.push(part.digest.clone());
            }
        }
        digests.sort_unstable();
        digests.dedup();
        Ok(MissingParts { digests })
    }

    /// Checks that the parts of all revisions of a tenant, including the new release, do not exceed [`KEPT_BYTES_MAX`]
    /// and [`KEPT_PARTS_MAX`]. Parts are not charged to the tenant's storage, so without these limits, a tenant's token
    /// would be sufficient to fill the node's disk.
    pub(super) fn check_kept(
        &self,
        caller: &Caller,
        release: &Release,
        before: Option<&App>,
    ) -> Result<(), ApiProblem> {
        let Some(tenant) = caller.tenant() else { return Ok(()) };
        // If the app has the maximum number of revisions, recording the new revision will remove the oldest one. So the
        // parts of the oldest revision are not counted.
        let last =
            before.filter(|before| before.history.len() >= REVISIONS_MAX).and_then(|before| before.history.last());
        let kept = self.state.parts_of(tenant, last.map(|last| &last.revision), KEPT_PARTS_MAX);
        let kept = kept.map_err(problems::of_state)?;
        let new: BTreeMap<_, _> = parts(release).map(|part| (&part.digest, part.bytes)).collect();
        let new: Vec<_> = new.into_iter().filter(|(digest, _)| !kept.contains(*digest)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let exceeds = |limit: String| {
            let title = format!("the parts of the revisions of tenant `{tenant}` would exceed {limit}");
            Err(ApiProblem::new(ProblemKind::Quota, title)
                .hint("remove apps that are no longer needed: the node stores the last 10 revisions of each app")
                .hint("or ask an admin of the node to deploy the release"))
        };
        if kept.len() + new.len() > KEPT_PARTS_MAX {
            return exceeds(KEPT_PARTS_MAX.to_string());
        }
        let mut bytes = new.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        for digest in &kept {
            bytes = bytes.saturating_add(self.blobs.bytes(digest).map_err(problems::of_blob)?);
        }
        if bytes > KEPT_BYTES_MAX { exceeds(isomer_display::size(KEPT_BYTES_MAX).to_string()) } else { Ok(()) }
    }
}

/// Checks that the caller may use the host names `wanted`. With a tenant's token, only two kinds of host names are
/// allowed: `own`, which an admin assigned to the tenant, and `served`, which the app already has. Without this check,
/// a tenant's token would be sufficient to take any unused host name.
pub(super) fn check_hosts(
    caller: &Caller,
    wanted: &[HostPattern],
    own: &[HostPattern],
    served: &[HostPattern],
) -> Result<(), ApiProblem> {
    let Some(tenant) = caller.tenant() else { return Ok(()) };
    let is_own = |host: &HostPattern| served.contains(host) || own.iter().any(|own| own.covers(host));
    let Some(foreign) = wanted.iter().find(|host| !is_own(host)) else { return Ok(()) };
    let title = format!(
        "a token of tenant `{tenant}` may use only the tenant's own host names, and `{foreign}` is not one of them"
    );
    // `isomer tenant set` replaces the list of host names, so the suggested command contains the existing names as
    // well.
    let hosts = own.iter().chain([foreign]).map(|host| format!(" --host '{host}'")).collect::<String>();
    Err(ApiProblem::new(ProblemKind::Forbidden, title)
        .hint(format!("an admin of the node can add the host name: isomer tenant set {tenant}{hosts}")))
}

/// Checks the size of a release's manifest, and the number and total size of its parts.
pub(super) fn check_size(release: &Release) -> Result<(), ApiProblem> {
    let too_large = |title: String| Err(ApiProblem::new(ProblemKind::TooLarge, title));
    if release.manifest.len() > MANIFEST_BYTES_MAX {
        return too_large(format!("the manifest is larger than {}", isomer_display::size(MANIFEST_BYTES_MAX)));
    }
    if release.components.len() + release.files.len() + release.folders.len() > PARTS_MAX {
        return too_large(format!("the release has more than {PARTS_MAX} parts"));
    }
    let has_large = release.signatures.iter().any(|signature| signature.len() > SIGNATURE_BYTES_MAX);
    if release.signatures.len() > SIGNATURES_MAX || has_large {
        let bytes = isomer_display::size(SIGNATURE_BYTES_MAX);
        return too_large(format!("a release has at most {SIGNATURES_MAX} signatures of at most {bytes}"));
    }
    if parts(release).fold(0_u64, |bytes, part| bytes.saturating_add(part.bytes)) > RELEASE_BYTES_MAX {
        return too_large(format!(
            "the parts of the release are larger than {} in total",
            isomer_display::size(RELEASE_BYTES_MAX)
        ));
    }
    Ok(())
}

/// Checks that a release has at most [`FOLDERS_MAX`] folders, including those of its files, and that no path is both a
/// file and a folder. `granted` contains the folders that the manifest grants. Returns the number of folders.
///
/// # Errors
/// If there are too many folders, or a path is both a file and a folder.
pub(super) fn check_tree(release: &Release, granted: &BTreeSet<PathBuf>) -> Result<usize, ApiProblem> {
    let files: HashSet<&str> = release.files.keys().map(PartPath::as_str).collect();
    // Skips grants that name a file: such a grant is refused later, when the file is opened as a folder.
    let granted = granted.iter().filter_map(|path| path.to_str()).filter(|path| !files.contains(path));
    let named = release.folders.iter().map(PartPath::as_str).chain(granted);
    let mut folders = HashSet::new();
    for path in named.map(Some).chain(files.iter().map(|file| parent(file))) {
        let mut next = path;
        // If the set contains a folder, it also contains all parents of the folder.
        while let Some(folder) = next.filter(|folder| folders.insert(*folder)) {
            if folders.len() > FOLDERS_MAX {
                let title = format!("the release has more than {FOLDERS_MAX} folders, including those of its files");
                return Err(ApiProblem::new(ProblemKind::TooLarge, title));
            }
            next = parent(folder);
        }
    }
    match files.iter().find(|file| folders.contains(*file)) {
        None => Ok(folders.len()),
        Some(file) => {
            Err(ApiProblem::new(ProblemKind::Refused, format!("`{file}` is both a file and a folder of the release")))
        }
    }
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(above, _)| above)
}

#[cfg(test)]
mod tests {
    use isomer_api::ReleasePart;
    use isomer_ids::Digest;

    use super::*;

    fn release(files: impl Iterator<Item = String>, folders: impl Iterator<Item = String>) -> Release {
        let part = ReleasePart { digest: Digest::from([1; 32]), bytes: 1 };
        Release {
            manifest: String::new(),
            shape: "monolith".to_owned(),
            components: [("c".to_owned(), part.clone())].into(),
            files: files.map(|path| (path.parse().unwrap(), part.clone())).collect(),
            folders: folders.map(|path| path.parse().unwrap()).collect(),
            hosts: None,
            message: None,
            signatures: Vec::new(),
        }
    }

    #[test]
    fn signatures_are_few_and_small() {
        let with = |count: usize, bytes: usize| {
            let signatures = vec!["x".repeat(bytes); count];
            let release = Release { signatures, ..release(std::iter::empty(), std::iter::empty()) };
            check_size(&release).map_err(|problem| problem.kind)
        };
        assert_eq!(with(SIGNATURES_MAX, 1), Ok(()));
        assert_eq!(with(1, SIGNATURE_BYTES_MAX), Ok(()));
        assert_eq!(with(SIGNATURES_MAX + 1, 1), Err(ProblemKind::TooLarge));
        assert_eq!(with(1, SIGNATURE_BYTES_MAX + 1), Err(ProblemKind::TooLarge));
    }

    #[test]
    fn folders_are_counted_with_their_parents() {
        let deep = |number: usize| format!("{number}/{}", ["d"; 500].join("/"));
        let with = |files: usize, folders: usize| release((0..files).map(deep), (files..files + folders).map(deep));
        let refused = |release: &Release, granted: &BTreeSet<PathBuf>| {
            check_tree(release, granted).map_err(|problem| problem.kind).unwrap_err()
        };
        // A file with this path adds 500 folders. An empty folder with this path adds 501, because the folder itself is
        // counted too.
        assert!(
            check_tree(&with(20, 0), &BTreeSet::new()).is_ok() && check_tree(&with(0, 19), &BTreeSet::new()).is_ok()
        );
        assert_eq!(refused(&with(20, 0), &["x".into()].into()), ProblemKind::TooLarge);
        for (files, folders) in [(21, 0), (0, 20), (10_000, 0), (0, 10_000)] {
            assert_eq!(refused(&with(files, folders), &BTreeSet::new()), ProblemKind::TooLarge, "{files} {folders}");
        }
    }

    #[test]
    fn a_path_is_a_file_or_a_folder() {
        let mut both = release(["a".to_owned(), "a/b".to_owned()].into_iter(), std::iter::empty());
        let problem = check_tree(&both, &BTreeSet::new()).unwrap_err();
        assert!(problem.kind == ProblemKind::Refused && problem.title.contains("`a`"), "{problem:?}");
        both.files.remove(&"a/b".parse().unwrap());
        // A grant that names a file is not refused by this check, but later, when the file is opened as a folder.
        check_tree(&both, &[PathBuf::from("a"), "".into()].into()).unwrap();
        check_tree(&both, &["a/b".into()].into()).unwrap_err();
        both.folders.insert("a/c".parse().unwrap());
        check_tree(&both, &BTreeSet::new()).unwrap_err();
        both.folders = ["a".parse().unwrap()].into();
        check_tree(&both, &BTreeSet::new()).unwrap_err();
    }
}
