//! A WASI 0.3 HTTP handler that streams bodies.
//!
//! - `/echo` (and any other path): sends the request's body back while it arrives;
//! - `/sum`: reads the whole body without keeping it, and responds `bytes=N sum=S` (S: the bytes' wrapping sum);
//! - `/drip?chunks=5&ms=10&bytes=5`: 5 chunks of 5 bytes, with a pause of 10 ms before each chunk except the first.

use guest_support::{HandlerResult, body, path, query_number, respond, respond_stream};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::Request;
use wasip3::wit_bindgen::{StreamResult, spawn_local};
use wasip3::wit_stream;

wasip3::http::service::export!(Stream);

struct Stream;

const CHUNK_BYTES: usize = 64 * 1024;

impl wasip3::exports::http::handler::Guest for Stream {
    async fn handle(request: Request) -> HandlerResult {
        match path(&request).as_str() {
            "/sum" => sum(request).await,
            "/drip" => drip(&request),
            _ => respond_stream(200, body(request)),
        }
    }
}

async fn sum(request: Request) -> HandlerResult {
    let mut stream = body(request);
    let (mut count, mut sum) = (0_u64, 0_u64);
    let mut buffer = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let status;
        (status, buffer) = stream.read(buffer).await;
        count += buffer.len() as u64;
        sum = buffer.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        buffer.clear();
        if !matches!(status, StreamResult::Complete(_)) {
            return respond(200, format!("bytes={count} sum={sum}\n"));
        }
    }
}

fn drip(request: &Request) -> HandlerResult {
    let chunks = query_number(request, "chunks", 5);
    let pause_ms = query_number(request, "ms", 10);
    let bytes = query_number(request, "bytes", 5) as usize;
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        for chunk in 0..chunks {
            if chunk > 0 {
                wait_for(pause_ms * 1_000_000).await;
            }
            let letter = b'a' + (chunk % 26) as u8;
            if !writer.write_all(vec![letter; bytes]).await.is_empty() {
                return;
            }
        }
    });
    respond_stream(200, reader)
}
