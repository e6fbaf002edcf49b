//! A WASI 0.3 HTTP handler that loops forever, or waits for a long time.
//!
//! - `/loop`: an endless loop of arithmetic;
//! - `/nested`: an endless loop inside nested function calls;
//! - `/sleep`: waits on a clock for an hour;
//! - `/late`: sends its first bytes, then loops forever;
//! - anything else: 200.

use std::hint::black_box;

use guest_support::{HandlerResult, path, respond, respond_stream};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::Request;
use wasip3::wit_bindgen::spawn_local;
use wasip3::wit_stream;

wasip3::http::service::export!(Loop);

struct Loop;

impl wasip3::exports::http::handler::Guest for Loop {
    async fn handle(request: Request) -> HandlerResult {
        match path(&request).as_str() {
            "/loop" => spin(),
            "/nested" => nested(64),
            "/sleep" => {
                wait_for(3_600_000_000_000).await;
                respond(200, "an hour has passed\n")
            }
            "/late" => late(),
            _ => respond(200, "ok\n"),
        }
    }
}

fn spin() -> ! {
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}

#[inline(never)]
fn nested(depth: u32) -> HandlerResult {
    if depth == 0 {
        loop {
            black_box(leaf(black_box(7)));
        }
    }
    let result = nested(black_box(depth - 1));
    black_box(depth);
    result
}

#[inline(never)]
fn leaf(number: u64) -> u64 {
    number.rotate_left(3)
}

fn late() -> HandlerResult {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        let _unread = writer.write_all(b"first bytes\n".to_vec()).await;
        spin();
    });
    respond_stream(200, reader)
}
