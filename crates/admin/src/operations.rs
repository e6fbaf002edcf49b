//! What the API offers: one table, out of which requests are served, the OpenAPI document is made and the audit log has its names.
//!
//! An [`Operation`] is made with the types of what it takes and gives, so the document cannot say something else than what is served. It takes
//! the node's token only, unless a [`Rule`] opens it to tenants' tokens.
//!
//! long because the table is one, and read as one.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use http::Method;
use isomer_api::deploy::{MANIFEST_BYTES_MAX, PARTS_MAX};
use isomer_api::{
    ApiProblem, AppInfo, CreatedToken, DeployReport, LogQuery, MissingParts, NodeStatus, ProblemKind, Release,
    RevisionInfo, RollbackRequest, StoredToken, SwapRequest, TenantChange, TenantInfo, TokenInfo, TokenRequest,
    TokenRole, routes,
};
use isomer_ids::{SECRET_BYTES_MAX, TenantName};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::{Admin, Body, LogLines, Reply};
use crate::audit::now_ms;
use crate::caller::{Caller, Rule};
use crate::given::{Given, Named};
use crate::token::Token;

/// The most bytes of one part of a release.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;

/// The most bytes of a release: a manifest, and for each part its name, digest and size.
const RELEASE_BYTES_MAX: u64 = 2 * MANIFEST_BYTES_MAX as u64 + 1280 * PARTS_MAX as u64;

/// The most bytes of any other question.
pub(crate) const QUESTION_BYTES_MAX: u64 = 256 << 10;

/// Makes the schema of a type.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Something that the API offers.
pub(crate) struct Operation {
    /// Its name in the document and in the audit log.
    pub(crate) id: &'static str,
    pub(crate) method: Method,
    /// One of [`routes`].
    pub(crate) path: &'static str,
    /// What it does, in one sentence without a full stop.
    pub(crate) about: &'static str,
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// Does it change something? Then the audit log tells of it.
    pub(crate) changes: bool,
    /// Who may ask for it: the holder of the node's token alone, unless [`Operation::open_to`] says more.
    pub(crate) rule: Rule,
    pub(crate) run: Run,
}

/// Does it: with the names out of the path, and what was given.
type Run = Box<dyn Fn(Arc<dyn Admin>, &Named, Given) -> Result<Work, ApiProblem> + Send + Sync>;

/// Asks the node with names out of the path.
type Plain<A> = fn(Arc<dyn Admin>, &Named) -> Result<Reply<A>, ApiProblem>;
/// Asks it with names and bytes; there is no answer.
type Empty = fn(Arc<dyn Admin>, &Named, Given) -> Result<Reply<()>, ApiProblem>;
/// Asks it with names and a question.
type Answered<Q, A> = fn(Arc<dyn Admin>, &Named, Q) -> Result<Reply<A>, ApiProblem>;
/// Asks it with names and a question, of which the audit log is to say this.
type Noted<Q, A> = fn(Arc<dyn Admin>, &Named, Q) -> Result<(Reply<A>, Value), ApiProblem>;

/// Something that can be begun, once its question was understood.
pub(crate) struct Work {
    /// What the audit log says was asked for.
    pub(crate) details: Value,
    pub(crate) answer: BoxFuture<'static, Result<Answer, ApiProblem>>,
}

/// What an operation takes beside the names in its path.
pub(crate) enum Input {
    Nothing,
    /// Parameters in the query.
    Query(SchemaOf),
    /// A JSON body.
    Json {
        schema: SchemaOf,
        bytes_max: u64,
    },
    /// A body of bytes, as a whole.
    Bytes {
        about: &'static str,
        bytes_max: u64,
    },
    /// A body of bytes, as it arrives.
    Stream {
        about: &'static str,
        bytes_max: u64,
    },
}

/// What an operation gives.
pub(crate) enum Output {
    Nothing,
    Json(SchemaOf),
    /// One JSON object a line.
    Lines(SchemaOf),
    /// This API's own document.
    Document,
}

/// What an operation gave.
pub(crate) enum Answer {
    Nothing,
    Json(Value),
    Lines(LogLines),
}

