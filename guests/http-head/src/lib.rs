//! A WASI 0.3 HTTP handler that responds with the request's head: `SCHEME AUTHORITY PATH-AND-QUERY host=HEADER`.

use guest_support::{HandlerResult, respond};
use wasip3::http::types::{Request, Scheme};

wasip3::http::service::export!(Head);

struct Head;

impl wasip3::exports::http::handler::Guest for Head {
    async fn handle(request: Request) -> HandlerResult {
        let scheme = match request.get_scheme() {
            Some(Scheme::Http) => "http",
            Some(Scheme::Https) => "https",
            _ => "none",
        };
        let authority = request.get_authority().unwrap_or_default();
        let path = request.get_path_with_query().unwrap_or_default();
        let host = request.get_headers().get("host").concat();
        respond(200, format!("{scheme} {authority} {path} host={}\n", String::from_utf8_lossy(&host)))
    }
}
