//! A WASI 0.3 HTTP handler that counts the requests of its instance in memory. Responds `instance=I count=N`, where I
//! is a random number that the instance chooses at its first request.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use guest_support::{HandlerResult, respond};
use wasip3::http::types::Request;
use wasip3::random::random::get_random_u64;

wasip3::http::service::export!(Counter);

struct Counter;

static COUNT: AtomicU64 = AtomicU64::new(0);
static INSTANCE: OnceLock<u64> = OnceLock::new();

impl wasip3::exports::http::handler::Guest for Counter {
    async fn handle(_request: Request) -> HandlerResult {
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        let instance = INSTANCE.get_or_init(get_random_u64);
        respond(200, format!("instance={instance:016x} count={count}\n"))
    }
}
