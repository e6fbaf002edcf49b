//! The spans of calls between fused components, and which requests run the code that reports these calls.

use std::sync::Arc;

use http::Method;
use isomer_api::MetricsQuery;
use isomer_apps::metrics_report;
use isomer_telemetry::metrics::Metrics;
use isomer_telemetry::{Span, SpanKind, TraceFragment, TraceOrder, Tracer};

use crate::harness::body::whole;
use crate::harness::traces::{MemoryTraces, attribute, find, new_trace, tree};
use crate::harness::{Setup, TestNode, one, until};
use crate::wat_components;

/// A node with probed code, and the traces of its requests.
struct ProbedNode {
    node: TestNode,
    traces: Arc<MemoryTraces>,
    tracer: Tracer,
}

impl ProbedNode {
    /// Starts a node that samples the fraction `ratio` of its requests.
    async fn start(setup: Setup, ratio: f64) -> Self {
        let (traces, tracer) = MemoryTraces::new(ratio);
        Self { node: setup.traced_by(tracer.clone()).probed().start().await, traces, tracer }
    }

    /// Sends a request. Returns its status, the text of its response, and its trace.
    async fn send(&self, method: Method, target: &str, contents: &str) -> (u16, String, TraceFragment) {
        let (trace, traceparent) = new_trace();
        let mut connection = self.node.connect().await;
        let request = connection.request(method, target).header("traceparent", traceparent);
        let response = connection.exchange(request.body(whole(contents.to_owned())).expect("a valid request")).await;
        let fragments = self.traces.fragments(trace.trace_id, 1).await;
        (response.status.as_u16(), response.text().to_owned(), fragments[0].clone())
    }

    /// Sends a sampled request, and returns its spans without those of the creation of instances.
    async fn spans(&self, target: &str) -> Vec<Span> {
        let (_, _, fragment) = self.send(Method::GET, target, "").await;
        assert_eq!((fragment.is_sampled, fragment.spans_dropped), (true, 0));
        fragment.spans.into_iter().filter(|span| span.name.as_str() != "start instance").collect()
    }
}

fn ping_and_pong() -> String {
    format!("{}\n[components.pong]\nwasm = \"pong\"\n", one("ping", ""))
}

