//! Checks of a release before a compiler reads it: its size, whether its caller has uploaded its parts, and the host
//! names that the caller may use.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use isomer_admin::Caller;
use isomer_api::deploy::{FOLDERS_MAX, MANIFEST_BYTES_MAX, PARTS_MAX};
use isomer_api::{ApiProblem, MissingParts, PartPath, ProblemKind, Release};
use isomer_ids::HostPattern;
use isomer_state::App;
use isomer_state::model::REVISIONS_MAX;

use crate::node::Node;
use crate::problems;
use crate::revisions::release::{RELEASE_BYTES_MAX, parts};

/// The maximum number of bytes of the parts of all revisions that a tenant deploys with its own tokens: sixteen
/// releases of the maximum size.
const KEPT_BYTES_MAX: u64 = 16 * RELEASE_BYTES_MAX;

/// The maximum number of these parts.
const KEPT_PARTS_MAX: usize = 10 * PARTS_MAX;

impl Node {
    /// Returns the parts of a release that the caller has to upload. Parts that a tenant has neither deployed nor
    /// uploaded are missing for that tenant.
    pub(crate) fn missing_of(&self, caller: &Caller, release: &Release) -> Result<MissingParts, ApiProblem> {
        check_size(release)?;
        // This is checked before anything is uploaded. Folders that the manifest grants are checked when the manifest
        // is read.
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

    /// Checks that the parts of all revisions of a tenant, including a new release, do not exceed what the node stores
    /// for one tenant. Parts are not charged to the tenant's storage, so without this limit, a tenant's own token would
    /// be enough to fill the node's disk.
    pub(super) fn check_kept(
        &self,
        caller: &Caller,
        release: &Release,
        before: Option<&App>,
    ) -> Result<(), ApiProblem> {
        let Some(tenant) = caller.tenant() else { return Ok(()) };
        // The oldest revision is removed when the new one is recorded, so its parts are not counted.
        let last =
            before.filter(|before| before.history.len() >= REVISIONS_MAX).and_then(|before| before.history.last());
        let kept = self.state.parts_of(tenant, last.map(|last| &last.revision), KEPT_PARTS_MAX);
        let kept = kept.map_err(problems::of_state)?;
        let new: BTreeMap<_, _> = parts(release).map(|part| (&part.digest, part.bytes)).collect();
        let new: Vec<_> = new.into_iter().filter(|(digest, _)| !kept.contains(*digest)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let too_much = |most: String| {
            let title = format!("the parts of the revisions of tenant `{tenant}` would exceed {most}");
            Err(ApiProblem::new(ProblemKind::Quota, title)
                .hint("remove apps that are no longer needed: the last 10 revisions of each are kept")
                .hint("or ask an admin of the node to deploy it"))
        };
        if kept.len() + new.len() > KEPT_PARTS_MAX {
            return too_much(KEPT_PARTS_MAX.to_string());
        }
        let mut bytes = new.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        for digest in &kept {
            bytes = bytes.saturating_add(self.blobs.bytes(digest).map_err(problems::of_blob)?);
        }
        if bytes > KEPT_BYTES_MAX { too_much(isomer_display::size(KEPT_BYTES_MAX).to_string()) } else { Ok(()) }
    }
}

/// Checks that the caller may use these host names. With a tenant's token, only names that the tenant was given, or
/// that the app already has, are allowed. Without this check, a token would be enough to take host names that no tenant
/// has yet.
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
        "a token of tenant `{tenant}` may use the tenant's own host names only, and `{foreign}` is not one of them"
    );
    // The command replaces the list of host names, so the hint contains all of them.
    let hosts = own.iter().chain([foreign]).map(|host| format!(" --host '{host}'")).collect::<String>();
    Err(ApiProblem::new(ProblemKind::Forbidden, title)
        .hint(format!("an admin of the node can add it: isomer tenant set {tenant}{hosts}")))
}

/// Checks the size of a release.
pub(super) fn check_size(release: &Release) -> Result<(), ApiProblem> {
    let too_large = |title: String| Err(ApiProblem::new(ProblemKind::TooLarge, title));
    if release.manifest.len() > MANIFEST_BYTES_MAX {
        return too_large(format!("a manifest may have {} at most", isomer_display::size(MANIFEST_BYTES_MAX)));
    }
    if release.components.len() + release.files.len() + release.folders.len() > PARTS_MAX {
        return too_large(format!("a release may have {PARTS_MAX} parts"));
    }
    if parts(release).fold(0_u64, |bytes, part| bytes.saturating_add(part.bytes)) > RELEASE_BYTES_MAX {
        return too_large(format!("a release may have {} at most", isomer_display::size(RELEASE_BYTES_MAX)));
    }
    Ok(())
}

/// Checks that a release's files are in no more folders than allowed, and that no file is also a folder. `granted` has
/// further folders that will be created. Returns the number of folders.
///
/// # Errors
/// When there are too many folders, or a path is both a file and a folder.
pub(super) fn check_tree(release: &Release, granted: &BTreeSet<PathBuf>) -> Result<usize, ApiProblem> {
    let files: HashSet<&str> = release.files.keys().map(PartPath::as_str).collect();
    // A grant that names a file is ignored here: it is refused when it is opened.
    let granted = granted.iter().filter_map(|path| path.to_str()).filter(|path| !files.contains(path));
    let named = release.folders.iter().map(PartPath::as_str).chain(granted);
    let mut folders = HashSet::new();
    for path in named.map(Some).chain(files.iter().map(|file| parent(file))) {
        let mut next = path;
        // If a folder is already in the set, so are its parents.
        while let Some(folder) = next.filter(|folder| folders.insert(*folder)) {
            if folders.len() > FOLDERS_MAX {
                let title = format!("a release may have {FOLDERS_MAX} folders at most, including those of its files");
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
        }
    }

    #[test]
    fn folders_are_counted_with_their_parents() {
        let deep = |number: usize| format!("{number}/{}", ["d"; 500].join("/"));
        let with = |files: usize, folders: usize| release((0..files).map(deep), (files..files + folders).map(deep));
        let refused = |release: &Release, granted: &BTreeSet<PathBuf>| {
            check_tree(release, granted).map_err(|problem| problem.kind).unwrap_err()
        };
        // A file is in 500 folders. An empty folder of the same depth adds 501, because the folder itself is counted as
        // well.
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
        // A grant that names a file is refused when it is opened, not here.
        check_tree(&both, &[PathBuf::from("a"), "".into()].into()).unwrap();
        check_tree(&both, &["a/b".into()].into()).unwrap_err();
        both.folders.insert("a/c".parse().unwrap());
        check_tree(&both, &BTreeSet::new()).unwrap_err();
        both.folders = ["a".parse().unwrap()].into();
        check_tree(&both, &BTreeSet::new()).unwrap_err();
    }
}