/// Which apps are wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AppsQuery {
    /// Those of this tenant; all where absent.
    pub(crate) tenant: Option<TenantName>,
}

/// How an app is removed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemoveQuery {
    /// Its data too. Else the next deployment under this name finds it.
    data: bool,
}

/// How a secret is removed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemoveSecretQuery {
    /// Also if apps use it, which then do not start any more.
    force: bool,
}

/// All of them, in the order of the document.
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
        document("openapi", routes::OPENAPI, "This document").open_to(Rule::Own(TokenRole::Read)),
        plain::<Vec<TenantInfo>>("tenants", get.clone(), routes::TENANTS, "All tenants, by name", |admin, named| {
            Ok(match named.caller()? {
                Caller::Node => admin.tenants(),
                Caller::Tenant(token) => admin.tenant(token.tenant).map(|own| own.map(|own| vec![own])).boxed(),
            })
        })
        .open_to(Rule::Own(TokenRole::Read)),
        plain::<TenantInfo>("tenant", get.clone(), routes::TENANT, "A tenant", |admin, named| {
            Ok(admin.tenant(named.tenant()?))
        })
        .open_to(Rule::Tenant(TokenRole::Read)),
        json_in::<TenantChange, TenantInfo>(
            "set-tenant",
            put.clone(),
            routes::TENANT,
            "Make a tenant, or change it: what is absent stays as it is",
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
            "Set a secret: apps see it from their next request on, and it is never told again",
            |admin, named, given| Ok(admin.set_secret(named.tenant()?, named.secret()?, given.bytes())),
        )
        .takes(Input::Bytes { about: "The value", bytes_max: SECRET_BYTES_MAX })
        .open_to(Rule::Tenant(TokenRole::Admin))
        .changes(),
        query_only::<RemoveSecretQuery>(
            "remove-secret",
            delete.clone(),
            routes::SECRET,
            "Remove a secret; one that an app's revision in service uses only by force",
            |admin, named, query| {
                let details = json!({ "force": query.force });
                Ok((admin.remove_secret(named.tenant()?, named.secret()?, query.force), details))
            },
        )
        .open_to(Rule::Tenant(TokenRole::Admin))
        .changes(),
        plain::<Vec<TokenInfo>>(
            "tokens",
            get.clone(),
            routes::TOKENS,
            "The tokens of a tenant, by name; never the tokens themselves",
            |admin, named| Ok(admin.tokens(named.tenant()?)),
        )
        .open_to(Rule::Tenant(TokenRole::Admin)),
        json_in::<TokenRequest, CreatedToken>(
            "create-token",
            post.clone(),
            routes::TOKENS,
            "Make a token of a tenant: this answer alone tells it, the node keeps its digest",
            create_token,
        )
        .open_to(Rule::Tenant(TokenRole::Admin))
        .changes(),
        empty(
            "revoke-token",
            delete.clone(),
            routes::TOKEN,
            "Revoke a token of a tenant: it opens nothing from now on",
            |admin, named, _| Ok(admin.revoke_token(named.tenant()?, named.token()?)),
        )
        .open_to(Rule::Tenant(TokenRole::Admin))
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
                        let why = format!("the token is tenant `{own}`'s, and opens nothing of others");
                        Err(ApiProblem::new(ProblemKind::Forbidden, why).hint(format!("--tenant {own}")))
                    }
                    (own, asked) => Ok(admin.apps(own.or(asked))),
                }
            },
        )
        .open_to(Rule::Own(TokenRole::Read)),
        plain::<AppInfo>("app", get.clone(), routes::APP, "An app", |admin, named| {
            Ok(admin.app(named.tenant()?, named.app()?))
        })
        .open_to(Rule::Tenant(TokenRole::Read)),
        query_only::<RemoveQuery>("remove", delete, routes::APP, "Remove an app", |admin, named, query| {
            let details = json!({ "data": query.data });
            Ok((admin.remove(named.tenant()?, named.app()?, query.data), details))
        })
        .open_to(Rule::Tenant(TokenRole::Admin))
        .changes(),
        plain::<Vec<RevisionInfo>>(
            "revisions",
            get.clone(),
            routes::REVISIONS,
            "An app's revisions, the newest first",
            |admin, named| Ok(admin.revisions(named.tenant()?, named.app()?)),
        )
        .open_to(Rule::Tenant(TokenRole::Read)),
        json_in::<Release, MissingParts>(
            "missing",
            post.clone(),
            routes::MISSING,
            "Which parts of a release are to be sent: those that the node lacks, and for a tenant's token those that the tenant has not sent itself",
            |admin, named, release| Ok((admin.missing(named.caller()?, release), Value::Null)),
        )
        .open_to(Rule::Own(TokenRole::Deploy))
        .at_most(RELEASE_BYTES_MAX),
        empty(
            "put-blob",
            put,
            routes::BLOB,
            "Upload a part: it is kept only if the bytes have this digest",
            |admin, named, given| Ok(admin.put_blob(named.caller()?, named.digest()?, given.stream())),
        )
        .open_to(Rule::Own(TokenRole::Deploy))
        .takes(Input::Stream { about: "The bytes", bytes_max: BLOB_BYTES_MAX })
        .changes(),
        json_in::<Release, DeployReport>(
            "deploy",
            post.clone(),
            routes::DEPLOY,
            "Check, compile, start and take into service; or change nothing",
            |admin, named, release| {
                let details = json!({ "hosts": release.hosts, "shape": release.shape });
                Ok((admin.deploy(named.caller()?, named.tenant()?, named.app()?, release), details))
            },
        )
        .open_to(Rule::Tenant(TokenRole::Deploy))
        .at_most(RELEASE_BYTES_MAX)
        .changes(),
        json_in::<RollbackRequest, DeployReport>(
            "rollback",
            post.clone(),
            routes::ROLLBACK,
            "Go back to an earlier revision, with its stores if these are wanted too",
            |admin, named, rollback| {
                let details = json!({ "to": rollback.revision, "to_snapshot": rollback.to_snapshot });
                Ok((admin.rollback(named.caller()?, named.tenant()?, named.app()?, rollback), details))
            },
        )
        .open_to(Rule::Tenant(TokenRole::Deploy))
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
        .open_to(Rule::Tenant(TokenRole::Deploy))
        .changes(),
        plain::<AppInfo>(
            "stop",
            post.clone(),
            routes::STOP,
            "Stop serving an app; requests in flight finish",
            |admin, named| Ok(admin.stop(named.tenant()?, named.app()?)),
        )
        .open_to(Rule::Tenant(TokenRole::Deploy))
        .changes(),
        plain::<AppInfo>("start", post, routes::START, "Serve an app again", |admin, named| {
            Ok(admin.start(named.tenant()?, named.app()?))
        })
        .open_to(Rule::Tenant(TokenRole::Deploy))
        .changes(),
        lines("logs", get, routes::LOGS, "Lines of an app's log: those that there are, then those that come")
            .open_to(Rule::Tenant(TokenRole::Read)),
    ]
}

