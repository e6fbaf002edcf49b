//! Handlers that violate the rules of `wasi:http`, and the responses that their clients get.

use crate::harness::{Setup, TestNode, one, start};
use crate::wat_components;

/// Starts a node with a WASI 0.2 handler that is written as text. `lines` is added to the component's table in the
/// manifest; `fields` and `body` define the handler.
async fn handler(lines: &str, fields: &str, body: &str) -> TestNode {
    Setup::new(&one("written", lines)).component("written", wat_components::handler(fields, body)).start().await
}

/// Sends a request over HTTP/1.1 and over HTTP/2. Each response must report that the app has failed, and the log must
/// contain the refused `status`.
async fn is_refused(node: &TestNode, target: &str, status: u16) {
    for mut connection in [node.connect().await, node.connect_http2().await] {
        let id = connection.get(target).await.problem(500);
        let event = node.event("failed", |event| event["request"] == id.as_str()).await;
        let reason = event["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(&format!("responded with status {status}")), "{event}");
        // The connection can still be used.
        connection.get(target).await.problem(500);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_informational_status_as_final_response_is_a_handler_error() {
    let node = start(&one("http-trap", "")).await;
    for status in [100, 101, 103, 199] {
        is_refused(&node, &format!("/status?n={status}"), status).await;
        let written = handler("", "", &format!("(local.set $status (i32.const {status}))")).await;
        is_refused(&written, "/", status).await;
    }
    // A status that HTTP does not define is refused when the guest sets it, so the guest's response keeps the status
    // 200.
    for status in [0, 99, 600, 999] {
        let written = handler("", "", &format!("(local.set $status (i32.const {status}))")).await;
        written.get("/").await.ok();
    }
    for status in [200, 404, 599] {
        let response = node.get(&format!("/status?n={status}")).await;
        assert_eq!((response.status.as_u16(), response.text()), (status, "said\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wasi_0_2_handler_gets_an_error_for_oversized_fields() {
    // The handler appends a field value of `bytes` bytes. It responds with status 200 if that succeeds, and otherwise
    // with status 201 plus the number of the error.
    let appends = |bytes: u32| {
        format!(
            "(call $append (call $fields) (i32.const 0) (i32.const 1) (i32.const 16) (i32.const {bytes}) (i32.const 8))
            (if (i32.load8_u (i32.const 8)) (then
                (local.set $status (i32.add (i32.const 201) (i32.load8_u (i32.const 9))))))"
        )
    };
    let memory = "(memory (export \"memory\") 4) (data (i32.const 0) \"x\")
        (func $filled (memory.fill (i32.const 16) (i32.const 0x61) (i32.const 200000))) (start $filled)";
    for (bytes, status) in [(60_000, 200), (70_000, 202), (200_000, 202)] {
        let response = handler("", memory, &appends(bytes)).await.get("/").await;
        assert_eq!(response.status.as_u16(), status, "{bytes} bytes: {}", response.text());
    }
    // The guest appends a thousand small fields. The last ones exceed the limit.
    let many = "(local.set $made (call $fields))
        (loop $again
            (call $append (local.get $made) (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 30) (i32.const 8))
            (if (i32.load8_u (i32.const 8)) (then (local.set $status (i32.const 203))))
            (local.set $number (i32.add (local.get $number) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $number) (i32.const 1000))))";
    assert_eq!(handler("", memory, many).await.get("/").await.status.as_u16(), 203);
}
