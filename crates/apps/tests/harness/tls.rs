//! A certificate authority for tests, and TLS clients that return the certificates that they receive.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isomer_front::CertificateFiles;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::Connection;
use super::within;

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate that an [`Authority`] has signed.
pub(crate) struct Signed {
    /// The paths of the files with the certificate and its key.
    pub(crate) files: CertificateFiles,
    /// The certificate in DER encoding.
    pub(crate) der: CertificateDer<'static>,
}

impl Authority {
    /// Creates an authority with a new key.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Signs a new certificate for `names`. Writes it to `FOLDER/STEM.crt` and its key to `FOLDER/STEM.key`.
    pub(crate) fn sign(&self, folder: &Path, stem: &str, names: &[&str]) -> Signed {
        let key = KeyPair::generate().unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let path = |extension: &str| folder.join(format!("{stem}.{extension}"));
        let files = CertificateFiles { certificate: path("crt"), key: path("key") };
        write(&files.certificate, &certificate.pem(), 0o644);
        write(&files.key, &key.serialize_pem(), 0o600);
        Signed { files, der: certificate.der().clone() }
    }

    /// Creates a client that trusts this authority and offers the protocols `alpn`.
    pub(crate) fn client(&self, alpn: &[&str]) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Client::new(config, alpn)
    }
}

/// Replaces the file at `path` atomically. `mode` is the file's permissions.
pub(crate) fn write(path: &Path, contents: &str, mode: u32) {
    let temporary: PathBuf = path.with_extension("new");
    std::fs::write(&temporary, contents).unwrap();
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::rename(&temporary, path).unwrap();
}

/// A TLS client.
pub(crate) struct Client(TlsConnector);

impl Client {
    fn new(mut config: ClientConfig, alpn: &[&str]) -> Self {
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Creates a client that accepts any certificate, and uses only `version` of TLS.
    pub(crate) fn trusting(version: &'static SupportedProtocolVersion, alpn: &[&str]) -> Self {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
            .with_no_client_auth();
        Self::new(config, alpn)
    }

    /// Connects to the server at `address` and makes a TLS handshake for the host `name`. If `name` is an IP address,
    /// it is not sent to the server.
    pub(crate) async fn stream(&self, address: SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = within("connect", TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        within("a handshake", self.0.connect(name, stream)).await
    }

    /// Opens an HTTP connection over TLS, with the HTTP version that the handshake has negotiated.
    pub(crate) async fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<Connection> {
        let stream = self.stream(address, name).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(within("an opened connection", Connection::over(stream, http2, name)).await)
    }

    /// Returns the certificate that the server sends to a new client for the host `name`.
    pub(crate) async fn shown(&self, address: SocketAddr, name: &str) -> std::io::Result<CertificateDer<'static>> {
        let mut config = self.0.config().as_ref().clone();
        config.resumption = Resumption::disabled();
        let stranger = Self(TlsConnector::from(Arc::new(config)));
        let stream = stranger.stream(address, name).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        Ok(shown.expect("a server shows a certificate").clone().into_owned())
    }
}

/// A certificate verifier that accepts every certificate for which the server has the key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
