//! Errors of SQL stores, and the conversion of SQLite's errors.

use std::path::{Path, PathBuf};

use isomer_display::excerpt;
use isomer_display::size;
use isomer_runtime::OutOfMemory;
use rusqlite::ffi::ErrorCode;

use crate::InvalidStoreName;
use crate::app_files::AppFiles;
use crate::pool::PoolError;

/// Why a statement or transaction failed. The cases are those of `isomer:sql/types.error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// The statement cannot be prepared, or is not allowed.
    #[error("the statement cannot be run: {0}")]
    Statement(String),
    /// The parameters do not match the placeholders.
    #[error("{0}")]
    Parameters(String),
    /// A constraint refused the change.
    #[error("a constraint refused the change: {0}")]
    Constraint(String),
    /// The statement or transaction exceeded its time limit.
    #[error("the statement or transaction exceeded its time limit")]
    Timeout,
    /// A statement, parameter or result exceeds its limit.
    #[error("{0}")]
    TooLarge(String),
    /// Too many statements wait for the store.
    #[error("the store has too many operations waiting: try again later")]
    Overloaded,
    /// The tenant's quota of storage is used up. Nothing was changed; deleting rows frees space.
    #[error("the quota `storage` of {} is used up: delete data, or ask for a higher quota", size(.limit))]
    Quota {
        /// [`StorageAccount::limit`](crate::StorageAccount::limit).
        limit: u64,
    },
    /// The free space of the disk is below the reserve that tenants must not use. Nothing was changed.
    #[error("the disk has no space left: try again later, or contact the administrator")]
    DiskFull,
    /// The tenant's memory is used up by its guests and by data that the node holds for the tenant, such as queued
    /// statements and results.
    #[error("the quota `memory` of {} is used up: request less at once, or ask for a higher quota", size(.limit))]
    Memory {
        /// The quota.
        limit: u64,
    },
    /// The tenant has exceeded its quota of processor time. Nothing was changed.
    #[error("the quota `cpu` is used up: statements are expensive, or there are too many of them")]
    Cpu,
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(String),
}

impl From<OutOfMemory> for SqlError {
    fn from(error: OutOfMemory) -> Self {
        Self::Memory { limit: error.limit_bytes }
    }
}

/// Why a store cannot be opened or migrated.
#[derive(Debug, thiserror::Error)]
pub enum SqlOpenError {
    /// The name is not a valid store name.
    #[error(transparent)]
    Name(#[from] InvalidStoreName),
    /// SQLite cannot open the store's file.
    #[error("the SQL store `{}` cannot be opened", path.display())]
    Open {
        /// The store's file.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// A thread could not be started or a directory could not be created for the store.
    #[error("the SQL store `{}` cannot be opened", path.display())]
    Io {
        /// The store's file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file of migrations, or their folder, cannot be read.
    #[error("the migrations `{}` cannot be read", path.display())]
    MigrationUnreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A migration failed. No part of it was applied.
    #[error("the migration `{}` of the SQL store `{store}` failed, and nothing of it was applied: {message}", path.display())]
    MigrationFailed {
        /// The store.
        store: String,
        /// The file.
        path: PathBuf,
        /// SQLite's message.
        message: String,
    },
    /// An applied migration was changed.
    #[error(
        "the migration `{}` was changed after it had been applied to the SQL store `{store}`: restore it, and make the \
         change in a new file",
        path.display()
    )]
    MigrationChanged {
        /// The store.
        store: String,
        /// The file.
        path: PathBuf,
    },
    /// An applied migration is missing.
    #[error("the migration `{}` is missing, but was applied to the SQL store `{store}`: restore the file", path.display())]
    MigrationMissing {
        /// The store.
        store: String,
        /// The file.
        path: PathBuf,
    },
    /// A new migration comes before an applied one.
    #[error(
        "the migration `{}` is new, but its name comes before `{applied}`, which was applied to the SQL store `{store}` already: \
         give it a later name",
        path.display()
    )]
    MigrationOutOfOrder {
        /// The store.
        store: String,
        /// The file.
        path: PathBuf,
        /// The last applied migration.
        applied: String,
    },
    /// The tenant's storage has not enough space for a copy.
    #[error(
        "a copy of the SQL store `{store}` has {}, more than the quota `storage` of {} has left: ask for a higher \
         quota, or delete data",
        size(.bytes),
        size(.limit)
    )]
    NoRoom {
        /// The store.
        store: String,
        /// The size of the copy.
        bytes: u64,
        /// [`StorageAccount::limit`](crate::StorageAccount::limit).
        limit: u64,
    },
    /// A copy takes too long.
    #[error("copying the SQL store `{store}` takes longer than {seconds} s")]
    Late {
        /// The store.
        store: String,
        /// [`SqlLimits::copy_time`](super::SqlLimits::copy_time).
        seconds: u64,
    },
    /// The store could not be closed, copied and migrated in the time for which requests may wait.
    #[error(
        "the SQL store `{store}` is in use, or too large to be migrated while requests wait: try again, or stop the app first"
    )]
    Busy {
        /// The store.
        store: String,
    },
    /// The disk failed while the store's file was being replaced.
    #[error(
        "the SQL store `{store}` is half replaced, as the disk failed: finishing it is tried again when the store is next opened"
    )]
    Unfinished {
        /// The store.
        store: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The thread that was opening the store panicked or was stopped.
    #[error("opening the SQL store was abandoned")]
    Abandoned,
}

impl SqlOpenError {
    /// Returns the same error with paths that a tenant may see: full paths of the app's own files, and only the names
    /// of other files.
    pub(crate) fn shown_in(mut self, files: &AppFiles) -> Self {
        let AppFiles::Own { files, .. } = files else { return self };
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

/// Removes the path from SQLite's message about a file that cannot be opened.
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
    /// Converts an error of SQLite; `denied` is the authorizer's reason, if it refused something.
    pub(super) fn from_sqlite(error: &rusqlite::Error, denied: Option<String>) -> Self {
        let (code, message) = match error {
            rusqlite::Error::SqliteFailure(failure, message) => (failure.code, message.clone()),
            rusqlite::Error::SqlInputError { error, msg, .. } => (error.code, Some(msg.clone())),
            rusqlite::Error::MultipleStatement => {
                return Self::Statement("it is more than one statement: send them one by one".to_owned());
            }
            other => return Self::Store(other.to_string()),
        };
        // The message may repeat parts of the statement.
        let message = excerpt::cut(message.unwrap_or_else(|| format!("{code:?}")), excerpt::TEXT_BYTES_MAX);
        match code {
            ErrorCode::ConstraintViolation => Self::Constraint(message),
            ErrorCode::OperationInterrupted => Self::Timeout,
            ErrorCode::TooBig => Self::TooLarge(message),
            ErrorCode::OutOfMemory => Self::TooLarge("the statement needs more memory than is available".to_owned()),
            // SQLite's message for an empty statement.
            ErrorCode::ApiMisuse => Self::Statement("it is empty".to_owned()),
            ErrorCode::AuthorizationForStatementDenied => Self::Statement(denied.unwrap_or(message)),
            // The message contains the file's path.
            ErrorCode::CannotOpen => Self::Store("its file cannot be opened".to_owned()),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Overloaded,
            ErrorCode::Unknown
            | ErrorCode::TypeMismatch
            | ErrorCode::SchemaChanged
            | ErrorCode::ParameterOutOfRange => Self::Statement(denied.unwrap_or(message)),
            _ => Self::Store(message),
        }
    }
}
