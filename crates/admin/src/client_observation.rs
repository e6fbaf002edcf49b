//! The requests of the client that observe an app: its plan, its log and its traces.

use http::{Method, StatusCode};
use isomer_api::{
    LogQuery, ShapeAdvice, ShapeInfo, Trace, TraceOrderRequest, TracePage, TraceQuery, TraceSummary, routes,
};
use isomer_ids::{AppName, TenantName};
use serde::Serialize;
use serde_json::Value;

use crate::client::{Client, ClientError, ClientLines, ClientStream, empty, encoded, of_app};

impl Client {
    /// Returns the plan of an app's serving revision.
    pub async fn plan(&self, tenant: &TenantName, app: &AppName) -> Result<Value, ClientError> {
        self.get(of_app(routes::PLAN, tenant, app)).await
    }

    /// Returns the shapes of an app.
    pub async fn shapes(&self, tenant: &TenantName, app: &AppName) -> Result<Vec<ShapeInfo>, ClientError> {
        self.get(of_app(routes::SHAPES, tenant, app)).await
    }

    /// Returns advice about the shape of an app, from measured traffic.
    pub async fn advice(&self, tenant: &TenantName, app: &AppName) -> Result<ShapeAdvice, ClientError> {
        self.get(of_app(routes::ADVICE, tenant, app)).await
    }

    /// Returns the traces of an app that match `query`, the newest first.
    pub async fn traces(
        &self,
        tenant: &TenantName,
        app: &AppName,
        query: &TraceQuery,
    ) -> Result<TracePage, ClientError> {
        self.get(of_app(routes::TRACES, tenant, app) + &query_of(query)).await
    }

    /// Returns lines of an app's log, or of its access log if `access` is true in the query.
    pub async fn logs(&self, tenant: &TenantName, app: &AppName, query: &LogQuery) -> Result<ClientLines, ClientError> {
        let path = of_app(routes::LOGS, tenant, app) + &query_of(query);
        let response = self.send(Method::GET, path, None, empty()).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        Ok(self.lines(response.into_body()))
    }

    /// Returns a trace. `id` is the id of the trace, or of its request.
    pub async fn trace(&self, tenant: &TenantName, app: &AppName, id: &str) -> Result<Trace, ClientError> {
        self.get(of_app(routes::TRACE, tenant, app).replace("{trace}", &encoded(id))).await
    }

    /// Returns a stream of the app's traces that match `query`, as they are recorded.
    pub async fn follow_traces(
        &self,
        tenant: &TenantName,
        app: &AppName,
        query: &TraceQuery,
    ) -> Result<ClientStream<TraceSummary>, ClientError> {
        let path = of_app(routes::FOLLOW_TRACES, tenant, app) + &query_of(query);
        let response = self.send(Method::GET, path, None, empty()).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        Ok(self.lines(response.into_body()))
    }

    /// Samples the next requests to an app. The [`TraceOrderRequest`] states how many.
    pub async fn order_traces(
        &self,
        tenant: &TenantName,
        app: &AppName,
        order: &TraceOrderRequest,
    ) -> Result<(), ClientError> {
        self.json_only(Method::POST, of_app(routes::TRACE_ORDERS, tenant, app), order).await
    }
}

/// Returns `fields` as the query of a URL, with the leading question mark. Fields that are absent or `false` are left
/// out.
fn query_of(fields: &impl Serialize) -> String {
    let fields = serde_json::to_value(fields).expect("a query is plain data");
    let parameters = fields.as_object().into_iter().flatten().filter_map(|(name, value)| match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) => Some(format!("{name}={}", encoded(text))),
        value => Some(format!("{name}={value}")),
    });
    let query = parameters.collect::<Vec<_>>().join("&");
    if query.is_empty() { query } else { format!("?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_only_what_is_set() {
        assert_eq!(query_of(&TraceQuery::default()), "");
        let query =
            TraceQuery { limit: Some(7), failed: true, text: Some("a&b=ä".to_owned()), ..TraceQuery::default() };
        let written = query_of(&query);
        // Sort the parameters, because their order depends on whether another crate enables a feature of `serde_json`.
        let mut fields: Vec<_> = written.strip_prefix('?').unwrap_or_default().split('&').collect();
        fields.sort_unstable();
        assert_eq!(fields, ["failed=true", "limit=7", "text=a%26b%3D%C3%A4"]);
    }
}
