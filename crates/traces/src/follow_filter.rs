//! Conditions of a query for traces that can be decided with only the summary of a trace. Streams of new traces allow
//! only these conditions, because a stream contains no spans.

use isomer_api::{ApiProblem, ProblemKind, TraceQuery, TraceSummary};
use isomer_telemetry::is_path_below;

/// The conditions of a query for traces, if all of them can be decided from the summary of a trace.
#[derive(Debug, Clone)]
pub struct FollowFilter {
    query: TraceQuery,
}

impl FollowFilter {
    /// Returns the conditions of `query`.
    ///
    /// # Errors
    /// If the query has a condition about spans, or about a range of traces.
    pub fn new(query: &TraceQuery) -> Result<Self, ApiProblem> {
        let unsupported = [
            ("limit", query.limit.is_some()),
            ("after", query.after.is_some()),
            ("kind", query.kind.is_some()),
            ("caller", query.caller.is_some()),
            ("callee", query.callee.is_some()),
            ("interface", query.interface.is_some()),
            ("function", query.function.is_some()),
            ("since_ms", query.since_ms.is_some()),
            ("until_ms", query.until_ms.is_some()),
            ("attribute", query.attribute.is_some()),
        ];
        match unsupported.into_iter().find(|(_, is_set)| *is_set) {
            None => Ok(Self { query: query.clone() }),
            Some((name, _)) => {
                let why = format!("new traces cannot be selected by `{name}`");
                let hint = "use `component`, `route`, `path`, `min_us`, `max_us`, `failed`, `status` or `text`, which select by the request itself";
                Err(ApiProblem::new(ProblemKind::BadRequest, why).hint(hint))
            }
        }
    }

    /// Returns whether a trace meets all conditions. The component is the one that handled the request, the route
    /// is a part of the request's name, and the text is a part of its name or of its path.
    #[must_use]
    pub fn includes(&self, trace: &TraceSummary) -> bool {
        let query = &self.query;
        let name = trace.name.to_ascii_lowercase();
        let path = trace.path.as_deref();
        let component = trace.component.as_deref();
        let has_text = |text: &String| {
            let text = text.to_ascii_lowercase();
            let contains = |own: &str| own.to_ascii_lowercase().contains(&text);
            name.contains(&text) || path.is_some_and(contains) || component.is_some_and(contains)
        };
        let is_on_route = |route: &String| trace.name.split_once(' ').is_some_and(|(_, name)| name == route);
        query.component.as_deref().is_none_or(|wanted| component == Some(wanted))
            && query.route.as_ref().is_none_or(is_on_route)
            && query.path.as_ref().is_none_or(|wanted| path.is_some_and(|path| is_path_below(path, wanted)))
            && query.min_us.is_none_or(|min_us| trace.duration_ns / 1000 >= min_us)
            && query.max_us.is_none_or(|max_us| trace.duration_ns / 1000 <= max_us)
            && query.status.is_none_or(|status| trace.status == Some(status))
            && query.text.as_ref().is_none_or(has_text)
            && (!query.failed || trace.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> TraceSummary {
        TraceSummary {
            id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            request: "00000000000000ab".to_owned(),
            tenant: None,
            app: None,
            name: "GET /cart/{id}".to_owned(),
            path: Some("/cart/7".to_owned()),
            component: Some("pages".to_owned()),
            start_us: 1,
            duration_ns: 2_000_000,
            status: Some(200),
            spans: 3,
            failed: false,
            sampled: true,
            partial: false,
        }
    }

    #[test]
    fn a_trace_must_meet_all_conditions() {
        let includes = |query: TraceQuery| FollowFilter::new(&query).unwrap().includes(&summary());
        let text = |text: &str| Some(text.to_owned());
        assert!(includes(TraceQuery::default()));
        assert!(includes(TraceQuery { route: text("/cart/{id}"), min_us: Some(2000), ..TraceQuery::default() }));
        assert!(includes(TraceQuery { text: text("CART"), max_us: Some(2000), ..TraceQuery::default() }));
        assert!(includes(TraceQuery { path: text("/cart"), text: text("cart/7"), ..TraceQuery::default() }));
        for query in [
            TraceQuery { path: text("/car"), ..TraceQuery::default() },
            TraceQuery { failed: true, ..TraceQuery::default() },
            TraceQuery { status: Some(500), ..TraceQuery::default() },
            TraceQuery { component: text("cart"), ..TraceQuery::default() },
            TraceQuery { route: text("/cart"), ..TraceQuery::default() },
            TraceQuery { min_us: Some(2001), ..TraceQuery::default() },
            TraceQuery { max_us: Some(1999), ..TraceQuery::default() },
            TraceQuery { text: text("checkout"), component: text("pages"), ..TraceQuery::default() },
        ] {
            assert!(!includes(query));
        }
    }

    #[test]
    fn conditions_about_spans_are_refused() {
        let query = TraceQuery { callee: Some("cart".to_owned()), ..TraceQuery::default() };
        let problem = FollowFilter::new(&query).unwrap_err();
        assert!(problem.kind == ProblemKind::BadRequest && problem.title.contains("`callee`"));
    }
}
