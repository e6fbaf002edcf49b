//! Key-value stores of a candidate revision. The candidate's writes must not reach the app's own stores before the
//! candidate takes over.
//!
//! Reads use the app's store until the candidate's first write. The first write copies the entries, with their
//! versions, into a store of the candidate, within the tenant's storage quota and [`COPY_TIME`]. All later operations
//! use the copy, which is removed with the candidate.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableDatabase, ReadableTable};

use super::entry::{ENTRIES, META, entry_bytes};
use super::open_store::OpenStore;
use super::{CACHE_BYTES_MIN, Kv, KvError, KvStore, open_file};
use crate::StorageAccount;
use crate::storage::Claim;
use crate::store_handle::StoreCopier;

/// The time limit for copying a store. A health check that waits for the copy has a shorter time limit of its own.
const COPY_TIME: Duration = Duration::from_secs(60);

/// Copies an app's stores. `self` contains the candidate's own stores, and receives the copies.
impl StoreCopier<OpenStore> for Kv {
    type Error = KvError;

    async fn copy(&self, store: &Arc<OpenStore>) -> Result<Arc<OpenStore>, KvError> {
        let (from, goal) = (store.clone(), self.path_of(&store.name));
        store.job_queue.run(move || copy(&from, &goal)).await??;
        Ok(self.store(&store.name).await?.inner().clone())
    }
}

impl Kv {
    /// Opens the store `name` for a candidate revision, which reads the app's store and writes to a copy in `candidate`.
    /// The app's store is neither changed nor created.
    ///
    /// # Errors
    /// The errors of [`Kv::store`].
    pub(crate) async fn candidate_store(&self, name: &str, candidate: &Self) -> Result<KvStore, KvError> {
        match self.existing(name).await? {
            Some(store) => Ok(store.for_candidate(candidate.clone())),
            None => candidate.store(name).await,
        }
    }
}

fn copy(store: &OpenStore, goal: &Path) -> Result<(), KvError> {
    let deadline = Instant::now() + COPY_TIME;
    let copy = open_file(goal, CACHE_BYTES_MIN)?;
    // The reservation of the copy's space in the tenant's storage. It is released after the size of the copy has been
    // recorded.
    let claim = RefCell::new(None);
    store.database().read(|from| copy.write(|to| copy_entries(from, to, &store.account, &claim, deadline)))?;
    drop(copy);
    store.account.measure(goal);
    drop(claim);
    Ok(())
}

/// Copies all entries from one database into the other. The reservation of the copy's space is stored in `claim`, so
/// that the caller can hold it after this function returns. After a failure, this function may be called again with the
/// same `claim`: it first releases the reservation of the failed call.
fn copy_entries<'a>(
    from: &Database,
    to: &Database,
    account: &'a StorageAccount,
    claim: &RefCell<Option<Claim<'a>>>,
    deadline: Instant,
) -> Result<(), KvError> {
    let mut claim = claim.borrow_mut();
    // Releases the previous reservation first, so that the space is not reserved twice.
    *claim = None;
    *claim = Claim::new(account, 0);
    let read = from.begin_read().map_err(KvError::storage)?;
    let (from, about) = (read.open_table(ENTRIES), read.open_table(META));
    let mut write = to.begin_write().map_err(KvError::storage)?;
    write.set_durability(Durability::None).map_err(KvError::storage)?;
    {
        let mut entries = write.open_table(ENTRIES).map_err(KvError::storage)?;
        for entry in from.map_err(KvError::storage)?.iter().map_err(KvError::storage)? {
            let (key, stored) = entry.map_err(KvError::storage)?;
            let bytes = entry_bytes(key.value(), stored.value().len()) as u64;
            if !claim.as_mut().is_some_and(|claim| claim.grow(bytes)) {
                account.refuse();
                return Err(KvError::Quota { limit: account.limit() });
            }
            if Instant::now() >= deadline {
                return Err(KvError::storage("copying the store for a candidate revision takes too long"));
            }
            entries.insert(key.value(), stored.value()).map_err(KvError::storage)?;
        }
        let mut meta = write.open_table(META).map_err(KvError::storage)?;
        for entry in about.map_err(KvError::storage)?.iter().map_err(KvError::storage)? {
            let (key, number) = entry.map_err(KvError::storage)?;
            meta.insert(key.value(), number.value()).map_err(KvError::storage)?;
        }
    }
    write.commit().map_err(KvError::storage)
}
