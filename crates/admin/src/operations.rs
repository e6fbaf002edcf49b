//! The table of the API's operations. Requests are served from it, the OpenAPI document is made of it, and the audit log has its names.

use std::sync::Arc;

use futures::future::FutureExt as _;
use http::Method;
use isomer_api::deploy::{MANIFEST_BYTES_MAX, PARTS_MAX};
use isomer_api::{
    ApiProblem, AppInfo, CreatedToken, DeployReport, MissingParts, NodeStatus, ProblemKind, Release, RevisionInfo,
    RollbackRequest, StoredToken, SwapRequest, TenantChange, TenantInfo, TokenInfo, TokenRequest, TokenRole, routes,
};
use isomer_ids::{SECRET_BYTES_MAX, TenantName};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access_rule::AccessRule;
use crate::admin::{Admin, AdminReply};
use crate::arguments::PathNames;
use crate::audit::now_ms;
use crate::caller::Caller;
use crate::operation::{Input, Operation, document, empty, json_in, lines, plain, query, query_only};
use crate::token::Token;

/// The maximum size of one part of a release in bytes.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;

/// Bytes of a release: a manifest, and for each part its name, digest and size.
const RELEASE_BYTES_MAX: u64 = 2 * MANIFEST_BYTES_MAX as u64 + 1280 * PARTS_MAX as u64;

/// Which apps are wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AppsQuery {
    /// Only the apps of this tenant; all apps by default.
    pub(crate) tenant: Option<TenantName>,
}

/// How an app is removed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemoveQuery {
    /// Removes the data, too. Otherwise the next deployment under this name uses it.
    data: bool,
}

/// How a secret is removed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemoveSecretQuery {
    /// Removes the secret also if apps use it, which then do not start any more.
    force: bool,
}

