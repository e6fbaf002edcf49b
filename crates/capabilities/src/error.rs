//! Why the capabilities of an app cannot be opened.

use isomer_ids::StoreName;

use crate::app_files::OutsideError;
use crate::kv::KvError;
use crate::outbound::AuthorityError;
use crate::secrets::SecretError;
use crate::sql::SqlOpenError;

/// The capabilities of an app can't be made ready.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// A key-value store can't be opened.
    #[error("the key-value store `{store}` can't be opened: {source}")]
    Kv {
        /// Its name.
        store: StoreName,
        /// Why.
        source: KvError,
    },
    /// A SQL store can't be opened or migrated.
    #[error(transparent)]
    Sql(#[from] SqlOpenError),
    /// A secret can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificate authorities for a granted host can't be read.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The certificate authorities for a granted host aren't the app's own.
    #[error("the certificate authorities for a granted host can't be read")]
    AuthorityOutside {
        /// Why.
        source: OutsideError,
    },
    /// What the app has on disk can't be counted.
    #[error("the app's folders can't be read")]
    Count(#[source] std::io::Error),
    /// The migrations of a SQL store aren't the app's own.
    #[error("the migrations of the SQL store `{store}` can't be read")]
    Migrations {
        /// Its name.
        store: StoreName,
        /// Why.
        source: OutsideError,
    },
}
