//! The table of the operations that every process with an admin API serves.

use http::Method;
use isomer_api::{
    ApiProblem, AppInfo, DeployReport, LogQuery, MetricsQuery, MetricsReport, NodeStatus, ProblemKind, ReshapeRequest,
    TokenRole, Trace, TraceOrderRequest, TracePage, TraceQuery, routes,
};
use isomer_ids::TenantName;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access_rule::AccessRule;
use crate::app_api::{AppApi, LogLines, NewTraces};
use crate::caller::Caller;
use crate::data_operations;
use crate::operation::{Operation, dashboard_code, document, json_in, json_in_only, lines, metrics_text, plain, query};

/// The query of the operation `apps`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AppsQuery {
    /// Return only the apps of this tenant. By default, all apps are returned.
    pub(crate) tenant: Option<TenantName>,
}

/// Decides whose objects a request returns. `tenant` is the tenant that the request names, and the result is the tenant
/// whose objects `caller` gets; `None` means all tenants. For a tenant's token, the result is always the tenant of the
/// token.
///
/// # Errors
/// If the caller's token belongs to a tenant other than `tenant`.
fn visible_tenant(caller: &Caller, tenant: Option<TenantName>) -> Result<Option<TenantName>, ApiProblem> {
    match (caller.tenant().cloned(), tenant) {
        (Some(own), Some(other)) if own != other => {
            let why = format!("the token belongs to tenant `{own}`, and gives no access to other tenants");
            Err(ApiProblem::new(ProblemKind::Forbidden, why).hint(format!("use --tenant {own}")))
        }
        (own, tenant) => Ok(own.or(tenant)),
    }
}

/// Returns the operations of [`AppApi`].
pub(crate) fn all<A: AppApi + ?Sized>() -> Vec<Operation<A>> {
    let get = Method::GET;
    let mut operations = vec![
        plain::<NodeStatus, A>("status", get.clone(), routes::STATUS, "The status of the process", |api, _| {
            Ok(api.status())
        }),
        document("openapi", routes::OPENAPI, "This document").open_to(AccessRule::Own(TokenRole::Read)),
        dashboard_code(
            "create-dashboard-code",
            routes::DASHBOARD_CODES,
            "Create a one-time code that opens the dashboard with the rights of the token",
        )
        .open_to(AccessRule::Own(TokenRole::Read)),
        query::<AppsQuery, Vec<AppInfo>, A>(
            "apps",
            get.clone(),
            routes::APPS,
            "All apps, or the apps of one tenant, sorted by tenant and name",
            |api, named, query| Ok(api.apps(visible_tenant(&named.caller()?, query.tenant)?)),
        )
        .open_to(AccessRule::Own(TokenRole::Read)),
        plain::<AppInfo, A>("app", get.clone(), routes::APP, "An app", |api, named| {
            Ok(api.app(named.tenant()?, named.app()?))
        })
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        plain::<Value, A>(
            "plan",
            get.clone(),
            routes::PLAN,
            "The plan of the revision that serves requests: groups, seams, grants, and the reasons",
            |api, named| Ok(api.plan(named.tenant()?, named.app()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        lines::<LogQuery, LogLines, A>(
            "logs",
            get,
            routes::LOGS,
            "The last lines of an app's log, then new lines if `follow` is true",
            |api, named, query| Ok(api.logs(named.tenant()?, named.app()?, query)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        query::<TraceQuery, TracePage, A>(
            "traces",
            Method::GET,
            routes::TRACES,
            "The traces of an app that match a query, the newest first",
            |api, named, query| Ok(api.traces(named.tenant()?, named.app()?, query)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        lines::<TraceQuery, NewTraces, A>(
            "follow-traces",
            Method::GET,
            routes::FOLLOW_TRACES,
            "The traces of an app that are recorded from now on, without their spans; conditions about spans are refused",
            |api, named, query| Ok(api.follow_traces(named.tenant()?, named.app()?, query)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        plain::<Trace, A>(
            "trace",
            Method::GET,
            routes::TRACE,
            "A trace with its spans; the id of its request can be used instead of its own",
            |api, named| Ok(api.trace(named.tenant()?, named.app()?, named.trace()?)),
        )
        .open_to(AccessRule::Tenant(TokenRole::Read)),
        json_in_only::<TraceOrderRequest, A>(
            "order-traces",
            Method::POST,
            routes::TRACE_ORDERS,
            "Trace the next requests in full, whatever the sampling policy of the app",
            |api, named, order| match order.problem() {
                Some(problem) => Err(ApiProblem::new(ProblemKind::BadRequest, problem)),
                None => Ok(api.order_traces(named.tenant()?, named.app()?, order)),
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Deploy)),
        json_in::<ReshapeRequest, DeployReport, A>(
            "reshape",
            Method::POST,
            routes::RESHAPE,
            "Run the revision in service in another shape",
            |api, named, reshape| {
                let details = json!({ "shape": reshape.shape });
                Ok((api.reshape(named.caller()?, named.tenant()?, named.app()?, reshape), details))
            },
        )
        .open_to(AccessRule::Tenant(TokenRole::Deploy))
        .changes(),
        query::<MetricsQuery, MetricsReport, A>(
            "metrics",
            Method::GET,
            routes::METRICS,
            "The values of metrics; a tenant's token sees the series of its own tenant",
            |api, named, query| {
                let tenant = visible_tenant(&named.caller()?, query.tenant)?;
                Ok(api.metrics(MetricsQuery { tenant, ..query }))
            },
        )
        .open_to(AccessRule::Own(TokenRole::Read)),
        metrics_text(
            "metrics-text",
            routes::METRICS_TEXT,
            "The values of all metrics in Prometheus' text format, or as OpenMetrics if `Accept` names it; a tenant's token sees the series of its own tenant",
        )
        .open_to(AccessRule::Own(TokenRole::Read)),
    ];
    operations.extend(data_operations::all());
    operations
}
