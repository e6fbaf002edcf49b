//! The spans of requests: what each of them contains, and what none of them contains.

use std::fs;
use std::sync::Arc;

use http::Method;
use isomer_telemetry::{Span, SpanKind};

use crate::harness::body::whole;
use crate::harness::traces::{MemoryTraces, attribute, find, new_trace, parent_in, tree};
use crate::harness::upstream::Upstream;
use crate::harness::{Setup, TestNode, one};

/// A node whose requests are all traced.
struct TracedNode {
    node: TestNode,
    traces: Arc<MemoryTraces>,
}

impl TracedNode {
    async fn start(setup: Setup) -> Self {
        let (traces, tracer) = MemoryTraces::new(1.0);
        Self { node: setup.traced_by(tracer).start().await, traces }
    }

    /// Sends a request and returns its spans.
    async fn send(&self, method: Method, target: &str, contents: &str) -> Vec<Span> {
        let (trace, traceparent) = new_trace();
        let mut connection = self.node.connect().await;
        let request = connection.request(method, target).header("traceparent", traceparent);
        let response = connection.exchange(request.body(whole(contents.to_owned())).expect("a valid request")).await;
        let fragments = self.traces.fragments(trace.trace_id, 1).await;
        let [fragment] = &fragments[..] else { panic!("one process: {fragments:?}") };
        let roots: Vec<_> = fragment.spans.iter().filter(|span| span.parent == Some(trace.parent)).collect();
        let [root] = &roots[..] else { panic!("one root: {}", tree(&fragment.spans)) };
        assert_eq!(root.id, fragment.request.into());
        assert_eq!(attribute(root, "http.response.status_code"), response.status.as_u16().to_string());
        fragment.spans.clone()
    }

    async fn get(&self, target: &str) -> Vec<Span> {
        self.send(Method::GET, target, "").await
    }
}

/// Returns the manifest of `seam-caller` and the isolated component `seam-callee`.
fn pair() -> String {
    format!("{}\n[components.seam-callee]\nwasm = \"seam-callee\"\nisolate = true\n", one("seam-caller", ""))
}

