//! A served request, for the access log.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::RequestId;

/// The tenant and the app that a request was served by, on a node of several tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppIdentity {
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// The app's name, unique in its tenant.
    pub app: Arc<str>,
}

/// A served request.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// The request's identity.
    pub id: RequestId,
    /// The request's method.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// The response's status code.
    pub status: u16,
    /// Bytes of the response's body that were handed to the connection.
    pub body_bytes: u64,
    /// The time from the request's head to the last byte of the response.
    pub took: Duration,
    /// The component that handled the request; `None` if the front door responded itself.
    pub component: Option<Arc<str>>,
    /// The host name in the request, if it is valid.
    pub host: Option<String>,
    /// The app that served the request, on a node of several tenants.
    pub app: Option<AppIdentity>,
    /// The client's address, if it is known.
    pub client: Option<IpAddr>,
    /// Why the client did not get the whole response; `None` if it did.
    pub cut_off: Option<String>,
}
