//! `/?name=N` responds with the secret N. Without a grant, the response is 403 `access-denied: …`. If the secret's
//! source cannot be read, the response is 503 `unavailable: …`. `/print?name=N` also prints the secret to stdout.

use guest_support::{HandlerResult, path, query, respond};
use wasip3::http::types::Request;

wit_bindgen::generate!({
    path: ["../../crates/wit/wit/isomer-secrets"],
    world: "isomer:secrets/imports",
    generate_all,
});

use isomer::secrets::store::{self, Error};

wasip3::http::service::export!(SecretProbe);

struct SecretProbe;

impl wasip3::exports::http::handler::Guest for SecretProbe {
    async fn handle(request: Request) -> HandlerResult {
        let name = query(&request, "name").unwrap_or_default();
        match store::get(&name) {
            Ok(value) => {
                if path(&request) == "/print" {
                    println!("secret {value}");
                }
                respond(200, value)
            }
            Err(Error::AccessDenied(text)) => respond(403, format!("access-denied: {text}\n")),
            Err(Error::Unavailable(text)) => respond(503, format!("unavailable: {text}\n")),
        }
    }
}
