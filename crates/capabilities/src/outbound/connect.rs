//! Opens connections to addresses that have been checked: TCP, and TLS over TCP for `https`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

use super::policy::Host;

/// The time after which the next address is tried in parallel, if a connection attempt has neither succeeded nor failed
/// (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The maximum number of addresses that are tried for one host name.
const ADDRESSES_MAX: usize = 16;

/// The maximum number of TLS sessions that are kept for resumption, for all components together. If the maximum is
/// reached and a session with a new server is added, the sessions of the server that was added first are dropped. Each
/// session contains a ticket and a certificate chain, of at most 64 KiB each, which the server chooses. The sessions
/// are not charged.
const SESSIONS_MAX: usize = 256;

/// A plain or encrypted stream to a server.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Returns the TLS configuration of clients that trust `roots`.
pub(super) fn tls_config(roots: &Arc<RootCertStore>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions of TLS")
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    config
}

/// Connects to one of `addresses`. If an attempt is still pending after [`ATTEMPT_DELAY`], the next address is tried in
/// parallel, with alternating address families (RFC 8305). Returns the first successful connection and its address.
///
/// The caller holds a permit for one connection. Each parallel attempt takes an additional permit of `connections`, and
/// waits if no permit is free, so that connecting to a name with many unresponsive addresses does not open more sockets
/// than the limit of connections allows.
pub(super) async fn tcp(
    addresses: &[IpAddr],
    port: u16,
    connections: &Arc<Semaphore>,
) -> Result<(TcpStream, IpAddr), Error> {
    let mut waiting = alternate_families(addresses).into_iter().take(ADDRESSES_MAX).peekable();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let extra_permit =
            if attempts.is_empty() { Some(None) } else { connections.clone().try_acquire_owned().ok().map(Some) };
        if let Some(extra_permit) = extra_permit {
            attempts.extend(waiting.next().map(|address| async move {
                let _extra_permit = extra_permit;
                TcpStream::connect(SocketAddr::new(address, port)).await.map(|stream| (stream, address))
            }));
        }
        tokio::select! {
            biased;
            ended = attempts.next() => match ended {
                Some(Ok((stream, address))) => {
                    stream.set_nodelay(true).map_err(Error::Connect)?;
                    return Ok((stream, address));
                }
                Some(Err(error)) if rating(&error) >= rating(&failure) => failure = error,
                Some(Err(_)) => {}
                None => break,
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if waiting.peek().is_some() => {}
        }
    }
    Err(match failure.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        _ => Error::Connect(failure),
    })
}

/// Returns the addresses with alternating families, starting with the family of the first address. Keeps the order of
/// the addresses within a family.
fn alternate_families(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (own, other): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut own, mut other) = (own.into_iter(), other.into_iter());
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(own.next());
        ordered.extend(other.next());
    }
    ordered
}

/// Rates how much an error says about the server. [`tcp`] returns the error with the highest rating. A missing route
/// for an address family has a low rating, because addresses of the other family were also tried.
fn rating(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => 0,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => 1,
        io::ErrorKind::TimedOut => 2,
        _ => 3,
    }
}

/// Performs the TLS handshake. The certificate of the server must be valid for `host`.
pub(super) async fn tls(config: Arc<ClientConfig>, host: &Host, stream: TcpStream) -> Result<Connection, Error> {
    let name = match host {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Error::HttpRequestUriInvalid)?,
    };
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        tracing::debug!(%host, %error, "TLS failed");
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
            Some(rustls::Error::AlertReceived(alert)) => {
                Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
            }
            _ => Error::TlsProtocolError,
        }
    })?;
    Ok(Connection::Tls(Box::new(stream)))
}

impl Connection {
    /// Returns whether the server has selected HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_alternate() {
        let ordered = |text: &str| {
            let addresses: Vec<IpAddr> = text.split_whitespace().map(|address| address.parse().unwrap()).collect();
            alternate_families(&addresses).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ordered("2::1 2::2 2::3 1.1.1.1 1.1.1.2"), "2::1 1.1.1.1 2::2 1.1.1.2 2::3");
        assert_eq!(ordered("1.1.1.1 1.1.1.2 2::1"), "1.1.1.1 2::1 1.1.1.2");
        assert_eq!(ordered("1.1.1.1 1.1.1.2"), "1.1.1.1 1.1.1.2");
        assert_eq!(ordered(""), "");
    }
}
