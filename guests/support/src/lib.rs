//! Code that the WASI 0.3 test guests share: reading a request and creating a response.
//!
//! The crate is kept small, so that the source file of each guest shows everything that the guest does.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::{StreamReader, spawn_local};
use wasip3::{wit_future, wit_stream};

/// The result of an HTTP handler.
pub type HandlerResult = Result<Response, ErrorCode>;

/// Creates a response with a complete body.
pub fn respond(status: u16, body: impl Into<Vec<u8>>) -> HandlerResult {
    let body = body.into();
    let (mut writer, reader) = wit_stream::new();
    let response = respond_stream(status, reader);
    spawn_local(async move {
        // A client that has disconnected needs no response.
        let _unread = writer.write_all(body).await;
    });
    response
}

/// Creates a response with a streamed body and no trailers.
pub fn respond_stream(status: u16, body: StreamReader<u8>) -> HandlerResult {
    let headers = Fields::from_list(&[("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec())])
        .map_err(|error| ErrorCode::InternalError(Some(format!("{error:?}"))))?;
    let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(headers, Some(body), trailers_reader);
    response
        .set_status_code(status)
        .map_err(|()| ErrorCode::InternalError(Some(format!("status {status} is refused"))))?;
    Ok(response)
}

/// Returns the request's path without its query.
pub fn path(request: &Request) -> String {
    let target = request.get_path_with_query().unwrap_or_default();
    target.split('?').next().unwrap_or_default().to_owned()
}

/// Returns the time of day and random numbers, from WASI 0.2 and from WASI 0.3. Each value is requested twice.
pub fn time_and_chance() -> String {
    let once = || {
        let old = wasip2::clocks::wall_clock::now();
        let new = wasip3::clocks::system_clock::now();
        format!(
            "{}.{:09} {}.{:09} {:?} {:x} {:?} {:x} {:?} {:x} {:?} {:?}",
            old.seconds,
            old.nanoseconds,
            new.seconds,
            new.nanoseconds,
            wasip2::random::random::get_random_bytes(40),
            wasip2::random::random::get_random_u64(),
            wasip3::random::random::get_random_bytes(3),
            wasip3::random::random::get_random_u64(),
            wasip2::random::insecure::get_insecure_random_bytes(3),
            wasip3::random::insecure::get_insecure_random_u64(),
            wasip2::random::insecure_seed::insecure_seed(),
            wasip3::random::insecure_seed::get_insecure_seed(),
        )
    };
    format!("{} then {}", once(), once())
}

/// Returns the percent-decoded value of the query's first parameter `key`.
pub fn query(request: &Request, key: &str) -> Option<String> {
    let target = request.get_path_with_query()?;
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name == key).then(|| percent_decode(value))
    })
}

/// Returns the query's parameter `key` as a number, or `default` if the parameter is absent or not a number.
pub fn query_number(request: &Request, key: &str, default: u64) -> u64 {
    query(request, key).and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Returns the request's body as a stream. An error of the transport ends the stream early.
pub fn body(request: Request) -> StreamReader<u8> {
    let (done, done_reader) = wit_future::new(|| Ok(()));
    drop(done);
    let (stream, _trailers) = Request::consume_body(request, done_reader);
    stream
}

/// Reads the whole body of the request.
pub async fn body_bytes(request: Request) -> Vec<u8> {
    body(request).collect().await
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| (byte as char).to_digit(16)).unwrap_or(0) as u8;
                digit() << 4 | digit()
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
