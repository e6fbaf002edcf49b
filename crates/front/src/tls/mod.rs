//! TLS on the front door: which certificate a client gets, and which hosts it may request over its connection.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `certificate` | one certificate with its key, read from files |
//! | `certificates` | all certificates: chosen by name, reloaded on request |
//!
//! The front door supports TLS 1.2 and 1.3, and negotiates HTTP/2 or HTTP/1.1 (RFC 7301). It does not accept early data
//! (0-RTT), because such data could be replayed.

mod certificate;
mod certificates;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::ServerConnection;

pub use certificate::TlsError;
pub use certificates::{Certificates, LoadedCertificates};

use crate::host;
use certificate::Certificate;

/// The configuration of a front door's certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates that are configured one by one. Their files must exist.
    pub files: Vec<CertificateFiles>,
    /// A folder with files `NAME.crt` or `NAME.pem`, and a file `NAME.key` for each of them.
    pub folder: Option<PathBuf>,
    /// The host name whose certificate is used for clients that name no host, or that name a host without a
    /// certificate. `None` means the first certificate of `files`. If `files` is empty as well, these clients are
    /// refused.
    pub default: Option<String>,
}

/// The files of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The path of a PEM file with the certificate, followed by the intermediate certificates.
    pub certificate: PathBuf,
    /// The path of a PEM file with the private key.
    pub key: PathBuf,
}

/// The result of a connection's TLS handshake.
pub(crate) struct TlsSession {
    /// The host that the client named in the handshake (RFC 6066, section 3), in lower case.
    named: Option<Box<str>>,
    /// The certificate that was used for the handshake.
    certificate: Option<Arc<Certificate>>,
}

impl TlsSession {
    pub(crate) fn new(connection: &ServerConnection, certificates: &Certificates) -> Self {
        // rustls returns the name in lower case.
        let named: Option<Box<str>> = connection.server_name().map(Into::into);
        let certificate = certificates.find(named.as_deref());
        Self { named, certificate }
    }

    /// Returns the host that the client named in the handshake, if any.
    pub(crate) fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// Returns whether a request for `host` may use this connection. It may in three cases: the client named `host` in
    /// the handshake; the certificate covers `host` (clients may use one connection for several hosts: RFC 9113,
    /// section 9.1.1); or the client named no host and `host` is an IP address, which clients cannot name in a
    /// handshake.
    pub(crate) fn permits(&self, host: &str) -> bool {
        match &self.named {
            Some(named) if **named == *host => true,
            None if host::is_address(host) => true,
            _ => self.certificate.as_ref().is_some_and(|certificate| certificate.covers(host)),
        }
    }
}

/// Returns the configuration for all handshakes.
fn config(provider: Arc<CryptoProvider>, certificates: Arc<certificates::Chooser>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // With session tickets, clients can resume sessions without any state in the server.
    if let Ok(ticketer) = ring::Ticketer::new() {
        config.ticketer = ticketer;
    }
    Arc::new(config)
}

/// Removes repeated names, and keeps the order.
fn unique(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}
