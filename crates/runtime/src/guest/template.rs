//! The data that all instances of a group share, and the grants of each of its components.

use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_telemetry::EventSink;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};

use super::denials::Denials;
use crate::folders::{Directory, FolderStorage, GrantedFolders};
use crate::pool::Account;

/// The number of host handles that one instance may hold: requests, fields, buckets, connections. The object of each
/// handle may take as much host memory as `http_heads` allows. A guest that leaks handles traps.
const HANDLES_MAX: usize = 2_000;

/// The number of additional handles for each request that an instance serves at the same time as the first.
const HANDLES_PER_REQUEST: usize = 20;

/// The response to an outgoing request (head and body), and the work that has to be polled until it ends.
pub type Outgoing = (http::Response<WasiBody>, BoxFuture<'static, Result<(), HttpError>>);

/// Sends a component's outgoing HTTP requests, or refuses them.
pub trait Outbound: Send + Sync + 'static {
    /// Sends `request`.
    ///
    /// # Errors
    /// `HttpRequestDenied` if the component has no grant for the host; this is reported to `denials` if it is `Some`.
    fn send(
        &self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        denials: Option<&Arc<Denials>>,
    ) -> BoxFuture<'static, Result<Outgoing, HttpError>>;
}

/// The settings of one component of a group. The default grants nothing.
#[derive(Clone, Default)]
pub struct OwnerSettings {
    /// The component's name, for its output.
    pub component: Arc<str>,
    /// The environment variables.
    pub environment: Vec<(String, String)>,
    /// The command-line arguments.
    pub arguments: Vec<String>,
    /// The granted directories.
    pub directories: Vec<Directory>,
    /// Sends the component's outgoing HTTP requests. `None` refuses every request.
    pub outbound: Option<Arc<dyn Outbound>>,
    /// The storage that writes to the component's directories use. `None` means that there is no limit.
    pub storage: Option<Arc<dyn FolderStorage>>,
}

/// The data that all instances of a group share.
pub(crate) struct GroupTemplate {
    pub(crate) owners: Box<[OwnerSettings]>,
    /// The owners' directories that are open.
    pub(crate) folders: GrantedFolders,
    pub(crate) sink: Arc<dyn EventSink>,
    pub(crate) denials: Arc<Denials>,
    /// The account that instances are charged to.
    pub(crate) account: Arc<Account>,
    /// The number of requests that an instance may serve at the same time as the first.
    pub(crate) concurrent_others: usize,
}

impl GroupTemplate {
    /// Returns the number of host handles that one instance may hold.
    pub(super) fn handles_max(&self) -> usize {
        HANDLES_MAX.saturating_add(self.concurrent_others.saturating_mul(HANDLES_PER_REQUEST))
    }
}
