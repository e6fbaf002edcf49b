//! Emits telemetry through `wasi:logging`, `wasi:otel` and standard output.
//!
//! The last segment of the path selects the operation:
//!
//! | segment | operation | response |
//! | --- | --- | --- |
//! | `log` | logs the body at the level `warn` with the context `stock` | `logged` |
//! | `print` | prints the body to stdout | `printed` |
//! | `spans` | records the span `inner` in the span `outer`, with a record and an event in `inner` | the trace id of the host's span |
//! | `forge?trace=T&parent=P` | records a span with the trace id T, the id P and the parent P; and two spans, each the parent of the other | `forged` |
//! | `flood` | records 2,000 spans, each with 200 attributes, and logs 1 MiB | `flooded` |
//! | `metrics?total=N` | reports the counter `orders` with the total N, and the gauge `open` with the value N | `reported`, or 400 with the error |
//! | `many-metrics` | reports 1,000 counters | the same |
//! | `meet` | waits until two requests are in this instance; then logs the query's `name` and records a span with this name | `met` |

use std::cell::Cell;

use guest_support::{HandlerResult, body_bytes, path, query, query_number, respond};
use wasip3::clocks::monotonic_clock;
use wasip3::http::types::Request;

wit_bindgen::generate!({
    inline: "package guest:telemetry-probe; world imports { import wasi:logging/logging@0.1.0-draft; include wasi:otel/imports@0.2.0-rc.2; }",
    path: [
        "../../crates/wit/wit/wasi-io-0.2.12",
        "../../crates/wit/wit/wasi-clocks-0.2.12",
        "../../crates/wit/wit/wasi-logging-0.1.0-draft",
        "../../crates/wit/wit/wasi-otel-0.2.0-rc.2",
    ],
    world: "guest:telemetry-probe/imports",
    generate_all,
});

use wasi::clocks::wall_clock::Datetime;
use wasi::logging::logging::{self, Level};
use wasi::otel::logs::{self, LogRecord};
use wasi::otel::metrics::{
    self, Gauge, GaugeDataPoint, Metric, MetricData, MetricNumber, ResourceMetrics, ScopeMetrics, Sum, SumDataPoint,
    Temporality,
};
use wasi::otel::tracing::{self, Event, SpanContext, SpanData, SpanKind, Status};
use wasi::otel::types::{InstrumentationScope, KeyValue, Resource};

wasip3::http::service::export!(TelemetryProbe);

struct TelemetryProbe;

thread_local! {
    /// The number of requests that have called `/meet`.
    static ARRIVED: Cell<usize> = const { Cell::new(0) };
}

const TIME: Datetime = Datetime { seconds: 1, nanoseconds: 0 };

impl wasip3::exports::http::handler::Guest for TelemetryProbe {
    async fn handle(request: Request) -> HandlerResult {
        match path(&request).rsplit('/').next().unwrap_or_default() {
            "log" => {
                let body = body_bytes(request).await;
                logging::log(Level::Warn, "stock", &String::from_utf8_lossy(&body));
                respond(200, "logged")
            }
            "print" => {
                let body = body_bytes(request).await;
                println!("{}", String::from_utf8_lossy(&body));
                respond(200, "printed")
            }
            "spans" => respond(200, spans()),
            "forge" => {
                let text = |name: &str| query(&request, name).unwrap_or_default();
                forge(&text("trace"), &text("parent"));
                respond(200, "forged")
            }
            "flood" => {
                flood();
                respond(200, "flooded")
            }
            "metrics" => reported(report(query_number(&request, "total", 0))),
            "many-metrics" => {
                let metrics = (0..1000).map(|number| counter(&format!("m{number}"), 1)).collect();
                reported(metrics::export(&of_scope(metrics)))
            }
            "meet" => {
                let name = query(&request, "name").unwrap_or_default();
                ARRIVED.set(ARRIVED.get() + 1);
                while ARRIVED.get() < 2 {
                    monotonic_clock::wait_for(1_000_000).await;
                }
                logging::log(Level::Info, "", &name);
                let context = context("1", &tracing::current_span_context().trace_id);
                tracing::on_start(&context);
                tracing::on_end(&span(&name, context, ""));
                respond(200, "met")
            }
            _ => respond(404, "no such path"),
        }
    }
}

