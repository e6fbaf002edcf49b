//! Converts requests and responses between `wasi:http` and the storefront's plain values.

use boutique_storefront::{BodyError, Head, Response};
use wasip3::http::types::{self, ErrorCode, Fields, Method, Request, Scheme};
use wasip3::wit_bindgen::{StreamResult, spawn_local};
use wasip3::{wit_future, wit_stream};

/// The maximum number of bytes of a body that are read with one call.
const CHUNK_BYTES: usize = 4 * 1024;

/// Converts a request's head to the storefront's type.
pub(crate) fn head(request: &Request) -> Head {
    let headers = request.get_headers().copy_all();
    Head {
        method: method(request.get_method()),
        path_and_query: request.get_path_with_query().unwrap_or_else(|| "/".into()),
        secure: matches!(request.get_scheme(), Some(Scheme::Https)),
        headers: headers.into_iter().filter_map(|(name, value)| Some((name, String::from_utf8(value).ok()?))).collect(),
    }
}

/// Reads a request's body.
///
/// # Errors
/// If the body has more than `limit` bytes, or ends early.
pub(crate) async fn read_body(request: Request, limit: usize) -> Result<Vec<u8>, BodyError> {
    let (_done, done_reader) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = Request::consume_body(request, done_reader);
    let mut body = Vec::new();
    loop {
        let (result, chunk) = stream.read(Vec::with_capacity(CHUNK_BYTES)).await;
        body.extend_from_slice(&chunk);
        if body.len() > limit {
            return Err(BodyError::TooLarge);
        }
        match result {
            StreamResult::Complete(_) => {}
            StreamResult::Dropped | StreamResult::Cancelled => break,
        }
    }
    drop(stream);
    match trailers.await {
        Ok(_) => Ok(body),
        Err(_) => Err(BodyError::Broken),
    }
}

/// Converts the storefront's response for `wasi:http`. A response to `HEAD` gets no body.
pub(crate) fn response(response: Response, is_head: bool) -> Result<types::Response, ErrorCode> {
    let length = response.body.len().to_string();
    let has_body = !matches!(response.status, 204 | 304);
    let mut fields: Vec<(String, Vec<u8>)> =
        response.headers.into_iter().map(|(name, value)| (name.into(), value.into_bytes())).collect();
    if has_body {
        fields.push(("content-length".into(), length.into_bytes()));
    }
    let fields =
        Fields::from_list(&fields).map_err(|error| ErrorCode::InternalError(Some(format!("a header: {error:?}"))))?;
    let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
    drop(trailers);
    let contents = (has_body && !is_head && !response.body.is_empty()).then(|| {
        let (mut writer, reader) = wit_stream::new();
        let body = response.body.into_owned();
        // If the visitor disconnects early, the write fails. That is not an error of the shop.
        spawn_local(async move { drop(writer.write_all(body).await) });
        reader
    });
    let (outgoing, _sent) = types::Response::new(fields, contents, trailers_reader);
    outgoing
        .set_status_code(response.status)
        .map_err(|()| ErrorCode::InternalError(Some(format!("the status {}", response.status))))?;
    Ok(outgoing)
}

fn method(method: Method) -> String {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(other) => return other,
    }
    .into()
}
