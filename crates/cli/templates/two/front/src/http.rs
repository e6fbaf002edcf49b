//! Conversions between `wasi:http` and plain values.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::{wit_future, wit_stream};

/// Returns the path of the request without leading and trailing slashes, and without the query.
pub fn path(request: &Request) -> String {
    let target = request.get_path_with_query().unwrap_or_default();
    target.split('?').next().unwrap_or_default().trim_matches('/').to_owned()
}

/// Returns a response whose body is plain text.
pub fn text(status: u16, body: String) -> Result<Response, ErrorCode> {
    let headers = [("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec())];
    let headers = Fields::from_list(&headers).expect("the header is well formed");
    let (mut writer, reader) = wit_stream::new();
    let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(headers, Some(reader), trailers_reader);
    response.set_status_code(status).expect("the status is one of HTTP's");
    // The body is written while the client reads it. The write ends early if the client disconnects, which is not an error.
    spawn_local(async move { drop(writer.write_all(body.into_bytes()).await) });
    Ok(response)
}
