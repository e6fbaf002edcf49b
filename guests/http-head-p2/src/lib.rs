//! A WASI 0.2 HTTP handler that responds with the request's head: `SCHEME AUTHORITY PATH-AND-QUERY host=HEADER`.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam, Scheme};

wasip2::http::proxy::export!(Head);

struct Head;

impl wasip2::exports::http::incoming_handler::Guest for Head {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let scheme = match request.scheme() {
            Some(Scheme::Http) => "http",
            Some(Scheme::Https) => "https",
            _ => "none",
        };
        let authority = request.authority().unwrap_or_default();
        let path = request.path_with_query().unwrap_or_default();
        let host = request.headers().get("host").concat();
        let text = format!("{scheme} {authority} {path} host={}\n", String::from_utf8_lossy(&host));
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("a new response has its body");
        ResponseOutparam::set(outparam, Ok(response));
        let stream = body.write().expect("a new body has its stream");
        // A client that has disconnected needs no response.
        let _unread = stream.blocking_write_and_flush(text.as_bytes());
        drop(stream);
        let _unfinished = OutgoingBody::finish(body, None);
    }
}
