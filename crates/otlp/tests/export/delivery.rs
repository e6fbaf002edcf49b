//! Failures of the collector: what is sent again, and what is dropped.

use isomer_otlp::DropReason;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tokio::net::TcpListener;

use crate::collector::{Collector, Planned};
use crate::{SHOP, at_once, fragment, outcome, start};

#[tokio::test]
async fn a_temporary_failure_is_retried_over_the_same_connection() {
    let busy = |status| Planned { status, retry_after: Some("0"), ..Planned::default() };
    let mut collector = Collector::start([busy(429), busy(503), busy(502), busy(504)]).await;
    let otlp = start(&[collector.variable(), at_once()]);
    otlp.traces(&SHOP).unwrap().record(fragment(3));
    let first = collector.next().await;
    for _ in 0..4 {
        assert_eq!(collector.next().await.body, first.body);
    }
    otlp.shutdown().await;
    assert_eq!(outcome(&otlp), (3, vec![]));
    assert!(collector.received.try_recv().is_err());
}

#[tokio::test]
async fn a_refused_batch_is_dropped_and_the_next_one_is_sent() {
    let mut collector = Collector::start([Planned::status(400), Planned::status(302)]).await;
    let otlp = start(&[collector.variable(), at_once()]);
    let traces = otlp.traces(&SHOP).unwrap();
    for spans in 1..=3 {
        traces.record(fragment(spans));
        collector.next().await;
    }
    otlp.shutdown().await;
    assert_eq!(outcome(&otlp), (3, vec![(DropReason::Refused, 3)]));
}

#[tokio::test]
async fn spans_that_the_collector_rejects_are_counted() {
    let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".into() };
    let body = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let collector = Collector::start([Planned { status: 200, body, ..Planned::default() }]).await;
    let otlp = start(&[collector.variable()]);
    otlp.traces(&SHOP).unwrap().record(fragment(5));
    otlp.shutdown().await;
    assert_eq!(outcome(&otlp), (3, vec![(DropReason::Rejected, 2)]));
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_split() {
    let mut collector = Collector::start([Planned::status(413), Planned::status(200), Planned::status(413)]).await;
    let otlp = start(&[collector.variable()]);
    let traces = otlp.traces(&SHOP).unwrap();
    for spans in [3, 4, 5] {
        traces.record(fragment(spans));
    }
    otlp.shutdown().await;
    let mut spans = Vec::new();
    for _ in 0..5 {
        let request: ExportTraceServiceRequest = collector.next().await.decode();
        spans.push(request.resource_spans[0].scope_spans[0].spans.len());
    }
    // The whole batch, its first half, its second half, and the halves of the latter.
    assert_eq!(spans, [12, 3, 9, 4, 5]);
    assert_eq!(outcome(&otlp), (12, vec![]));
}

#[tokio::test]
async fn a_single_item_that_is_too_large_is_dropped() {
    let collector = Collector::start([Planned::status(413)]).await;
    let otlp = start(&[collector.variable()]);
    otlp.traces(&SHOP).unwrap().record(fragment(4));
    otlp.shutdown().await;
    assert_eq!(outcome(&otlp), (0, vec![(DropReason::TooLarge, 4)]));
}

#[tokio::test]
async fn batches_are_bounded() {
    let mut collector = Collector::start([]).await;
    let otlp = start(&[collector.variable(), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10".to_owned())]);
    let traces = otlp.traces(&SHOP).unwrap();
    for _ in 0..7 {
        traces.record(fragment(4));
    }
    otlp.shutdown().await;
    let mut sizes = Vec::new();
    while let Ok(request) = collector.received.try_recv() {
        let request: ExportTraceServiceRequest = request.decode();
        sizes.push(request.resource_spans[0].scope_spans[0].spans.len());
    }
    assert_eq!(sizes, [8, 8, 8, 4]);
}

/// The address of a port at which no process listens.
async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn without_a_collector_the_queue_stays_bounded_and_losses_are_counted() {
    let otlp = start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", closed_port().await),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100".to_owned()),
        at_once(),
    ]);
    let traces = otlp.traces(&SHOP).unwrap();
    for _ in 0..1000 {
        traces.record(fragment(1));
    }
    let (exported, dropped) = outcome(&otlp);
    assert_eq!((exported, dropped), (0, vec![(DropReason::QueueFull, 900)]));
    otlp.shutdown().await;
    let (exported, dropped) = outcome(&otlp);
    assert_eq!((exported, dropped.iter().map(|(_, spans)| spans).sum()), (0, 1000));
    traces.record(fragment(7));
    assert_eq!(outcome(&otlp).1.iter().map(|(_, spans)| spans).sum::<u64>(), 1007);
}

#[tokio::test]
async fn a_batch_is_dropped_when_the_time_for_retries_has_passed() {
    let mut collector = Collector::start([Planned::status(503)]).await;
    let otlp = start(&[collector.variable(), at_once(), ("OTEL_BSP_EXPORT_TIMEOUT", "1".to_owned())]);
    let traces = otlp.traces(&SHOP).unwrap();
    traces.record(fragment(2));
    collector.next().await;
    traces.record(fragment(3));
    collector.next().await;
    otlp.shutdown().await;
    assert_eq!(outcome(&otlp), (3, vec![(DropReason::Unreachable, 2)]));
}

#[tokio::test]
async fn a_collector_that_never_responds_delays_the_end_for_a_bounded_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let otlp = start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), at_once()]);
    otlp.traces(&SHOP).unwrap().record(fragment(5));
    let _connection = listener.accept().await.unwrap();
    otlp.shutdown().await;
    assert_eq!(outcome(&otlp), (0, vec![(DropReason::Shutdown, 5)]));
}
