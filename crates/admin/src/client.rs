//! A client of the admin API, with one method for each operation.
//!
//! The client opens a new connection for each request, because requests are rare.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures::stream::{self, Stream};
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use isomer_api::{
    ApiProblem, AppInfo, CreatedToken, DashboardCode, DeployReport, LogLine, MetricsQuery, MetricsReport, MissingParts,
    NodeStatus, Release, ReshapeRequest, RevisionInfo, RollbackRequest, SwapRequest, TenantChange, TenantInfo,
    TokenInfo, TokenRequest, routes,
};
use isomer_ids::{AppName, Digest, TenantName, TokenName};

use crate::node_address::NodeAddress;
use crate::token::Token;

/// The maximum size in bytes of a chunk of an upload.
const CHUNK_BYTES: usize = 64 << 10;

/// A client of a node's admin API.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) node: NodeAddress,
    pub(crate) token: Token,
}

/// The reason why a request has no usable response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The node responded with a problem: it refused the request, or it failed while it ran the operation.
    #[error(transparent)]
    Problem(ApiProblem),
    /// The client cannot connect to the node.
    #[error("cannot reach the node at `{node}`")]
    Unreachable {
        /// The node's address.
        node: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The connection failed, or the response did not arrive in time.
    #[error("the node at `{node}` did not respond")]
    Broken {
        /// The node's address.
        node: String,
        /// The error of the connection.
        source: io::Error,
    },
    /// The server at the node's address does not serve this version of the admin API.
    #[error("the server at `{node}` is not the admin API of a node (status {status})")]
    NotANode {
        /// The node's address.
        node: String,
        /// The HTTP status of the server's response.
        status: u16,
    },
}

/// A streamed response of the admin API. Yields each item when the client has received it.
pub type ClientStream<T> = Pin<Box<dyn Stream<Item = Result<T, ClientError>> + Send>>;

/// A stream of the lines of a log.
pub type ClientLines = ClientStream<LogLine>;

pub(crate) type ClientBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

impl Client {
    /// Creates a client of the node at the address `node`, which authenticates with `token`.
    #[must_use]
    pub fn new(node: NodeAddress, token: Token) -> Self {
        Self { node, token }
    }

    /// Returns the node's address.
    #[must_use]
    pub fn node(&self) -> &NodeAddress {
        &self.node
    }

    /// Returns the status of the node.
    pub async fn status(&self) -> Result<NodeStatus, ClientError> {
        self.get(routes::STATUS.to_owned()).await
    }

    /// Creates a one-time code that opens the dashboard with the rights of the client's token.
    pub async fn create_dashboard_code(&self) -> Result<DashboardCode, ClientError> {
        self.ask(Method::POST, routes::DASHBOARD_CODES.to_owned(), None, empty()).await
    }

