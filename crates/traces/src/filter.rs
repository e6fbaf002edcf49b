//! The conditions of a query.

use isomer_api::{TRACES_DEFAULT, TRACES_MAX, TraceKind, TraceQuery};
use isomer_telemetry::{Span, SpanStatus, Text, TraceFragment, Value, is_path_below, semantics};

use crate::codec::{RecordHeader, root_of};
use crate::error::TraceStoreError;
use crate::position::Position;
use crate::summary::{path_of, route_of};

/// The maximum length in bytes of each text of a query.
const TEXT_BYTES_MAX: usize = 1024;

/// A valid query.
#[derive(Debug)]
pub(crate) struct TraceFilter {
    pub(crate) limit: usize,
    /// Only traces before this position.
    pub(crate) before: Option<Position>,
    min_ns: u64,
    max_ns: u64,
    since_ns: u64,
    until_ns: u64,
    status: Option<u16>,
    is_failed: bool,
    route: Option<String>,
    path: Option<String>,
    kind: Option<TraceKind>,
    component: Option<String>,
    seam: Option<SeamFilter>,
    attribute: Option<(String, String)>,
    text: Option<String>,
}

/// The conditions on one call across a seam.
#[derive(Debug)]
struct SeamFilter([(&'static str, Option<String>); 4]);

/// Conditions of a query that different fragments of one trace can meet, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Conditions(u8);

const FAILED: Conditions = Conditions(1);
const COMPONENT: Conditions = Conditions(2);
const SEAM: Conditions = Conditions(4);
const ATTRIBUTE: Conditions = Conditions(8);
const TEXT: Conditions = Conditions(16);
const KIND: Conditions = Conditions(32);

impl Conditions {
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn when(self, is_met: bool) -> Self {
        if is_met { self } else { Self(0) }
    }
}

impl TraceFilter {
    pub(crate) fn new(query: &TraceQuery) -> Result<Self, TraceStoreError> {
        let invalid = |why: &str| TraceStoreError::Query(why.to_owned());
        let texts = [
            &query.component,
            &query.caller,
            &query.callee,
            &query.interface,
            &query.function,
            &query.route,
            &query.path,
            &query.attribute,
            &query.text,
        ];
        if texts.into_iter().flatten().any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(TraceStoreError::Query(format!("a text of the query is longer than {TEXT_BYTES_MAX} bytes")));
        }
        let limit = query.limit.unwrap_or(TRACES_DEFAULT);
        if !(1..=TRACES_MAX).contains(&limit) {
            return Err(TraceStoreError::Query(format!("`limit` must be a number from 1 to {TRACES_MAX}")));
        }
        let before = match &query.after {
            Some(text) => {
                let position = Position::parse(text);
                Some(position.ok_or_else(|| invalid("`after` must be the `next` of another page"))?)
            }
            None => None,
        };
        let attribute = match &query.attribute {
            Some(text) => {
                let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
                let (key, value) = pair.ok_or_else(|| invalid("`attribute` must have the form `KEY=VALUE`"))?;
                Some((key.to_owned(), value.to_owned()))
            }
            None => None,
        };
        let seam = [
            (semantics::CALLER, query.caller.clone()),
            (semantics::CALLEE, query.callee.clone()),
            (semantics::RPC_SERVICE, query.interface.clone()),
            (semantics::RPC_METHOD, query.function.clone()),
        ];
        let ns =
            |number: Option<u64>, factor: u64, default: u64| number.map_or(default, |it| it.saturating_mul(factor));
        Ok(Self {
            limit: limit as usize,
            before,
            min_ns: ns(query.min_us, 1000, 0),
            // Durations are shown in whole microseconds, rounded down. So `max_us` includes durations that are up to
            // 999 ns longer.
            max_ns: ns(query.max_us, 1000, u64::MAX).saturating_add(999),
            since_ns: ns(query.since_ms, 1_000_000, 0),
            until_ns: ns(query.until_ms, 1_000_000, u64::MAX),
            status: query.status,
            is_failed: query.failed,
            route: query.route.clone(),
            path: query.path.clone(),
            kind: query.kind,
            component: query.component.clone(),
            seam: seam.iter().any(|(_, value)| value.is_some()).then_some(SeamFilter(seam)),
            attribute,
            text: query.text.as_ref().filter(|text| !text.is_empty()).map(|text| text.to_ascii_lowercase()),
        })
    }

    /// Returns whether no trace that was written at `written_ns` or earlier can match.
    pub(crate) fn is_after(&self, written_ns: u64) -> bool {
        written_ns < self.since_ns
    }

    /// Returns whether a trace meets the conditions on duration, start and status. `header` is the record header of the
    /// fragment that represents the trace in a list of traces.
    pub(crate) fn accepts(&self, header: &RecordHeader) -> bool {
        (self.min_ns..=self.max_ns).contains(&header.duration_ns)
            && (self.since_ns..self.until_ns).contains(&header.start_ns)
            && self.status.is_none_or(|status| header.status == Some(status))
    }

    /// Returns whether a trace meets the conditions on route and path. `fragment` is the fragment that represents the
    /// trace in a list of traces.
    pub(crate) fn accepts_target(&self, fragment: &TraceFragment) -> bool {
        let root = || root_of(fragment);
        self.route.as_ref().is_none_or(|route| root().and_then(route_of) == Some(route))
            && self.path.as_ref().is_none_or(|path| root().and_then(path_of).is_some_and(|it| is_path_below(it, path)))
    }

    /// Returns the conditions that the fragments of a trace must meet together: each condition must be met by at least
    /// one fragment.
    pub(crate) fn conditions(&self) -> Conditions {
        FAILED
            .when(self.is_failed)
            .and(COMPONENT.when(self.component.is_some()))
            .and(SEAM.when(self.seam.is_some()))
            .and(ATTRIBUTE.when(self.attribute.is_some()))
            .and(TEXT.when(self.text.is_some()))
            .and(KIND.when(self.kind.is_some()))
    }

    /// Returns the conditions that a fragment with this header meets.
    pub(crate) fn met_by_header(&self, header: &RecordHeader) -> Conditions {
        FAILED.when(header.is_failed)
    }

    /// Returns the conditions that a fragment with these spans meets.
    pub(crate) fn met_by(&self, spans: &[Span]) -> Conditions {
        let any = |condition: &dyn Fn(&Span) -> bool| spans.iter().any(condition);
        let component = |span: &Span| span.component.as_ref().map(Text::as_str) == self.component.as_deref();
        let seam = |span: &Span| self.seam.as_ref().is_some_and(|seam| seam.accepts(span));
        let attribute = |span: &Span| {
            let wanted = self.attribute.as_ref();
            wanted.is_some_and(|(key, value)| span.attribute(key).is_some_and(|it| is_equal(it, value)))
        };
        let text = |span: &Span| self.text.as_ref().is_some_and(|text| has_text(span, text));
        FAILED
            .when(any(&|span| span.status.is_failed()))
            .and(COMPONENT.when(self.component.is_some() && any(&component)))
            .and(SEAM.when(any(&seam)))
            .and(ATTRIBUTE.when(any(&attribute)))
            .and(TEXT.when(any(&text)))
            .and(KIND.when(self.kind.is_some_and(|kind| kind == kind_of(spans))))
    }
}

/// Returns the kind of the trace to which a fragment belongs. The fragment of a revision that drains has only a step.
fn kind_of(spans: &[Span]) -> TraceKind {
    let is_deployment = |key: &str| spans.iter().any(|span| span.attribute(key).is_some());
    match is_deployment(semantics::DEPLOY_OPERATION) || is_deployment(semantics::DEPLOY_STEP) {
        true => TraceKind::Deployment,
        false => TraceKind::Request,
    }
}

impl SeamFilter {
    fn accepts(&self, span: &Span) -> bool {
        self.0.iter().all(|(key, wanted)| {
            let Some(wanted) = wanted else { return true };
            let Some(Value::Text(value)) = span.attribute(key) else { return false };
            // An interface may be named without its version.
            let without_version = value.as_str().split_once('@').map(|(name, _)| name);
            value == wanted.as_str() || *key == semantics::RPC_SERVICE && without_version == Some(wanted)
        })
    }
}

fn is_equal(value: &Value, text: &str) -> bool {
    match value {
        Value::Text(value) => value == text,
        value => value.to_string() == text,
    }
}

/// Returns whether a text of the span contains `text`, which is in lower case.
fn has_text(span: &Span, text: &str) -> bool {
    let contains = |own: &str| contains_ignoring_case(own, text);
    let reason = match &span.status {
        SpanStatus::Failed(reason) => contains(reason.as_str()),
        SpanStatus::Ok => false,
    };
    let has = |value: &Value| match value {
        Value::Text(value) => contains(value.as_str()),
        value => contains(&value.to_string()),
    };
    reason
        || contains(span.name.as_str())
        || span.component.as_ref().is_some_and(|component| contains(component.as_str()))
        || span.attributes.iter().any(|attribute| has(&attribute.value))
}

/// Returns whether `text` contains `part`, which is in lower case and not empty. Allocates nothing.
fn contains_ignoring_case(text: &str, part: &str) -> bool {
    text.as_bytes().windows(part.len()).any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use isomer_telemetry::Attribute;

    use super::*;
    use crate::samples::{fragment, span};

    fn filter(change: impl FnOnce(&mut TraceQuery)) -> TraceFilter {
        let mut query = TraceQuery::default();
        change(&mut query);
        TraceFilter::new(&query).unwrap()
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    /// Returns whether the spans meet all conditions of the query.
    fn is_met(spans: &[Span], change: impl FnOnce(&mut TraceQuery)) -> bool {
        let filter = filter(change);
        filter.met_by(spans).contains(filter.conditions())
    }

    #[test]
    fn invalid_queries_are_refused() {
        let refused = |change: &dyn Fn(&mut TraceQuery)| {
            let mut query = TraceQuery::default();
            change(&mut query);
            TraceFilter::new(&query).unwrap_err().to_string()
        };
        assert_eq!(refused(&|query| query.limit = Some(0)), "`limit` must be a number from 1 to 500");
        assert_eq!(refused(&|query| query.limit = Some(501)), "`limit` must be a number from 1 to 500");
        assert_eq!(refused(&|query| query.after = text("x")), "`after` must be the `next` of another page");
        for attribute in ["key", "=value"] {
            let why = refused(&|query| query.attribute = text(attribute));
            assert_eq!(why, "`attribute` must have the form `KEY=VALUE`");
        }
        let long = refused(&|query| query.text = Some("x".repeat(1025)));
        assert_eq!(long, "a text of the query is longer than 1024 bytes");
        assert_eq!(filter(|_| {}).limit, 50);
    }

    #[test]
    fn a_call_must_meet_all_conditions_on_a_seam() {
        let call = |id, caller: &'static str, callee: &'static str| {
            let mut call = span(id, Some(1), caller, (0, 1));
            let pairs = [
                (semantics::CALLER, caller),
                (semantics::CALLEE, callee),
                (semantics::RPC_SERVICE, "shop:api/payment@1.0.0"),
                (semantics::RPC_METHOD, "charge"),
            ];
            call.attributes = pairs.map(|(key, value)| Attribute { key: key.into(), value: value.into() }).into();
            call
        };
        let spans = [call(2, "pages", "cart"), call(3, "cart", "payment")];
        let seam = |caller: &str, callee: &str| {
            is_met(&spans, |query| (query.caller, query.callee) = (text(caller), text(callee)))
        };
        assert!(seam("pages", "cart") && seam("cart", "payment") && !seam("pages", "payment"));
        for (interface, function, expected) in [
            ("shop:api/payment@1.0.0", "charge", true),
            ("shop:api/payment", "charge", true),
            ("shop:api/pay", "charge", false),
            ("shop:api/payment", "refund", false),
        ] {
            let found = is_met(&spans, |query| {
                (query.interface, query.function) = (text(interface), text(function));
            });
            assert_eq!(found, expected, "{interface} {function}");
        }
        assert!(is_met(&spans, |query| query.component = text("cart")));
        assert!(!is_met(&spans, |query| query.component = text("payment")));
    }

    #[test]
    fn deployments_and_requests_are_told_apart() {
        let mut spans = fragment(1).spans;
        let kind = |kind: TraceKind| move |query: &mut TraceQuery| query.kind = Some(kind);
        assert!(is_met(&spans, kind(TraceKind::Request)) && !is_met(&spans, kind(TraceKind::Deployment)));
        spans[0].attributes.push(Attribute { key: semantics::DEPLOY_OPERATION.into(), value: "deploy".into() });
        assert!(is_met(&spans, kind(TraceKind::Deployment)) && !is_met(&spans, kind(TraceKind::Request)));
    }

    #[test]
    fn texts_and_attributes_are_found() {
        let mut spans = fragment(1).spans;
        spans[0].status = SpanStatus::Failed("Connection REFUSED".into());
        for (wanted, expected) in [("refused", true), ("get /C", true), ("PAGES", true), ("200", true), ("x", false)] {
            assert_eq!(is_met(&spans, |query| query.text = text(wanted)), expected, "{wanted}");
        }
        for (wanted, expected) in [
            ("http.response.status_code=200", true),
            ("http.response.status_code=20", false),
            ("http.route=/cart", true),
            ("http.route=", false),
            ("url.path=/cart", false),
        ] {
            assert_eq!(is_met(&spans, |query| query.attribute = text(wanted)), expected, "{wanted}");
        }
        assert!(is_met(&spans, |query| query.failed = true) && is_met(&spans, |_| {}));
        assert!(!is_met(&fragment(1).spans, |query| query.failed = true));
        let route = |route: &str| filter(|query| query.route = text(route)).accepts_target(&fragment(1));
        assert!(route("/cart") && !route("/"));
    }
}
