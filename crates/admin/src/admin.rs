//! What a node must be able to do for its admins. One function for each thing that the API offers (`isomer_api::routes`).

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

/// The answer to come. Nothing is begun before it is first polled: the audit log tells of it first. Dropping it later, as when the client goes away, does not undo what was begun.
pub type Reply<T> = BoxFuture<'static, Result<T, ApiProblem>>;

/// The bytes of an upload, as they arrive.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// Lines of a log: those that there are, then those that come if they were asked for.
pub type LogLines = Pin<Box<dyn Stream<Item = LogLine> + Send>>;

/// A node, for its admins.
pub trait Admin: Send + Sync + 'static {
    /// The node as a whole.
    fn status(self: Arc<Self>) -> Reply<NodeStatus>;

    /// All tenants, by name.
    fn tenants(self: Arc<Self>) -> Reply<Vec<TenantInfo>>;
    /// One tenant.
    fn tenant(self: Arc<Self>, tenant: TenantName) -> Reply<TenantInfo>;
    /// Makes a tenant, or changes it.
    fn set_tenant(self: Arc<Self>, tenant: TenantName, change: TenantChange) -> Reply<TenantInfo>;
    /// Removes a tenant that has no apps, with its secrets and what data there is left.
    fn remove_tenant(self: Arc<Self>, tenant: TenantName) -> Reply<()>;
    /// Sets a secret: apps see it from their next request on. It is never told again.
    fn set_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, value: Vec<u8>) -> Reply<()>;
    /// Removes a secret. One that a revision in service uses only with `force`.
    fn remove_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, force: bool) -> Reply<()>;

    /// The token of a tenant with this id, as it is kept: asked for each request that has one, so it must not block.
    fn kept_token(&self, id: &TokenId) -> Option<StoredToken>;
    /// The tokens of a tenant, by name.
    fn tokens(self: Arc<Self>, tenant: TenantName) -> Reply<Vec<TokenInfo>>;
    /// Keeps a token of a tenant.
    fn add_token(self: Arc<Self>, token: StoredToken) -> Reply<TokenInfo>;
    /// Forgets a token of a tenant: from now on it opens nothing.
    fn revoke_token(self: Arc<Self>, tenant: TenantName, name: TokenName) -> Reply<()>;

    /// All apps, or those of one tenant, by tenant and name.
    fn apps(self: Arc<Self>, tenant: Option<TenantName>) -> Reply<Vec<AppInfo>>;
    /// One app.
    fn app(self: Arc<Self>, tenant: TenantName, app: AppName) -> Reply<AppInfo>;
    /// Its revisions, the newest first.
    fn revisions(self: Arc<Self>, tenant: TenantName, app: AppName) -> Reply<Vec<RevisionInfo>>;

    /// Which parts of a release the caller has to send. To a tenant, what others have sent is as if it were not there: else it could learn
    /// who has what, and deploy bytes that it never had.
    fn missing(self: Arc<Self>, caller: Caller, release: Release) -> Reply<MissingParts>;
    /// Takes a part. It is kept only if the bytes have this digest.
    fn put_blob(self: Arc<Self>, caller: Caller, digest: Digest, body: Body) -> Reply<()>;
    /// Checks, compiles, starts and takes into service; or changes nothing.
    fn deploy(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        release: Release,
    ) -> Reply<DeployReport>;
    /// Goes back to an earlier revision, as a deployment of it.
    fn rollback(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        rollback: RollbackRequest,
    ) -> Reply<DeployReport>;
    /// Replaces components, as a deployment of a revision with the others as they are.
    fn swap(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        swap: SwapRequest,
    ) -> Reply<DeployReport>;

    /// Stops serving it. Requests in flight finish.
    fn stop(self: Arc<Self>, tenant: TenantName, app: AppName) -> Reply<AppInfo>;
    /// Serves it again.
    fn start(self: Arc<Self>, tenant: TenantName, app: AppName) -> Reply<AppInfo>;
    /// Removes it; its data too if `data`, else the next deployment under this name finds it.
    fn remove(self: Arc<Self>, tenant: TenantName, app: AppName, data: bool) -> Reply<()>;
    /// Lines of its log, or of its access log.
    fn logs(self: Arc<Self>, tenant: TenantName, app: AppName, query: LogQuery) -> Reply<LogLines>;

    /// What a client is told of a problem. The audit log has it as it was.
    fn shown(&self, problem: ApiProblem) -> ApiProblem {
        problem
    }
}
