//! The operations that a node implements for the admin API: one function for each operation (`isomer_api::routes`).

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

/// The result of an operation. Nothing happens before it is first polled, since the audit log gets its line first.
/// Dropping it later, for example because the client disconnects, does not undo what has started.
pub type AdminReply<T> = BoxFuture<'static, Result<T, ApiProblem>>;

/// The bytes of an upload, as they arrive.
pub type UploadBody = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// Lines of a log: the existing ones, followed by new ones if the query asks to follow the log.
pub type LogLines = Pin<Box<dyn Stream<Item = LogLine> + Send>>;

/// A node, as its administrators see it.
pub trait Admin: Send + Sync + 'static {
    /// Returns the status of the node.
    fn status(self: Arc<Self>) -> AdminReply<NodeStatus>;

    /// Returns all tenants, sorted by name.
    fn tenants(self: Arc<Self>) -> AdminReply<Vec<TenantInfo>>;
    /// Returns one tenant.
    fn tenant(self: Arc<Self>, tenant: TenantName) -> AdminReply<TenantInfo>;
    /// Creates a tenant, or changes it.
    fn set_tenant(self: Arc<Self>, tenant: TenantName, change: TenantChange) -> AdminReply<TenantInfo>;
    /// Removes a tenant that has no apps, with its secrets and the data that is left.
    fn remove_tenant(self: Arc<Self>, tenant: TenantName) -> AdminReply<()>;
    /// Sets a secret. Apps see it from their next request on. It can never be read back.
    fn set_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, value: Vec<u8>) -> AdminReply<()>;
    /// Removes a secret. A secret that the revision of an app uses is removed only with `force`.
    fn remove_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, force: bool) -> AdminReply<()>;

    /// Returns the stored form of a tenant's token. Called for each request with such a token, so it must not block.
    fn stored_token(&self, id: &TokenId) -> Option<StoredToken>;
    /// Returns the tokens of a tenant, sorted by name.
    fn tokens(self: Arc<Self>, tenant: TenantName) -> AdminReply<Vec<TokenInfo>>;
    /// Stores a token of a tenant.
    fn add_token(self: Arc<Self>, token: StoredToken) -> AdminReply<TokenInfo>;
    /// Revokes a token of a tenant: it is refused from now on.
    fn revoke_token(self: Arc<Self>, tenant: TenantName, name: TokenName) -> AdminReply<()>;

    /// Returns all apps, or those of one tenant, sorted by tenant and name.
    fn apps(self: Arc<Self>, tenant: Option<TenantName>) -> AdminReply<Vec<AppInfo>>;
    /// Returns one app.
    fn app(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo>;
    /// Returns the revisions of an app, the newest first.
    fn revisions(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<RevisionInfo>>;

    /// Returns which parts of a release the caller has to upload. For a tenant, parts that only other tenants have
    /// uploaded are reported as missing: otherwise the tenant could find out who has which part, and deploy bytes that
    /// it never had.
    fn missing(self: Arc<Self>, caller: Caller, release: Release) -> AdminReply<MissingParts>;
    /// Stores a part of a release. It is kept only if the bytes have this digest.
    fn put_blob(self: Arc<Self>, caller: Caller, digest: Digest, body: UploadBody) -> AdminReply<()>;
    /// Checks, compiles and starts a release, and replaces the current revision with it. On an error nothing changes.
    fn deploy(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        release: Release,
    ) -> AdminReply<DeployReport>;
    /// Rolls back to an earlier revision, by deploying it again.
    fn rollback(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        rollback: RollbackRequest,
    ) -> AdminReply<DeployReport>;
    /// Replaces components, by deploying a release with the other components unchanged.
    fn swap(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        swap: SwapRequest,
    ) -> AdminReply<DeployReport>;

    /// Stops serving an app. Requests in flight finish.
    fn stop(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo>;
    /// Serves a stopped app again.
    fn start(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo>;
    /// Removes an app. If `data`, also removes its data; if not, the next deployment under this name uses the data.
    fn remove(self: Arc<Self>, tenant: TenantName, app: AppName, data: bool) -> AdminReply<()>;
    /// Returns lines of an app's log, or of its access log.
    fn logs(self: Arc<Self>, tenant: TenantName, app: AppName, query: LogQuery) -> AdminReply<LogLines>;

    /// Returns a problem as a client sees it. The audit log has it unchanged.
    fn shown(&self, problem: ApiProblem) -> ApiProblem {
        problem
    }
}
