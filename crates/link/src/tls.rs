//! Who may speak with whom: TLS 1.3, in which both sides show a certificate that one authority has signed.
//!
//! The authority is the deployment's own, not the public ones: whoever it has signed may call, and be called if the name
//! fits. Nothing here is ever printed. There is no resumption: connections are kept, and a new one shows the certificates anew.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig};

use crate::error::LinkError;

/// What both sides need of TLS.
#[derive(Clone)]
pub struct Tls {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) peer_name: Option<ServerName<'static>>,
}

impl Tls {
    /// Reads the PEM files: this process's certificate (its chain behind it), its private key, and the authority whose
    /// signature makes a peer one.
    ///
    /// # Errors
    /// When a file cannot be read, or does not have what it is for.
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
                Err(_) => Err(unusable(what, path, "it is no PEM file".to_owned())),
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

    /// Expects this name in the certificates of those who are called, instead of the host's in their address: for groups
    /// whose addresses come and go.
    ///
    /// # Errors
    /// When it is neither a name of DNS nor an IP address.
    pub fn naming_peers(mut self, name: &str) -> Result<Self, LinkError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| LinkError::Address {
            text: name.to_owned(),
            problem: "it is no name that a certificate can have",
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
        rustls::Error::InconsistentKeys(_) => "it is not the certificate's".to_owned(),
        error => error.to_string(),
    }
}

/// Why TLS failed, in the words of somebody who has to mend it.
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
            "it asks for a certificate, and got none".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "it says that our certificate has expired".to_owned()
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::DecryptError | AlertDescription::BadCertificate,
        ) => "it does not know the authority of our certificate".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("it ended TLS: {alert:?}"),
        rustls::Error::NoCertificatesPresented => "it showed no certificate".to_owned(),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        error => format!("TLS failed: {error}"),
    }
}
