//! The errors of reading and changing the state.

use std::path::PathBuf;

use isomer_display::size;
use isomer_ids::{AppName, HostPattern, TenantName, TokenName};

/// Why an operation of the state is refused or fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process has the file open.
    #[error("the node's state `{}` is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a database, or is damaged.
    #[error(
        "`{}` is not a node's state, or is damaged: restore a copy of the data directory, or start with an empty one",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The error that was found in the file.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is a database of another kind.
    #[error("`{}` is a database, but not a node's state", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a later version.
    #[error("`{}` was written by a later version of Isomer (format {found}; this version reads formats up to {known})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// The disk or the database failed. Nothing was changed.
    #[error("cannot write the node's state")]
    Storage {
        /// The database's error.
        source: Box<redb::Error>,
    },
    /// The disk or the database failed during a commit and cannot be read now. Either the whole change was made, or no
    /// part of it.
    #[error("cannot write the node's state, nor find out whether the change was made")]
    Unsettled {
        /// The database's error.
        source: Box<redb::Error>,
    },
    /// The named tenant does not exist.
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantName),
    /// The tenant has no app with this name.
    #[error("tenant `{tenant}` has no app `{app}`")]
    NoApp {
        /// The tenant.
        tenant: TenantName,
        /// The app's name.
        app: AppName,
    },
    /// The tenant has no secret with this name.
    #[error("tenant `{tenant}` has no secret `{name}`")]
    NoSecret {
        /// The tenant.
        tenant: TenantName,
        /// The secret's name.
        name: String,
    },
    /// The tenant has no token with this name.
    #[error("tenant `{tenant}` has no token `{name}`")]
    NoToken {
        /// The tenant.
        tenant: TenantName,
        /// The token's name.
        name: TokenName,
    },
    /// The tenant has a token with this name already.
    #[error("tenant `{tenant}` already has a token `{name}`")]
    TokenTaken {
        /// The tenant.
        tenant: TenantName,
        /// The token's name.
        name: TokenName,
    },
    /// A host name conflicts with that of another app or tenant.
    #[error("the host name `{host}` is taken: {holder} has `{theirs}`")]
    HostTaken {
        /// The host name.
        host: HostPattern,
        /// The existing pattern that `host` conflicts with.
        theirs: HostPattern,
        /// The owner of that pattern, for admins.
        holder: String,
    },
    /// The tenant's quota of apps is used up.
    #[error("tenant `{tenant}` already has {apps_max} apps, which is its quota")]
    TooManyApps {
        /// The tenant.
        tenant: TenantName,
        /// The quota.
        apps_max: u32,
    },
    /// The tenant's releases would exceed its quota of storage.
    #[error("the revisions of tenant `{tenant}` would occupy {} of its storage, and {} are available", size(*charge), size(*max))]
    NoRoom {
        /// The tenant.
        tenant: TenantName,
        /// The bytes that the revisions would occupy.
        charge: u64,
        /// The maximum of these bytes.
        max: u64,
    },
    /// A limit on the number of something is exceeded.
    #[error("more than {max} {what}")]
    TooMany {
        /// The name of the limited things, in the plural.
        what: &'static str,
        /// The maximum number.
        max: usize,
    },
    /// A tenant with apps cannot be removed.
    #[error("tenant `{tenant}` still has apps: {apps}")]
    HasApps {
        /// The tenant.
        tenant: TenantName,
        /// The apps' names, in backticks.
        apps: String,
    },
}

impl<E: Into<redb::Error>> From<E> for StateError {
    fn from(error: E) -> Self {
        Self::Storage { source: Box::new(error.into()) }
    }
}
