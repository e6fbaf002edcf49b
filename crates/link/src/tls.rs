//! Mutual TLS 1.3: client and server present certificates that are signed by the same authority.
//!
//! The authority belongs to the deployment and is not a public one. A process with a certificate of this authority may
//! call all groups, and may serve calls if its certificate has the name that the caller expects. This module never
//! prints keys or certificates. TLS sessions are not resumed: connections stay open, and each new connection presents
//! the certificates again.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig};

use crate::address::InvalidLinkAddress;
use crate::error::LinkError;

/// The TLS settings of client and server.
#[derive(Clone)]
pub struct Tls {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) peer_name: Option<ServerName<'static>>,
}

impl Tls {
    /// Reads three PEM files: this process's certificate (followed by its chain), its private key, and the certificate
    /// of the authority that signs the certificates of peers.
    ///
    /// # Errors
    /// If a file cannot be read, or if its content is not valid.
    pub fn load(certificate: &Path, key: &Path, authority: &Path) -> Result<Self, LinkError> {
        let read = |what, path: &Path| {
            std::fs::read(path).map_err(|source| LinkError::TlsFile { what, path: path.to_owned(), source })
        };
        let unusable =
            |what, path: &Path, problem: String| LinkError::TlsContent { what, path: path.to_owned(), problem };
        let certificates = |what, path: &Path| {
            let pem = read(what, path)?;
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            match all {
                Ok(all) if all.is_empty() => Err(unusable(what, path, "there is no certificate in it".to_owned())),
                Ok(all) => Ok(all),
                Err(_) => Err(unusable(what, path, "it is not a PEM file".to_owned())),
            }
        };
        let chain = certificates("certificate", certificate)?;
        let pem = read("key", key)?;
        let private = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| unusable("key", key, "there is no private key in it".to_owned()))?;
        let mut roots = RootCertStore::empty();
        for root in certificates("authority", authority)? {
            roots.add(root).map_err(|error| unusable("authority", authority, error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = server(&provider, &roots, &chain, private.clone_key())
            .map_err(|(what, problem)| unusable(what, if what == "key" { key } else { authority }, problem))?;
        let client = client(&provider, &roots, &chain, private)
            .map_err(|(what, problem)| unusable(what, if what == "key" { key } else { authority }, problem))?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server), peer_name: None })
    }

    /// Sets the name that the certificates of callees must have, instead of the host in their address. Used for groups
    /// whose addresses change.
    ///
    /// # Errors
    /// If `name` is neither a DNS name nor an IP address.
    pub fn with_peer_name(mut self, name: &str) -> Result<Self, LinkError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| InvalidLinkAddress {
            text: name.to_owned(),
            problem: "it is not a name that a certificate can have",
        })?;
        self.peer_name = Some(name);
        Ok(self)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

type Problem = (&'static str, String);

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Problem> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| ("authority", error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider knows TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.to_vec(), key)
        .map_err(|error| ("key", key_problem(&error)))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, Problem> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider knows TLS 1.3")
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.to_vec(), key)
        .map_err(|error| ("key", key_problem(&error)))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

const ALPN: &[u8] = b"h2";

fn key_problem(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "it is not the key of the certificate".to_owned(),
        error => error.to_string(),
    }
}

/// Describes for an operator why TLS failed.
pub(crate) fn explain(error: &rustls::Error) -> String {
    use CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "its certificate is not valid yet".to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "its certificate is not signed by the configured authority".to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "its certificate is for another name".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it requires a certificate, and got none".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "it reports that our certificate has expired".to_owned()
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::DecryptError | AlertDescription::BadCertificate,
        ) => "it does not know the authority of our certificate".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("it ended the TLS connection: {alert:?}"),
        rustls::Error::NoCertificatesPresented => "it presented no certificate".to_owned(),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        error => format!("TLS failed: {error}"),
    }
}
