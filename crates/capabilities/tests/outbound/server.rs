//! Small HTTP servers for the tests, each on its own port.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The certificate of [`authority`] as the content of a PEM file.
pub(crate) const AUTHORITY: &[u8] = include_bytes!("tls/ca.pem");

/// Returns the certificate of the authority that has signed the server's certificate.
pub(crate) fn authority() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(AUTHORITY).unwrap()
}

/// Starts a server that reads one request per connection completely, and responds with 200. Returns the port, and a
/// receiver of the requests' heads.
pub(crate) async fn recording() -> (u16, UnboundedReceiver<String>) {
    let (listener, port) = listen().await;
    let (heads, requests) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(head) = read_request(&mut stream).await else { continue };
            heads.send(head).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    (port, requests)
}

/// Starts a server that keeps connections open. The response contains the number of the connection and the number of
/// earlier requests of the connection. After `/close`, the server closes the connection without announcing this.
/// `/never` closes the connection without a response, unless it is the first request of the connection. `/slow` gets an
/// endless response. Returns the port, and a receiver of the connection number and request line of each request.
pub(crate) async fn counting() -> (u16, UnboundedReceiver<String>) {
    let (listener, port) = listen().await;
    let (lines, requests) = unbounded_channel();
    tokio::spawn(async move {
        for connection in 1.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::spawn(count(stream, connection, lines.clone()));
        }
    });
    (port, requests)
}

async fn count(mut stream: tokio::net::TcpStream, connection: u32, lines: UnboundedSender<String>) {
    for request in 1.. {
        let Some(head) = read_request(&mut stream).await else { return };
        let line = head.lines().next().unwrap_or_default().to_owned();
        let _ = lines.send(format!("{connection} {}", line.trim_end_matches(" HTTP/1.1")));
        if line.contains("/never") && request > 1 {
            return;
        }
        let text = format!("{connection}.{request}");
        let more = if line.contains("/slow") { 100 } else { 0 };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len() + more);
        if stream.write_all(answer.as_bytes()).await.is_err() || line.contains("/close") {
            return;
        }
    }
}

/// Reads a request to its end, and returns its head; `None` if the connection has ended.
async fn read_request(stream: &mut tokio::net::TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(stream, &mut bytes).await?;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let lower = head.to_ascii_lowercase();
    if let Some((_, rest)) = lower.split_once("content-length: ") {
        let length: usize = rest.lines().next().unwrap().parse().unwrap();
        while bytes.len() < end + length {
            read_more(stream, &mut bytes).await?;
        }
    } else if lower.contains("transfer-encoding: chunked") {
        while !bytes.ends_with(b"0\r\n\r\n") {
            read_more(stream, &mut bytes).await?;
        }
    }
    Some(head)
}

async fn read_more(stream: &mut tokio::net::TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(bytes).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}

/// Starts a server that responds with the complete request, or for `/mirror` only with its body, frame by frame.
/// Returns the port.
pub(crate) async fn echo() -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http1(stream));
        }
    });
    port
}

/// Starts a server like [`echo`] over TLS, with the ALPN protocol `alpn`. Returns the port.
pub(crate) async fn tls_echo(alpn: &'static str) -> u16 {
    let (listener, port) = listen().await;
    let chain = vec![CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the handshake.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                if alpn == "h2" {
                    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service_fn(answer));
                    let _ = served.await;
                } else {
                    http1(stream).await;
                }
            });
        }
    });
    port
}

/// Starts a server that reads some bytes from each connection, and responds with the given bytes. After that, it sends
/// nothing and keeps the connection open. Returns the port.
pub(crate) async fn raw(answers: &'static [&'static str]) -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            for answer in answers {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            open.push(stream);
        }
    });
    port
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    let _ = served.await;
}

async fn answer(request: http::Request<Incoming>) -> Result<http::Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
    if request.uri().path() == "/mirror" {
        return Ok(http::Response::new(request.into_body().boxed()));
    }
    let header = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
    let host = header.or_else(|| request.uri().authority().map(ToString::to_string)).unwrap_or_default();
    let path = request.uri().path_and_query().unwrap().to_string();
    let head = format!("{:?} {} {path} host={host} ", request.version(), request.method());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let text = [head.as_bytes(), &body].concat();
    Ok(http::Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()))
}
