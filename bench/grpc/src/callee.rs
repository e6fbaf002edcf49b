//! The gRPC server that provides the functions that the caller calls.

use std::error::Error;
use std::path::PathBuf;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::{Server, ServerTlsConfig, TcpIncoming};

use crate::Tls;
use crate::service::Calls;

/// The address that the server listens on.
pub(crate) enum Place {
    /// A TCP port of the loopback interface, chosen by the system.
    Tcp,
    /// A Unix socket at this path.
    Unix(PathBuf),
}

/// Serves the functions until the process exits.
pub(crate) async fn serve(place: Place, tls: Option<Tls>) -> Result<(), Box<dyn Error>> {
    let mut server = Server::builder();
    let scheme = if tls.is_some() { "https" } else { "http" };
    if let Some(Tls { ca, identity }) = tls {
        server = server.tls_config(ServerTlsConfig::new().identity(identity).client_ca_root(ca))?;
    }
    match place {
        Place::Tcp => {
            let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?.with_nodelay(Some(true));
            println!("{scheme}://{}", incoming.local_addr()?);
            server.serve_with_incoming(Calls, incoming).await?;
        }
        Place::Unix(path) => {
            let listener = UnixListener::bind(&path)?;
            println!("unix://{}", path.display());
            server.serve_with_incoming(Calls, UnixListenerStream::new(listener)).await?;
        }
    }
    Ok(())
}
