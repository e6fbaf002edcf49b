//! The source of packages, for apps that are not in memory.

use std::error::Error;
use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_capabilities::AppResources;
use isomer_ids::{AppName, ReleaseDigest, TenantName};
use isomer_observe::AppLog;
use isomer_telemetry::Tracer;

use crate::package::Package;
use crate::probing::maker::ProbedCodeMaker;

/// A package, and the resources that are needed to start the package.
pub struct LaunchSpec {
    /// The package.
    pub package: Arc<Package>,
    /// The app's directories, secrets and outbound network. The loader replaces the accounts in this value with those
    /// of the tenant.
    pub place: AppResources,
    /// The app's own log; if `None`, the guests' output is written to the process's log.
    pub log: Option<AppLog>,
    /// The app's own access log; `None` if served requests are not logged.
    pub access: Option<AppLog>,
    /// Records the spans of the app's requests.
    pub tracer: Tracer,
    /// Makes the probed code of the package's groups; `None` if sampled requests run the plain code.
    pub probes: Option<Arc<dyn ProbedCodeMaker>>,
}

/// The reason why a [`LaunchSpec`] could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// The compilers are busy with other releases. The app is not at fault, so the next request tries again.
    #[error(transparent)]
    Busy(Box<dyn Error + Send + Sync>),
    /// The revision does not exist, or cannot be read or compiled.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// The source of packages, for apps that are not in memory.
pub trait AppRepository: Send + Sync + 'static {
    /// Fetches the package of `revision`, and the resources that are needed to start the package. Must not block. If
    /// the returned future is dropped during the fetch, the work continues, and the next call uses its result.
    ///
    /// # Errors
    /// If the revision does not exist or its package cannot be made.
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

    /// Returns an error text without the parts that a tenant may not see, such as the paths of the node's data.
    fn redact(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// A repository without apps. Used when every app stays in memory.
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
