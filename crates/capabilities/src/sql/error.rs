//! The errors of SQL stores, and the conversion from SQLite's errors.

use std::path::{Path, PathBuf};

use isomer_display::excerpt;
use isomer_display::size;
use isomer_runtime::OutOfMemory;
use rusqlite::ffi::ErrorCode;

use crate::InvalidStoreName;
use crate::app_files::AppFiles;
use crate::pool::PoolError;

/// The reason why a statement or transaction failed. Most variants correspond to those of `isomer:sql/types.error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// The statement cannot be prepared, or is not allowed.
    #[error("the statement cannot be run: {0}")]
    Statement(String),
    /// The number of parameters differs from the number of placeholders.
    #[error("{0}")]
    Parameters(String),
    /// A constraint of the schema refused the change.
    #[error("a constraint refused the change: {0}")]
    Constraint(String),
    /// The statement or transaction exceeded its time limit.
    #[error("the statement or transaction exceeded its time limit")]
    Timeout,
    /// A statement, parameter or result exceeds its limit.
    #[error("{0}")]
    TooLarge(String),
    /// Too many statements of the store or of the tenant are waiting, their total size is too large, or the writing
    /// connection was not free in time.
    #[error("the store has too many operations waiting: try again later")]
    Overloaded,
    /// The tenant's storage quota is exhausted. Nothing was changed; deleting rows frees space.
    #[error("the quota `storage` of {} is used up: delete data, or ask for a higher quota", size(.limit))]
    Quota {
        /// The quota in bytes ([`StorageAccount::limit`](crate::StorageAccount::limit)).
        limit: u64,
    },
    /// The free space of the disk has reached the reserve, which tenants must not use. Nothing was changed.
    #[error("the disk has no space left: try again later, or contact the administrator")]
    DiskFull,
    /// Guests, and data that the node holds for the tenant, such as queued statements and results, have exhausted the
    /// tenant's memory quota.
    #[error("the quota `memory` of {} is used up: request less data at a time, or ask for a higher quota", size(.limit))]
    Memory {
        /// The quota in bytes.
        limit: u64,
    },
    /// The tenant's processor time quota is exhausted. Nothing was changed.
    #[error("the quota `cpu` is used up: run fewer or cheaper statements, or ask for a higher quota")]
    Cpu,
    /// The database failed.
    #[error("the store failed: {0}")]
    Store(String),
}

impl From<OutOfMemory> for SqlError {
    fn from(error: OutOfMemory) -> Self {
        Self::Memory { limit: error.limit_bytes }
    }
}

/// The reason why a store cannot be opened, migrated or replaced.
#[derive(Debug, thiserror::Error)]
pub enum SqlOpenError {
    /// The name is not a valid store name.
    #[error(transparent)]
    Name(#[from] InvalidStoreName),
    /// SQLite cannot open the store's file.
    #[error("the SQL store `{}` cannot be opened", path.display())]
    Open {
        /// The path of the store's file.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
    /// A file or folder of the store could not be created or read.
    #[error("the SQL store `{}` cannot be opened", path.display())]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The migrations folder, or a file in it, cannot be read.
    #[error("the migrations `{}` cannot be read", path.display())]
    MigrationUnreadable {
        /// The path of the file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A migration failed. No part of it was applied.
    #[error("the migration `{}` of the SQL store `{store}` failed, and no part of it was applied: {message}", path.display())]
    MigrationFailed {
        /// The name of the store.
        store: String,
        /// The path of the migration.
        path: PathBuf,
        /// The message of SQLite.
        message: String,
    },
    /// A migration was changed after it had been applied.
    #[error(
        "the migration `{}` was changed after it had been applied to the SQL store `{store}`: restore the file, and make the \
         change in a new file",
        path.display()
    )]
    MigrationChanged {
        /// The name of the store.
        store: String,
        /// The path of the migration.
        path: PathBuf,
    },
    /// The file of an applied migration is missing.
    #[error("the migration `{}` is missing, but was applied to the SQL store `{store}`: restore the file", path.display())]
    MigrationMissing {
        /// The name of the store.
        store: String,
        /// The path at which the migration is expected.
        path: PathBuf,
    },
    /// The name of a new migration comes before the name of an applied one.
    #[error(
        "the migration `{}` is new, but its name comes before `{applied}`, which was applied to the SQL store `{store}` already: \
         give the file a later name",
        path.display()
    )]
    MigrationOutOfOrder {
        /// The name of the store.
        store: String,
        /// The path of the new migration.
        path: PathBuf,
        /// The name of the last applied migration.
        applied: String,
    },
    /// The tenant's storage quota does not have enough space for a copy of the store.
    #[error(
        "a copy of the SQL store `{store}` needs {}, more than the quota `storage` of {} has left: ask for a higher \
         quota, or delete data",
        size(.bytes),
        size(.limit)
    )]
    NoRoom {
        /// The name of the store.
        store: String,
        /// The size of the copy, in bytes.
        bytes: u64,
        /// The quota in bytes ([`StorageAccount::limit`](crate::StorageAccount::limit)).
        limit: u64,
    },
    /// Copying the store for a candidate takes longer than [`SqlLimits::copy_time`](super::SqlLimits::copy_time).
    #[error("copying the SQL store `{store}` takes longer than {seconds} s")]
    Late {
        /// The name of the store.
        store: String,
        /// The time limit, in seconds.
        seconds: u64,
    },
    /// Requests wait while a store is closed, copied and migrated. This did not finish within the time that they may
    /// wait.
    #[error(
        "the SQL store `{store}` is in use, or too large to be migrated while requests wait: try again, or stop the app first"
    )]
    Busy {
        /// The name of the store.
        store: String,
    },
    /// The disk failed while the store's file was being replaced.
    #[error(
        "the disk failed while the SQL store `{store}` was being replaced: Isomer finishes the replacement when the store is next opened"
    )]
    Unfinished {
        /// The name of the store.
        store: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The job that should open the store panicked, was cancelled, or got no thread.
    #[error("opening the SQL store ended without a result")]
    Abandoned,
}

