//! The list of parts that each tenant has uploaded since the node started and that none of the tenant's revisions
//! refers to yet.
//!
//! Each part is stored once for all tenants. But a tenant must not learn which parts other tenants have deployed, and
//! must not get the bytes of a part just because it knows the digest. So for a tenant, a part exists only if one of the
//! tenant's own revisions refers to it, or if the tenant itself has uploaded it. Parts that no revision refers to are
//! not charged to the tenant's storage, so the number of bytes in the list is limited per tenant. The node's own token
//! is not restricted in this way: every stored part exists for it, and its uploads are not limited.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isomer_api::deploy::PARTS_MAX;
use isomer_api::{ApiProblem, ProblemKind};
use isomer_ids::{Digest, TenantName};

use crate::revisions::release::RELEASE_BYTES_MAX;
use crate::revisions::sweep::UNUSED_MAX;

/// The maximum number of bytes in the parts that a tenant has uploaded but not deployed, including uploads in progress:
/// two releases of the maximum size. A part counts until it is deployed, or until [`UNUSED_MAX`] after its upload.
pub(crate) const SENT_BYTES_MAX: u64 = 2 * RELEASE_BYTES_MAX;

/// The maximum number of parts that a tenant has uploaded but not deployed: twice the maximum number in a release.
pub(crate) const SENT_PARTS_MAX: usize = 2 * PARTS_MAX;

/// The minimum interval between two removals of old parts from the list. (The sweep removes the files of these parts
/// from the disk.)
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The uploaded parts of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Arc<Mutex<UploadTable>>);

#[derive(Debug, Default)]
struct UploadTable {
    tenants: HashMap<TenantName, TenantUploads>,
    /// The time of the last removal of old parts from the list.
    forgot_at: Option<Instant>,
}

/// The uploaded parts of one tenant.
#[derive(Debug, Default)]
struct TenantUploads {
    parts: HashMap<Digest, (Instant, u64)>,
    /// The total number of bytes of the complete parts in the list.
    bytes: u64,
    /// The number of uploads in progress.
    pending: usize,
    /// The number of bytes that have arrived for the uploads in progress.
    pending_bytes: u64,
}

/// An upload in progress. Its bytes count towards the tenant's limits until this value is dropped. If the upload
/// completes, the bytes then count as those of a complete part.
#[derive(Debug)]
pub(crate) struct PendingUpload {
    all: Arc<Mutex<UploadTable>>,
    tenant: TenantName,
    bytes: u64,
}

impl Uploads {
    /// Begins an upload.
    ///
    /// # Errors
    /// If the tenant has already uploaded the maximum number of parts.
    pub(crate) fn begin(&self, tenant: &TenantName) -> Result<PendingUpload, ApiProblem> {
        self.begin_at(tenant, Instant::now())
    }

    fn begin_at(&self, tenant: &TenantName, now: Instant) -> Result<PendingUpload, ApiProblem> {
        let mut all = lock(&self.0);
        all.forget_old(now);
        let sent = all.tenants.entry(tenant.clone()).or_default();
        if sent.parts.len() + sent.pending >= SENT_PARTS_MAX {
            return Err(limit_problem(format!("{SENT_PARTS_MAX} parts")));
        }
        sent.pending += 1;
        Ok(PendingUpload { all: self.0.clone(), tenant: tenant.clone(), bytes: 0 })
    }

    /// Returns whether the tenant has uploaded the part with this digest.
    pub(crate) fn has(&self, tenant: &TenantName, digest: &Digest) -> bool {
        let now = Instant::now();
        let all = lock(&self.0);
        let sent = all.tenants.get(tenant).and_then(|sent| sent.parts.get(digest));
        sent.is_some_and(|(at, _)| now.saturating_duration_since(*at) < UNUSED_MAX)
    }

    /// Removes deployed parts from the list: a revision of the tenant refers to them now.
    pub(crate) fn deployed<'a>(&self, tenant: &TenantName, digests: impl Iterator<Item = &'a Digest>) {
        if let Some(sent) = lock(&self.0).tenants.get_mut(tenant) {
            digests.for_each(|digest| sent.remove(digest));
        }
    }

    /// Removes all parts of a tenant from the list, because the tenant is removed.
    pub(crate) fn forget(&self, tenant: &TenantName) {
        if let Some(sent) = lock(&self.0).tenants.get_mut(tenant) {
            sent.parts.clear();
            sent.bytes = 0;
        }
    }
}

impl UploadTable {
    /// Removes old parts from the list. Does nothing if the last removal was less than [`FORGET_EVERY`] ago, because a
    /// removal checks every part in the list.
    fn forget_old(&mut self, now: Instant) {
        if self.forgot_at.is_some_and(|at| now.saturating_duration_since(at) < FORGET_EVERY) {
            return;
        }
        self.forgot_at = Some(now);
        for sent in self.tenants.values_mut() {
            sent.parts.retain(|_, (at, _)| now.saturating_duration_since(*at) < UNUSED_MAX);
            sent.bytes = sent.parts.values().map(|(_, bytes)| bytes).sum();
        }
        self.tenants.retain(|_, sent| sent.pending > 0 || !sent.parts.is_empty());
    }
}

