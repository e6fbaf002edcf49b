//! The error of opening the capabilities of an app.

use isomer_ids::StoreName;

use crate::app_files::OutsideError;
use crate::kv::KvError;
use crate::outbound::AuthorityError;
use crate::secrets::SecretError;
use crate::sql::SqlOpenError;

/// The reason why the capabilities of an app cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// A key-value store cannot be opened.
    #[error("the key-value store `{store}` cannot be opened: {source}")]
    Kv {
        /// The name of the store.
        store: StoreName,
        /// The reason why the store cannot be opened.
        source: KvError,
    },
    /// An SQL store cannot be opened or migrated.
    #[error(transparent)]
    Sql(#[from] SqlOpenError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificate authorities for a granted host cannot be read.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The file with the certificate authorities for a granted host is not one of the app's own files.
    #[error("the certificate authorities for a granted host cannot be read")]
    AuthorityOutside {
        /// The error with the refused path.
        source: OutsideError,
    },
    /// The sizes of the app's store files cannot be measured.
    #[error("the folders of the app's stores cannot be measured")]
    Count(#[source] std::io::Error),
    /// The migrations folder of an SQL store is not one of the app's own folders.
    #[error("the migrations of the SQL store `{store}` cannot be read")]
    Migrations {
        /// The name of the store.
        store: StoreName,
        /// The error with the refused path.
        source: OutsideError,
    },
}
