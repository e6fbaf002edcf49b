//! A WASI 0.3 HTTP handler that fails in different ways.
//!
//! - `/trap`: an `unreachable` instruction, three named functions deep;
//! - `/panic`: a Rust panic with a message;
//! - `/exit`: `wasi:cli/exit`;
//! - `/error`: the handler returns an error code;
//! - `/late`: sends the first bytes of the response's body, then traps;
//! - `/sleep?ms=N`: prints `asleep` and waits on a clock, so that another request can fail meanwhile;
//! - `/status?n=N`: a response with status N;
//! - `/leak?fields=N&streams=N`: leaks N handles of each kind, and responds with the number of requests that its
//!   instance has handled;
//! - anything else: 200.

use std::sync::atomic::{AtomicU64, Ordering};

use guest_support::{HandlerResult, path, query_number, respond, respond_stream};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Request};
use wasip3::wit_bindgen::spawn_local;
use wasip3::wit_stream;

wasip3::http::service::export!(Trap);

struct Trap;

impl wasip3::exports::http::handler::Guest for Trap {
    async fn handle(request: Request) -> HandlerResult {
        match path(&request).as_str() {
            "/trap" => outer_function(),
            "/panic" => panic!("the guest panics on purpose"),
            "/exit" => std::process::exit(3),
            "/error" => Err(ErrorCode::InternalError(Some("the guest fails on purpose".to_owned()))),
            "/late" => late(),
            "/sleep" => {
                println!("asleep");
                wait_for(query_number(&request, "ms", 10) * 1_000_000).await;
                respond(200, "awake\n")
            }
            "/status" => respond(query_number(&request, "n", 200) as u16, "said\n"),
            "/leak" => leak(query_number(&request, "fields", 0), query_number(&request, "streams", 0)),
            _ => respond(200, "ok\n"),
        }
    }
}

#[inline(never)]
fn outer_function() -> HandlerResult {
    middle_function();
    respond(200, "not reached\n")
}

#[inline(never)]
fn middle_function() {
    inner_function();
    std::hint::black_box(());
}

#[inline(never)]
fn inner_function() {
    std::hint::black_box(());
    core::arch::wasm32::unreachable()
}

fn leak(fields: u64, streams: u64) -> HandlerResult {
    static SERVED: AtomicU64 = AtomicU64::new(0);
    for _ in 0..fields {
        std::mem::forget(Fields::new());
    }
    for _ in 0..streams {
        std::mem::forget(wit_stream::new::<u8>());
    }
    respond(200, format!("{}\n", SERVED.fetch_add(1, Ordering::Relaxed) + 1))
}

fn late() -> HandlerResult {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        let _unread = writer.write_all(b"first bytes\n".to_vec()).await;
        inner_function();
    });
    respond_stream(200, reader)
}