/// Checks that no span contains `text`.
fn assert_hidden(spans: &[Span], text: &str) {
    let all = serde_json::to_string(spans).expect("spans are plain data");
    assert!(!all.contains(text), "`{text}` in {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_an_isolated_component_has_a_span_on_each_side() {
    let traced = TracedNode::start(Setup::new(&pair())).await;
    for (target, function) in [("/add?a=1&b=2", "add"), ("/wait?ms=1", "wait")] {
        let spans = traced.get(target).await;
        let call = format!("guest:seam/work.{function}");
        let expected =
            format!("GET /... [server seam-caller]\n  {call} [client seam-caller]\n    {call} [server seam-callee]\n");
        assert_eq!(tree(&spans), expected);
        let client = find(&spans, &call, SpanKind::Client);
        for (key, value) in [
            ("rpc.system", "isomer"),
            ("rpc.service", "guest:seam/work"),
            ("rpc.method", function),
            ("isomer.seam.mode", "isolated"),
            ("isomer.seam.caller", "seam-caller"),
            ("isomer.seam.callee", "seam-callee"),
        ] {
            assert_eq!(attribute(client, key), value, "{key}");
        }
        assert!(client.attribute("isomer.seam.argument_bytes").is_some());
        let root = find(&spans, "GET /...", SpanKind::Server);
        for (key, value) in [
            ("http.request.method", "GET"),
            ("http.route", "/..."),
            ("url.path", target.split('?').next().expect("a path")),
            ("url.scheme", "http"),
            ("client.address", "127.0.0.1"),
        ] {
            assert_eq!(attribute(root, key), value, "{key}");
        }
        assert_hidden(&spans, "a=1");
        assert!(root.start_ns <= client.start_ns && client.end_ns() <= root.end_ns());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_are_children_of_the_request() {
    let traced = TracedNode::start(Setup::new(&pair())).await;
    let spans = traced.get("/join?ms=1,1,1").await;
    let root = find(&spans, "GET /...", SpanKind::Server);
    let calls: Vec<_> = spans.iter().filter(|span| span.kind == SpanKind::Client).collect();
    assert_eq!(calls.len(), 3, "{}", tree(&spans));
    for call in calls {
        assert_eq!(call.parent, Some(root.id));
        assert!(spans.iter().any(|span| span.parent == Some(call.id) && span.kind == SpanKind::Server));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_is_kept_even_if_it_is_not_sampled() {
    let (traces, tracer) = MemoryTraces::new(0.0);
    let node = Setup::new(&pair()).traced_by(tracer).start().await;
    let send = async |target: &str| {
        let (trace, traceparent) = new_trace();
        let mut connection = node.connect().await;
        let request = connection.request(Method::GET, target).header("traceparent", traceparent);
        connection.exchange(request.body(whole("")).expect("a valid request")).await;
        trace.trace_id
    };
    // The client sends the sampled flag, but the node does not trust the client.
    send("/add?a=1&b=2").await;
    let failed = send("/act?what=trap").await;
    let fragments = traces.fragments(failed, 1).await;
    assert_eq!(traces.recorded(), [failed], "only the failed request is kept");
    assert!(!fragments[0].is_sampled);
    let spans = &fragments[0].spans;
    let lines = tree(spans);
    let names: Vec<_> = lines.lines().map(|line| line.split(" failed: ").next().expect("a name").trim()).collect();
    let call = "guest:seam/work.act";
    let server = format!("{call} [server seam-callee]");
    assert_eq!(names, ["GET /... [server seam-caller]", &format!("{call} [client seam-caller]"), &server]);
    assert!(lines.lines().all(|line| line.contains("`unreachable`")), "{lines}");
    assert_eq!(attribute(find(spans, call, SpanKind::Client), "error.type"), "trap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_has_a_span() {
    let setup = Setup::new(&pair()).options(|options| options.requests_per_instance_max = Some(1));
    let traced = TracedNode::start(setup).await;
    assert!(!tree(&traced.get("/add?a=1&b=2").await).contains("start instance"), "the instances were created before");
    let spans = traced.get("/add?a=1&b=2").await;
    let expected = "GET /... [server seam-caller]
  start instance [internal]
  guest:seam/work.add [client seam-caller]
    guest:seam/work.add [server seam-callee]
      start instance [internal]
";
    assert_eq!(tree(&spans), expected);
    let callee = find(&spans, "guest:seam/work.add", SpanKind::Server);
    assert_eq!(attribute(callee, "isomer.instance.cold"), "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_value_operations_name_the_store_but_no_keys_and_values() {
    for guest in ["kv-probe", "kv-probe-draft"] {
        let traced = TracedNode::start(Setup::new(&one(guest, "grants.kv = [\"default\"]"))).await;
        let spans = traced.send(Method::POST, "/set?key=hidden-key", "hidden-value").await;
        let expected = format!("POST /... [server {guest}]\n  kv set [client {guest}]\n");
        assert_eq!(tree(&spans), expected);
        let set = find(&spans, "kv set", SpanKind::Client);
        assert_eq!(attribute(set, "db.system.name"), "redb");
        assert_eq!(attribute(set, "db.namespace"), "default");
        assert_eq!(attribute(set, "db.operation.name"), "set");
        let failed = traced.get("/increment?key=hidden-key&delta=1").await;
        assert!(tree(&failed).contains("kv increment [client kv-probe"), "{}", tree(&failed));
        assert!(tree(&failed).contains("failed: not a number"), "{}", tree(&failed));
        for spans in [spans, failed] {
            assert_hidden(&spans, "hidden");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_statements_are_recorded_without_their_parameters() {
    let traced = TracedNode::start(Setup::new(&one("sql-probe", "grants.sql = [\"default\"]"))).await;
    let statement = "SELECT ? AS n UNION ALL SELECT 2";
    let spans = traced.send(Method::POST, "/query?p=t:hidden", statement).await;
    let query = find(&spans, "sql query", SpanKind::Client);
    assert_eq!(attribute(query, "db.query.text"), statement);
    assert_eq!(attribute(query, "db.response.returned_rows"), "2");
    assert_eq!(attribute(query, "db.namespace"), "default");
    assert_hidden(&spans, "hidden");
    let spans = traced.send(Method::POST, "/transaction?end=commit", "CREATE TABLE a (b)").await;
    let expected = "POST /... [server sql-probe]
  sql begin [client sql-probe]
  sql execute [client sql-probe]
  sql commit [client sql-probe]
";
    assert_eq!(tree(&spans), expected);
    let spans = traced.send(Method::POST, "/execute", "NONSENSE").await;
    assert!(tree(&spans).contains("sql execute [client sql-probe] failed: invalid statement"), "{}", tree(&spans));
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_and_secrets_are_recorded_by_name_only() {
    let traced = TracedNode::start(Setup::new(&one("env-print", "grants.config = { SIZE = \"hidden\" }"))).await;
    let spans = traced.get("/config?key=SIZE").await;
    assert_eq!(attribute(find(&spans, "read config", SpanKind::Client), "isomer.config.key"), "SIZE");
    assert_hidden(&spans, "hidden");

    let secrets = "[secrets]\nkey = { file = \"key.txt\" }";
    let setup = Setup::new(&format!("{}\n{secrets}", one("secret-probe", "grants.secrets = [\"key\"]")));
    fs::write(setup.folder().join("key.txt"), "opensesame\n").expect("a new file");
    let traced = TracedNode::start(setup).await;
    let spans = traced.get("/?name=key").await;
    assert_eq!(attribute(find(&spans, "read secret", SpanKind::Client), "isomer.secret.name"), "key");
    assert_hidden(&spans, "opensesame");
    let spans = traced.get("/?name=other").await;
    assert!(tree(&spans).contains("read secret [client secret-probe] failed: access denied"), "{}", tree(&spans));
}

#[tokio::test(flavor = "multi_thread")]
async fn outgoing_requests_continue_the_trace() {
    for guest in ["fetch-probe", "fetch-probe-p2"] {
        let mut upstream = Upstream::start().await;
        let address = upstream.address;
        let traced = TracedNode::start(Setup::new(&one(guest, &format!("grants.http = [\"{address}\"]")))).await;
        let spans = traced.get(&format!("/?url=http://{address}/hidden-path?hidden-query")).await;
        let expected = format!("GET /... [server {guest}]\n  GET [client {guest}]\n");
        assert_eq!(tree(&spans), expected);
        let client = find(&spans, "GET", SpanKind::Client);
        assert_eq!(attribute(client, "server.address"), "127.0.0.1");
        assert_eq!(attribute(client, "server.port"), address.port().to_string());
        assert_eq!(attribute(client, "http.response.status_code"), "200");
        assert_hidden(&spans, "hidden");
        let seen = upstream.seen().await;
        assert_eq!(parent_in(seen.headers["traceparent"].to_str().expect("text")), client.id);
        let spans = traced.get("/?url=http://127.0.0.1:9/").await;
        assert!(tree(&spans).contains("GET [client"), "{}", tree(&spans));
        assert!(tree(&spans).contains("failed: HttpRequestDenied"), "{}", tree(&spans));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_belong_to_their_request_if_an_instance_serves_several() {
    let manifest = pair().replacen("routes = ", "concurrency = 3\nroutes = ", 1);
    let setup = Setup::new(&manifest).options(|options| options.instances_max = Some(3));
    let traced = TracedNode::start(setup).await;
    let send = async |count: usize| {
        let times = vec!["50"; count].join(",");
        (count, traced.get(&format!("/join?ms={times}")).await)
    };
    for (count, spans) in futures::future::join_all([send(1), send(2), send(3)]).await {
        let root = find(&spans, "GET /...", SpanKind::Server);
        let calls: Vec<_> = spans.iter().filter(|span| span.kind == SpanKind::Client).collect();
        assert_eq!(calls.len(), count, "{}", tree(&spans));
        assert!(calls.iter().all(|call| call.parent == Some(root.id)), "{}", tree(&spans));
    }
    // The callee's failure is logged with the request's id.
    let spans = traced.get("/act?what=trap").await;
    let id = find(&spans, "GET /...", SpanKind::Server).id.to_string();
    traced.node.event("call-failed", |event| event["request"] == id.as_str()).await;
}
