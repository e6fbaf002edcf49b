//! Connects to a collector: TCP, and TLS over TCP for `https`. Errors are returned as texts for an operator.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::settings::{Endpoint, TlsFiles};

/// The maximum time to establish a TCP connection to one address of the collector.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum number of addresses that are tried.
const ADDRESSES_MAX: usize = 8;

/// The maximum size of a file with certificates or a key, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A connection to a collector.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A file for TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The content of the file is not valid.
    #[error("`{}`: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem. Contains no part of the file's content.
        problem: String,
    },
}

/// Reads the files for TLS. If no file with certificate authorities is set, the public authorities are trusted.
pub(super) fn tls_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = &files.authority {
        roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates(path)?);
        if added == 0 {
            return Err(content(path, "there is no usable certificate in it"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions of TLS")
        .with_root_certificates(roots);
    let mut config = match &files.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let pem = read(key)?;
            let private = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|_| content(key, "there is no private key in it: use a PEM file"))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|_| content(key, "the key does not belong to the client certificate"))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(content(path, "there is no certificate in it: use a PEM file with `-----BEGIN CERTIFICATE-----`")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(content(path, "the file is too large"));
    }
    Ok(bytes)
}

fn content(path: &Path, problem: &str) -> TlsError {
    TlsError::Content { path: path.to_owned(), problem: problem.to_owned() }
}

/// Connects to a collector.
pub(super) async fn connect(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> Result<Box<dyn Stream>, String> {
    let addresses = lookup_host((endpoint.host.as_str(), endpoint.port)).await;
    let addresses = addresses.map_err(|_| "its host name cannot be resolved".to_owned())?;
    let mut reason = "its host name has no address".to_owned();
    for address in addresses.take(ADDRESSES_MAX) {
        match tokio::time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return match tls {
                    Some(tls) => secure(stream, endpoint, tls).await,
                    None => Ok(Box::new(stream)),
                };
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                reason = "no process listens there".to_owned();
            }
            Ok(Err(error)) => reason = error.kind().to_string(),
            Err(_) => reason = "it does not respond".to_owned(),
        }
    }
    Err(reason)
}

async fn secure(stream: TcpStream, endpoint: &Endpoint, tls: &Arc<ClientConfig>) -> Result<Box<dyn Stream>, String> {
    let name = ServerName::try_from(endpoint.host.clone());
    let name = name.map_err(|_| "its host name is not valid in a certificate".to_owned())?;
    match TlsConnector::from(tls.clone()).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(error)) => {
                format!("its certificate is not trusted ({error}): set `OTEL_EXPORTER_OTLP_CERTIFICATE`")
            }
            Some(error) => format!("TLS failed: {error}"),
            None => "it ended the connection before TLS began; does it use TLS?".to_owned(),
        }),
    }
}
