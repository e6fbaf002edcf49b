//! A WASI 0.3 HTTP handler that uses much memory.
//!
//! - `/grow?bytes=N`: grows the linear memory page by page until it has grown by N bytes (default: no limit) or growing
//!   is refused; responds `grown=N size=N`, both in bytes;
//! - `/allocate?bytes=N`: allocates N bytes with one call and writes to them; responds `allocated=N size=N`. If the
//!   allocation is refused, Rust aborts, which is a trap;
//! - anything else: responds `size=N`, the size of the linear memory in bytes.

use std::hint::black_box;

use core::arch::wasm32::{memory_grow, memory_size};
use guest_support::{HandlerResult, path, query_number, respond};
use wasip3::http::types::Request;

wasip3::http::service::export!(MemoryHog);

struct MemoryHog;

const PAGE_BYTES: u64 = 64 * 1024;

impl wasip3::exports::http::handler::Guest for MemoryHog {
    async fn handle(request: Request) -> HandlerResult {
        match path(&request).as_str() {
            "/grow" => {
                let wanted = query_number(&request, "bytes", u64::MAX);
                let mut grown = 0;
                while grown < wanted && memory_grow::<0>(1) != usize::MAX {
                    grown += PAGE_BYTES;
                }
                respond(200, format!("grown={grown} size={}\n", size()))
            }
            "/allocate" => {
                let bytes = query_number(&request, "bytes", 1 << 20) as usize;
                let block = black_box(vec![1_u8; bytes]);
                respond(200, format!("allocated={} size={}\n", block.len(), size()))
            }
            _ => respond(200, format!("size={}\n", size())),
        }
    }
}

fn size() -> u64 {
    memory_size::<0>() as u64 * PAGE_BYTES
}
