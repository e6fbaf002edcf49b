//! What is checked of a release before anything of it is read: its size, whether its parts are there for its caller, and under which names
//! that may have it served.

use std::collections::BTreeSet;

use isomer_admin::Caller;
use isomer_api::deploy::{MANIFEST_BYTES_MAX, PARTS_MAX};
use isomer_api::{HostPattern, Missing, Problem, ProblemKind, Release};

use super::deployment::{RELEASE_BYTES_MAX, parts};
use crate::host::{Host, problems};

impl Host {
    /// Which parts of a release the caller has to send. What a tenant has neither deployed nor sent is not there for it.
    pub(crate) fn missing_of(&self, caller: &Caller, release: &Release) -> Result<Missing, Problem> {
        check_size(release)?;
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
        Ok(Missing { digests })
    }
}

/// Whether the caller may have an app served under these host names: with a tenant's token only under names that the tenant was given, or that
/// the app has. Else a token would be enough to take host names that no tenant has yet.
pub(super) fn check_hosts(
    caller: &Caller,
    wanted: &[HostPattern],
    own: &[HostPattern],
    served: &[HostPattern],
) -> Result<(), Problem> {
    let Some(tenant) = caller.tenant() else { return Ok(()) };
    let is_own = |host: &HostPattern| served.contains(host) || own.iter().any(|own| own.covers(host));
    let Some(foreign) = wanted.iter().find(|host| !is_own(host)) else { return Ok(()) };
    let title =
        format!("a token of tenant `{tenant}` deploys under the tenant's own host names, and `{foreign}` is none");
    Err(Problem::new(ProblemKind::Forbidden, title)
        .hint(format!("whoever runs the node can give it to the tenant: isomer tenant set {tenant} --host HOST")))
}

/// Whether the release is no larger than a node takes.
pub(super) fn check_size(release: &Release) -> Result<(), Problem> {
    let too_large = |title: String| Err(Problem::new(ProblemKind::TooLarge, title));
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
