//! The first component of a chain of calls. `/pass?what=W` and `/pass-later?what=W` respond with the result of the
//! chain's last component.

use guest_support::{HandlerResult, path, query, respond};
use wasip3::http::types::Request;

wit_bindgen::generate!({ path: ["../../crates/wit/wit/isomer-link", "../seam-callee/wit"], world: "guest:seam/entry", generate_all });

use guest::seam::relay;

wasip3::http::service::export!(Entry);

struct Entry;

impl wasip3::exports::http::handler::Guest for Entry {
    async fn handle(request: Request) -> HandlerResult {
        let what = query(&request, "what").unwrap_or_default();
        match path(&request).as_str() {
            "/pass" => respond(200, format!("{}\n", relay::pass(&what))),
            "/pass-later" => respond(200, format!("{}\n", relay::pass_later(what).await)),
            _ => respond(200, "entry\n"),
        }
    }
}
