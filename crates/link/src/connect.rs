//! From an address to a stream, with the reason in words when there is none.

use std::io;
use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::address::Address;
use crate::stream::Stream;
use crate::tls::{self, Tls};
use crate::unix;

/// Connects to `address`: with TLS where there is some, unless it is a Unix socket.
pub(crate) async fn connect(address: &Address, tls: Option<&Tls>) -> Result<Stream, String> {
    let (host, port) = match address {
        Address::Unix(path) => {
            return unix::connect(path).await.map(Stream::Unix).map_err(|error| words(&error));
        }
        Address::Tcp { host, port } => (host, *port),
    };
    let found = lookup_host((&**host, port)).await.map_err(|_| "its host is not known".to_owned())?;
    // Whatever a name says, nothing in the clear leaves this machine.
    let found: Vec<SocketAddr> = found.filter(|found| tls.is_some() || found.ip().is_loopback()).collect();
    let mut reason = "its host is not this machine, and there is no TLS".to_owned();
    for found in found {
        match TcpStream::connect(found).await {
            Ok(stream) => {
                // Nagle's algorithm would hold a call back until the last one is acknowledged.
                let _ = stream.set_nodelay(true);
                return match tls {
                    Some(tls) => secure(stream, host, tls).await,
                    None => Ok(Stream::Tcp(stream)),
                };
            }
            Err(error) => reason = words(&error),
        }
    }
    Err(reason)
}

async fn secure(stream: TcpStream, host: &str, tls: &Tls) -> Result<Stream, String> {
    let name = match &tls.peer_name {
        Some(name) => name.clone(),
        None => {
            ServerName::try_from(host.to_owned()).map_err(|_| "no certificate can have its host's name".to_owned())?
        }
    };
    match TlsConnector::from(tls.client.clone()).connect(name, stream).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(TlsStream::Client(stream)))),
        Err(error) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(error) => tls::explain(error),
            None => format!("it ended the connection before TLS began; does it speak TLS? ({})", words(&error)),
        }),
    }
}

/// What the system said, without its numbers.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "its socket is not there".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "its socket does not let this user in".to_owned(),
        _ => error.to_string(),
    }
}
