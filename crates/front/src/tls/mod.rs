//! TLS on the front door: which certificate a client is shown, and which hosts may be asked for over its connection.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `pair` | one certificate with its key: files in, names out |
//! | `certificates` | all of them: chosen by name, read again on request |
//!
//! Both versions of TLS that are not broken are spoken (1.2 and 1.3), and HTTP/2 or HTTP/1.1 over them (RFC 7301). Nothing is sent before
//! the handshake is over (no early data, which could be replayed).

mod certificates;
mod pair;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::ServerConnection;

pub use certificates::{Certificates, Loaded};
pub use pair::TlsError;

use crate::host;
use pair::Pair;

/// Where the certificates of a front door lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates that must be there.
    pub files: Vec<CertificateFiles>,
    /// A folder of `NAME.crt` or `NAME.pem`, each with its `NAME.key`.
    pub folder: Option<PathBuf>,
    /// The host name whose certificate is shown to clients that name no host, or one that has none. Where absent, it is the first of
    /// `files`; without such, these clients are turned away.
    pub default: Option<String>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file with the certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

/// What a connection's handshake has settled.
pub(crate) struct Secured {
    /// The host that the client named (RFC 6066, section 3), in lower case.
    named: Option<Box<str>>,
    /// What it was shown.
    shown: Option<Arc<Pair>>,
}

impl Secured {
    pub(crate) fn new(connection: &ServerConnection, certificates: &Certificates) -> Self {
        // rustls gives it in lower case.
        let named: Option<Box<str>> = connection.server_name().map(Into::into);
        let shown = certificates.find(named.as_deref());
        Self { named, shown }
    }

    /// The host that the client named.
    pub(crate) fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// May a request for `host` come over this connection? For one that the client named, or that its certificate proves, as clients
    /// that share a connection among hosts do (RFC 9113, section 9.1.1). Addresses cannot be named.
    pub(crate) fn permits(&self, host: &str) -> bool {
        match &self.named {
            Some(named) if **named == *host => true,
            None if host::is_address(host) => true,
            _ => self.shown.as_ref().is_some_and(|pair| pair.covers(host)),
        }
    }
}

/// The server's side of every handshake.
fn config(provider: Arc<CryptoProvider>, certificates: Arc<certificates::Chooser>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A client comes back with what it was given, so that nothing has to be kept for it here.
    if let Ok(ticketer) = ring::Ticketer::new() {
        config.ticketer = ticketer;
    }
    Arc::new(config)
}

/// Each once, in order.
fn unique(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}
