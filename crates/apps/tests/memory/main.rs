//! Tests that bodies are streamed through the node and not stored in it. This is a separate program, because it
//! measures the memory of the process.

#[allow(dead_code, reason = "shared with the other tests of this crate, which use the rest")]
#[path = "../harness/mod.rs"]
mod harness;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;

use harness::body::{repeated, whole};
use harness::{Setup, one, within};

/// The maximum number of bytes that the process may grow by.
const GROWTH_MAX_BYTES: u64 = 64 << 20;

/// The size of the large body, in bytes. If it were stored anywhere, the process would grow beyond the limit.
const BYTES: usize = 1 << 30;

const PIECE_BYTES: usize = 64 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_does_not_grow_memory() {
    let lines = "limits.body = \"2GiB\"\nlimits.request_deadline = \"50s\"";
    let node = Setup::new(&one("http-stream", lines)).start().await;
    let piece = Bytes::from(vec![1_u8; PIECE_BYTES]);
    for http2 in [false, true] {
        let mut connection = if http2 { node.connect_http2().await } else { node.connect().await };
        // The first body also causes all initialisation that happens only once, so it is not measured.
        for (round, bytes) in [8 << 20, BYTES].into_iter().enumerate() {
            let before = (round > 0).then(reset_peak);
            let body = repeated(piece.clone(), bytes / PIECE_BYTES);
            let request = connection.request(Method::POST, "/sum").body(body).expect("a valid request");
            let response = connection.exchange(request).await;
            assert_eq!(response.ok(), format!("bytes={bytes} sum={bytes}\n"));
            check_growth(before, "upload");

            let before = (round > 0).then(reset_peak);
            let target = format!("/drip?chunks={}&ms=0&bytes={PIECE_BYTES}", bytes / PIECE_BYTES);
            let request = connection.request(Method::GET, &target).body(whole("")).expect("a valid request");
            let mut response = connection.send(request).await;
            let mut received = 0;
            within("the body's end", async {
                while let Some(frame) = response.body_mut().frame().await {
                    received += frame.expect("a whole body").into_data().expect("no trailers").len();
                }
            })
            .await;
            assert_eq!(received, bytes);
            check_growth(before, "download");
        }
    }
}

/// Checks that the process's peak of memory since the last reset is near `before`.
fn check_growth(before: Option<u64>, what: &str) {
    let Some(before) = before else { return };
    let growth = status_bytes("VmHWM:").saturating_sub(before);
    assert!(growth < GROWTH_MAX_BYTES, "{what}: memory grew by {growth} bytes");
}

/// Resets the kernel's peak of resident memory (proc(5), `clear_refs`) and returns the resident memory, in bytes.
fn reset_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").expect("the kernel keeps a peak");
    status_bytes("VmRSS:")
}

fn status_bytes(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has this file");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line with this key");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}
