//! Sends a request through `wasi:http/client` 0.3 and forwards the response.
//!
//! `/?url=U&method=M` responds with the status and the streamed body of U. The method is GET by default; for POST and
//! PUT, the guest sends the body of its own request. If the client returns an error, the response is 502 with the error
//! code's `Debug` text.

use guest_support::{HandlerResult, body, query, respond, respond_stream};
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};
use wasip3::wit_future;

wasip3::http::service::export!(FetchProbe);

struct FetchProbe;

impl wasip3::exports::http::handler::Guest for FetchProbe {
    async fn handle(request: Request) -> HandlerResult {
        match fetch(request).await {
            Ok(response) => {
                let status = response.get_status_code();
                let (done, done_reader) = wit_future::new(|| Ok(()));
                drop(done);
                let (stream, _trailers) = Response::consume_body(response, done_reader);
                respond_stream(status, stream)
            }
            Err(error) => respond(502, format!("{error:?}\n")),
        }
    }
}

async fn fetch(request: Request) -> HandlerResult {
    let url = query(&request, "url").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, target) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let method = query(&request, "method").unwrap_or_else(|| "GET".to_owned());
    let contents = matches!(method.as_str(), "POST" | "PUT").then(|| body(request));
    let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (outgoing, _sent) = Request::new(Fields::new(), contents, trailers_reader, None);
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    outgoing.set_method(&parse_method(&method)).map_err(|()| ErrorCode::HttpRequestMethodInvalid)?;
    outgoing.set_scheme(Some(&parse_scheme(scheme))).map_err(invalid)?;
    outgoing.set_authority(Some(authority)).map_err(invalid)?;
    outgoing.set_path_with_query(Some(target)).map_err(invalid)?;
    client::send(outgoing).await
}

fn parse_method(text: &str) -> Method {
    match text {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        other => Method::Other(other.to_owned()),
    }
}

fn parse_scheme(text: &str) -> Scheme {
    match text {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    }
}