impl TenantUploads {
    fn insert(&mut self, digest: Digest, bytes: u64) {
        self.remove(&digest);
        self.bytes += bytes;
        self.parts.insert(digest, (Instant::now(), bytes));
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some((_, bytes)) = self.parts.remove(digest) {
            self.bytes -= bytes;
        }
    }
}

impl PendingUpload {
    /// Adds received bytes to the size of this upload.
    ///
    /// # Errors
    /// If the tenant would exceed the maximum number of uploaded bytes.
    pub(crate) fn add(&mut self, bytes: u64) -> Result<(), ApiProblem> {
        let mut all = lock(&self.all);
        let sent = all.tenants.entry(self.tenant.clone()).or_default();
        if sent.bytes.saturating_add(sent.pending_bytes).saturating_add(bytes) > SENT_BYTES_MAX {
            return Err(limit_problem(format!("{} MiB", SENT_BYTES_MAX >> 20)));
        }
        sent.pending_bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Adds the completely uploaded part to the list, with the given digest.
    pub(crate) fn complete(self, digest: Digest) {
        if let Some(sent) = lock(&self.all).tenants.get_mut(&self.tenant) {
            sent.insert(digest, self.bytes);
        }
    }
}

impl Drop for PendingUpload {
    fn drop(&mut self) {
        if let Some(sent) = lock(&self.all).tenants.get_mut(&self.tenant) {
            sent.pending = sent.pending.saturating_sub(1);
            sent.pending_bytes = sent.pending_bytes.saturating_sub(self.bytes);
        }
    }
}

fn limit_problem(limit: String) -> ApiProblem {
    ApiProblem::new(
        ProblemKind::Quota,
        format!("the tenant has uploaded {limit} that none of its revisions uses, and may not upload more"),
    )
    .hint("deploy the uploaded parts; parts that are not deployed are removed after six hours")
}

fn lock(all: &Mutex<UploadTable>) -> MutexGuard<'_, UploadTable> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Digest::from(bytes)
    }

    #[test]
    fn uploads_belong_to_their_tenant_until_deployed_or_old() {
        let (uploads, acme, rival) = (Uploads::default(), "acme".parse().unwrap(), "rival".parse().unwrap());
        let mut pending = uploads.begin(&acme).unwrap();
        pending.add(7).unwrap();
        assert!(!uploads.has(&acme, &digest(1)), "the upload is not complete yet");
        pending.complete(digest(1));
        assert!(uploads.has(&acme, &digest(1)) && !uploads.has(&rival, &digest(1)));
        uploads.deployed(&acme, [digest(1)].iter());
        assert!(!uploads.has(&acme, &digest(1)), "a revision refers to the part");
        uploads.begin(&acme).unwrap().complete(digest(2));
        uploads.forget(&acme);
        assert!(!uploads.has(&acme, &digest(2)));
        uploads.begin(&acme).unwrap().complete(digest(3));
        drop(uploads.begin_at(&rival, Instant::now() + UNUSED_MAX).unwrap());
        assert_eq!(lock(&uploads.0).tenants.len(), 1, "a tenant without uploads has no entry");
    }

    #[test]
    fn a_tenants_uploads_are_limited() {
        let (uploads, acme, rival) = (Uploads::default(), "acme".parse().unwrap(), "rival".parse().unwrap());
        let mut first = uploads.begin(&acme).unwrap();
        first.add(SENT_BYTES_MAX - 10).unwrap();
        let mut second = uploads.begin(&acme).unwrap();
        assert_eq!(second.add(11).unwrap_err().kind, ProblemKind::Quota);
        second.add(10).unwrap();
        uploads.begin(&rival).unwrap().add(11).unwrap();
        drop(second);
        first.complete(digest(1));
        // The same part is counted only once, even if it is uploaded twice.
        let mut again = uploads.begin(&acme).unwrap();
        again.add(10).unwrap();
        again.complete(digest(1));
        assert_eq!(lock(&uploads.0).tenants[&acme].bytes, 10);
        let mut third = uploads.begin(&acme).unwrap();
        assert!(third.add(SENT_BYTES_MAX - 9).is_err());
        uploads.deployed(&acme, [digest(1), digest(9)].iter());
        third.add(SENT_BYTES_MAX).unwrap();
        third.complete(digest(2));
        assert!(uploads.begin(&acme).unwrap().add(1).is_err());
        // Old parts do not count towards the limit after they are removed from the list.
        drop(uploads.begin_at(&acme, Instant::now() + UNUSED_MAX).unwrap());
        uploads.begin(&acme).unwrap().add(1).unwrap();
        for number in 0..SENT_PARTS_MAX {
            lock(&uploads.0).tenants.get_mut(&acme).unwrap().insert(digest(number), 0);
        }
        assert_eq!(uploads.begin(&acme).unwrap_err().kind, ProblemKind::Quota);
    }
}
