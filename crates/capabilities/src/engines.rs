//! The engines that all apps of a process share: the threads and open files of stores, and the resolver, certificate
//! authorities and limits of outbound HTTP.

use std::io;
use std::path::Path;
use std::sync::Arc;

use isomer_runtime::Account;

use crate::kv::{Kv, KvEngine, KvLimits};
use crate::outbound::{OutboundLimits, OutboundNetwork};
use crate::sql::{Sql, SqlEngine, SqlLimits};
use crate::{AppResources, StorageAccount};

/// The limits of all engines.
#[derive(Debug, Clone, Default)]
pub struct CapabilityLimits {
    /// The limits of key-value stores.
    pub kv: KvLimits,
    /// The limits of SQL stores.
    pub sql: SqlLimits,
    /// The limits of outbound HTTP.
    pub outbound: OutboundLimits,
}

/// A handle of the engines of a process, which all apps share. Clones refer to the same engines. The engines have no
/// thread and no open file until a store is opened. Each open store contains a handle. Dropping the last handle waits
/// until all files are closed.
#[derive(Clone)]
pub struct Engines {
    pub(crate) kv: KvEngine,
    pub(crate) sql: SqlEngine,
    pub(crate) network: OutboundNetwork,
}

impl Engines {
    /// Creates engines with `limits`. Outbound HTTP uses the operating system's resolver and the public certificate
    /// authorities.
    #[must_use]
    pub fn new(limits: CapabilityLimits) -> Self {
        let network = OutboundNetwork::new(limits.outbound.clone());
        Self::with_network(limits, network)
    }

    /// Creates engines with `limits`. Outbound HTTP uses `network`, which has its own limits.
    #[must_use]
    pub fn with_network(limits: CapabilityLimits, network: OutboundNetwork) -> Self {
        Self { kv: KvEngine::new(limits.kv), sql: SqlEngine::new(limits.sql), network }
    }

    /// Returns the key-value stores of the app that `resources` belong to.
    #[must_use]
    pub fn kv(&self, resources: &AppResources) -> Kv {
        self.kv.stores(&resources.kv, resources.storage.clone(), &resources.account)
    }

    /// Returns the SQL stores of the app that `resources` belong to.
    #[must_use]
    pub fn sql(&self, resources: &AppResources) -> Sql {
        self.sql.stores(&resources.sql, resources.storage.clone(), &resources.account)
    }

    /// Waits until all stores below `dir` have been closed and synced. Closes no store itself, so the wait lasts as
    /// long as one of these stores is used.
    pub async fn closed(&self, dir: &Path) {
        self.kv.closed(dir).await;
        self.sql.closed(dir).await;
    }

    /// Forgets unfinished replacements of the stores below `dir`. The caller has removed the files of these stores.
    /// Waits for stores that are being opened.
    pub async fn forget(&self, dir: &Path) {
        self.sql.forget(dir).await;
    }

    /// Finishes interrupted replacements of SQL stores in the folder `sql`. The files of the replacements are in
    /// `folder`. Unlike [`roll_forward`](crate::sql::roll_forward), this may run while other stores are used. The
    /// duration is bounded, even if the tenant uses its stores at the same time.
    ///
    /// # Errors
    /// If the disk fails, or if one of these stores is open or takes too long to open or close.
    pub async fn finish_replacements(
        &self,
        sql: &Path,
        storage: &Arc<StorageAccount>,
        folder: &Path,
    ) -> io::Result<()> {
        self.sql.stores(sql, storage.clone(), &Account::unlimited()).finish_replacements(folder).await
    }

    /// Returns the number of open stores, key-value and SQL.
    #[must_use]
    pub fn open_stores(&self) -> usize {
        self.kv.open_stores() + self.sql.open_stores()
    }
}
