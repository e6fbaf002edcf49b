//! Tests of the code that reports calls between fused components: when a node compiles it, and what it records.

use std::time::{Duration, Instant};

use isomer_admin::AppApi as _;
use isomer_api::{Trace, TraceOrderRequest, TraceQuery};

use crate::node::{TestNode, keep, shop};
use crate::reshape::chain;

/// The maximum time that a test waits. It is long, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Orders the trace of a request, sends the request, and returns the trace.
async fn ordered_trace(node: &TestNode) -> Trace {
    let (tenant, app) = shop();
    let api = || node.node.clone();
    let order = TraceOrderRequest { path: "/pass".to_owned(), requests: 1 };
    api().order_traces(tenant.clone(), app.clone(), order).await.unwrap();
    assert_eq!(node.get("/pass?what=count").await.0, 200);
    let until = Instant::now() + PATIENCE;
    loop {
        // The trace is stored after the client has read the response.
        let page = api().traces(tenant.clone(), app.clone(), TraceQuery::default()).await.unwrap();
        if let Some(newest) = page.traces.into_iter().next() {
            return api().trace(tenant, app, newest.request).await.unwrap();
        }
        assert!(Instant::now() < until, "no trace was stored");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Orders traces until one of them contains calls between fused components, and returns these calls.
async fn fused_calls(node: &TestNode) -> Vec<(String, u32)> {
    let until = Instant::now() + PATIENCE;
    loop {
        let trace = ordered_trace(node).await;
        let calls = trace.spans.into_iter().filter(|span| span.name.starts_with("guest:seam/"));
        let calls: Vec<_> = calls.map(|span| (span.name, span.depth)).collect();
        if !calls.is_empty() {
            return calls;
        }
        assert!(Instant::now() < until, "no trace contains a fused call");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_trace_makes_the_node_compile_an_app_with_probes() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&chain()).await.unwrap();
    let expected = [("guest:seam/relay.pass".to_owned(), 1), ("guest:seam/work.act".to_owned(), 2)];
    assert_eq!(fused_calls(&node).await, expected);
    keep(folder.path());
    node.stop().await;
    // After a restart, the code is in the cache.
    let node = TestNode::open(folder.path()).await;
    assert_eq!(fused_calls(&node).await, expected);
    assert_eq!(node.node.compilers_started(), 0);
}
