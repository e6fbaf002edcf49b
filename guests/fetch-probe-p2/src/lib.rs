//! Sends a GET request through `wasi:http/outgoing-handler` 0.2. `/?url=U` (not percent-encoded) responds with the
//! status and the body of U. If the outgoing handler returns an error, the response is 502 with the error code's
//! `Debug` text.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

wasip2::http::proxy::export!(FetchProbe);

struct FetchProbe;

const CHUNK_BYTES: u64 = 4096;

impl wasip2::exports::http::incoming_handler::Guest for FetchProbe {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let (status, bytes) = match fetch(&request) {
            Ok(fetched) => fetched,
            Err(error) => (502, format!("{error:?}\n").into_bytes()),
        };
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(status).expect("a status that was received");
        let body = response.body().expect("a new response has its body");
        ResponseOutparam::set(outparam, Ok(response));
        let stream = body.write().expect("a new body has its stream");
        for chunk in bytes.chunks(CHUNK_BYTES as usize) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                // A client that has disconnected needs no response.
                return;
            }
        }
        drop(stream);
        let _unfinished = OutgoingBody::finish(body, None);
    }
}

fn fetch(request: &IncomingRequest) -> Result<(u16, Vec<u8>), ErrorCode> {
    let target = request.path_with_query().unwrap_or_default();
    let (_, url) = target.split_once("url=").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let (authority, target) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let outgoing = OutgoingRequest::new(Fields::new());
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    outgoing.set_scheme(Some(&scheme)).map_err(invalid)?;
    outgoing.set_authority(Some(authority)).map_err(invalid)?;
    outgoing.set_path_with_query(Some(target)).map_err(invalid)?;
    let future = outgoing_handler::handle(outgoing, None)?;
    future.subscribe().block();
    let response = future.get().expect("it is ready").expect("it was taken once")?;
    let body = response.consume().expect("a new response has its body");
    let stream = body.stream().expect("a new body has its stream");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(CHUNK_BYTES) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Ok((response.status(), bytes)),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(ErrorCode::InternalError(Some(error.to_debug_string())));
            }
        }
    }
}
