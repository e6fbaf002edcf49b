//! Connects to an address. Errors are returned as texts for an operator.

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

/// Connects to `address`. Uses TLS if `tls` is set and the address is not a Unix socket.
pub(crate) async fn connect(address: &Address, tls: Option<&Tls>) -> Result<LinkStream, String> {
    let (host, port) = match address {
        Address::Unix(path) => {
            return connect_unix(path).await.map(LinkStream::Unix).map_err(|error| without_number(&error));
        }
        Address::Tcp { host, port } => (host, *port),
    };
    let addresses = lookup_host((&**host, port)).await.map_err(|_| "its host name cannot be resolved".to_owned())?;
    // Without TLS, only loopback addresses are used, even if the host name also resolves to other addresses, so that no
    // unencrypted bytes leave this machine.
    let addresses: Vec<SocketAddr> = addresses.filter(|address| tls.is_some() || address.ip().is_loopback()).collect();
    let mut reason = "its host is another machine, and TLS is not configured".to_owned();
    for address in addresses {
        match TcpStream::connect(address).await {
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

/// Connects to the socket `path`. Fails if the listening process belongs neither to this process's user nor to root,
/// since such a process would receive all calls.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    let holder = stream.peer_cred()?.uid();
    if socket_file::is_trusted_user(holder) {
        return Ok(stream);
    }
    let user = socket_file::current_user();
    Err(io::Error::other(format!(
        "its socket belongs to a process of user {holder}, but this process runs as user {user}"
    )))
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

/// Describes a connection error without its OS error number.
fn without_number(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "its socket does not exist".to_owned(),
        io::ErrorKind::ConnectionRefused => "no process listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied for its socket".to_owned(),
        _ => error.to_string(),
    }
}
