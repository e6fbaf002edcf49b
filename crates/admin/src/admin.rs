//! The interface between the admin API and a node: one function for each operation in [`isomer_api::routes`].

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::Stream;
use isomer_api::{
    ApiProblem, AppInfo, DeployReport, LogLine, LogQuery, MissingParts, NodeStatus, Release, RevisionInfo,
    RollbackRequest, StoredToken, SwapRequest, TenantChange, TenantInfo, TokenInfo,
};
use isomer_ids::{AppName, Digest, SecretName, TenantName, TokenId, TokenName};

use crate::caller::Caller;

/// The future result of an operation. The operation must not start before the first poll, because its line in the audit
/// log is written first. Dropping the future after the first poll, for example because the client disconnects, must not
/// cancel the operation.
pub type AdminReply<T> = BoxFuture<'static, Result<T, ApiProblem>>;

/// The body of an upload, as a stream of the bytes that arrive.
pub type UploadBody = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// Lines of a log: the last existing lines, followed by new lines if `follow` is true in the query.
pub type LogLines = Pin<Box<dyn Stream<Item = LogLine> + Send>>;

/// The operations that a node implements for its admin API.
pub trait Admin: Send + Sync + 'static {
    /// Returns the status of the node.
    fn status(self: Arc<Self>) -> AdminReply<NodeStatus>;

    /// Returns all tenants, sorted by name.
    fn tenants(self: Arc<Self>) -> AdminReply<Vec<TenantInfo>>;
    /// Returns one tenant.
    fn tenant(self: Arc<Self>, tenant: TenantName) -> AdminReply<TenantInfo>;
    /// Creates a tenant, or changes an existing tenant.
    fn set_tenant(self: Arc<Self>, tenant: TenantName, change: TenantChange) -> AdminReply<TenantInfo>;
    /// Removes a tenant that has no apps, with its secrets and all its data.
    fn remove_tenant(self: Arc<Self>, tenant: TenantName) -> AdminReply<()>;
    /// Sets a secret. Apps get the value from their next request on. No operation returns the value.
    fn set_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, value: Vec<u8>) -> AdminReply<()>;
    /// Removes a secret. A secret that the current revision of an app uses is removed only if `force` is true.
    fn remove_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, force: bool) -> AdminReply<()>;

    /// Returns the stored form of a tenant's token; `None` if there is no such token. Called for each request with a
    /// tenant's token, so this must not block.
    fn stored_token(&self, id: &TokenId) -> Option<StoredToken>;
    /// Returns the tokens of a tenant, sorted by name.
    fn tokens(self: Arc<Self>, tenant: TenantName) -> AdminReply<Vec<TokenInfo>>;
    /// Stores a token of a tenant.
    fn add_token(self: Arc<Self>, token: StoredToken) -> AdminReply<TokenInfo>;
    /// Revokes a token of a tenant. Later requests with the token are refused.
    fn revoke_token(self: Arc<Self>, tenant: TenantName, name: TokenName) -> AdminReply<()>;

    /// Returns all apps of the node, or all apps of one tenant, sorted by tenant and name.
    fn apps(self: Arc<Self>, tenant: Option<TenantName>) -> AdminReply<Vec<AppInfo>>;
    /// Returns one app.
    fn app(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo>;
    /// Returns the revisions of an app, newest first.
    fn revisions(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<RevisionInfo>>;

    /// Returns the digests of the parts of a release that the caller must upload. For a tenant, this includes parts
    /// that only other tenants have uploaded. Otherwise, a tenant could find out which parts other tenants have, and
    /// deploy parts whose bytes it never had.
    fn missing(self: Arc<Self>, caller: Caller, release: Release) -> AdminReply<MissingParts>;
    /// Stores a part of a release, if the digest of the uploaded bytes is `digest`.
    fn put_blob(self: Arc<Self>, caller: Caller, digest: Digest, body: UploadBody) -> AdminReply<()>;
    /// Checks, compiles and starts a release, and puts it into service in place of the current revision. If one of
    /// these steps fails, the app is unchanged.
    fn deploy(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        release: Release,
    ) -> AdminReply<DeployReport>;
    /// Deploys an earlier revision of the app again.
    fn rollback(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        rollback: RollbackRequest,
    ) -> AdminReply<DeployReport>;
    /// Deploys the current release of the app with some of its components replaced.
    fn swap(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        swap: SwapRequest,
    ) -> AdminReply<DeployReport>;

    /// Stops serving an app. Requests in flight still finish.
    fn stop(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo>;
    /// Starts serving a stopped app again.
    fn start(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo>;
    /// Removes an app. If `data` is true, also removes the app's data. If `data` is false, the next app with this name
    /// gets the data.
    fn remove(self: Arc<Self>, tenant: TenantName, app: AppName, data: bool) -> AdminReply<()>;
    /// Returns lines of an app's log, or of its access log if `access` is true in the query.
    fn logs(self: Arc<Self>, tenant: TenantName, app: AppName, query: LogQuery) -> AdminReply<LogLines>;

    /// Returns a problem in the form that clients may see. The audit log records the problem unchanged.
    fn shown(&self, problem: ApiProblem) -> ApiProblem {
        problem
    }
}
