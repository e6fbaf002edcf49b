//! SQL stores of a candidate revision. The candidate's writes must not reach the app's own stores before the candidate
//! takes over.
//!
//! Reads use the app's store until a copy is made, and the copy after that. All writes go to the copy. If there are
//! pending migrations, the copy is made when the store is opened, and the migrations run on it. Otherwise, the copy is
//! made at the first write. SQLite's backup API copies one consistent state of the store, page by page, while the app
//! continues to write. The copy is limited by the tenant's storage quota and [`SqlLimits::copy_time`](super::SqlLimits::copy_time), and its
//! connections have the same limits as those of any other store. The copy is removed with the candidate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rusqlite::backup::{Backup, StepResult};

use super::open_store::{MissingFile, OpenStore};
use super::session::{Access, Session};
use super::{Sql, SqlError, SqlOpenError, SqlSettings};
use crate::pool;
use crate::private_files::{make_private_dir, make_private_file};
use crate::storage::Claim;
use crate::store_handle::StoreCopier;

/// The number of pages to copy between two checks of the deadline.
const PAGES_PER_STEP: i32 = 1024;

/// Copies an app's stores into the stores of a candidate.
pub(super) struct CandidateStores {
    pub(super) stores: Sql,
    pub(super) settings: SqlSettings,
}

impl StoreCopier<OpenStore> for CandidateStores {
    type Error = SqlError;

    async fn copy(&self, store: &Arc<OpenStore>) -> Result<Arc<OpenStore>, SqlError> {
        let made = copy_into(store, &self.stores, self.settings.clone()).await;
        made.map_err(|error| SqlError::Store(error.to_string()))
    }
}

/// Copies `store` into the folder of `stores`, and opens the copy.
pub(super) async fn copy_into(
    store: &Arc<OpenStore>,
    stores: &Sql,
    settings: SqlSettings,
) -> Result<Arc<OpenStore>, SqlOpenError> {
    let (inner, goal) = (store.clone(), stores.path_of(&store.name));
    let reader = inner.reading.clone().acquire_owned().await;
    let job = move || {
        let _reader = reader;
        copy(&inner, &goal)
    };
    store.job_queue.run(job).await.map_err(|_| SqlOpenError::Abandoned)??;
    Ok(stores.open_file(&store.name, settings, MissingFile::Create).await?.0)
}

fn copy(store: &OpenStore, goal: &Path) -> Result<(), SqlOpenError> {
    let open = |source| SqlOpenError::Open { path: goal.to_owned(), source };
    let io = |source| SqlOpenError::Io { path: goal.to_owned(), source };
    let (name, account) = (&store.name, &store.opening.account);
    if store.is_abandoned() {
        return Err(SqlOpenError::Abandoned);
    }
    let session = Session::open(&store.opening, Access::Read).map_err(open)?;
    let _entered = session.enter();
    let from = session.connection();
    // Keeps a read transaction open until the end of the copy, so that all pages belong to the same state, even if
    // other connections commit during the copy.
    let read = from.unchecked_transaction().map_err(open)?;
    let number = |pragma: &str| read.query_row(pragma, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned);
    let page_bytes = number("PRAGMA page_size").map_err(open)?;
    let bytes = number("PRAGMA page_count").map_err(open)? * page_bytes;
    let no_room = || {
        account.refuse();
        SqlOpenError::NoRoom { store: name.clone(), bytes, limit: account.limit() }
    };
    let claim = Claim::new(account, bytes).ok_or_else(no_room)?;
    make_private_dir(goal.parent().unwrap_or(Path::new("."))).map_err(io)?;
    make_private_file(goal).map_err(io)?;
    let mut to = store.opening.connect_to_copy(goal).map_err(open)?;
    let deadline = Instant::now() + store.limits.copy_time;
    {
        let backup = Backup::new(from, &mut to).map_err(open)?;
        let mut left = bytes;
        loop {
            // Checks before each step that the reserve of the disk stays free, because other processes write to the
            // same disk during the copy.
            let step = left.min(u64::from(PAGES_PER_STEP.unsigned_abs()) * page_bytes);
            if !account.leaves_reserve(step) {
                return Err(no_room());
            }
            left -= step;
            if backup.step(PAGES_PER_STEP).map_err(open)? == StepResult::Done {
                break;
            }
            pool::charge();
            if pool::caller_is_gone() {
                return Err(SqlOpenError::Abandoned);
            }
            if Instant::now() >= deadline {
                return Err(SqlOpenError::Late { store: name.clone(), seconds: store.limits.copy_time.as_secs() });
            }
        }
    }
    drop(to);
    account.measure(goal);
    drop(claim);
    Ok(())
}

/// Returns the path of a file that SQLite creates next to the store's file, for example with the suffix `-wal`.
pub(super) fn companion_file(path: &Path, suffix: &str) -> PathBuf {
    let mut file = path.as_os_str().to_owned();
    file.push(suffix);
    file.into()
}
