//! The frontend component: a WASI 0.3 HTTP handler. It runs `boutique-storefront`, with the other components as its
//! services.

mod exchange;
mod services;

use boutique_storefront::handle;
use wasip3::http::types::{ErrorCode, Request, Response};

// Generated bindings are not documented, and not linted.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "frontend-component",
        with: { "boutique:shop/types@0.1.0": boutique_types },
    });
}

struct Frontend;

wasip3::http::service::export!(Frontend);

impl wasip3::exports::http::handler::Guest for Frontend {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let head = exchange::head(&request);
        let is_head = head.method == "HEAD";
        let response =
            handle(&services::Components, &head, async |limit| exchange::read_body(request, limit).await).await;
        exchange::response(response, is_head)
    }
}
