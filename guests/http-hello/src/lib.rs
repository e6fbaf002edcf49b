//! A WASI 0.3 HTTP handler that responds with a greeting.

use guest_support::{HandlerResult, respond};
use wasip3::http::types::Request;

wasip3::http::service::export!(Hello);

struct Hello;

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(_request: Request) -> HandlerResult {
        respond(200, "hello from WASI 0.3\n")
    }
}
