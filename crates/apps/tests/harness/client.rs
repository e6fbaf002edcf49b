//! A simple HTTP client for one connection, which the test opens, uses and drops.

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

/// The maximum number of header fields in a response. It is higher than the maximum that a guest may send.
const RESPONSE_HEADERS_MAX: usize = 20_000;

/// An open connection. Dropping it closes the connection, even while requests run.
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
    /// Opens a connection with HTTP/1.1.
    pub(crate) async fn http1(address: SocketAddr) -> Self {
        Self::over(tcp(address).await, false, &address.to_string()).await
    }

    /// Opens a connection with HTTP/2.
    pub(crate) async fn http2(address: SocketAddr) -> Self {
        Self::over(tcp(address).await, true, &address.to_string()).await
    }

    /// Opens an HTTP connection over `stream`. `authority` is the server's name in requests.
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
            http1::Builder::new().max_headers(RESPONSE_HEADERS_MAX).handshake(stream).await.expect("a handshake");
        let io = tokio::spawn(async move {
            let _ = io.await;
        });
        Self { sender: Sender::Http1(sender), authority, io }
    }

    /// Returns whether the connection uses HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Creates the builder of a request to this connection's server.
    pub(crate) fn request(&self, method: Method, target: &str) -> http::request::Builder {
        let request = Request::builder().method(method);
        match self.sender {
            Sender::Http1(_) => request.uri(target).header("host", &self.authority),
            Sender::Http2(_) => request.uri(format!("http://{}{target}", self.authority)),
        }
    }

    /// Sends `request` and returns the response, whose body the caller reads. The test fails if there is no response.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        within("a response", self.try_send(request)).await.expect("a response")
    }

    /// Sends `request` and returns the response, whose body the caller reads.
    ///
    /// # Errors
    /// If there is no response.
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

    /// Sends a request without a body and reads the complete response.
    pub(crate) async fn ask(&mut self, method: Method, target: &str) -> TestResponse {
        let request = self.request(method, target).body(whole("")).expect("a valid request");
        self.exchange(request).await
    }

    /// Sends a GET request and reads the complete response.
    pub(crate) async fn get(&mut self, target: &str) -> TestResponse {
        self.ask(Method::GET, target).await
    }

    /// Sends a POST request with the body `contents` and reads the complete response.
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

/// A response with its complete body.
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
    /// Reads the complete body of `response`.
    pub(crate) async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        let body = within("the body's end", body.collect()).await?.to_bytes();
        Ok(Self { status: head.status, headers: head.headers, body })
    }

    /// Returns the body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Returns the value of a header field as text; an empty text if the field is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("the header is text"))
    }

    /// Checks that the status is 200, and returns the body.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.status, 200, "{}", self.text());
        self.text()
    }

    /// Checks that the platform has sent this response as a problem (RFC 9457) with the given status. Returns the
    /// request ID.
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