/// Three fused components: `seam-entry` calls `seam-relay`, which calls `seam-callee`.
fn chain() -> String {
    format!(
        "{}\n[components.seam-relay]\nwasm = \"seam-relay\"\n[components.seam-callee]\nwasm = \"seam-callee\"\n",
        one("seam-entry", "")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fused_call_has_a_span() {
    let probed = ProbedNode::start(Setup::new(&ping_and_pong()), 1.0).await;
    for (target, functions) in [
        ("/greet?name=ada", &["greet"][..]),
        ("/later?name=ada&ms=1", &["greet-later"]),
        ("/many?n=3", &["greet", "greet", "greet"]),
        ("/reverse", &["reverse"]),
        ("/greet?name=", &["greet"]),
        ("/", &[]),
    ] {
        let spans = probed.spans(target).await;
        let call = |function: &&str| format!("  guest:pong/pong.{function} [internal pong]\n");
        let calls: String = functions.iter().map(call).collect();
        assert_eq!(tree(&spans), format!("GET /... [server ping]\n{calls}"), "{target}");
        assert!(spans.iter().all(|span| span.attribute("isomer.fused_calls").is_none()), "{spans:?}");
    }
    let spans = probed.spans("/later?name=ada&ms=20").await;
    let call = find(&spans, "guest:pong/pong.greet-later", SpanKind::Internal);
    for (key, value) in [
        ("rpc.system", "isomer"),
        ("rpc.service", "guest:pong/pong"),
        ("rpc.method", "greet-later"),
        ("isomer.seam.mode", "fused"),
        ("isomer.seam.caller", "ping"),
        ("isomer.seam.callee", "pong"),
    ] {
        assert_eq!(attribute(call, key), value, "{key}");
    }
    assert!(call.duration_ns >= 20_000_000, "the call includes the time that the callee waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn fused_calls_are_nested() {
    let probed = ProbedNode::start(Setup::new(&chain()), 1.0).await;
    for (path, function, next) in [("pass", "pass", "act"), ("pass-later", "pass-later", "act-later")] {
        let expected = format!(
            "GET /... [server seam-entry]\n  guest:seam/relay.{function} [internal seam-relay]\n    \
             guest:seam/work.{next} [internal seam-callee]\n"
        );
        for _ in 0..2 {
            assert_eq!(tree(&probed.spans(&format!("/{path}?what=count")).await), expected);
        }
        let (status, _, fragment) = probed.send(Method::GET, &format!("/{path}?what=trap"), "").await;
        assert_eq!(status, 500);
        let failed = tree(&fragment.spans);
        assert!(failed.lines().all(|line| line.contains(" failed: ") && line.contains("unreachable")), "{failed}");
        let call = find(&fragment.spans, &format!("guest:seam/work.{next}"), SpanKind::Internal);
        assert_eq!(attribute(call, "error.type"), "trap");
        assert_eq!(attribute(call, "isomer.seam.caller"), "seam-relay");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_of_a_fused_callee_are_part_of_its_call() {
    let behind = "[components.kv-probe]\nwasm = \"kv-probe\"\ngrants.kv = [\"default\"]\n";
    let manifest = format!("[components.front]\nwasm = \"middleware\"\nroutes = [\"/...\"]\n{behind}");
    let setup = Setup::new(&manifest).component("middleware", wat_components::middleware3());
    let probed = ProbedNode::start(setup, 1.0).await;
    probed.spans("/get?key=k").await;
    let expected =
        "GET /... [server front]\n  wasi:http/handler.handle [internal kv-probe]\n    kv get [client kv-probe]\n";
    assert_eq!(tree(&probed.spans("/get?key=k").await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_concurrent_requests_belong_to_their_request() {
    let manifest = ping_and_pong().replacen("routes = ", "concurrency = 4\nroutes = ", 1);
    let setup = Setup::new(&manifest).options(|options| options.instances_max = Some(1));
    let probed = ProbedNode::start(setup, 1.0).await;
    let send = async |number: usize| probed.spans(&format!("/later?name=n{number}&ms=30")).await;
    for spans in futures::future::join_all((0..4).map(send)).await {
        let expected = "GET /... [server ping]\n  guest:pong/pong.greet-later [internal pong]\n";
        assert_eq!(tree(&spans), expected);
        let call = find(&spans, "guest:pong/pong.greet-later", SpanKind::Internal);
        assert_eq!(attribute(call, "isomer.seam.caller"), "ping");
    }
    let (status, _, fragment) = probed.send(Method::GET, "/trap", "").await;
    assert_eq!(status, 500);
    let call = find(&fragment.spans, "guest:pong/pong.trap", SpanKind::Internal);
    assert_eq!(attribute(call, "error.type"), "trap", "{}", tree(&fragment.spans));
}

/// Lines of output name the request for which they were printed, even if the instance serves several requests.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_output_belong_to_the_request_that_printed_them() {
    for (concurrency, ratio) in [(4, 0.0), (4, 1.0), (1, 1.0)] {
        let manifest = ping_and_pong().replacen("routes = ", &format!("concurrency = {concurrency}\nroutes = "), 1);
        let setup = Setup::new(&manifest).options(|options| options.instances_max = Some(4));
        let probed = ProbedNode::start(setup, ratio).await;
        let requests = (0..4).map(|number| {
            let probed = &probed;
            async move {
                probed.node.get("/later?name=ada&ms=10").await.ok();
                probed.node.get(&format!("/env?name=N{number}")).await.ok();
            }
        });
        futures::future::join_all(requests).await;
        for number in 0..4 {
            let target = format!("/env?name=N{number}");
            let access = probed.node.event("access", |event| event["target"] == target.as_str()).await;
            for component in ["ping", "pong"] {
                let line = format!("{component} sees N{number}=nothing");
                let event = probed.node.event("output", |event| event["line"] == line.as_str()).await;
                assert_eq!(event["request"], access["request"], "concurrency {concurrency}, ratio {ratio}: {event}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_from_another_group_run_probed_code() {
    let shape = "[shapes.apart.groups]\nentry = [\"seam-entry\"]\nrest = [\"seam-relay\", \"seam-callee\"]\n";
    let setup = Setup::new(&format!("{}{shape}", chain())).making(|making| making.shape = "apart".to_owned());
    let probed = ProbedNode::start(setup, 1.0).await;
    let (call, next) = ("guest:seam/relay.pass", "guest:seam/work.act");
    let spans = probed.spans("/pass?what=count").await;
    let expected = format!(
        "GET /... [server seam-entry]\n  {call} [client seam-entry]\n    {call} [server seam-relay]\n      \
         {next} [internal seam-callee]\n"
    );
    assert_eq!(tree(&spans), expected);
    assert_eq!(attribute(find(&spans, next, SpanKind::Internal), "isomer.seam.caller"), "seam-relay");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_sampled_run_the_plain_code() {
    let probed = ProbedNode::start(Setup::new(&ping_and_pong()), 0.0).await;
    let (status, _, fragment) = probed.send(Method::GET, "/trap", "").await;
    assert_eq!((status, fragment.is_sampled), (500, false));
    assert_eq!(fragment.spans.len(), 1, "{}", tree(&fragment.spans));
    // The plain and the probed code have instances of their own, with their own state.
    let greet = async || probed.node.get("/greet?name=ada").await.ok().to_owned();
    assert_eq!([greet().await, greet().await], ["pong to ada (count 1)\n", "pong to ada (count 2)\n"]);
    probed.tracer.order(TraceOrder { path: "/greet".to_owned(), requests: 1 });
    let (_, text, fragment) = probed.send(Method::GET, "/greet?name=ada", "").await;
    assert_eq!(text, "pong to ada (count 1)\n");
    assert!(tree(&fragment.spans).contains("pong.greet [internal pong]"), "{}", tree(&fragment.spans));
    assert_eq!(greet().await, "pong to ada (count 3)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_and_probed_instances_share_the_maximum() {
    let setup = Setup::new(&ping_and_pong()).options(|options| options.instances_max = Some(1));
    let probed = ProbedNode::start(setup, 0.0).await;
    let plain = probed.node.get("/greet?name=ada").await;
    assert_eq!(plain.ok(), "pong to ada (count 1)\n");
    for count in [1, 3, 5] {
        probed.tracer.order(TraceOrder { path: "/greet".to_owned(), requests: 1 });
        let (_, text, fragment) = probed.send(Method::GET, "/greet?name=ada", "").await;
        assert_eq!(text, format!("pong to ada (count {count})\n"), "a probed instance replaces the plain one once");
        assert!(tree(&fragment.spans).contains("pong.greet [internal pong]"), "{}", tree(&fragment.spans));
        let plain = probed.node.get("/greet?name=ada").await;
        let expected = format!("pong to ada (count {})\n", count + 1);
        assert_eq!(plain.ok(), expected, "the probed instance also serves requests that are not sampled");
    }
}

/// An idle instance that serves several requests at a time is replaced too, because its guest has no work left.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_for_several_requests_is_replaced_when_it_has_no_work_left() {
    let manifest = ping_and_pong().replacen("routes = ", "concurrency = 8\nroutes = ", 1);
    let setup = Setup::new(&manifest).options(|options| options.instances_max = Some(1));
    let probed = ProbedNode::start(setup, 0.0).await;
    assert_eq!(probed.node.get("/greet?name=ada").await.ok(), "pong to ada (count 1)\n");
    until("a probed instance", async || {
        probed.tracer.order(TraceOrder { path: "/greet".to_owned(), requests: 1 });
        let (_, text, fragment) = probed.send(Method::GET, "/greet?name=ada", "").await;
        (text == "pong to ada (count 1)\n" && tree(&fragment.spans).contains("pong.greet [internal pong]"))
            .then_some(())
    })
    .await;
    assert_eq!(probed.node.get("/greet?name=ada").await.ok(), "pong to ada (count 2)\n");
}

/// If the only instance is busy with a plain request, it also serves a sampled one, and the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn requests_do_not_wait_for_an_instance_of_their_code() {
    let manifest = ping_and_pong().replacen("routes = ", "concurrency = 8\nroutes = ", 1);
    let setup = Setup::new(&manifest).options(|options| options.instances_max = Some(1));
    let probed = ProbedNode::start(setup, 0.0).await;
    probed.tracer.order(TraceOrder { path: "/later".to_owned(), requests: 6 });
    let requests = (0..12).map(|number| {
        let node = &probed.node;
        // Every second request may be sampled.
        let path = if number % 2 == 0 { "/later?ms=5&name=ada" } else { "/greet?name=ada" };
        async move { node.get(path).await.ok().starts_with("pong to ada ") }
    });
    let responses = futures::future::join_all(requests).await;
    assert!(responses.into_iter().all(|is_right| is_right));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_and_probed_code_respond_alike() {
    let (plain, probed) = (
        ProbedNode::start(Setup::new(&ping_and_pong()), 0.0).await,
        ProbedNode::start(Setup::new(&ping_and_pong()), 1.0).await,
    );
    let contents: String = ('a'..='z').cycle().take(100_000).collect();
    for target in ["/greet?name=ada", "/greet?name=", "/later?name=bob&ms=1", "/many?n=50", "/env?name=NONE", "/"] {
        let (plain, probed) = (plain.node.get(target).await, probed.node.get(target).await);
        assert_eq!((plain.status, plain.text()), (probed.status, probed.text()), "{target}");
    }
    let reversed = [plain.node.post("/reverse", &contents).await, probed.node.post("/reverse", &contents).await];
    assert_eq!(reversed[0].ok(), reversed[1].ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn fused_calls_of_sampled_requests_are_measured() {
    let metrics = Metrics::default();
    let registry = metrics.clone();
    let setup = Setup::new(&chain()).options(|options| options.metrics = registry);
    let probed = ProbedNode::start(setup, 1.0).await;
    for _ in 0..2 {
        probed.spans("/pass?what=count").await;
    }
    probed.send(Method::GET, "/pass?what=trap", "").await;
    let report = metrics_report(&metrics, &MetricsQuery::default());
    let count = |caller: &str, callee: &str, outcome: &str| {
        let labels =
            [("caller", caller), ("callee", callee), ("mode", "fused"), ("outcome", outcome), ("sampled", "true")];
        let all = report.series("rpc.client.call.duration");
        let found = all.iter().find(|series| labels.iter().all(|(label, value)| series.label(label) == *value));
        found.map_or(0, |series| series.count())
    };
    for (caller, callee) in [("seam-entry", "seam-relay"), ("seam-relay", "seam-callee")] {
        assert_eq!([count(caller, callee, "ok"), count(caller, callee, "trap")], [2, 1], "{report:?}");
    }
    let runs: Vec<_> = report.series("isomer.group.runs").iter().collect();
    let measured: f64 = runs.iter().filter(|runs| runs.label("sampled") == "true").map(|runs| runs.value).sum();
    assert_eq!((runs.len(), measured), (1, 3.0), "all requests were measured: {runs:?}");
}
