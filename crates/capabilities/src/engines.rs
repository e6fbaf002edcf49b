//! The engines that all apps of a process share: their threads, the network, and the open files.

use std::io;
use std::path::Path;
use std::sync::Arc;

use isomer_runtime::Account;

use crate::kv::{Kv, KvEngine, KvLimits};
use crate::outbound::{OutboundLimits, OutboundNetwork};
use crate::sql::{Sql, SqlEngine, SqlLimits};
use crate::{AppResources, StorageAccount};

/// Limits of the capabilities.
#[derive(Debug, Clone, Default)]
pub struct CapabilityLimits {
    /// Limits of key-value stores.
    pub kv: KvLimits,
    /// Limits of SQL stores.
    pub sql: SqlLimits,
    /// Limits of outbound HTTP.
    pub outbound: OutboundLimits,
}

/// The engines of a process, for all its apps. All clones use the same engines. There is no thread and no open file
/// until a store is opened. Dropping the last handle waits until all files are closed; an open store contains a handle.
#[derive(Clone)]
pub struct Engines {
    pub(crate) kv: KvEngine,
    pub(crate) sql: SqlEngine,
    pub(crate) network: OutboundNetwork,
}

impl Engines {
    /// Creates engines with these limits.
    #[must_use]
    pub fn new(limits: CapabilityLimits) -> Self {
        let network = OutboundNetwork::new(limits.outbound.clone());
        Self::with_network(limits, network)
    }

    /// Creates engines with the given network.
    #[must_use]
    pub fn with_network(limits: CapabilityLimits, network: OutboundNetwork) -> Self {
        Self { kv: KvEngine::new(limits.kv), sql: SqlEngine::new(limits.sql), network }
    }

    /// The key-value stores of an app.
    #[must_use]
    pub fn kv(&self, resources: &AppResources) -> Kv {
        self.kv.stores(&resources.kv, resources.storage.clone(), &resources.account)
    }

    /// The SQL stores of an app.
    #[must_use]
    pub fn sql(&self, resources: &AppResources) -> Sql {
        self.sql.stores(&resources.sql, resources.storage.clone(), &resources.account)
    }

    /// Waits until no store below `dir` is open, that is, until all of them have been closed and synced. Does not close
    /// any store: waits for stores that are in use, however long they are.
    pub async fn closed(&self, dir: &Path) {
        self.kv.closed(dir).await;
        self.sql.closed(dir).await;
    }

    /// Forgets unfinished replacements of the stores below `dir`, whose files were removed. Waits for stores that are
    /// being opened.
    pub async fn forget(&self, dir: &Path) {
        self.sql.forget(dir).await;
    }

    /// Finishes the replacements in `folder` of SQL stores in the folder `sql`, as
    /// [`roll_forward`](crate::sql::roll_forward) does, while other stores are in use. The time that this takes is
    /// bounded, whatever else the tenant does.
    ///
    /// # Errors
    /// If the disk fails, or when one of these stores is open or takes too long to open.
    pub async fn finish_replacements(
        &self,
        sql: &Path,
        storage: &Arc<StorageAccount>,
        folder: &Path,
    ) -> io::Result<()> {
        self.sql.stores(sql, storage.clone(), &Account::unlimited()).finish_replacements(folder).await
    }

    /// The number of open stores.
    #[must_use]
    pub fn open_stores(&self) -> usize {
        self.kv.open_stores() + self.sql.open_stores()
    }
}
