//! Why the capabilities of an app cannot be opened.

use isomer_ids::StoreName;

use crate::app_files::OutsideError;
use crate::kv::KvError;
use crate::outbound::AuthorityError;
use crate::secrets::SecretError;
use crate::sql::SqlOpenError;

/// Why the capabilities of an app cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// A key-value store cannot be opened.
    #[error("the key-value store `{store}` cannot be opened: {source}")]
    Kv {
        /// The store.
        store: StoreName,
        /// The cause.
        source: KvError,
    },
    /// A SQL store cannot be opened or migrated.
    #[error(transparent)]
    Sql(#[from] SqlOpenError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificate authorities for a granted host cannot be read.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The file of certificate authorities for a granted host is not one of the app's own.
    #[error("the certificate authorities for a granted host cannot be read")]
    AuthorityOutside {
        /// The refused path.
        source: OutsideError,
    },
    /// The sizes of the app's folders cannot be measured.
    #[error("the app's folders cannot be read")]
    Count(#[source] std::io::Error),
    /// The folder of migrations of a SQL store is not one of the app's own.
    #[error("the migrations of the SQL store `{store}` cannot be read")]
    Migrations {
        /// The store.
        store: StoreName,
        /// The refused path.
        source: OutsideError,
    },
}
