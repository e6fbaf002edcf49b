//! A WASI 0.2 HTTP handler that responds with a greeting.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wasip2::http::proxy::export!(Hello);

struct Hello;

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(_request: IncomingRequest, outparam: ResponseOutparam) {
        let headers = Fields::from_list(&[("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec())])
            .expect("the header is well formed");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("a new response has its body");
        ResponseOutparam::set(outparam, Ok(response));
        let stream = body.write().expect("a new body has its stream");
        // A client that has disconnected needs no response.
        let _unread = stream.blocking_write_and_flush(b"hello from WASI 0.2\n");
        drop(stream);
        let _unfinished = OutgoingBody::finish(body, None);
    }
}
