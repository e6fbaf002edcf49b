//! Clients that record exactly what they have sent and received.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// A TCP or TLS connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Opens a plain TCP connection, without an HTTP client on it.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens a connection from the address `127.0.0.LAST` of this machine.
pub(crate) async fn connect_from(last: u8, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((IpAddr::from(Ipv4Addr::new(127, 0, 0, last)), 0).into())?;
    socket.connect(address).await
}

/// Performs the TLS handshake.
pub(crate) async fn secure(stream: TcpStream, config: Arc<ClientConfig>) -> io::Result<Box<dyn Stream>> {
    let name = ServerName::try_from("shop.example").unwrap();
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
}

/// An HTTP/1.1 connection.
pub(crate) struct Http1<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

/// A response that was received completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether the response announces that the server closes the connection.
    pub(crate) is_last: bool,
}

impl<S: Stream> Http1<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Sends `bytes` unchanged.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Reads a response that has a `content-length`.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).map_err(|_| broken("no text"))?;
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(|| broken("status"))?;
        let field = |name: &str| {
            let fields = head.split("\r\n").filter_map(|line| line.split_once(": "));
            fields.filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
        };
        let length: usize = field("content-length").and_then(|it| it.parse().ok()).ok_or_else(|| broken("length"))?;
        while self.read.len() < length {
            self.more().await?;
        }
        self.read.drain(..length);
        Ok(Answer { status, is_last: field("connection") == Some("close") })
    }

    /// Sends a request without a body. Returns the response.
    pub(crate) async fn get(&mut self, host: &str) -> io::Result<Answer> {
        self.send(head(host)).await?;
        self.answer().await
    }

    /// Waits until the server closes its side. Fails if the server resets the connection or sends more bytes.
    pub(crate) async fn closed(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it sends more")),
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the whole answer came")),
            _ => Ok(()),
        }
    }
}

/// Returns the head of a GET request for `host`.
pub(crate) fn head(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")
}

/// An HTTP/2 connection.
pub(crate) struct Http2 {
    sender: SendRequest<Empty<Bytes>>,
}

impl Http2 {
    pub(crate) async fn new(stream: impl Stream + 'static) -> hyper::Result<Self> {
        let (sender, io) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(io);
        Ok(Self { sender })
    }

    /// Sends a request, reads the whole response, and returns its status. Returns `None` if the server did not process
    /// the request because it had announced the end of the connection.
    pub(crate) async fn get(&mut self, host: &str) -> hyper::Result<Option<u16>> {
        if self.sender.ready().await.is_err() {
            return Ok(None);
        }
        let request = http::Request::builder().uri(format!("http://{host}/")).body(Empty::new()).unwrap();
        match self.sender.try_send_request(request).await {
            Ok(response) => {
                let status = response.status().as_u16();
                response.into_body().collect().await?;
                Ok(Some(status))
            }
            Err(mut error) => match error.take_message() {
                Some(_) => Ok(None),
                None if was_told(error.error()) => Ok(None),
                None => Err(error.into_error()),
            },
        }
    }
}

/// Returns whether the server announced that it did not process the request (RFC 9113, section 6.8).
fn was_told(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|it| it.is_go_away() && it.is_remote() && it.reason() == Some(h2::Reason::NO_ERROR))
}
