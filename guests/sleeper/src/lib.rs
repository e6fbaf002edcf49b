//! An HTTP handler that waits. `/?ms=N` (and any other path) waits on a clock, while other requests of the same
//! instance can run. `/block?ms=N` blocks the instance. The response is `slept=N together=M`. M is the number of
//! requests that this instance was handling at the same time: the larger of the numbers at the beginning and at the end
//! of the request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use guest_support::{HandlerResult, path, query_number, respond};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::Request;

wasip3::http::service::export!(Sleeper);

struct Sleeper;

static INSIDE: AtomicU64 = AtomicU64::new(0);

impl wasip3::exports::http::handler::Guest for Sleeper {
    async fn handle(request: Request) -> HandlerResult {
        let ms = query_number(&request, "ms", 10);
        let before = INSIDE.fetch_add(1, Ordering::Relaxed) + 1;
        if path(&request) == "/block" {
            std::thread::sleep(Duration::from_millis(ms));
        } else {
            wait_for(ms * 1_000_000).await;
        }
        let together = INSIDE.fetch_sub(1, Ordering::Relaxed).max(before);
        respond(200, format!("slept={ms} together={together}\n"))
    }
}
