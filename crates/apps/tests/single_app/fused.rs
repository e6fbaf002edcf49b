//! Two components in one group, one of which calls the other. Each keeps its own state.

use crate::harness::{Setup, TestNode, start};
use crate::wat_components;

/// Starts a node with `ping`, which receives the requests, and `pong`, which `ping` calls.
async fn pair() -> TestNode {
    start(
        r#"
        [components.ping]
        wasm = "ping"
        routes = ["/..."]
        grants.config = { COLOUR = "red", PING_ONLY = "p" }
        [components.pong]
        wasm = "pong"
        grants.config = { COLOUR = "blue", PONG_ONLY = "q" }
        "#,
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_carry_values_both_ways() {
    let node = pair().await;
    let mut connection = node.connect().await;
    assert_eq!(connection.get("/greet?name=ada").await.ok(), "pong to ada (count 1)\n");
    assert_eq!(connection.get("/later?name=bob&ms=5").await.ok(), "pong to bob (count 2)\n");
    assert_eq!(connection.get("/many?n=1000").await.ok(), "greeted=1000\n");
    let empty = connection.get("/greet?name=").await;
    assert_eq!((empty.status.as_u16(), empty.text()), (422, "empty name\n"));
    let long = connection.get(&format!("/greet?name={}", "n".repeat(65))).await;
    assert_eq!((long.status.as_u16(), long.text()), (422, "name of 65 bytes is too long\n"));
    let contents: String = ('a'..='z').cycle().take(200_000).collect();
    assert_eq!(connection.post("/reverse", &contents).await.ok(), contents.chars().rev().collect::<String>());
}

#[tokio::test(flavor = "multi_thread")]
async fn async_calls_of_many_requests_run_concurrently() {
    let node = pair().await;
    let requests = (0..12).map(|number| {
        let node = &node;
        async move {
            let response = node.get(&format!("/later?name=n{number}&ms=50")).await;
            assert!(response.ok().starts_with(&format!("pong to n{number} ")), "{}", response.text());
        }
    });
    futures::future::join_all(requests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_component_sees_its_own_environment_and_prints_under_its_own_name() {
    let node = pair().await;
    for (name, ping, pong) in [
        ("COLOUR", "red", "blue"),
        ("PING_ONLY", "p", "nothing"),
        ("PONG_ONLY", "nothing", "q"),
        ("PATH", "nothing", "nothing"),
    ] {
        assert_eq!(node.get(&format!("/env?name={name}")).await.ok(), format!("ping={ping} pong={pong}\n"));
        for (component, value) in [("ping", ping), ("pong", pong)] {
            let line = format!("{component} sees {name}={value}");
            let event = node.event("output", |event| event["line"] == line.as_str()).await;
            assert_eq!(event["component"], component);
            assert_eq!(event["stream"], "stdout");
            assert!(event["request"].as_str().is_some_and(|id| id.len() == 16), "{event}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_of_the_callee_fails_the_caller() {
    let node = pair().await;
    let before = node.get("/greet?name=ada").await;
    assert_eq!(before.ok(), "pong to ada (count 1)\n");
    let id = node.get("/trap").await.problem(500);
    let event = node.event("failed", |event| event["request"] == id.as_str()).await;
    assert_eq!(event["component"], "ping");
    let frames: Vec<_> = event["backtrace"].as_array().expect("a call stack").iter().map(|it| it.to_string()).collect();
    let place = |name: &str| frames.iter().position(|frame| frame.contains(name));
    let (pong, ping) = (place("pong"), place("ping"));
    assert!(pong.is_some() && ping.is_some() && pong < ping, "pong, called by ping: {frames:#?}");
    // The instance was discarded with the state of both components.
    assert_eq!(node.get("/greet?name=ada").await.ok(), "pong to ada (count 1)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_calls_its_handler_without_a_link() {
    for (guest, middleware) in
        [("http-hello-p2", wat_components::middleware2()), ("http-hello", wat_components::middleware3())]
    {
        let behind = format!("[components.behind]\nwasm = \"{guest}\"\n");
        let manifest = format!("[components.front]\nwasm = \"middleware\"\nroutes = [\"/...\"]\n{behind}");
        let node = Setup::new(&manifest).component("middleware", middleware).start().await;
        for _ in 0..3 {
            let response = node.get("/").await;
            assert!(response.ok().starts_with("hello"), "{guest}: {}", response.text());
        }
    }
}
