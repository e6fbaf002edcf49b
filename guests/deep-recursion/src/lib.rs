//! A WASI 0.3 HTTP handler that recurses deeply.
//!
//! - `/endless`: recurses until the stack overflows;
//! - `/depth?n=N`: makes N nested calls, and responds `depth=N`.

use std::hint::black_box;

use guest_support::{HandlerResult, path, query_number, respond};
use wasip3::http::types::Request;

wasip3::http::service::export!(DeepRecursion);

struct DeepRecursion;

impl wasip3::exports::http::handler::Guest for DeepRecursion {
    async fn handle(request: Request) -> HandlerResult {
        let depth = match path(&request).as_str() {
            "/endless" => u64::MAX,
            _ => query_number(&request, "n", 10),
        };
        respond(200, format!("depth={}\n", recurse(depth)))
    }
}

#[inline(never)]
fn recurse(remaining: u64) -> u64 {
    if remaining == 0 {
        return 0;
    }
    1 + black_box(recurse(black_box(remaining - 1)))
}
