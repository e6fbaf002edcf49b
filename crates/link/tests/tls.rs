//! Mutual TLS: which peers are accepted, which are refused, and the reasons.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isomer_link::{Address, LinkError, Peer, ServerLimits, Tls, health};
use isomer_wire::image::IMAGE_BYTES_MAX;
use isomer_wire::{CallError, Callee as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::ServerName;
use support::server::TestServer;
use support::{LONG, call, call_in, lost, quick};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A certificate authority, and the folder of the certificates that it signs.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("authority.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Signs a certificate for `host`. Writes the certificate and its key to files.
    fn sign(&self, name: &str, host: &str, until_year: i32) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until_year, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (certificate_path, key_path) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        std::fs::write(&certificate_path, certificate.pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        (certificate_path, key_path)
    }

    /// Returns TLS settings that present a certificate of this authority and trust the authority with the certificate
    /// `trusted`.
    fn tls(&self, host: &str, until_year: i32, trusted: &Path) -> Tls {
        let (certificate, key) = self.sign("own", host, until_year);
        Tls::load(&certificate, &key, trusted).unwrap()
    }

    fn good(&self) -> Tls {
        self.tls("localhost", 3000, &self.path("authority.pem"))
    }
}

async fn server(tls: Option<&Tls>) -> TestServer {
    TestServer::with(&"localhost:0".parse().unwrap(), tls, ServerLimits::default(), Arc::default()).await
}

/// Returns the reason for the failure when a peer with `tls` calls a server that must refuse it.
async fn refused(server: &TestServer, tls: Option<Tls>) -> String {
    let peer = Peer::new("cart", vec![server.address.clone()], tls, quick()).unwrap();
    let (error, reason, not_run) = lost(peer.call(call(b"echo".to_vec())).await);
    assert_eq!((error, not_run), (CallError::Unreachable, true), "{reason}");
    assert_eq!(server.script.started(), 0);
    reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_one_authority_speak() {
    let authority = Authority::new();
    let server = server(Some(&authority.good())).await;
    let tls = authority.good();
    health(&server.address, Some(&tls), std::time::Instant::now() + LONG).await.unwrap();
    let peer = Peer::new("cart", vec![server.address.clone()], Some(tls), quick()).unwrap();
    for size in [4, 70_000, IMAGE_BYTES_MAX as usize] {
        let image = vec![b'e'; size];
        assert!(peer.call(call(image.clone())).await.unwrap() == image);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn untrusted_peers_are_refused_with_the_reason() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ours = authority.path("authority.pem");
    let good = server(Some(&authority.good())).await;
    let reason = refused(&good, Some(other.tls("localhost", 3000, &ours))).await;
    assert!(reason.contains("it does not know the authority of our certificate"), "{reason}");
    let reason = refused(&good, Some(authority.tls("localhost", 3000, &other.path("authority.pem")))).await;
    assert!(reason.contains("its certificate is not signed by the configured authority"), "{reason}");
    let reason = refused(&good, Some(authority.tls("localhost", 2021, &ours))).await;
    assert!(reason.contains("it reports that our certificate has expired"), "{reason}");
    let reason = refused(&good, None).await;
    assert!(reason.contains("does it require TLS?"), "{reason}");
    let expired = server(Some(&authority.tls("localhost", 2021, &ours))).await;
    let reason = refused(&expired, Some(authority.good())).await;
    assert!(reason.contains("its certificate has expired"), "{reason}");
    let clear = server(None).await;
    let reason = refused(&clear, Some(authority.good())).await;
    // The client notices either the response or the end of the connection first.
    let is_said = reason.contains("it does not speak TLS") || reason.contains("does it use TLS?");
    assert!(is_said, "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_for_a_name() {
    let authority = Authority::new();
    let ours = authority.path("authority.pem");
    let shop = server(Some(&authority.tls("shop.internal", 3000, &ours))).await;
    let reason = refused(&shop, Some(authority.good())).await;
    assert!(reason.contains("its certificate is for another name"), "{reason}");
    let tls = authority.good().with_peer_name("shop.internal").unwrap();
    let peer = Peer::new("cart", vec![shop.address.clone()], Some(tls), quick()).unwrap();
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    assert!(authority.good().with_peer_name("no name").is_err());
}

/// The client of this crate always has a certificate, so this test uses rustls directly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_a_certificate_are_refused() {
    let authority = Authority::new();
    let server = server(Some(&authority.good())).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let Address::Tcp { port, .. } = &server.address else { unreachable!() };
    let stream = tokio::net::TcpStream::connect(("localhost", *port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let error = match connector.connect(ServerName::try_from("localhost").unwrap(), stream).await {
        // With TLS 1.3, the client notices the refusal at its first read.
        Ok(mut stream) => {
            let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            stream.read_to_end(&mut Vec::new()).await.unwrap_err()
        }
        Err(error) => error,
    };
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    assert_eq!(server.script.started(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_is_given_up() {
    let authority = Authority::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp { host: "localhost".into(), port: silent.local_addr().unwrap().port() };
    let peer = Peer::new("cart", vec![address], Some(authority.good()), quick()).unwrap();
    let start = std::time::Instant::now();
    let (error, reason, not_run) = lost(peer.call(call_in(Duration::from_secs(30), b"echo".to_vec())).await);
    assert_eq!((error, not_run), (CallError::Unreachable, true), "{reason}");
    assert!(reason.contains("does not respond") && start.elapsed() < LONG, "{reason}");
}

#[test]
fn files_that_are_not_usable_are_named_and_never_shown() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("a", "localhost", 3000);
    let (_, other_key) = authority.sign("b", "localhost", 3000);
    let trusted = authority.path("authority.pem");
    let (missing, empty) = (authority.path("missing.pem"), authority.path("empty.pem"));
    std::fs::write(&empty, "nothing").unwrap();
    for (certificate, key, trusted, what, words) in [
        (&missing, &key, &trusted, "certificate", "cannot read"),
        (&certificate, &missing, &trusted, "key", "cannot read"),
        (&certificate, &key, &missing, "authority", "cannot read"),
        (&empty, &key, &trusted, "certificate", "there is no certificate in it"),
        (&certificate, &empty, &trusted, "key", "there is no private key in it"),
        (&certificate, &key, &empty, "authority", "there is no certificate in it"),
        (&certificate, &other_key, &trusted, "key", "it is not the key of the certificate"),
        (&certificate, &certificate, &trusted, "key", "there is no private key in it"),
    ] {
        let error = Tls::load(certificate, key, trusted).unwrap_err();
        let is_named = matches!(&error, LinkError::TlsFile { what: found, .. } | LinkError::TlsContent { what: found, .. } if *found == what);
        assert!(is_named && error.to_string().contains(words) && error.hint().is_some(), "{error}");
    }
    let tls = Tls::load(&certificate, &key, &trusted).unwrap();
    assert_eq!(format!("{tls:?}"), "Tls { .. }");
}
