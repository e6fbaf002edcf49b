//! An HTTP server for `GET /run?QUERY`, for programs that make calls without a component. Its requests and responses
//! are those of the guest `seam-bench-caller`.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Listens on a port that the operating system chooses, passes the server's URL to `ready`, and serves queries with
/// `run` until the process exits. `run` returns the body of the response, or an error message.
///
/// # Errors
/// If the port cannot be opened, or a connection cannot be accepted.
pub async fn serve_runs<F, R>(ready: impl FnOnce(String), run: R) -> io::Result<()>
where
    R: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Result<String, String>> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    ready(format!("http://{}", listener.local_addr()?));
    let run = Arc::new(run);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let run = Arc::clone(&run);
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let run = Arc::clone(&run);
            async move {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let (status, body) = match run(query).await {
                    Ok(body) => (StatusCode::OK, body),
                    Err(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")),
                };
                let mut response = Response::new(Full::new(Bytes::from(body)));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            // A client that closes its connection early needs no response.
            let _broken = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
