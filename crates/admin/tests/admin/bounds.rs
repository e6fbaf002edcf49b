//! What is too large, too slow or too many.

use std::time::Duration;

use isomer_admin::AdminLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
    // What is said to be too large is not read; one byte of each is enough to see that.
    let cases = [
        ("PUT", "/v1/tenants/acme".to_owned(), 256 << 10),
        ("POST", "/v1/missing".to_owned(), 16 << 20),
        ("PUT", "/v1/tenants/acme/secrets/key".to_owned(), isomer_admin::SECRET_BYTES_MAX),
        ("PUT", format!("/v1/blobs/{}", "0".repeat(64)), isomer_admin::BLOB_BYTES_MAX),
    ];
    for (method, path, bytes_max) in &cases {
        let headers = format!("{head}content-length: {}\r\n", bytes_max + 1);
        let answered = served.send(method, path, &headers, "").await;
        assert_eq!((answered.status, answered.json()["type"].clone()), (413, "too-large".into()), "{path}");
    }
    // What does not say how much it is.
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
async fn a_slow_client_loses_its_place() {
    let limits = AdminLimits { connections_max: 1, ..quick() };
    let served = Served::with_limits(limits).await;
    let token = served.token_text();
    // Nothing; a head that does not end; a body that does not come; an upload that stops.
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
        // The only place is the slow one's until it is taken away.
        assert_eq!(served.ask("GET", "/v1/status", "").await.status, 200, "{start}");
        let mut said = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut said)).await.unwrap();
        let said = String::from_utf8(said).unwrap();
        if start.contains("10\r\n") {
            assert!(said.starts_with("HTTP/1.1 400") && said.contains("did not come in time"), "{start}: {said}");
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
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
    let flood = tokio::spawn({
        let fake = served.fake.clone();
        async move {
            let text = "x".repeat(100_000);
            // Until nobody follows any more.
            while fake.lines.send(line(&text)).is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    // The only place is free again.
    assert_eq!(served.ask("GET", "/v1/status", "").await.status, 200);
    tokio::time::timeout(PATIENCE, flood).await.unwrap().unwrap();
    drop(deaf);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let served = Served::with_limits(AdminLimits { connections_max: 2, ..AdminLimits::default() }).await;
    let kept = [served.connect().await, served.connect().await];
    let mut waits = served.connect().await;
    let request = format!(
        "GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        served.token_text()
    );
    waits.write_all(request.as_bytes()).await.unwrap();
    // Both places are taken, so this can only be answered after one of them was given back.
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(100), waits.peek(&mut byte)).await;
    assert!(early.is_err() && served.fake.asked().is_empty());
    drop(kept);
    assert_eq!(answer_of(waits).await.status, 200);
}
