//! Responds to HTTP requests: `/NAME` returns the greeting that `greeter` makes for NAME.

mod http;

use wasip3::http::types::{ErrorCode, Request, Response};

// `generate_all` also generates bindings for imports from other packages, such as the platform's in `wit/deps`.
wit_bindgen::generate!({ path: "../wit", world: "app:greeter/front", generate_all });

use app::greeter::greetings::{self, Refusal};

struct Front;

wasip3::http::service::export!(Front);

impl wasip3::exports::http::handler::Guest for Front {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match greetings::greet(&http::path(&request)) {
            Ok(greeting) => http::text(200, format!("{greeting}\n")),
            Err(Refusal::NoName) => http::text(400, "Who is there? Request /NAME.\n".to_owned()),
            Err(Refusal::TooLong(most)) => http::text(400, format!("A name has {most} characters at most.\n")),
        }
    }
}
