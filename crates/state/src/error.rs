//! Why something cannot be changed or read.

use std::path::PathBuf;

use isomer_display::size;
use isomer_ids::{AppName, HostPattern, TenantName, TokenName};

/// Why the state refuses, or fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process has the file open.
    #[error("the node's state `{}` is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is no database, or is damaged.
    #[error(
        "`{}` is not a node's state, or is damaged: put back a copy of the data directory, or begin with an empty one",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is a database of something else.
    #[error("`{}` is a database, but not a node's state", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a later version.
    #[error("`{}` was written by a later version of Isomer (format {found}, this one knows up to {known})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// What this version reads.
        known: u32,
    },
    /// The disk or the database failed. What was to be changed is as it was.
    #[error("cannot write the node's state")]
    Storage {
        /// What it said.
        source: Box<redb::Error>,
    },
    /// The disk or the database failed while a change was committed, and cannot be read now: the change was made or was not, as a whole.
    #[error("cannot write the node's state, nor read whether the change was made")]
    Unsettled {
        /// What it said.
        source: Box<redb::Error>,
    },
    /// There is no such tenant.
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantName),
    /// There is no such app.
    #[error("tenant `{tenant}` has no app `{app}`")]
    NoApp {
        /// Whose.
        tenant: TenantName,
        /// Which.
        app: AppName,
    },
    /// There is no such secret.
    #[error("tenant `{tenant}` has no secret `{name}`")]
    NoSecret {
        /// Whose.
        tenant: TenantName,
        /// Which.
        name: String,
    },
    /// There is no such token.
    #[error("tenant `{tenant}` has no token `{name}`")]
    NoToken {
        /// Whose.
        tenant: TenantName,
        /// Which.
        name: TokenName,
    },
    /// The tenant has a token of this name.
    #[error("tenant `{tenant}` has a token `{name}`")]
    TokenTaken {
        /// Whose.
        tenant: TenantName,
        /// Which.
        name: TokenName,
    },
    /// A host name is somebody else's.
    #[error("the host name `{host}` is taken: {holder} has `{theirs}`")]
    HostTaken {
        /// Which.
        host: HostPattern,
        /// The pattern that keeps it out.
        theirs: HostPattern,
        /// Whose that is, for admins.
        holder: String,
    },
    /// The tenant has as many apps as it may.
    #[error("tenant `{tenant}` may have {apps_max} apps and has them")]
    TooManyApps {
        /// Whose.
        tenant: TenantName,
        /// The quota.
        apps_max: u32,
    },
    /// The tenant's revisions would take more of the disk than they may.
    #[error("the revisions of tenant `{tenant}` would take {} of its storage, and there is room for {}", size(*charge), size(*max))]
    NoRoom {
        /// Whose.
        tenant: TenantName,
        /// What they would be charged with.
        charge: u64,
        /// What they may be.
        max: u64,
    },
    /// More of something than is kept.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A tenant that has apps is not removed.
    #[error("tenant `{tenant}` has apps: {apps}")]
    HasApps {
        /// Which.
        tenant: TenantName,
        /// Their names, in backticks.
        apps: String,
    },
}

impl<E: Into<redb::Error>> From<E> for StateError {
    fn from(error: E) -> Self {
        Self::Storage { source: Box::new(error.into()) }
    }
}