    /// Returns the OpenAPI document of the admin API.
    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        self.get(routes::OPENAPI.to_owned()).await
    }

    /// Returns all tenants, sorted by name.
    pub async fn tenants(&self) -> Result<Vec<TenantInfo>, ClientError> {
        self.get(routes::TENANTS.to_owned()).await
    }

    /// Returns one tenant.
    pub async fn tenant(&self, tenant: &TenantName) -> Result<TenantInfo, ClientError> {
        self.get(of_tenant(routes::TENANT, tenant)).await
    }

    /// Creates a tenant, or changes an existing tenant.
    pub async fn set_tenant(&self, tenant: &TenantName, change: &TenantChange) -> Result<TenantInfo, ClientError> {
        self.json(Method::PUT, of_tenant(routes::TENANT, tenant), change).await
    }

    /// Removes a tenant that has no apps.
    pub async fn remove_tenant(&self, tenant: &TenantName) -> Result<(), ClientError> {
        self.nothing(Method::DELETE, of_tenant(routes::TENANT, tenant), empty()).await
    }

    /// Sets a secret.
    pub async fn set_secret(&self, tenant: &TenantName, name: &str, value: Vec<u8>) -> Result<(), ClientError> {
        let body = Full::new(Bytes::from(value)).boxed_unsync();
        self.nothing(Method::PUT, of_secret(tenant, name), body).await
    }

    /// Removes a secret. A secret that the current revision of an app uses is removed only if `force` is true.
    pub async fn remove_secret(&self, tenant: &TenantName, name: &str, force: bool) -> Result<(), ClientError> {
        let query = if force { "?force=true" } else { "" };
        self.nothing(Method::DELETE, of_secret(tenant, name) + query, empty()).await
    }

    /// Returns all apps of the node, or all apps of one tenant.
    pub async fn apps(&self, tenant: Option<&TenantName>) -> Result<Vec<AppInfo>, ClientError> {
        let query = tenant.map(|tenant| format!("?tenant={tenant}")).unwrap_or_default();
        self.get(format!("{}{query}", routes::APPS)).await
    }

    /// Returns one app.
    pub async fn app(&self, tenant: &TenantName, app: &AppName) -> Result<AppInfo, ClientError> {
        self.get(of_app(routes::APP, tenant, app)).await
    }

    /// Returns the revisions of an app, newest first.
    pub async fn revisions(&self, tenant: &TenantName, app: &AppName) -> Result<Vec<RevisionInfo>, ClientError> {
        self.get(of_app(routes::REVISIONS, tenant, app)).await
    }

    /// Returns the tokens of a tenant, sorted by name.
    pub async fn tokens(&self, tenant: &TenantName) -> Result<Vec<TokenInfo>, ClientError> {
        self.get(of_tenant(routes::TOKENS, tenant)).await
    }

    /// Creates a token of a tenant. Only the response to this request contains the token itself.
    pub async fn create_token(&self, tenant: &TenantName, new: &TokenRequest) -> Result<CreatedToken, ClientError> {
        self.json(Method::POST, of_tenant(routes::TOKENS, tenant), new).await
    }

    /// Revokes a token of a tenant.
    pub async fn revoke_token(&self, tenant: &TenantName, name: &TokenName) -> Result<(), ClientError> {
        let path = of_tenant(routes::TOKEN, tenant).replace("{token}", name.as_str());
        self.nothing(Method::DELETE, path, empty()).await
    }

    /// Returns the digests of the parts of a release that must be uploaded before the release is deployed.
    pub async fn missing(&self, release: &Release) -> Result<MissingParts, ClientError> {
        self.json(Method::POST, routes::MISSING.to_owned(), release).await
    }

    /// Uploads a part of a release. Calls `report_sent` for each chunk of the part, with the size of the chunk in
    /// bytes, when the chunk is about to be sent.
    pub async fn put_blob(
        &self,
        digest: &Digest,
        bytes: Bytes,
        report_sent: impl Fn(u64) + Send + 'static,
    ) -> Result<(), ClientError> {
        let mut left = bytes;
        let chunks = std::iter::from_fn(move || {
            let chunk = left.split_to(left.len().min(CHUNK_BYTES));
            report_sent(chunk.len() as u64);
            (!chunk.is_empty()).then_some(Ok(Frame::data(chunk)))
        });
        let body = StreamBody::new(stream::iter(chunks)).boxed_unsync();
        self.nothing(Method::PUT, routes::BLOB.replace("{digest}", digest.as_str()), body).await
    }

    /// Deploys a release, all parts of which have been uploaded.
    pub async fn deploy(
        &self,
        tenant: &TenantName,
        app: &AppName,
        release: &Release,
    ) -> Result<DeployReport, ClientError> {
        self.json(Method::POST, of_app(routes::DEPLOY, tenant, app), release).await
    }

    /// Rolls back to an earlier revision.
    pub async fn rollback(
        &self,
        tenant: &TenantName,
        app: &AppName,
        rollback: &RollbackRequest,
    ) -> Result<DeployReport, ClientError> {
        self.json(Method::POST, of_app(routes::ROLLBACK, tenant, app), rollback).await
    }

    /// Replaces components of an app. The new components must have been uploaded as parts.
    pub async fn swap(
        &self,
        tenant: &TenantName,
        app: &AppName,
        swap: &SwapRequest,
    ) -> Result<DeployReport, ClientError> {
        self.json(Method::POST, of_app(routes::SWAP, tenant, app), swap).await
    }

    /// Runs an app in another shape.
    pub async fn reshape(
        &self,
        tenant: &TenantName,
        app: &AppName,
        reshape: &ReshapeRequest,
    ) -> Result<DeployReport, ClientError> {
        self.json(Method::POST, of_app(routes::RESHAPE, tenant, app), reshape).await
    }

    /// Stops serving an app. Requests in flight still finish.
    pub async fn stop(&self, tenant: &TenantName, app: &AppName) -> Result<AppInfo, ClientError> {
        self.ask(Method::POST, of_app(routes::STOP, tenant, app), None, empty()).await
    }

    /// Starts serving a stopped app again.
    pub async fn start(&self, tenant: &TenantName, app: &AppName) -> Result<AppInfo, ClientError> {
        self.ask(Method::POST, of_app(routes::START, tenant, app), None, empty()).await
    }

    /// Removes an app. If `data` is true, also removes the app's data.
    pub async fn remove(&self, tenant: &TenantName, app: &AppName, data: bool) -> Result<(), ClientError> {
        let query = if data { "?data=true" } else { "" };
        self.nothing(Method::DELETE, format!("{}{query}", of_app(routes::APP, tenant, app)), empty()).await
    }

    /// Returns the metrics that match `query`.
    pub async fn metrics(&self, query: &MetricsQuery) -> Result<MetricsReport, ClientError> {
        let tenant = query.tenant.as_ref().map(TenantName::as_str);
        let fields = [("name", query.name.as_deref()), ("tenant", tenant), ("app", query.app.as_deref())];
        let fields = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value?))));
        let query = fields.collect::<Vec<_>>().join("&");
        self.get(format!("{}?{query}", routes::METRICS)).await
    }
}

pub(crate) fn empty() -> ClientBody {
    http_body_util::Empty::new().boxed_unsync()
}

fn of_tenant(route: &str, tenant: &TenantName) -> String {
    route.replace("{tenant}", tenant.as_str())
}

pub(crate) fn of_app(route: &str, tenant: &TenantName, app: &AppName) -> String {
    of_tenant(route, tenant).replace("{app}", app.as_str())
}

/// Returns the URL path for a secret. An invalid name is not refused here: the node refuses it with a description of
/// the problem.
fn of_secret(tenant: &TenantName, name: &str) -> String {
    of_tenant(routes::SECRET, tenant).replace("{secret}", &encoded(name))
}

/// Returns `text`, percent-encoded for a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
