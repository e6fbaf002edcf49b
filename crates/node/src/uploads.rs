//! The parts that each tenant has uploaded and to which none of its revisions refers yet.
//!
//! Each part is stored once for all tenants. If a tenant could see which parts are stored, it could learn what others
//! deploy. If a tenant could deploy parts that it did not upload, it could get the bytes of any part by its digest. So
//! a tenant sees only the parts to which its own revisions refer, or that it has uploaded since the node started. The
//! number of bytes that a tenant may upload is limited, because parts to which no revision refers are not charged to
//! its storage. Neither rule applies to the node's own token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isomer_api::deploy::PARTS_MAX;
use isomer_api::{ApiProblem, ProblemKind};
use isomer_ids::{Digest, TenantName};

use crate::revisions::release::RELEASE_BYTES_MAX;
use crate::revisions::sweep::UNUSED_MAX;

/// The maximum number of bytes that a tenant may have uploaded and not deployed, including uploads in progress: two
/// releases of the maximum size. Parts are no longer counted after they were deployed, or removed as unused.
pub(crate) const SENT_BYTES_MAX: u64 = 2 * RELEASE_BYTES_MAX;

/// The maximum number of these parts: twice the maximum of a release.
pub(crate) const SENT_PARTS_MAX: usize = 2 * PARTS_MAX;

/// The interval at which old parts are removed from this list. (The sweep removes their files as unused.)
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The uploads of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Arc<Mutex<UploadTable>>);

#[derive(Debug, Default)]
struct UploadTable {
    tenants: HashMap<TenantName, TenantUploads>,
    /// The time at which old parts were last removed from the list.
    forgot_at: Option<Instant>,
}

/// The uploads of one tenant.
#[derive(Debug, Default)]
struct TenantUploads {
    parts: HashMap<Digest, (Instant, u64)>,
    /// The number of bytes of all parts.
    bytes: u64,
    /// The number of uploads in progress, and their bytes so far.
    pending: usize,
    pending_bytes: u64,
}

/// An upload in progress. Its bytes count towards the limits until this is dropped. The bytes of a complete part still
/// count afterwards.
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
    /// When the tenant has uploaded too many parts.
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

    /// Returns whether the tenant has uploaded this part.
    pub(crate) fn has(&self, tenant: &TenantName, digest: &Digest) -> bool {
        let now = Instant::now();
        let all = lock(&self.0);
        let sent = all.tenants.get(tenant).and_then(|sent| sent.parts.get(digest));
        sent.is_some_and(|(at, _)| now.saturating_duration_since(*at) < UNUSED_MAX)
    }

    /// Removes parts from the list to which a revision of the tenant refers now.
    pub(crate) fn deployed<'a>(&self, tenant: &TenantName, digests: impl Iterator<Item = &'a Digest>) {
        if let Some(sent) = lock(&self.0).tenants.get_mut(tenant) {
            digests.for_each(|digest| sent.remove(digest));
        }
    }

    /// Removes the parts of a removed tenant from the list.
    pub(crate) fn forget(&self, tenant: &TenantName) {
        if let Some(sent) = lock(&self.0).tenants.get_mut(tenant) {
            sent.parts.clear();
            sent.bytes = 0;
        }
    }
}

impl UploadTable {
    /// Removes old parts from the list. This looks at all parts, so it is not done at each upload.
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
    /// Counts received bytes.
    ///
    /// # Errors
    /// When the tenant is not allowed to upload this number of bytes.
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

    /// Completes the upload of the part with this digest.
    pub(crate) fn kept(self, digest: Digest) {
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

fn limit_problem(most: String) -> ApiProblem {
    ApiProblem::new(
        ProblemKind::Quota,
        format!("the tenant has uploaded {most} that no revision of it uses, and may not upload more"),
    )
    .hint("deploy them; parts that are not deployed are removed after six hours")
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
        assert!(!uploads.has(&acme, &digest(1)), "it is not whole yet");
        pending.kept(digest(1));
        assert!(uploads.has(&acme, &digest(1)) && !uploads.has(&rival, &digest(1)));
        uploads.deployed(&acme, [digest(1)].iter());
        assert!(!uploads.has(&acme, &digest(1)), "its revision has it");
        uploads.begin(&acme).unwrap().kept(digest(2));
        uploads.forget(&acme);
        assert!(!uploads.has(&acme, &digest(2)));
        uploads.begin(&acme).unwrap().kept(digest(3));
        drop(uploads.begin_at(&rival, Instant::now() + UNUSED_MAX).unwrap());
        assert_eq!(lock(&uploads.0).tenants.len(), 1, "nothing is kept of a tenant that has nothing left");
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
        first.kept(digest(1));
        // A second upload of the same part is counted only once.
        let mut again = uploads.begin(&acme).unwrap();
        again.add(10).unwrap();
        again.kept(digest(1));
        assert_eq!(lock(&uploads.0).tenants[&acme].bytes, 10);
        let mut third = uploads.begin(&acme).unwrap();
        assert!(third.add(SENT_BYTES_MAX - 9).is_err());
        uploads.deployed(&acme, [digest(1), digest(9)].iter());
        third.add(SENT_BYTES_MAX).unwrap();
        third.kept(digest(2));
        assert!(uploads.begin(&acme).unwrap().add(1).is_err());
        // Old parts are not counted any more after they were removed from the list.
        drop(uploads.begin_at(&acme, Instant::now() + UNUSED_MAX).unwrap());
        uploads.begin(&acme).unwrap().add(1).unwrap();
        for number in 0..SENT_PARTS_MAX {
            lock(&uploads.0).tenants.get_mut(&acme).unwrap().insert(digest(number), 0);
        }
        assert_eq!(uploads.begin(&acme).unwrap_err().kind, ProblemKind::Quota);
    }
}
