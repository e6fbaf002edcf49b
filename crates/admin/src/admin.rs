//! The interface between the admin API and a node. Together with [`AppApi`], it has one function for each operation in
//! [`isomer_api::routes`].

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::Stream;
use isomer_api::{
    AppInfo, DeployReport, MissingParts, Release, RevisionInfo, RollbackRequest, StoredToken, SwapRequest,
    TenantChange, TenantInfo, TokenInfo,
};
use isomer_ids::{AppName, Digest, SecretName, TenantName, TokenName};

use crate::app_api::{AdminReply, AppApi};
use crate::caller::Caller;

/// The bytes of an upload, in chunks as they arrive.
pub type UploadBody = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// The operations that only a node implements: those that change apps, tenants, secrets and tokens.
pub trait Admin: AppApi {
    /// Returns all tenants, sorted by name.
    fn tenants(self: Arc<Self>) -> AdminReply<Vec<TenantInfo>>;
    /// Returns one tenant.
    fn tenant(self: Arc<Self>, tenant: TenantName) -> AdminReply<TenantInfo>;
    /// Creates a tenant, or changes an existing tenant.
    fn set_tenant(self: Arc<Self>, tenant: TenantName, change: TenantChange) -> AdminReply<TenantInfo>;
    /// Removes a tenant, its secrets and all its data. Fails if the tenant has apps.
    fn remove_tenant(self: Arc<Self>, tenant: TenantName) -> AdminReply<()>;
    /// Sets a secret. Apps get the value from their next request on. No operation returns the value.
    fn set_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, value: Vec<u8>) -> AdminReply<()>;
    /// Removes a secret. A secret that the current revision of an app uses is removed only if `force` is true.
    fn remove_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, force: bool) -> AdminReply<()>;

    /// Returns the tokens of a tenant, sorted by name.
    fn tokens(self: Arc<Self>, tenant: TenantName) -> AdminReply<Vec<TokenInfo>>;
    /// Stores a token of a tenant.
    fn add_token(self: Arc<Self>, token: StoredToken) -> AdminReply<TokenInfo>;
    /// Revokes a token of a tenant. Later requests with the token are refused.
    fn revoke_token(self: Arc<Self>, tenant: TenantName, name: TokenName) -> AdminReply<()>;

    /// Returns the revisions of an app, newest first.
    fn revisions(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<RevisionInfo>>;

    /// Returns the digests of the parts of a release that the caller must upload. A tenant must also upload parts that
    /// the node already has, if only other tenants have uploaded them. Without this rule, a tenant could find out which
    /// parts other tenants have, and deploy parts whose bytes it never had.
    fn missing(self: Arc<Self>, caller: Caller, release: Release) -> AdminReply<MissingParts>;
    /// Stores a part of a release. Fails if the digest of the uploaded bytes is not `digest`.
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
}