/// Makes the token here: what does the keeping never sees it. The audit log names its id before it is kept.
fn create_token(
    admin: Arc<dyn Admin>,
    named: &Named,
    new: TokenRequest,
) -> Result<(Reply<CreatedToken>, Value), ApiProblem> {
    let failed = |error: crate::token::TokenError| ApiProblem::new(ProblemKind::Failed, error.to_string());
    let tenant = named.tenant()?;
    let created_at = now_ms() / 1000;
    // A token that expires is none that makes itself a successor.
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

impl Operation {
    fn changes(mut self) -> Self {
        self.changes = true;
        self
    }

    fn open_to(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    fn takes(mut self, taken: Input) -> Self {
        self.input = taken;
        self
    }

    fn at_most(mut self, most: u64) -> Self {
        if let Input::Json { bytes_max, .. } = &mut self.input {
            *bytes_max = most;
        }
        self
    }
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// An operation that takes nothing but its path.
fn plain<A: JsonSchema + Serialize + 'static>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: Plain<A>,
) -> Operation {
    let run: Run = Box::new(move |admin, named, _| Ok(work(run(admin, named)?, Value::Null)));
    Operation {
        id,
        method,
        path,
        about,
        input: Input::Nothing,
        output: Output::Json(schema_of::<A>),
        changes: false,
        rule: Rule::Node,
        run,
    }
}

/// An operation that gives nothing.
fn empty(id: &'static str, method: Method, path: &'static str, about: &'static str, run: Empty) -> Operation {
    let run: Run = Box::new(move |admin, named, given| Ok(nothing(run(admin, named, given)?, Value::Null)));
    Operation {
        id,
        method,
        path,
        about,
        input: Input::Nothing,
        output: Output::Nothing,
        changes: false,
        rule: Rule::Node,
        run,
    }
}

/// An operation that takes a JSON body. It says what the audit log tells of that.
fn json_in<Q: JsonSchema + DeserializeOwned + 'static, A: JsonSchema + Serialize + 'static>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: Noted<Q, A>,
) -> Operation {
    let run: Run = Box::new(move |admin, named, given| {
        let (reply, details) = run(admin, named, given.json()?)?;
        Ok(work(reply, details))
    });
    let input = Input::Json { schema: schema_of::<Q>, bytes_max: QUESTION_BYTES_MAX };
    Operation {
        id,
        method,
        path,
        about,
        input,
        output: Output::Json(schema_of::<A>),
        changes: false,
        rule: Rule::Node,
        run,
    }
}

/// An operation that takes a query.
fn query<Q: JsonSchema + DeserializeOwned + 'static, A: JsonSchema + Serialize + 'static>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: Answered<Q, A>,
) -> Operation {
    let run: Run = Box::new(move |admin, named, given| Ok(work(run(admin, named, given.query()?)?, Value::Null)));
    let (input, output) = (Input::Query(schema_of::<Q>), Output::Json(schema_of::<A>));
    Operation { id, method, path, about, input, output, changes: false, rule: Rule::Node, run }
}

