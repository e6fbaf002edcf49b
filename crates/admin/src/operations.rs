//! The table of all operations of a node's admin API. The server routes requests by the table, and the OpenAPI document
//! is generated from it.

use std::sync::Arc;

use futures::future::FutureExt as _;
use http::Method;
use isomer_api::deploy::{MANIFEST_BYTES_MAX, PARTS_MAX};
use isomer_api::{
    ApiProblem, AppInfo, CreatedToken, DeployReport, MissingParts, ProblemKind, Release, RevisionInfo, RollbackRequest,
    StoredToken, SwapRequest, TenantChange, TenantInfo, TokenInfo, TokenRequest, TokenRole, routes,
};
use isomer_ids::SECRET_BYTES_MAX;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access_rule::AccessRule;
use crate::admin::Admin;
use crate::app_api::AdminReply;
use crate::app_operations;
use crate::arguments::PathNames;
use crate::audit::now_ms;
use crate::caller::Caller;
use crate::operation::{Input, Operation, empty, json_in, plain, query_only};
use crate::token::Token;

/// The maximum size in bytes of one part of a release.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;

/// The maximum size in bytes of a release as JSON: the manifest, and the name, digest and size of each part.
const RELEASE_BYTES_MAX: u64 = 2 * MANIFEST_BYTES_MAX as u64 + 1280 * PARTS_MAX as u64;

/// The query of the operation `remove`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemoveQuery {
    /// Also remove the app's data. If `false`, the next app with this name gets the data.
    data: bool,
}

/// The query of the operation `remove-secret`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemoveSecretQuery {
    /// Remove the secret even if apps use it. These apps can then no longer start.
    force: bool,
}

