//! The reasons why the files of a browser group cannot be made or loaded.

use isomer_front::gateway::InvalidFiles;

/// The reason why the files of a browser group cannot be made or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebFilesError {
    /// The group cannot run in a browser.
    #[cfg(feature = "compiler")]
    #[error(transparent)]
    Web(#[from] isomer_web::WebError),
    /// A limit of the gateway is exceeded.
    #[error(transparent)]
    Invalid(#[from] InvalidFiles),
    /// The files are not in the cache, or their note is damaged.
    #[error("the files are missing or damaged")]
    Missing,
    /// The files cannot be written to the cache.
    #[error("cannot store the files in the cache")]
    Store {
        /// The system's error.
        source: std::io::Error,
    },
    /// The tenant has no memory left for the files.
    #[error("the tenant's memory is used up")]
    Memory,
}
