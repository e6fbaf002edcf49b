//! Small servers for the tests, on ports of their own.

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

/// The authority that signed the server's certificate.
pub(crate) fn authority() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(include_bytes!("tls/ca.pem")).unwrap()
}

/// Answers with what it was asked; `/mirror` with the body alone, piece by piece.
pub(crate) async fn echo() -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http1(stream));
        }
    });
    port
}

/// As [`echo`], over TLS and with this protocol.
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
                // A client that doesn't trust the certificate hangs up here.
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

/// Reads something from each connection, answers with these bytes, and then says nothing more but keeps it open.
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
