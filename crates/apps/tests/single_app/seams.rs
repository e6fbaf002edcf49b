//! Tests of calls between components that are not fused: `seam-callee` and its callers, each in its own wasmtime store.
//!
//! Either every component is isolated, or every component is in its own group of this process.

use futures::future::join_all;
use serde_json::Value;

use crate::harness::{Setup, TestNode, start, until, within};

/// Returns the manifest of an app with `seam-caller` on every path, and `seam-callee`. `caller` and `callee` are
/// additional lines of their tables.
fn pair(caller: &str, callee: &str) -> String {
    format!(
        r#"
        [components.seam-caller]
        wasm = "seam-caller"
        routes = ["/..."]
        {caller}
        [components.seam-callee]
        wasm = "seam-callee"
        {callee}
        "#
    )
}

fn isolated(callee: &str) -> String {
    pair("", &format!("isolate = true\n{callee}"))
}

/// Waits for the event `kind` (`failed` or `call-failed`) of the request `id` in the log. Returns the event.
async fn event_of(node: &TestNode, kind: &str, id: &str) -> Value {
    node.event(kind, |event| event["request"] == id).await
}

#[track_caller]
fn assert_reason_contains(event: &Value, parts: &[&str]) {
    let reason = event["reason"].as_str().expect("a reason");
    for part in parts {
        assert!(reason.contains(part), "`{part}` in: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_cross_a_seam_unchanged() {
    let fused = pair("", "");
    let remote = format!("{fused}\n[shapes.apart.groups]\na = [\"seam-caller\"]\nb = [\"seam-callee\"]\n");
    for (manifest, shape) in [(fused, "monolith"), (isolated(""), "monolith"), (remote, "apart")] {
        let node = Setup::new(&manifest).making(|it| it.shape = shape.to_owned()).start().await;
        let mut connection = node.connect().await;
        for _ in 0..3 {
            assert_eq!(connection.get("/add?a=4294967295&b=2").await.ok(), "1\n");
            assert_eq!(connection.get("/adds?n=1000").await.ok(), "sum=1000\n");
            assert_eq!(
                connection.get("/change?name=stra%C3%9Fe&count=41").await.ok(),
                "STRASSE 42 first||ünïcode Some(0.1)\n"
            );
            assert_eq!(connection.get("/wait?ms=1").await.ok(), "waited\n");
            assert_eq!(connection.get("/make?bytes=1000000").await.ok(), "1000000\n");
            let contents: String = ('a'..='z').cycle().take(300_000).collect();
            assert_eq!(connection.post("/echo", &contents).await.ok(), contents);
            assert_eq!(connection.post("/echo", "").await.ok(), "");
            assert_eq!(connection.get("/act?what=what%20else").await.ok(), "unknown: what else\n");
            let refused = connection.get("/act-carefully?what=what%20else").await;
            assert_eq!((refused.status.as_u16(), refused.text()), (422, "unknown: what else\n"));
            let refused = connection.get("/act-later-carefully?what=what%20else").await;
            assert_eq!((refused.status.as_u16(), refused.text()), (422, "unknown: what else\n"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_joins_calls_waits_for_the_slowest_of_them() {
    let node = start(&pair("limits.request_deadline = \"9s\"", "isolate = true")).await;
    let mut connection = node.connect().await;
    assert_eq!(connection.get("/join?ms=1,2,3").await.ok(), "1 2 3\n");
    // Ten calls of about a second each would exceed the deadline if they ran one after another.
    let times = (0..10).map(|number| (1000 - number).to_string()).collect::<Vec<_>>();
    assert_eq!(connection.get(&format!("/join?ms={}", times.join(","))).await.ok(), format!("{}\n", times.join(" ")));
    // A cancelled call ends its callee's wasmtime store, and does not affect later calls.
    for _ in 0..40 {
        assert_eq!(connection.get("/race?ms=60000").await.ok(), "quick\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_of_the_callee_fails_the_caller_and_both_are_logged() {
    let node = start(&isolated("")).await;
    for path in ["/act", "/act-later", "/act-carefully", "/act-later-carefully"] {
        let response = node.get(&format!("{path}?what=trap")).await;
        let id = response.problem(500);
        assert!(!response.text().contains("unreachable"), "internals are not shown: {}", response.text());
        let caller = event_of(&node, "failed", &id).await;
        assert_eq!(caller["component"], "seam-caller");
        let function = path.trim_start_matches('/');
        let seam = format!("seam-caller → seam-callee, guest:seam/work.{function}");
        assert_reason_contains(&caller, &[&seam, "the callee trapped", "`unreachable`"]);
        let callee = event_of(&node, "call-failed", &id).await;
        assert_eq!(callee["component"], "seam-callee");
        assert_reason_contains(&callee, &["`unreachable`"]);
        let frames = callee["backtrace"].to_string();
        assert!(frames.contains("act"), "{frames}");
        // After the trap, the next request gets new instances.
        assert_eq!(node.get("/act?what=count").await.ok(), "count=1\n");
        assert_eq!(node.get("/act?what=trap").await.status.as_u16(), 500);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_in_the_callee_ends_with_the_deadline() {
    let limits = "limits.request_deadline = \"300ms\"";
    let ends = async |manifest: String| {
        let node = start(&manifest).await;
        for target in ["/act?what=loop", "/act-later?what=loop", "/wait?ms=60000", "/act?what=wait%2060000"] {
            let id = node.get(target).await.problem(504);
            assert_reason_contains(&event_of(&node, "failed", &id).await, &["seam-caller → seam-callee", "300 ms"]);
        }
        assert_eq!(node.get("/act?what=count").await.ok(), "count=1\n");
    };
    let manifests =
        [isolated(limits), pair(limits, "isolate = true"), pair(limits, &format!("isolate = true\n{limits}"))];
    join_all(manifests.map(ends)).await;
    // If the function's result can report a failed call, the caller gets the failure as a value, as long as it has time
    // left.
    let node = start(&isolated(limits)).await;
    for path in ["/act-carefully", "/act-later-carefully"] {
        let late = node.get(&format!("{path}?what=loop")).await;
        assert_eq!((late.status.as_u16(), late.text()), (422, "lost: deadline\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_charged_to_the_component_that_uses_it() {
    let node = start(&isolated("limits.memory = \"4MiB\"")).await;
    let mut connection = node.connect().await;
    let before = connection.get("/memory").await.ok().to_owned();
    let id = connection.get("/act?what=hog").await.problem(500);
    let callee = event_of(&node, "call-failed", &id).await;
    assert_reason_contains(&callee, &["ran out of memory", "4 MiB"]);
    assert_reason_contains(&event_of(&node, "failed", &id).await, &["4 MiB"]);
    assert_eq!(connection.get("/memory").await.ok(), before);
    assert_eq!(connection.get("/add?a=1&b=2").await.ok(), "3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_image_is_reported() {
    let node = start(&pair("limits.memory = \"200MiB\"", "isolate = true\nlimits.memory = \"200MiB\"")).await;
    let mut connection = node.connect().await;
    let most = (16 << 20) - 1024;
    assert_eq!(connection.get(&format!("/send?bytes={most}")).await.ok(), format!("{most}\n"));
    assert_eq!(connection.get(&format!("/make?bytes={most}")).await.ok(), format!("{most}\n"));
    let too_many = (16 << 20) + 1024;
    let id = connection.get(&format!("/send?bytes={too_many}")).await.problem(500);
    assert_reason_contains(&event_of(&node, "failed", &id).await, &["take more than 16 MiB"]);
    let id = connection.get(&format!("/make?bytes={too_many}")).await.problem(500);
    assert_reason_contains(&event_of(&node, "call-failed", &id).await, &["take more than 16 MiB"]);
    assert_eq!(connection.get("/add?a=1&b=2").await.ok(), "3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_caller_cancels_the_callee() {
    // There is one instance of each component, so a request can only be handled after the previous request has released
    // both instances.
    let cancelled = async |target: &str| {
        let node = Setup::new(&isolated("")).options(|it| it.instances_max = Some(1)).start().await;
        let mut raw = node.connect_raw().await;
        raw.write(format!("GET {target} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).await;
        // Wait until further requests are refused, because then the call of the first request is running.
        until("the callee is busy", async || {
            let other = node.get("/add?a=1&b=1").await;
            (other.status.as_u16() == 503).then_some(())
        })
        .await;
        drop(raw);
        until("the callee's store is gone", async || {
            let other = node.get("/add?a=1&b=1").await;
            (other.status.as_u16() == 200).then_some(())
        })
        .await;
    };
    join_all(["/wait?ms=600000", "/act?what=wait%20600000", "/act?what=loop", "/join?ms=600000"].map(cancelled)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callee_without_memory_fails_at_once() {
    let caller = "concurrency = 16";
    let node = Setup::new(&pair(caller, "isolate = true")).options(|it| it.instances_max = Some(1)).start().await;
    // One call runs, one waits, and the third one is refused.
    let calls = (0..3).map(|_| node.get("/wait?ms=3000"));
    let responses = within("all responses", join_all(calls)).await;
    let mut statuses = responses.iter().map(|response| response.status.as_u16()).collect::<Vec<_>>();
    statuses.sort_unstable();
    assert_eq!(statuses.last(), Some(&503), "{statuses:?}");
    let lost = responses.iter().find(|response| response.status.as_u16() == 503).expect("one response has status 503");
    assert_reason_contains(
        &event_of(&node, "failed", &lost.problem(503)).await,
        &["seam-caller → seam-callee", " busy, "],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_concurrent_requests_cross_the_seam() {
    const REQUESTS: usize = 200;
    let node = Setup::new(&isolated("")).options(|it| it.instances_max = Some(REQUESTS as u32)).start().await;
    let requests = (0..REQUESTS).map(|number| {
        let node = &node;
        async move {
            let response = node.get(&format!("/change?name=n{number}&count={number}")).await;
            assert_eq!(response.ok(), format!("N{number} {} first||ünïcode Some(0.1)\n", number + 1));
            let response = node.get(&format!("/join?ms=5,{number}")).await;
            assert_eq!(response.ok(), format!("5 {number}\n"));
        }
    });
    within("all responses", join_all(requests)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_and_reused_instances_return_the_same() {
    for requests in [Some(1), None] {
        let setup = Setup::new(&isolated(""));
        let node = setup.options(|it| it.requests_per_instance_max = requests).start().await;
        let mut connection = node.connect().await;
        // A component's state survives only as long as its instance is reused.
        for number in 0..3 {
            let kept = connection.get(&format!("/act?what=keep%20{number}")).await.ok().to_owned();
            let expected = if requests.is_none() && number > 0 { format!("{}\n", number - 1) } else { "\n".to_owned() };
            assert_eq!(kept, expected);
        }
        for number in 0..20 {
            let response = connection.get(&format!("/change?name=n{number}&count={number}")).await;
            assert_eq!(response.ok(), format!("N{number} {} first||ünïcode Some(0.1)\n", number + 1));
            let contents = "x".repeat(number * 1000);
            assert_eq!(connection.post("/echo", &contents).await.ok(), contents);
            assert_eq!(connection.get("/join?ms=2,1").await.ok(), "2 1\n");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_component_has_its_own_environment_and_output() {
    let node = start(&isolated("grants.config = { COLOUR = \"blue\" }")).await;
    assert_eq!(node.get("/act?what=env%20COLOUR").await.ok(), "blue\n");
    assert_eq!(node.get("/act?what=env%20PATH").await.ok(), "nothing\n");
    // A line without a newline at its end is also logged, for the callee and this request.
    assert_eq!(node.get("/act?what=say%20hello").await.ok(), "said\n");
    let line = node.event("output", |event| event["line"] == "hello").await;
    assert_eq!(line["component"], "seam-callee");
    let id = line["request"].as_str().expect("the request").to_owned();
    node.event("access", |event| event["request"] == id.as_str()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callee_may_continue_after_returning() {
    for manifest in [pair("", ""), isolated("")] {
        let node = start(&manifest).await;
        // The callee returns a result immediately, and then continues to run for ten minutes. The test does not wait
        // that long for a response, so a response shows that the caller waited only for the result.
        assert_eq!(node.get("/leave?ms=600000").await.ok(), "leaver 1  None\n");
        assert_eq!(node.get("/add?a=1&b=2").await.ok(), "3\n");
    }
}

/// Returns the manifest of an app in which `seam-entry` calls `seam-relay`, which calls `seam-callee`. The arguments
/// are additional lines of their tables.
fn chain(entry: &str, relay: &str, callee: &str) -> String {
    format!(
        r#"
        [components.seam-entry]
        wasm = "seam-entry"
        routes = ["/..."]
        {entry}
        [components.seam-relay]
        wasm = "seam-relay"
        isolate = true
        {relay}
        [components.seam-callee]
        wasm = "seam-callee"
        isolate = true
        {callee}
        "#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn results_traps_and_request_ids_cross_a_chain() {
    let node = start(&chain("", "", "")).await;
    for path in ["/pass", "/pass-later"] {
        assert_eq!(node.get(&format!("{path}?what=env%20NONE")).await.ok(), "nothing\n");
        let id = node.get(&format!("{path}?what=trap")).await.problem(500);
        let entry = event_of(&node, "failed", &id).await;
        assert_reason_contains(&entry, &["seam-entry → seam-relay", "seam-relay → seam-callee", "`unreachable`"]);
        let failures = async || {
            let events = node.events();
            let is_wanted = |event: &&Value| event["event"] == "call-failed" && event["request"] == id.as_str();
            let components =
                events.iter().filter(is_wanted).map(|event| event["component"].clone()).collect::<Vec<_>>();
            (components.len() == 2).then_some(components)
        };
        assert_eq!(until("the failures of both callees", failures).await, ["seam-callee", "seam-relay"]);
        let line = node
            .event("output", |event| {
                event["line"] == "calling the next component with `trap`" && event["request"] == id.as_str()
            })
            .await;
        assert_eq!(line["component"], "seam-relay");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_shrinks_along_the_chain() {
    let deadline = |ms: u32| format!("limits.request_deadline = \"{ms}ms\"");
    let ends = async |(entry, relay, callee): (u32, u32, u32)| {
        let node = start(&chain(&deadline(entry), &deadline(relay), &deadline(callee))).await;
        for target in ["/pass?what=loop", "/pass?what=wait%2050000", "/pass-later?what=loop"] {
            let id = node.get(target).await.problem(504);
            assert_reason_contains(&event_of(&node, "failed", &id).await, &["seam-entry → seam-relay", "300 ms"]);
        }
    };
    join_all([(300, 60_000, 60_000), (60_000, 300, 60_000), (60_000, 60_000, 300)].map(ends)).await;
}
