//! A simple HTTP client: one connection, which the test opens, uses and drops.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::body::{Body, whole};
use super::within;

/// The number of header fields of a response that the client accepts: more than any guest may send.
const ANSWER_HEADERS_MAX: usize = 20_000;

/// An open connection. It is closed when this is dropped, even while requests run.
pub(crate) struct Connection {
    sender: Sender,
    authority: String,
    io: JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.io.abort();
    }
}

impl Connection {
    /// Opens a connection for HTTP/1.1.
    pub(crate) async fn http1(address: SocketAddr) -> Self {
        Self::over(tcp(address).await, false, &address.to_string()).await
    }

    /// Opens a connection for HTTP/2.
    pub(crate) async fn http2(address: SocketAddr) -> Self {
        Self::over(tcp(address).await, true, &address.to_string()).await
    }

    /// Opens a connection for HTTP over `stream` to the server of this name.
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        http2: bool,
        authority: &str,
    ) -> Self {
        let (stream, authority) = (TokioIo::new(stream), authority.to_owned());
        if http2 {
            let (sender, io) = http2::handshake(TokioExecutor::new(), stream).await.expect("a handshake");
            let io = tokio::spawn(async move {
                let _ = io.await;
            });
            return Self { sender: Sender::Http2(sender), authority, io };
        }
        let (sender, io) =
            http1::Builder::new().max_headers(ANSWER_HEADERS_MAX).handshake(stream).await.expect("a handshake");
        let io = tokio::spawn(async move {
            let _ = io.await;
        });
        Self { sender: Sender::Http1(sender), authority, io }
    }

    /// Returns whether the connection uses HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Starts to build a request for this connection's server.
    pub(crate) fn request(&self, method: Method, target: &str) -> http::request::Builder {
        let request = Request::builder().method(method);
        match self.sender {
            Sender::Http1(_) => request.uri(target).header("host", &self.authority),
            Sender::Http2(_) => request.uri(format!("http://{}{target}", self.authority)),
        }
    }

    /// Sends `request` and returns the response. The caller reads its body.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        within("a response", self.try_send(request)).await.expect("a response")
    }

    /// Sends `request`, which may fail.
    pub(crate) async fn try_send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends `request` and reads the complete response.
    pub(crate) async fn exchange(&mut self, request: Request<Body>) -> TestResponse {
        let response = self.send(request).await;
        TestResponse::read(response).await.expect("the whole body")
    }

    /// Waits until the server closes the connection.
    pub(crate) async fn closed(&mut self) {
        within("the end of the connection", &mut self.io).await.expect("the connection's task");
    }

    /// Sends a request without a body, and reads the complete response.
    pub(crate) async fn ask(&mut self, method: Method, target: &str) -> TestResponse {
        let request = self.request(method, target).body(whole("")).expect("a valid request");
        self.exchange(request).await
    }

    /// Sends a GET, and reads the complete response.
    pub(crate) async fn get(&mut self, target: &str) -> TestResponse {
        self.ask(Method::GET, target).await
    }

    /// Sends a POST, and reads the complete response.
    pub(crate) async fn post(&mut self, target: &str, contents: &str) -> TestResponse {
        let body = whole(contents.to_owned());
        let request = self.request(Method::POST, target).body(body).expect("a valid request");
        self.exchange(request).await
    }
}

async fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("the node listens");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct TestResponse {
    /// The status of the response.
    pub(crate) status: StatusCode,
    /// The headers of the response.
    pub(crate) headers: HeaderMap,
    /// The body of the response.
    pub(crate) body: Bytes,
}

impl TestResponse {
    /// Reads `response` to its end.
    pub(crate) async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        let body = within("the body's end", body.collect()).await?.to_bytes();
        Ok(Self { status: head.status, headers: head.headers, body })
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// A header as text; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("the header is text"))
    }

    /// Checks that the status is 200, and returns the body.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.status, 200, "{}", self.text());
        self.text()
    }

    /// Checks that this is a problem of the platform with `status`, and returns the request's id.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
        let body: serde_json::Value = serde_json::from_slice(&self.body).expect("a problem is JSON");
        assert_eq!(body["status"], status);
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
        let id = body["id"].as_str().expect("a problem has an id").to_owned();
        assert_eq!(body["instance"], format!("urn:isomer:request:{id}"));
        id
    }
}
