//! Tests of requests that are too large, too slow or too numerous.

use std::time::Duration;

use isomer_admin::AdminLimits;
use isomer_api::TokenRole;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fake::line;
use crate::served::{PATIENCE, Served, answer_of};

fn quick() -> AdminLimits {
    let short = Duration::from_millis(200);
    AdminLimits { head_timeout: short, body_timeout: short, write_timeout: short, ..AdminLimits::default() }
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused() {
    let served = Served::tcp().await;
    let token = served.token_text();
    let head = format!("host: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    // If the announced length is too large, the body is not read.
    let cases = [
        ("PUT", "/v1/tenants/acme".to_owned(), 256 << 10),
        ("POST", "/v1/missing".to_owned(), 16 << 20),
        ("PUT", "/v1/tenants/acme/secrets/key".to_owned(), isomer_ids::SECRET_BYTES_MAX),
        ("PUT", format!("/v1/blobs/{}", "0".repeat(64)), isomer_admin::BLOB_BYTES_MAX),
    ];
    for (method, path, bytes_max) in &cases {
        let headers = format!("{head}content-length: {}\r\n", bytes_max + 1);
        let answered = served.send(method, path, &headers, "").await;
        assert_eq!((answered.status, answered.json()["type"].clone()), (413, "too-large".into()), "{path}");
    }
    // The body has no announced length.
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", (64 << 10) + 1, "x".repeat((64 << 10) + 1));
    let headers = format!("{head}transfer-encoding: chunked\r\n");
    let answered = served.send("PUT", "/v1/tenants/acme/secrets/key", &headers, &chunk).await;
    assert_eq!(answered.status, 413);
    assert_eq!(served.fake.asked(), Vec::<String>::new());
    let most = "x".repeat(64 << 10);
    assert_eq!(served.ask("PUT", "/v1/tenants/acme/secrets/key", &most).await.status, 204);
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let served = Served::tcp().await;
    let many: String = (0..100).map(|number| format!("x-{number}: 1\r\n")).collect();
    let long = format!("x: {}\r\n", "x".repeat(64 << 10));
    for headers in [many, long] {
        assert_eq!(served.send("GET", "/v1/status", &headers, "").await.status, 431);
    }
}

#[tokio::test]
async fn a_slow_client_is_disconnected() {
    let limits = AdminLimits { connections_max: 1, ..quick() };
    let served = Served::with_limits(limits).await;
    let token = served.token_text();
    // The client sends nothing, an incomplete head, no body, or a part of an upload.
    let upload = format!("PUT /v1/blobs/{} HTTP/1.1\r\n", "0".repeat(64));
    let starts = [
        String::new(),
        "GET /v1/status HTTP/1.1\r\nhost: local".to_owned(),
        format!(
            "PUT /v1/tenants/acme HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{{"
        ),
        format!("{upload}host: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 10\r\n\r\nx"),
    ];
    for start in starts {
        let mut slow = served.connect().await;
        slow.write_all(start.as_bytes()).await.unwrap();
        // The slow client has the only permitted connection until the server closes it.
        assert_eq!(served.ask("GET", "/v1/status", "").await.status, 200, "{start}");
        let mut said = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut said)).await.unwrap();
        let said = String::from_utf8(said).unwrap();
        if start.contains("10\r\n") {
            assert!(said.starts_with("HTTP/1.1 400") && said.contains("did not arrive in time"), "{start}: {said}");
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    /// The number of lines that are written. It is smaller than the capacity of the channel, so that none is lost.
    const LINES: usize = 500;
    let limits = AdminLimits { connections_max: 1, ..quick() };
    let served = Served::with_limits(limits).await;
    let mut deaf = served.connect().await;
    let request = format!(
        "GET /v1/tenants/acme/apps/shop/logs?lines=0&follow=true HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
        served.token_text()
    );
    deaf.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    deaf.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // Together, the log lines are larger than the buffers of both sockets.
    let text = "x".repeat(100_000);
    for _ in 0..LINES {
        served.fake.lines.send(line(&text)).unwrap();
    }
    // The only permitted connection is available again.
    assert_eq!(served.ask("GET", "/v1/status", "").await.status, 200);
    // The response that followed the log has ended, so nothing receives new lines of the log any more.
    tokio::time::timeout(PATIENCE, served.fake.lines.closed()).await.unwrap();
    drop(deaf);
}

/// Sends a request over a new connection, and returns the connection as soon as the response begins.
async fn after(served: &Served, token: &str, method_and_path: &str) -> TcpStream {
    let mut stream = served.connect().await;
    let request = format!("{method_and_path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut first)).await.unwrap().unwrap();
    stream
}

/// A request that follows a log.
const FOLLOW: &str = "GET /v1/tenants/acme/apps/shop/logs?lines=0&follow=true";

/// Checks that a response that follows a log still gets new lines.
async fn assert_still_followed(served: &Served, mut followed: TcpStream) {
    served.fake.lines.send(line("still here")).unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("still here") {
        let read = tokio::time::timeout(PATIENCE, followed.read_buf(&mut seen)).await.unwrap().unwrap();
        assert_ne!(read, 0, "the connection was closed");
    }
}

async fn read_to_its_end(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Ignore an error, because the server may reset the connection.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection is closed");
    bytes
}

#[tokio::test]
async fn a_request_waits_while_all_connections_have_one() {
    let served = Served::with_limits(AdminLimits { connections_max: 2, ..AdminLimits::default() }).await;
    let token = served.token_text();
    let kept = [after(&served, &token, FOLLOW).await, after(&served, &token, FOLLOW).await];
    served.fake.take_asked();
    let mut waits = served.connect().await;
    let request = format!(
        "GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    waits.write_all(request.as_bytes()).await.unwrap();
    // Both permitted connections are in use, so this request can be served only after one of them is closed.
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(100), waits.peek(&mut byte)).await;
    assert!(early.is_err() && served.fake.asked().is_empty());
    drop(kept);
    assert_eq!(answer_of(waits).await.status, 200);
}

#[tokio::test]
async fn connections_without_a_request_keep_no_client_out() {
    let limits = AdminLimits {
        connections_max: 2,
        unauthenticated_max: 4,
        // These timeouts are so long that no connection is closed because of them.
        unauthenticated_timeout: PATIENCE * 10,
        head_timeout: PATIENCE * 10,
        ..AdminLimits::default()
    };
    let served = Served::with_limits(limits).await;
    let token = served.token_text();
    let followed = after(&served, &token, FOLLOW).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        // Three kinds of unauthenticated clients: one sends nothing, one sends half of a head, and one sends an invalid
        // token.
        idle.push(served.connect().await);
        let mut half = served.connect().await;
        half.write_all(b"GET /v1/status HTTP/1.1\r\n").await.unwrap();
        idle.push(half);
        idle.push(after(&served, "none", "GET /v1/status").await);
    }
    assert_eq!(served.ask("GET", "/v1/status", "").await.status, 200);
    // Idle connections on which a request was accepted are also closed to make room for new ones.
    for _ in 0..5 {
        idle.push(after(&served, &token, "GET /v1/status").await);
        assert_eq!(served.ask("GET", "/v1/status", "").await.status, 200);
    }
    read_to_its_end(idle.swap_remove(0)).await;
    let had_one = read_to_its_end(idle.pop().unwrap()).await;
    assert!(!had_one.is_empty(), "the response was written first");
    // The connection with a request in progress stays open.
    assert_still_followed(&served, followed).await;
}

#[tokio::test]
async fn a_connection_without_an_accepted_request_ends_soon() {
    let limits = AdminLimits {
        unauthenticated_timeout: Duration::from_millis(100),
        head_timeout: PATIENCE * 10,
        ..AdminLimits::default()
    };
    let served = Served::with_limits(limits).await;
    let followed = after(&served, &served.token_text(), FOLLOW).await;
    read_to_its_end(served.connect().await).await;
    read_to_its_end(after(&served, "none", "GET /v1/status").await).await;
    assert_still_followed(&served, followed).await;
}

#[tokio::test]
async fn an_upload_that_is_too_slow_is_ended() {
    let served = Served::with_limits(AdminLimits { body_timeout: Duration::from_millis(500), ..quick() }).await;
    let mut slow = served.connect().await;
    let head = format!(
        "PUT /v1/blobs/{} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: 1000000\r\n\r\n",
        "0".repeat(64),
        served.token_text()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let (mut reads, mut writes) = slow.into_split();
    // The client sends single bytes, each long before the timeout. The pauses do not wait for a condition: they make
    // the client slow.
    let dripping = tokio::spawn(async move {
        while writes.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut first = [0; 12];
    tokio::time::timeout(PATIENCE, reads.read_exact(&mut first)).await.expect("the upload is refused").unwrap();
    assert_eq!(&first, b"HTTP/1.1 400");
    drop(reads);
    tokio::time::timeout(PATIENCE, dripping).await.unwrap().unwrap();
}

#[tokio::test]
async fn tenants_that_follow_many_logs_leave_requests_to_the_next_one() {
    let served = Served::tcp().await;
    let mut followed = Vec::new();
    for tenant in 0..10 {
        for number in 0..2 {
            let token = served.tenant_token(&format!("t{tenant}"), &format!("n{number}"), TokenRole::Read).await;
            for _ in 0..12 {
                let path = format!("GET /v1/tenants/t{tenant}/apps/shop/logs?lines=0&follow=true");
                followed.push(after(&served, &token, &path).await);
            }
        }
    }
    let token = served.tenant_token("late", "desk", TokenRole::Read).await;
    assert_eq!(served.ask_with(&token, "GET", "/v1/tenants/late", "").await.status, 200);
    assert_eq!(served.ask("GET", "/v1/status", "").await.status, 200);
    drop(followed);
}