/// An operation that takes a query and gives nothing.
fn query_only<Q: JsonSchema + DeserializeOwned + 'static>(
    id: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    run: Noted<Q, ()>,
) -> Operation {
    let run: Run = Box::new(move |admin, named, given| {
        let (reply, details) = run(admin, named, given.query()?)?;
        Ok(nothing(reply, details))
    });
    Operation {
        id,
        method,
        path,
        about,
        input: Input::Query(schema_of::<Q>),
        output: Output::Nothing,
        changes: false,
        rule: Rule::Node,
        run,
    }
}

/// The operation that gives lines.
fn lines(id: &'static str, method: Method, path: &'static str, about: &'static str) -> Operation {
    let run: Run = Box::new(|admin, named, given| {
        let reply = admin.logs(named.tenant()?, named.app()?, given.query()?);
        Ok(Work { details: Value::Null, answer: reply.map(|lines| lines.map(Answer::Lines)).boxed() })
    });
    let (input, output) = (Input::Query(schema_of::<LogQuery>), Output::Lines(schema_of::<isomer_api::LogLine>));
    Operation { id, method, path, about, input, output, changes: false, rule: Rule::Node, run }
}

/// The operation that gives the document. Nobody has to be asked for it.
fn document(id: &'static str, path: &'static str, about: &'static str) -> Operation {
    let run: Run = Box::new(|_, _, _| {
        let answer = async { Ok(Answer::Json(crate::openapi::document())) }.boxed();
        Ok(Work { details: Value::Null, answer })
    });
    Operation {
        id,
        method: Method::GET,
        path,
        about,
        input: Input::Nothing,
        output: Output::Document,
        changes: false,
        rule: Rule::Node,
        run,
    }
}

fn work<A: Serialize + 'static>(reply: Reply<A>, details: Value) -> Work {
    let answer = reply.map(|given| {
        let value = serde_json::to_value(given?).expect("what a node answers is plain data");
        Ok(Answer::Json(value))
    });
    Work { details, answer: answer.boxed() }
}

fn nothing(reply: Reply<()>, details: Value) -> Work {
    Work { details, answer: reply.map(|done| done.map(|()| Answer::Nothing)).boxed() }
}

/// The names in braces of a path.
pub(crate) fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// The body of an upload, as it arrives.
pub(crate) fn no_body() -> Body {
    Box::pin(futures::stream::empty())
}
