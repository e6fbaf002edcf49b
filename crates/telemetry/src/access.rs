//! A served request, for the access log.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{RequestId, TraceContext};

/// The app that served a request, and the app's tenant, on a node that serves several tenants.
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
    /// The request's identity in all logs.
    pub id: RequestId,
    /// The trace and the first span of the request; `None` if the front door responded before it had started a span.
    pub trace: Option<TraceContext>,
    /// The request's method.
    pub method: String,
    /// The request's path and query, as the client sent them.
    pub target: String,
    /// The response's status code.
    pub status: u16,
    /// The number of bytes of the response's body that were passed to the connection.
    pub body_bytes: u64,
    /// The time from the arrival of the request's head to the last byte of the response.
    pub took: Duration,
    /// The component that handled the request; `None` if the front door responded itself.
    pub component: Option<Arc<str>>,
    /// The host name in the request; `None` if the name is missing or not valid.
    pub host: Option<String>,
    /// The app that served the request, on a node that serves several tenants.
    pub app: Option<AppIdentity>,
    /// The client's address, if it is known.
    pub client: Option<IpAddr>,
    /// Why the client did not get the complete response; `None` if the response is complete.
    pub cut_off: Option<String>,
}
