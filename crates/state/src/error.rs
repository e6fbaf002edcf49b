//! The errors of operations on the node's state.

use std::path::PathBuf;

use isomer_display::size;
use isomer_ids::{AppName, HostPattern, TenantName, TokenName};

/// The reason why an operation on the node's state is refused or fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process has the state file open.
    #[error("the node's state `{}` is in use by another process", path.display())]
    InUse {
        /// The path of the state file.
        path: PathBuf,
    },
    /// The state file is damaged or is not a database.
    #[error(
        "`{}` is not a node's state, or is damaged: restore a copy of the data directory, or start with an empty one",
        path.display()
    )]
    Damaged {
        /// The path of the state file.
        path: PathBuf,
        /// The error of the database.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is a database of a different program.
    #[error("`{}` is a database, but not a node's state", path.display())]
    Foreign {
        /// The path of the file.
        path: PathBuf,
    },
    /// A later version of Isomer wrote the state file.
    #[error("`{}` was written by a later version of Isomer (format {found}; this version reads formats up to {known})", path.display())]
    Newer {
        /// The path of the state file.
        path: PathBuf,
        /// The format number in the file.
        found: u32,
        /// The newest format number that this version of Isomer reads.
        known: u32,
    },
    /// The disk or the database failed. The state is unchanged.
    #[error("cannot read or write the node's state")]
    Storage {
        /// The error of the database.
        source: Box<redb::Error>,
    },
    /// The commit of a change failed, and the database cannot be read now. It is unknown whether the change was made;
    /// it was made either completely or not at all.
    #[error("a write to the node's state failed, and it is unknown whether the change was made")]
    Unsettled {
        /// The error of the database.
        source: Box<redb::Error>,
    },
    /// The named tenant does not exist.
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantName),
    /// The tenant has no app with this name.
    #[error("tenant `{tenant}` has no app `{app}`")]
    NoApp {
        /// The tenant's name.
        tenant: TenantName,
        /// The app's name.
        app: AppName,
    },
    /// The tenant has no secret with this name.
    #[error("tenant `{tenant}` has no secret `{name}`")]
    NoSecret {
        /// The tenant's name.
        tenant: TenantName,
        /// The secret's name.
        name: String,
    },
    /// The tenant has no token with this name.
    #[error("tenant `{tenant}` has no token `{name}`")]
    NoToken {
        /// The tenant's name.
        tenant: TenantName,
        /// The token's name.
        name: TokenName,
    },
    /// The tenant already has a token with this name.
    #[error("tenant `{tenant}` already has a token `{name}`")]
    TokenTaken {
        /// The tenant's name.
        tenant: TenantName,
        /// The token's name.
        name: TokenName,
    },
    /// A host name conflicts with a host name of another app or tenant.
    #[error("the host name `{host}` is taken: {holder} has `{theirs}`")]
    HostTaken {
        /// The requested host name.
        host: HostPattern,
        /// The existing pattern that conflicts with `host`.
        theirs: HostPattern,
        /// The owner of the existing pattern: an app or a tenant. Meant for admins.
        holder: String,
    },
    /// The tenant has as many apps as its quota allows.
    #[error("tenant `{tenant}` already has {apps_max} apps, which is its quota")]
    TooManyApps {
        /// The tenant's name.
        tenant: TenantName,
        /// The maximum number of apps of the tenant.
        apps_max: u32,
    },
    /// The revisions of the tenant would occupy more storage than its quota leaves for them.
    #[error("the revisions of tenant `{tenant}` would occupy {} of its storage, but only {} are available", size(*charge), size(*max))]
    NoRoom {
        /// The tenant's name.
        tenant: TenantName,
        /// The number of bytes that the revisions would occupy.
        charge: u64,
        /// The maximum number of bytes that the revisions may occupy.
        max: u64,
    },
    /// The change would exceed a maximum number of items.
    #[error("too many {what}: the maximum is {max}")]
    TooMany {
        /// The name of the limited items, in the plural.
        what: &'static str,
        /// The maximum number of these items.
        max: usize,
    },
    /// A tenant that has apps cannot be removed.
    #[error("tenant `{tenant}` still has apps: {apps}")]
    HasApps {
        /// The tenant's name.
        tenant: TenantName,
        /// The names of the tenant's apps, each in backticks.
        apps: String,
    },
}

impl<E: Into<redb::Error>> From<E> for StateError {
    fn from(error: E) -> Self {
        Self::Storage { source: Box::new(error.into()) }
    }
}
