//! A collector: an HTTP server that records requests, and responds as a test has planned.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// A request that the collector has received.
#[derive(Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    /// Decodes the body with the messages of `opentelemetry-proto`.
    pub(crate) fn decode<M: Message + Default>(&self) -> M {
        assert_eq!(self.headers["content-type"], "application/x-protobuf");
        let mut body = Vec::new();
        if self.headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            flate2::read::GzDecoder::new(&*self.body).read_to_end(&mut body).unwrap();
        } else {
            body.extend_from_slice(&self.body);
        }
        M::decode(&*body).unwrap()
    }
}

/// A planned response.
#[derive(Default)]
pub(crate) struct Planned {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<&'static str>,
    pub(crate) body: Vec<u8>,
}

impl Planned {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

/// A running collector. After the planned responses, it responds with 200.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    pub(crate) received: mpsc::UnboundedReceiver<Received>,
}

impl Collector {
    pub(crate) async fn start(planned: impl IntoIterator<Item = Planned>) -> Self {
        Self::start_with(planned, None).await
    }

    pub(crate) async fn start_with(planned: impl IntoIterator<Item = Planned>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let planned: Arc<Mutex<VecDeque<Planned>>> = Arc::new(Mutex::new(planned.into_iter().collect()));
        let (requests, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (planned, requests, tls) = (planned.clone(), requests.clone(), tls.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| respond(request, planned.clone(), requests.clone()));
                    let server = hyper::server::conn::http1::Builder::new();
                    match tls {
                        None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(server.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, received }
    }

    /// Returns the next request.
    pub(crate) async fn next(&mut self) -> Received {
        self.received.recv().await.unwrap()
    }

    /// Returns the variable that makes this collector the receiver of all signals.
    pub(crate) fn variable(&self) -> (&'static str, String) {
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address))
    }
}

async fn respond(
    request: Request<Incoming>,
    planned: Arc<Mutex<VecDeque<Planned>>>,
    requests: mpsc::UnboundedSender<Received>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(head.method, "POST");
    let target = head.uri.path_and_query().unwrap().to_string();
    let planned = planned.lock().unwrap().pop_front().unwrap_or(Planned::status(200));
    let mut response = Response::builder().status(planned.status);
    if let Some(after) = planned.retry_after {
        response = response.header("retry-after", after);
    }
    let _ = requests.send(Received { path: target, headers: head.headers, body });
    Ok(response.body(Full::new(planned.body.into())).unwrap())
}
