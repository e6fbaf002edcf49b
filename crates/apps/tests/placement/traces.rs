//! The trace of a request whose components run in several processes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::Method;
use isomer_telemetry::SpanKind;

use crate::fleet::{Fleet, Running, Subject, Transport};
use crate::harness::body::whole;
use crate::harness::client::Connection;
use crate::harness::traces::{MemoryTraces, attribute, find, new_trace, tree};
use crate::harness::{components, within};

const MANIFEST: &str = r#"
[app]
name = "test"
version = "0.1.0"

[components.seam-entry]
wasm = "seam-entry"
routes = ["/..."]

[components.seam-relay]
wasm = "seam-relay"

[components.seam-callee]
wasm = "seam-callee"

[shapes.apart.groups]
entry = ["seam-entry"]
relay = ["seam-relay"]
callee = ["seam-callee"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_process_records_its_part_of_a_trace() {
    let app = Subject::app(MANIFEST);
    let subject = Subject { components: components(&app), app, dir: PathBuf::new() };
    // With the ratio 0, the front door does not sample the request. But the request fails, so every process keeps its
    // part of the trace.
    for (ratio, what) in [(1.0, "count"), (0.0, "trap")] {
        let memories: BTreeMap<_, _> =
            ["entry", "relay", "callee"].map(|group| (group, MemoryTraces::new(ratio))).into();
        let running =
            Running { shape: "apart", transport: Transport::Unix, fresh: false, is_probed: false, without: &[] };
        let fleet = Fleet::start_traced(&subject, running, |group| memories[group].1.clone()).await;
        for (path, function, next) in [("pass", "pass", "act"), ("pass-later", "pass-later", "act-later")] {
            let (trace, traceparent) = new_trace();
            let mut connection = within("connect", Connection::http1(fleet.front)).await;
            let request = connection.request(Method::GET, &format!("/{path}?what={what}"));
            let request = request.header("traceparent", traceparent).body(whole("")).expect("a valid request");
            let response = connection.exchange(request).await;
            assert_eq!(response.status.as_u16(), if what == "trap" { 500 } else { 200 });
            let mut spans = vec![];
            for (group, (memory, _)) in &memories {
                let [fragment] = &memory.fragments(trace.trace_id, 1).await[..] else { panic!("one part of {group}") };
                assert_eq!((fragment.is_sampled, fragment.spans_dropped), (ratio > 0.5, 0));
                spans.extend(fragment.spans.clone());
            }
            let shown = tree(&spans);
            // After a trap, new instances are started. The spans of these starts are not compared.
            let lines = shown.lines().filter(|line| !line.contains("start instance"));
            let lines: Vec<_> = lines.map(|line| line.split(" failed: ").next().expect("a name")).collect();
            let (relay, work) = (format!("guest:seam/relay.{function}"), format!("guest:seam/work.{next}"));
            let expected = [
                "GET /... [server seam-entry]".to_owned(),
                format!("  {relay} [client seam-entry]"),
                format!("    {relay} [server seam-relay]"),
                format!("      {work} [client seam-relay]"),
                format!("        {work} [server seam-callee]"),
            ];
            assert_eq!(lines, expected);
            assert_eq!(attribute(find(&spans, &relay, SpanKind::Client), "isomer.seam.mode"), "remote");
            let mut calls = spans.iter().filter(|span| span.name.as_str() != "start instance");
            assert_eq!(calls.all(|span| span.status.is_failed()), what == "trap", "{shown}");
        }
        fleet.stop().await;
    }
}