/// Returns all operations, in the order of the document.
pub(crate) fn all() -> Vec<Operation> {
    let get = Method::GET;
    let (put, post, delete) = (Method::PUT, Method::POST, Method::DELETE);
    vec![
        plain::<NodeStatus>(
            "status",
            get.clone(),
            routes::STATUS,
            "The node as a whole",
            |admin, _| Ok(admin.status()),
        ),
        document("openapi", routes::OPENAPI, "This document").open_to(AccessRule::Own(TokenRole::Read)),
        plain::<Vec<TenantInfo>>("tenants", get.clone(), routes::TENANTS, "All tenants, by name", |admin, named| {
            Ok(match named.caller()? {
                Caller::Node => admin.tenants(),
                Caller::Tenant(token) => admin.tenant(token.tenant).map(|own| own.map(|own| vec![own])).boxed(),
            })
        })
        .open_to(AccessRule::Own(TokenRole::Read)),
        plain::<TenantInfo>("tenant", get.clone(), routes::TENANT, "A tenant", |admin, named| {
            Ok(admin.tenant(named.tenant()?))
        })
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        json_in::<TenantChange, TenantInfo>(
            "set-tenant",
            put.clone(),
            routes::TENANT,
            "Create a tenant, or change it: absent fields stay as they are",
            |admin, named, change| {
                let details = serde_json::to_value(&change).expect("a change is plain data");
                Ok((admin.set_tenant(named.tenant()?, change), details))
            },
        )
        .changes(),
        empty(
            "remove-tenant",
            delete.clone(),
            routes::TENANT,
            "Remove a tenant that has no apps",
            |admin, named, _| Ok(admin.remove_tenant(named.tenant()?)),
        )
        .changes(),
        empty(
            "set-secret",
            put.clone(),
            routes::SECRET,
            "Set a secret: apps see it from their next request on, and it can never be read back",
            |admin, named, given| Ok(admin.set_secret(named.tenant()?, named.secret()?, given.bytes())),
        )
        .takes(Input::Bytes { about: "The value", bytes_max: SECRET_BYTES_MAX })
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes(),
        query_only::<RemoveSecretQuery>(
            "remove-secret",
            delete.clone(),
            routes::SECRET,
            "Remove a secret; one that the revision of an app uses is removed only with `force`",
            |admin, named, query| {
                let details = json!({ "force": query.force });
                Ok((admin.remove_secret(named.tenant()?, named.secret()?, query.force), details))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes(),
        plain::<Vec<TokenInfo>>(
            "tokens",
            get.clone(),
            routes::TOKENS,
            "The tokens of a tenant, by name; never the tokens themselves",
            |admin, named| Ok(admin.tokens(named.tenant()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin)),
        json_in::<TokenRequest, CreatedToken>(
            "create-token",
            post.clone(),
            routes::TOKENS,
            "Create a token of a tenant: only this response contains it, the node stores its digest",
            create_token,
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes(),
        empty(
            "revoke-token",
            delete.clone(),
            routes::TOKEN,
            "Revoke a token of a tenant: it is refused from now on",
            |admin, named, _| Ok(admin.revoke_token(named.tenant()?, named.token()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes(),
        query::<AppsQuery, Vec<AppInfo>>(
            "apps",
            get.clone(),
            routes::APPS,
            "All apps, or those of one tenant, by tenant and name",
            |admin, named, query| {
                let caller = named.caller()?;
                match (caller.tenant().cloned(), query.tenant) {
                    (Some(own), Some(asked)) if own != asked => {
                        let why = format!("the token is of tenant `{own}`, and gives no access to other tenants");
                        Err(ApiProblem::new(ProblemKind::Forbidden, why).hint(format!("--tenant {own}")))
                    }
                    (own, asked) => Ok(admin.apps(own.or(asked))),
                }
            },
        )
        .open_to(AccessRule::Own(TokenRole::Read)),
        plain::<AppInfo>("app", get.clone(), routes::APP, "An app", |admin, named| {
            Ok(admin.app(named.tenant()?, named.app()?))
        })
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        query_only::<RemoveQuery>("remove", delete, routes::APP, "Remove an app", |admin, named, query| {
            let details = json!({ "data": query.data });
            Ok((admin.remove(named.tenant()?, named.app()?, query.data), details))
        })
        .open_to(AccessRule::Tenant(TokenRole::Admin))
        .changes(),
        plain::<Vec<RevisionInfo>>(
            "revisions",
            get.clone(),
            routes::REVISIONS,
            "An app's revisions, the newest first",
            |admin, named| Ok(admin.revisions(named.tenant()?, named.app()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        json_in::<Release, MissingParts>(
            "missing",
            post.clone(),
            routes::MISSING,
            "Which parts of a release have to be uploaded: those that the node lacks, and for a tenant's token those that the tenant has not uploaded itself",
            |admin, named, release| Ok((admin.missing(named.caller()?, release), Value::Null)),
        )
        .open_to(AccessRule::Own(TokenRole::Deploy))
        .at_most(RELEASE_BYTES_MAX),
        empty(
            "put-blob",
            put,
            routes::BLOB,
            "Upload a part: it is kept only if the bytes have this digest",
            |admin, named, given| Ok(admin.put_blob(named.caller()?, named.digest()?, given.stream())),
        )
        .open_to(AccessRule::Own(TokenRole::Deploy))
        .takes(Input::Stream { about: "The bytes", bytes_max: BLOB_BYTES_MAX })
        .changes(),
        json_in::<Release, DeployReport>(
            "deploy",
            post.clone(),
            routes::DEPLOY,
            "Check, compile and start a release, and let it take over; or change nothing",
            |admin, named, release| {
                let details = json!({ "hosts": release.hosts, "shape": release.shape });
                Ok((admin.deploy(named.caller()?, named.tenant()?, named.app()?, release), details))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .at_most(RELEASE_BYTES_MAX)
        .changes(),
        json_in::<RollbackRequest, DeployReport>(
            "rollback",
            post.clone(),
            routes::ROLLBACK,
            "Roll back to an earlier revision, with its stores if requested",
            |admin, named, rollback| {
                let details = json!({ "to": rollback.revision, "to_snapshot": rollback.to_snapshot });
                Ok((admin.rollback(named.caller()?, named.tenant()?, named.app()?, rollback), details))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .changes(),
        json_in::<SwapRequest, DeployReport>(
            "swap",
            post.clone(),
            routes::SWAP,
            "Replace components of the revision that serves",
            |admin, named, swap| {
                let details = json!({ "components": swap.components.keys().collect::<Vec<_>>() });
                Ok((admin.swap(named.caller()?, named.tenant()?, named.app()?, swap), details))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .changes(),
        plain::<AppInfo>(
            "stop",
            post.clone(),
            routes::STOP,
            "Stop serving an app; requests in flight finish",
            |admin, named| Ok(admin.stop(named.tenant()?, named.app()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .changes(),
        plain::<AppInfo>("start", post, routes::START, "Serve an app again", |admin, named| {
            Ok(admin.start(named.tenant()?, named.app()?))
        })
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .changes(),
        lines("logs", get, routes::LOGS, "Lines of an app's log: the existing ones, then new ones if it is followed")
            .open_to(AccessRule::Tenant(TokenRole::Read)),
    ]
}

/// Creates a token here, so that what stores it never sees it. The audit log has the token's id before it is stored.
fn create_token(
    admin: Arc<dyn Admin>,
    named: &PathNames,
    new: TokenRequest,
) -> Result<(AdminReply<CreatedToken>, Value), ApiProblem> {
    let failed = |error: crate::token::TokenError| ApiProblem::new(ProblemKind::Failed, error.to_string());
    let tenant = named.tenant()?;
    let created_at = now_ms() / 1000;
    // A token that expires must not create a successor that lasts longer.
    let expires_with = match named.caller()? {
        Caller::Tenant(token) => token.expires_at,
        Caller::Node => None,
    };
    let asked = new.expires_in_s.map(|seconds| created_at.saturating_add(seconds));
    let expires_at = asked.into_iter().chain(expires_with).min();
    let (token, id) = Token::of_tenant().map_err(failed)?;
    let details = json!({ "name": new.name, "role": new.role, "id": id, "expires_at": expires_at });
    let info = TokenInfo { name: new.name, id, tenant, role: new.role, created_at, expires_at };
    let kept = admin.add_token(StoredToken { info, digest: token.digest() });
    let reply = kept.map(move |kept| Ok(CreatedToken { info: kept?, token: token.reveal().to_owned() }));
    Ok((reply.boxed(), details))
}
