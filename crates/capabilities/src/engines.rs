//! What all apps of a process share: threads, the network, which files are open.

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
    /// Of key-value stores.
    pub kv: KvLimits,
    /// Of SQL stores.
    pub sql: SqlLimits,
    /// Of outbound HTTP.
    pub outbound: OutboundLimits,
}

/// The engines of a process: one for all its apps. Clones are the same ones. They have no thread and no file until a store is
/// opened, and dropping the last handle (stores have one) waits until all files are closed.
#[derive(Clone)]
pub struct Engines {
    pub(crate) kv: KvEngine,
    pub(crate) sql: SqlEngine,
    pub(crate) network: OutboundNetwork,
}

impl Engines {
    /// Engines with these limits.
    #[must_use]
    pub fn new(limits: CapabilityLimits) -> Self {
        let network = OutboundNetwork::new(limits.outbound.clone());
        Self::with_network(limits, network)
    }

    /// Engines with a network of the caller's own.
    #[must_use]
    pub fn with_network(limits: CapabilityLimits, network: OutboundNetwork) -> Self {
        Self { kv: KvEngine::new(limits.kv), sql: SqlEngine::new(limits.sql), network }
    }

    /// The key-value stores of a resources.
    #[must_use]
    pub fn kv(&self, resources: &AppResources) -> Kv {
        self.kv.stores(&resources.kv, resources.storage.clone(), &resources.account)
    }

    /// The SQL stores of a resources.
    #[must_use]
    pub fn sql(&self, resources: &AppResources) -> Sql {
        self.sql.stores(&resources.sql, resources.storage.clone(), &resources.account)
    }

    /// Resolves when no store below `dir` is open: those whose apps are gone have been closed and synced. A store that is in use
    /// is waited for.
    pub async fn closed(&self, dir: &Path) {
        self.kv.closed(dir).await;
        self.sql.closed(dir).await;
    }

    /// Forgets what could not be finished of the stores below `dir`, whose files are gone. One that is being opened is waited for.
    pub async fn forget(&self, dir: &Path) {
        self.sql.forget(dir).await;
    }

    /// Finishes the replacements that lie in `folder`, of SQL stores in the folder `sql`, as [`roll_forward`](crate::sql::roll_forward) does,
    /// while other stores are in use. Whatever else the tenant does, this is not held up by it for long.
    ///
    /// # Errors
    /// When the disk fails, or one of these stores is open, or being opened for some time.
    pub async fn finish_replacements(
        &self,
        sql: &Path,
        storage: &Arc<StorageAccount>,
        folder: &Path,
    ) -> io::Result<()> {
        self.sql.stores(sql, storage.clone(), &Account::unlimited()).finish_replacements(folder).await
    }

    /// Number of stores that are open.
    #[must_use]
    pub fn open_stores(&self) -> usize {
        self.kv.open_stores() + self.sql.open_stores()
    }
}
