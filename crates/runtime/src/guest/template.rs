//! What all instances of a group share, and what each component of it was granted.

use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_telemetry::EventSink;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};

use super::denials::Denials;
use crate::folders::{Directory, FolderStorage, GrantedFolders};
use crate::pool::Account;

/// Handles of the host that one instance may hold: requests, fields, buckets, connections. Behind each may be as much as
/// `heads` allows, outside of the guest's memory. A guest that leaks them is stopped by its own trap.
const HANDLES_MAX: usize = 2_000;

/// As many more for each request that an instance serves beside the first.
const HANDLES_PER_REQUEST: usize = 20;

/// What a response to an outgoing request is made of: its head and body, and the work that has to be polled until it is over.
pub type Outgoing = (http::Response<WasiBody>, BoxFuture<'static, Result<(), HttpError>>);

/// Sends a component's outgoing HTTP requests, or refuses them.
pub trait Outbound: Send + Sync + 'static {
    /// Send `request`. `Err(HttpRequestDenied)` where the component has no grant for the host, of which `denials` is told if there
    /// is one.
    fn send(
        &self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        denials: Option<&Arc<Denials>>,
    ) -> BoxFuture<'static, Result<Outgoing, HttpError>>;
}

/// What one component of a group has of its own. The default has nothing.
#[derive(Clone, Default)]
pub struct OwnerSettings {
    /// The component's name, for its output.
    pub component: Arc<str>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Its command-line arguments.
    pub arguments: Vec<String>,
    /// Its directories.
    pub directories: Vec<Directory>,
    /// Its way out over HTTP; none refuses every request.
    pub outbound: Option<Arc<dyn Outbound>>,
    /// What its directories that can be written take of; `None`: there is no limit.
    pub storage: Option<Arc<dyn FolderStorage>>,
}

/// What all instances of a group share.
pub(crate) struct GroupTemplate {
    pub(crate) owners: Box<[OwnerSettings]>,
    /// The owners' directories, as far as they are open.
    pub(crate) folders: GrantedFolders,
    pub(crate) sink: Arc<dyn EventSink>,
    pub(crate) denials: Arc<Denials>,
    /// Who pays.
    pub(crate) account: Arc<Account>,
    /// Requests that an instance serves beside the first, at the same time.
    pub(crate) beside: usize,
}

impl GroupTemplate {
    /// Handles of the host that one instance may hold.
    pub(super) fn handles_max(&self) -> usize {
        HANDLES_MAX.saturating_add(self.beside.saturating_mul(HANDLES_PER_REQUEST))
    }
}
