//! Access to OCI registries: flags, credentials, the cache of downloaded apps, and errors.

use isomer_console::{CliError, Console};
use isomer_ids::OciReference;
use isomer_manifest::MONOLITH;
use isomer_registry::{
    BlobCache, CredentialSource, PulledApp, Registry, RegistryError, RegistryOptions, TransportSecurity, pull_app,
};

use crate::user_dirs;

/// The flags of commands that connect to a registry.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RegistryFlags {
    /// Connect to the registry without TLS. Registries on the loopback address of this machine never use TLS.
    #[arg(long)]
    plain_http: bool,
}

impl RegistryFlags {
    /// Prepares access to the repository of `reference`, with the credentials in Docker's configuration.
    pub(crate) async fn open(&self, reference: &OciReference) -> Result<Registry, CliError> {
        let security = if self.plain_http { TransportSecurity::Plain } else { TransportSecurity::TlsExceptLoopback };
        let options = RegistryOptions::from_environment(security);
        Registry::open(reference, &options, &CredentialSource::from_environment()).await.map_err(registry_error)
    }
}

/// Pulls an app. Its release has the shape `monolith`.
pub(crate) async fn pull(
    registry: &Registry,
    reference: &OciReference,
    console: &Console,
) -> Result<PulledApp, CliError> {
    let progress = console.progress();
    progress.step(format!("pulling {reference}"));
    pull_app(registry, reference, &blob_cache(), MONOLITH).await.map_err(registry_error)
}

/// Returns the cache of blobs from registries.
pub(crate) fn blob_cache() -> BlobCache {
    match user_dirs::cache() {
        Some(cache) => BlobCache::new(cache.join("registry/blobs")),
        None => BlobCache::disabled(),
    }
}

/// Converts the error of a registry into that of a command.
pub(crate) fn registry_error(error: RegistryError) -> CliError {
    let hints = error.hints(true);
    CliError::hinted(error, hints)
}
