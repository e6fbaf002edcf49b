//! The clock and randomness in test mode: the same request gives a component the same values in every placement.

use std::collections::BTreeSet;

use http::Request;

use crate::harness::body::whole;
use crate::harness::{Setup, TestNode, start};

const PAIR: &str = "
    [components.ping]
    wasm = \"ping\"
    routes = [\"/...\"]
    [components.pong]
    wasm = \"pong\"
    [shapes.apart]
    isolate = \"all\"
    [shapes.processes]
    groups = \"each\"
";

async fn node(shape: &str, requests_per_instance_max: Option<u32>) -> TestNode {
    let setup = Setup::new(PAIR).making(|options| {
        options.shape = shape.to_owned();
        options.deterministic = true;
    });
    setup.options(|options| options.requests_per_instance_max = requests_per_instance_max).start().await
}

/// Returns the clock and random values that ping and pong read while they handle a request with the given trace and
/// parent.
async fn lines_of(node: &TestNode, trace: u8, parent: u8) -> [String; 2] {
    let traceparent = format!("00-{trace:032x}-{parent:016x}-01");
    let request = Request::get("/time-and-chance").header("host", "test").header("traceparent", traceparent);
    let response = node.connect().await.exchange(request.body(whole("")).expect("a valid request")).await;
    let lines: Vec<_> = response.ok().lines().map(str::to_owned).collect();
    lines.try_into().expect("two lines")
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_and_randomness_depend_on_request_and_component_only() {
    let node = node("monolith", None).await;
    let [ping, pong] = lines_of(&node, 1, 1).await;
    for line in [&ping, &pong] {
        let (first, again) = line.split_once(" then ").expect("called twice");
        let parts = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (first, again) = (parts(first), parts(again));
        assert_eq!(first[..2], again[..2], "the clock does not advance during a request");
        assert_ne!(first[2..], again[2..], "random values differ from call to call");
        assert_eq!(first[first.len() - 4..], again[again.len() - 4..], "the seeds of hash tables are the same");
    }
    let clocks = |line: &str| line.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(clocks(&ping)[0], clocks(&ping)[1], "WASI 0.2 and 0.3 have the same clock");
    assert_eq!(clocks(&ping), clocks(&pong), "both components see the same time");
    assert_ne!(ping, pong, "components have different random values");
    let other = self::node("monolith", None).await;
    assert_eq!(lines_of(&other, 1, 7).await, [ping.clone(), pong.clone()], "the parent span has no effect");
    let seconds = |line: &str| line.split('.').next().and_then(|text| text.parse::<u64>().ok()).expect("a time");
    let next = seconds(&lines_of(&other, 2, 7).await[0]);
    assert_eq!((seconds(&ping), next), (1_767_225_601, 1_767_225_602), "the time depends on the trace");
    let mut seen = BTreeSet::from([ping, pong]);
    for trace in 2..10 {
        for line in lines_of(&node, trace, 1).await {
            assert!(seen.insert(line), "another trace has another response");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn placement_and_reuse_do_not_change_clock_and_randomness() {
    let reused = node("monolith", None).await;
    let expected = [lines_of(&reused, 1, 1).await, lines_of(&reused, 2, 1).await];
    for shape in ["monolith", "apart", "processes"] {
        for requests_per_instance_max in [None, Some(1)] {
            let node = node(shape, requests_per_instance_max).await;
            let lines = [lines_of(&node, 1, 1).await, lines_of(&node, 2, 1).await];
            assert_eq!(lines, expected, "{shape}, {requests_per_instance_max:?} requests per instance");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_test_mode_clock_and_randomness_are_real() {
    let node = start(PAIR).await;
    let [first, second] = [lines_of(&node, 1, 1).await, lines_of(&node, 1, 1).await];
    assert_ne!(first, second);
    let (once, again) = first[0].split_once(" then ").expect("called twice");
    assert_ne!(once, again);
}
