//! A server for guests that send requests to other hosts.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::within;

/// The head of a request.
pub(crate) type RequestHead = http::request::Parts;

/// A server that responds to a POST request with status 201, and to any other request with status 200. The body of the
/// response is the request's body, or `upstream` if the request's body is empty.
pub(crate) struct Upstream {
    /// The address of the server.
    pub(crate) address: SocketAddr,
    seen: mpsc::UnboundedReceiver<RequestHead>,
    listening: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Upstream {
    /// Starts the server on a loopback port that the operating system chooses.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 is always free");
        let address = listener.local_addr().expect("a bound socket has its address");
        let (sender, seen) = mpsc::unbounded_channel();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                let service = service_fn(move |request| respond(request, sender.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, seen, listening }
    }

    /// Waits for the next request and returns its head.
    pub(crate) async fn seen(&mut self) -> RequestHead {
        within("a request to the test's server", self.seen.recv()).await.expect("the server runs")
    }

    /// Returns whether [`Upstream::seen`] has returned all requests that the server has received.
    pub(crate) fn is_unseen(&mut self) -> bool {
        self.seen.try_recv().is_err()
    }
}

async fn respond(
    request: Request<Incoming>,
    sender: mpsc::UnboundedSender<RequestHead>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status = if head.method == http::Method::POST { 201 } else { 200 };
    let _ = sender.send(head);
    let text = if body.is_empty() { Bytes::from_static(b"upstream\n") } else { body };
    Ok(Response::builder().status(status).body(Full::new(text)).expect("a valid response"))
}
