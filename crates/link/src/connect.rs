//! Connecting to an address. A failure is a text for an operator.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use isomer_transport::socket_file;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::address::Address;
use crate::stream::LinkStream;
use crate::tls::{self, Tls};

/// Connects to `address`: with TLS if it is configured, unless the address is a Unix socket.
pub(crate) async fn connect(address: &Address, tls: Option<&Tls>) -> Result<LinkStream, String> {
    let (host, port) = match address {
        Address::Unix(path) => {
            return connect_unix(path).await.map(LinkStream::Unix).map_err(|error| without_number(&error));
        }
        Address::Tcp { host, port } => (host, *port),
    };
    let found = lookup_host((&**host, port)).await.map_err(|_| "its host name cannot be resolved".to_owned())?;
    // Whatever a host name resolves to, nothing leaves this machine without TLS.
    let found: Vec<SocketAddr> = found.filter(|found| tls.is_some() || found.ip().is_loopback()).collect();
    let mut reason = "its host is another machine, and TLS is not configured".to_owned();
    for found in found {
        match TcpStream::connect(found).await {
            Ok(stream) => {
                // Nagle's algorithm would delay a call until the previous one is acknowledged.
                let _ = stream.set_nodelay(true);
                return match tls {
                    Some(tls) => secure(stream, host, tls).await,
                    None => Ok(LinkStream::Tcp(stream)),
                };
            }
            Err(error) => reason = without_number(&error),
        }
    }
    Err(reason)
}

/// Connects to the socket `path`, if its holder is this process's user or root: any other holder would be sent all
/// calls.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    let holder = stream.peer_cred()?.uid();
    if socket_file::is_trusted_user(holder) {
        return Ok(stream);
    }
    let user = socket_file::current_user();
    Err(io::Error::other(format!("its socket is held by user {holder}, and this process's is {user}")))
}

async fn secure(stream: TcpStream, host: &str, tls: &Tls) -> Result<LinkStream, String> {
    let name = match &tls.peer_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(host.to_owned())
            .map_err(|_| "its host name is not valid in a certificate".to_owned())?,
    };
    match TlsConnector::from(tls.client.clone()).connect(name, stream).await {
        Ok(stream) => Ok(LinkStream::Tls(Box::new(TlsStream::Client(stream)))),
        Err(error) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(error) => tls::explain(error),
            None => format!("it ended the connection before TLS began; does it use TLS? ({})", without_number(&error)),
        }),
    }
}

/// Returns the system's error without its number.
fn without_number(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "its socket does not exist".to_owned(),
        io::ErrorKind::ConnectionRefused => "no process listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied for its socket".to_owned(),
        _ => error.to_string(),
    }
}
