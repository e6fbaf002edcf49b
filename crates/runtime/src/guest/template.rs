//! The data that all instances of a group share, and the grants of each of its components.

use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_telemetry::EventSink;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};

use super::denials::Denials;
use crate::folders::{Directory, FolderStorage, GrantedFolders};
use crate::pool::Account;

/// The number of host handles (such as requests, fields, buckets and connections) that an instance may hold if it
/// serves one request at a time. A guest that exceeds the number traps. The memory for what a handle refers to has its
/// own limits (see `http_heads`).
const HANDLES_MAX: usize = 2_000;

/// The number of additional handles for each further request that an instance may serve at the same time.
const HANDLES_PER_REQUEST: usize = 20;

/// The response to an outgoing request, and a future that must be polled until the exchange with the server ends. The
/// future returns the error of the exchange, if any.
pub type Outgoing = (http::Response<WasiBody>, BoxFuture<'static, Result<(), HttpError>>);

/// Sends a component's outgoing HTTP requests, or refuses them.
pub trait Outbound: Send + Sync + 'static {
    /// Sends `request` for the component and returns the response.
    ///
    /// # Errors
    /// `HttpRequestDenied` if the component has no grant for the external host. If `denials` is `Some`, the denial is
    /// reported there.
    fn send(
        &self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        denials: Option<&Arc<Denials>>,
    ) -> BoxFuture<'static, Result<Outgoing, HttpError>>;
}

/// The settings and grants of one component of a group. The default grants nothing.
#[derive(Clone, Default)]
pub struct OwnerSettings {
    /// The name of the component, which labels its output.
    pub component: Arc<str>,
    /// The environment variables that the component sees, as names and values.
    pub environment: Vec<(String, String)>,
    /// The command-line arguments that the component sees.
    pub arguments: Vec<String>,
    /// The directories of the host that are granted to the component.
    pub directories: Vec<Directory>,
    /// Sends the component's outgoing HTTP requests. `None` refuses every request.
    pub outbound: Option<Arc<dyn Outbound>>,
    /// The storage in which writes to the component's directories reserve space; `None` if the storage has no limit.
    pub storage: Option<Arc<dyn FolderStorage>>,
}

/// The data that all instances of a group share.
pub(crate) struct GroupTemplate {
    pub(crate) owners: Box<[OwnerSettings]>,
    /// The granted directories that instances of the group have open.
    pub(crate) folders: GrantedFolders,
    pub(crate) sink: Arc<dyn EventSink>,
    pub(crate) denials: Arc<Denials>,
    /// The account that the group's instances are charged to.
    pub(crate) account: Arc<Account>,
    /// The number of requests that one instance may serve at the same time, minus one.
    pub(crate) concurrent_others: usize,
}

impl GroupTemplate {
    /// Returns the maximum number of host handles that one instance may hold.
    pub(super) fn handles_max(&self) -> usize {
        HANDLES_MAX.saturating_add(self.concurrent_others.saturating_mul(HANDLES_PER_REQUEST))
    }
}