impl SqlOpenError {
    /// Replaces the paths in the error with paths that a tenant may see. A path in the folder of the app's own files
    /// becomes relative to this folder. Any other path is reduced to the file name.
    pub(crate) fn shown_in(mut self, files: &AppFiles) -> Self {
        let (AppFiles::Own { files, .. } | AppFiles::Shipped { files, .. }) = files else { return self };
        if let Self::Open { source, .. } = &mut self {
            without_path(source);
        }
        if let Self::Open { path, .. }
        | Self::Io { path, .. }
        | Self::MigrationUnreadable { path, .. }
        | Self::MigrationFailed { path, .. }
        | Self::MigrationChanged { path, .. }
        | Self::MigrationMissing { path, .. }
        | Self::MigrationOutOfOrder { path, .. } = &mut self
        {
            let shown = path.strip_prefix(files).ok().or_else(|| path.file_name().map(Path::new));
            *path = shown.unwrap_or(Path::new("")).to_owned();
        }
        self
    }
}

/// Removes SQLite's message about a file that cannot be opened, because it contains the path.
fn without_path(error: &mut rusqlite::Error) {
    if let rusqlite::Error::SqliteFailure(failure, message) = error
        && failure.code == ErrorCode::CannotOpen
    {
        *message = None;
    }
}

impl From<PoolError> for SqlError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Full => Self::Overloaded,
            PoolError::Abandoned => Self::Store(error.to_string()),
        }
    }
}

impl SqlError {
    /// Converts an error of SQLite. `denied` is the authorizer's reason for refusing the statement; `None` if it was
    /// not refused.
    pub(super) fn from_sqlite(error: &rusqlite::Error, denied: Option<String>) -> Self {
        let (code, message) = match error {
            rusqlite::Error::SqliteFailure(failure, message) => (failure.code, message.clone()),
            rusqlite::Error::SqlInputError { error, msg, .. } => (error.code, Some(msg.clone())),
            rusqlite::Error::MultipleStatement => {
                return Self::Statement(
                    "the text contains more than one statement: send the statements one by one".to_owned(),
                );
            }
            other => return Self::Store(other.to_string()),
        };
        // Cuts the message, because it may repeat parts of the statement.
        let message = excerpt::cut(message.unwrap_or_else(|| format!("{code:?}")), excerpt::TEXT_BYTES_MAX);
        match code {
            ErrorCode::ConstraintViolation => Self::Constraint(message),
            ErrorCode::OperationInterrupted => Self::Timeout,
            ErrorCode::TooBig => Self::TooLarge(message),
            ErrorCode::OutOfMemory => Self::TooLarge("the statement needs more memory than is available".to_owned()),
            // SQLite reports misuse for an empty statement.
            ErrorCode::ApiMisuse => Self::Statement("the statement is empty".to_owned()),
            ErrorCode::AuthorizationForStatementDenied => Self::Statement(denied.unwrap_or(message)),
            // Omits SQLite's message, because it contains the path of the file.
            ErrorCode::CannotOpen => Self::Store("the store's file cannot be opened".to_owned()),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Overloaded,
            ErrorCode::Unknown
            | ErrorCode::TypeMismatch
            | ErrorCode::SchemaChanged
            | ErrorCode::ParameterOutOfRange => Self::Statement(denied.unwrap_or(message)),
            _ => Self::Store(message),
        }
    }
}
