//! A WASI 0.3 HTTP handler whose query defines the response.
//!
//! - `status=N`: the status, 200 by default;
//! - `fields=NAME:VALUE|NAME:VALUE`: header fields of the response;
//! - `body=TEXT`: the body. Under `/fields`, the body is the header fields of the request, one per line;
//! - `chunks=N&ms=M`: sends the body N times, with a pause of M milliseconds before each time except the first;
//! - `trailers=error`: an error instead of trailers.

use guest_support::{HandlerResult, path, query, query_number};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::{wit_future, wit_stream};

wasip3::http::service::export!(Answers);

struct Answers;

impl wasip3::exports::http::handler::Guest for Answers {
    async fn handle(request: Request) -> HandlerResult {
        let failed = |what: &str| ErrorCode::InternalError(Some(format!("{what} is refused")));
        let status = query_number(&request, "status", 200) as u16;
        let fields = query(&request, "fields").unwrap_or_default();
        let fields = fields.split('|').filter_map(|field| field.split_once(':'));
        let fields: Vec<_> = fields.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect();
        let fields = Fields::from_list(&fields).map_err(|_| failed("a field"))?;
        let body = match path(&request).as_str() {
            "/fields" => seen(&request),
            _ => query(&request, "body").unwrap_or_default(),
        };
        let (chunks, pause_ms) = (query_number(&request, "chunks", 1), query_number(&request, "ms", 0));
        let fails = query(&request, "trailers").is_some_and(|trailers| trailers == "error");
        drop(request);
        let (mut writer, reader) = wit_stream::new();
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        spawn_local(async move {
            for chunk in 0..chunks {
                if chunk > 0 && pause_ms > 0 {
                    wait_for(pause_ms * 1_000_000).await;
                }
                if !writer.write_all(body.clone().into_bytes()).await.is_empty() {
                    return;
                }
            }
            drop(writer);
            if fails {
                let error = ErrorCode::InternalError(Some("the guest fails on purpose".to_owned()));
                let _unread = trailers.write(Err(error)).await;
            }
        });
        let (response, _sent) = Response::new(fields, Some(reader), trailers_reader);
        response.set_status_code(status).map_err(|()| failed("the status"))?;
        Ok(response)
    }
}

/// Returns the request's header fields, one per line.
fn seen(request: &Request) -> String {
    let fields = request.get_headers().copy_all();
    fields.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value))).collect()
}
