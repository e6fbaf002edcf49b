//! A WASI 0.2 HTTP handler whose response body may contradict its headers. The path selects the response.
//!
//! - `/drop`: the response's body is dropped before it is finished;
//! - `/forget`: the response's body is neither finished nor dropped;
//! - `/short`, `/long`: the response's body is shorter or longer than its content-length;
//! - `/none`: 204 with a body;
//! - `/authority`: the body is the authority of the request;
//! - `/events?chunks=N&ms=M`: N server-sent events, with a pause of M milliseconds before each event except the first;
//! - anything else: 200.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wasip2::http::proxy::export!(Answers);

struct Answers;

impl wasip2::exports::http::incoming_handler::Guest for Answers {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target.as_str(), ""));
        let length: &[u8] = match path {
            "/short" => b"100",
            "/long" => b"3",
            _ => b"",
        };
        let kind: &[u8] = if path == "/events" { b"text/event-stream" } else { b"text/plain" };
        let mut fields = vec![("content-type".to_owned(), kind.to_vec())];
        if !length.is_empty() {
            fields.push(("content-length".to_owned(), length.to_vec()));
        }
        let response = OutgoingResponse::new(Fields::from_list(&fields).expect("the fields are well formed"));
        if path == "/none" {
            response.set_status_code(204).expect("it is a status");
        }
        let body = response.body().expect("a new response has its body");
        ResponseOutparam::set(outparam, Ok(response));
        let stream = body.write().expect("a new body has its stream");
        let text = match path {
            "/authority" => request.authority().unwrap_or_default(),
            "/events" => "data: x\n\n".to_owned(),
            _ => "first bytes\n".to_owned(),
        };
        for chunk in 0..number(query, "chunks", 1) {
            if chunk > 0 {
                subscribe_duration(number(query, "ms", 0) * 1_000_000).block();
            }
            // The write fails if the client has disconnected or the body is longer than its content-length.
            if stream.blocking_write_and_flush(text.as_bytes()).is_err() {
                break;
            }
        }
        drop(stream);
        match path {
            "/drop" => drop(body),
            "/forget" => std::mem::forget(body),
            _ => {
                let _unfinished = OutgoingBody::finish(body, None);
            }
        }
    }
}

/// Returns the query's parameter `name` as a number, or `absent` if the query has no such number.
fn number(query: &str, name: &str, absent: u64) -> u64 {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(absent)
}