/// Returns all operations of a node.
pub(crate) fn all() -> Vec<Operation<dyn Admin>> {
    type A = dyn Admin;
    let get = Method::GET;
    let (put, post, delete) = (Method::PUT, Method::POST, Method::DELETE);
    let mut operations = app_operations::all::<A>();
    operations.extend([
        plain::<Vec<TenantInfo>, A>("tenants", get.clone(), routes::TENANTS, "All tenants, sorted by name", |admin, named| {
            Ok(match named.caller()? {
                Caller::Node => admin.tenants(),
                Caller::Tenant(token) => admin.tenant(token.tenant).map(|own| own.map(|own| vec![own])).boxed(),
            })
        })
        .open_to(AccessRule::Own(TokenRole::Read)),
        plain::<TenantInfo, A>("tenant", get.clone(), routes::TENANT, "A tenant", |admin, named| {
            Ok(admin.tenant(named.tenant()?))
        })
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        json_in::<TenantChange, TenantInfo, A>(
            "set-tenant",
            put.clone(),
            routes::TENANT,
            "Create a tenant or change an existing one; absent fields keep their values",
            |admin, named, change| {
                let details = serde_json::to_value(&change).expect("a change is plain data");
                Ok((admin.set_tenant(named.tenant()?, change), details))
            },
        )
        .changes(),
        empty::<A>(
            "remove-tenant",
            delete.clone(),
            routes::TENANT,
            "Remove a tenant that has no apps",
            |admin, named, _| Ok(admin.remove_tenant(named.tenant()?)),
        )
        .changes(),
        empty::<A>(
            "set-secret",
            put.clone(),
            routes::SECRET,
            "Set a secret; apps get the value from their next request on, and no operation returns it",
            |admin, named, given| Ok(admin.set_secret(named.tenant()?, named.secret()?, given.bytes())),
        )
        .takes(Input::Bytes { about: "The value", bytes_max: SECRET_BYTES_MAX })
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes(),
        query_only::<RemoveSecretQuery, A>(
            "remove-secret",
            delete.clone(),
            routes::SECRET,
            "Remove a secret; `force` is needed if the current revision of an app uses the secret",
            |admin, named, query| {
                let details = json!({ "force": query.force });
                Ok((admin.remove_secret(named.tenant()?, named.secret()?, query.force), details))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes(),
        plain::<Vec<TokenInfo>, A>(
            "tokens",
            get.clone(),
            routes::TOKENS,
            "Information about a tenant's tokens, sorted by name; no operation returns an existing token itself",
            |admin, named| Ok(admin.tokens(named.tenant()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin)),
        json_in::<TokenRequest, CreatedToken, A>(
            "create-token",
            post.clone(),
            routes::TOKENS,
            "Create a token of a tenant; only this response contains the token, because the node stores only its digest",
            create_token,
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes(),
        empty::<A>(
            "revoke-token",
            delete.clone(),
            routes::TOKEN,
            "Revoke a token of a tenant; later requests with the token are refused",
            |admin, named, _| Ok(admin.revoke_token(named.tenant()?, named.token()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes(),
        query_only::<RemoveQuery, A>("remove", delete, routes::APP, "Remove an app", |admin, named, query| {
            let details = json!({ "data": query.data });
            Ok((admin.remove(named.tenant()?, named.app()?, query.data), details))
        })
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes(),
        plain::<Vec<RevisionInfo>, A>(
            "revisions",
            get.clone(),
            routes::REVISIONS,
            "The revisions of an app, newest first",
            |admin, named| Ok(admin.revisions(named.tenant()?, named.app()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        json_in::<Release, MissingParts, A>(
            "missing",
            post.clone(),
            routes::MISSING,
            "The parts of a release that must be uploaded: those that the node lacks, and for a tenant's token also those that the tenant has not uploaded itself",
            |admin, named, release| Ok((admin.missing(named.caller()?, release), Value::Null)),
        )
        .open_to(AccessRule::Own(TokenRole::Deploy))
        .at_most(RELEASE_BYTES_MAX),
        empty::<A>(
            "put-blob",
            put,
            routes::BLOB,
            "Upload a part; the node stores the part only if its digest is the one in the path",
            |admin, named, given| Ok(admin.put_blob(named.caller()?, named.digest()?, given.stream())),
        )
        .open_to(AccessRule::Own(TokenRole::Deploy))
        .takes(Input::Stream { about: "The bytes", bytes_max: BLOB_BYTES_MAX })
        .changes(),
        json_in::<Release, DeployReport, A>(
            "deploy",
            post.clone(),
            routes::DEPLOY,
            "Check, compile and start a release, and put it into service; if a step fails, nothing changes",
            |admin, named, release| {
                let details = json!({ "hosts": release.hosts, "shape": release.shape });
                Ok((admin.deploy(named.caller()?, named.tenant()?, named.app()?, release), details))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .at_most(RELEASE_BYTES_MAX)
        .changes(),
        json_in::<RollbackRequest, DeployReport, A>(
            "rollback",
            post.clone(),
            routes::ROLLBACK,
            "Roll back to an earlier revision, and restore the snapshot of its stores if requested",
            |admin, named, rollback| {
                let details = json!({ "to": rollback.revision, "to_snapshot": rollback.to_snapshot });
                Ok((admin.rollback(named.caller()?, named.tenant()?, named.app()?, rollback), details))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .changes(),
        json_in::<SwapRequest, DeployReport, A>(
            "swap",
            post.clone(),
            routes::SWAP,
            "Replace components of the revision in service",
            |admin, named, swap| {
                let details = json!({ "components": swap.components.keys().collect::<Vec<_>>() });
                Ok((admin.swap(named.caller()?, named.tenant()?, named.app()?, swap), details))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .changes(),
        plain::<AppInfo, A>(
            "stop",
            post.clone(),
            routes::STOP,
            "Stop serving an app; requests in flight finish",
            |admin, named| Ok(admin.stop(named.tenant()?, named.app()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .changes(),
        plain::<AppInfo, A>("start", post, routes::START, "Serve a stopped app again", |admin, named| {
            Ok(admin.start(named.tenant()?, named.app()?))
        })
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .changes(),
    ]);
    operations
}

/// Creates a token, and passes only its stored form to `admin`, which never has the token itself. The audit log records
/// the id of the token before the token is stored.
fn create_token(
    admin: Arc<dyn Admin>,
    named: &PathNames,
    new: TokenRequest,
) -> Result<(AdminReply<CreatedToken>, Value), ApiProblem> {
    let failed = |error: crate::token::TokenError| ApiProblem::new(ProblemKind::Failed, error.to_string());
    let tenant = named.tenant()?;
    let created_at = now_ms() / 1000;
    // A token that expires may create only tokens that expire no later.
    let expires_with = match named.caller()? {
        Caller::Tenant(token) => token.expires_at,
        Caller::Node => None,
    };
    let asked = new.expires_in_s.map(|seconds| created_at.saturating_add(seconds));
    let expires_at = asked.into_iter().chain(expires_with).min();
    let (token, id) = Token::of_tenant().map_err(failed)?;
    let details = json!({ "name": new.name, "role": new.role, "data": new.data, "id": id, "expires_at": expires_at });
    let info = TokenInfo { name: new.name, id, tenant, role: new.role, data: new.data, created_at, expires_at };
    let kept = admin.add_token(StoredToken { info, digest: token.digest() });
    let reply = kept.map(move |kept| Ok(CreatedToken { info: kept?, token: token.reveal().to_owned() }));
    Ok((reply.boxed(), details))
}