fn spans() -> String {
    let host = tracing::current_span_context();
    let (outer, inner) = (context("a", &host.trace_id), context("b", &host.trace_id));
    tracing::on_start(&outer);
    tracing::on_start(&inner);
    logs::on_emit(&LogRecord {
        timestamp: Some(TIME),
        observed_timestamp: None,
        severity_text: None,
        severity_number: Some(17),
        body: Some("\"declined\"".to_owned()),
        attributes: Some(vec![pair("order", "7")]),
        event_name: None,
        resource: None,
        instrumentation_scope: None,
        trace_id: Some(host.trace_id.clone()),
        span_id: Some(inner.span_id.clone()),
        trace_flags: None,
    });
    let event = Event { name: "retried".to_owned(), time: TIME, attributes: vec![pair("attempt", "2")] };
    tracing::on_end(&SpanData {
        attributes: vec![pair("order", "7"), pair("isomer.component", "\"forged\"")],
        events: vec![event],
        status: Status::Error("declined".to_owned()),
        span_kind: SpanKind::Client,
        ..span("inner", inner, &outer.span_id)
    });
    tracing::on_end(&span("outer", outer, &host.span_id));
    host.trace_id
}

fn forge(trace: &str, parent: &str) {
    let forged = SpanContext { span_id: parent.to_owned(), ..context("c", trace) };
    tracing::on_start(&forged);
    tracing::on_end(&span("forged", forged, parent));
    let (one, other) = (context("d", trace), context("e", trace));
    tracing::on_start(&one);
    tracing::on_start(&other);
    let (first, second) = (one.span_id.clone(), other.span_id.clone());
    tracing::on_end(&span("one", one, &second));
    tracing::on_end(&span("other", other, &first));
}

fn flood() {
    let trace = tracing::current_span_context().trace_id;
    let attributes: Vec<_> = (0..200).map(|number| pair(&format!("key{number}"), "\"value\"")).collect();
    for number in 1..=2000 {
        let context = context(&format!("{number:x}"), &trace);
        tracing::on_start(&context);
        tracing::on_end(&SpanData { attributes: attributes.clone(), ..span("flood", context, "") });
    }
    logging::log(Level::Debug, &"c".repeat(1 << 20), &"m".repeat(1 << 20));
}

fn report(total: u64) -> Result<(), String> {
    let point = GaugeDataPoint { attributes: vec![], value: MetricNumber::U64(total), exemplars: vec![] };
    let gauge = Gauge { data_points: vec![point], start_time: None, time: TIME };
    metrics::export(&of_scope(vec![counter("orders", total), metric("open", MetricData::U64Gauge(gauge))]))
}

fn reported(result: Result<(), String>) -> HandlerResult {
    match result {
        Ok(()) => respond(200, "reported"),
        Err(error) => respond(400, error),
    }
}

fn counter(name: &str, total: u64) -> Metric {
    let point = SumDataPoint {
        attributes: vec![pair("currency", "\"EUR\"")],
        value: MetricNumber::U64(total),
        exemplars: vec![],
    };
    let sum = Sum {
        data_points: vec![point],
        start_time: TIME,
        time: TIME,
        temporality: Temporality::Cumulative,
        is_monotonic: true,
    };
    metric(name, MetricData::U64Sum(sum))
}

fn metric(name: &str, data: MetricData) -> Metric {
    Metric { name: name.to_owned(), description: String::new(), unit: String::new(), data }
}

fn of_scope(metrics: Vec<Metric>) -> ResourceMetrics {
    let resource = Resource { attributes: vec![], schema_url: None };
    ResourceMetrics { resource, scope_metrics: vec![ScopeMetrics { scope: scope(), metrics }] }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "probe".to_owned(), version: None, schema_url: None, attributes: vec![] }
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value.to_owned() }
}

fn context(span: &str, trace: &str) -> SpanContext {
    SpanContext {
        trace_id: trace.to_owned(),
        span_id: format!("{span:0>16}"),
        trace_flags: tracing::TraceFlags::SAMPLED,
        is_remote: false,
        trace_state: vec![],
    }
}

fn span(name: &str, span_context: SpanContext, parent: &str) -> SpanData {
    SpanData {
        span_context,
        parent_span_id: parent.to_owned(),
        span_kind: SpanKind::Internal,
        name: name.to_owned(),
        start_time: TIME,
        end_time: TIME,
        attributes: vec![],
        events: vec![],
        links: vec![],
        status: Status::Unset,
        instrumentation_scope: scope(),
        dropped_attributes: 0,
        dropped_events: 0,
        dropped_links: 0,
    }
}
