//! The source of apps that are not in memory.

use std::error::Error;
use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_capabilities::AppResources;
use isomer_ids::{AppName, ReleaseDigest, TenantName};
use isomer_observe::AppLog;

use crate::package::Package;

/// A package, with the resources that are needed to start it.
pub struct LaunchSpec {
    /// The package.
    pub package: Arc<Package>,
    /// The app's directories, secrets and outbound network. The accounts in this field are replaced by the tenant's
    /// own.
    pub place: AppResources,
    /// The app's own log; with `None`, the guests' output is written to the process's log.
    pub log: Option<AppLog>,
    /// The app's own access log, if requests are logged.
    pub access: Option<AppLog>,
}

/// Why a [`LaunchSpec`] could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// Too many other releases are being compiled. The app is not at fault: the next request tries again.
    #[error(transparent)]
    Busy(Box<dyn Error + Send + Sync>),
    /// The revision does not exist, or cannot be read or compiled.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// The source of apps that are not in memory.
pub trait AppRepository: Send + Sync + 'static {
    /// Fetches the package of `revision` and the resources to start it. Must not block. The returned future may be
    /// dropped: work that it waited for continues, and the next call uses the result.
    ///
    /// # Errors
    /// When the revision does not exist or cannot be made.
    fn fetch(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        revision: ReleaseDigest,
    ) -> BoxFuture<'static, Result<LaunchSpec, RepositoryError>>;

    /// Returns the app's own log, if it has one. Must not block.
    fn log(&self, _tenant: &TenantName, _app: &AppName) -> Option<AppLog> {
        None
    }

    /// Returns an error text in the form that a tenant may see: without the paths of the node's data.
    fn redact(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// A repository without apps: used when every app stays in memory.
pub struct EmptyRepository;

impl AppRepository for EmptyRepository {
    fn fetch(
        self: Arc<Self>,
        _: TenantName,
        _: AppName,
        _: ReleaseDigest,
    ) -> BoxFuture<'static, Result<LaunchSpec, RepositoryError>> {
        Box::pin(async { Err(RepositoryError::Failed("this process keeps no apps on disk".into())) })
    }
}
