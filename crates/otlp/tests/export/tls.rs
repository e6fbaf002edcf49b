//! Collectors that are reached by TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use isomer_otlp::settings::FileSettings;
use isomer_otlp::{DropReason, Otlp, OtlpSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::collector::Collector;
use crate::{SHOP, fragment, outcome, start};

/// A certificate authority, and the files of a client.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: tempfile::tempdir().unwrap() };
        std::fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        let (certificate, key) = authority.certificate("client");
        std::fs::write(authority.path("client.pem"), certificate.pem()).unwrap();
        std::fs::write(authority.path("client.key"), key.serialize_pem()).unwrap();
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn certificate(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn acceptor(&self, wants_client: bool) -> TlsAcceptor {
        let (certificate, key) = self.certificate("localhost");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = if wants_client {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.unwrap().with_client_cert_verifier(verifier)
        } else {
            builder.unwrap().with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()).into()
    }
}

fn endpoint(collector: &Collector) -> (&'static str, String) {
    ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://localhost:{}", collector.address.port()))
}

fn file(name: &'static str, path: &Path) -> (&'static str, String) {
    (name, path.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_own_authority_is_trusted_if_it_is_named() {
    let authority = Authority::new();
    let collector = Collector::start_with([], Some(authority.acceptor(false))).await;
    let trusted = file("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority.path("ca.pem"));
    let otlp = start(&[endpoint(&collector), trusted]);
    otlp.traces(&SHOP).unwrap().record(fragment(2));
    otlp.shutdown().await;
    assert_eq!(outcome(&otlp), (2, vec![]));

    let otlp = start(&[endpoint(&collector)]);
    otlp.traces(&SHOP).unwrap().record(fragment(2));
    otlp.shutdown().await;
    assert_eq!(outcome(&otlp), (0, vec![(DropReason::Shutdown, 2)]));
}

#[tokio::test]
async fn a_client_certificate_is_presented() {
    let authority = Authority::new();
    let collector = Collector::start_with([], Some(authority.acceptor(true))).await;
    let otlp = start(&[
        endpoint(&collector),
        file("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority.path("ca.pem")),
        file("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &authority.path("client.pem")),
        file("OTEL_EXPORTER_OTLP_CLIENT_KEY", &authority.path("client.key")),
    ]);
    otlp.traces(&SHOP).unwrap().record(fragment(2));
    otlp.shutdown().await;
    assert_eq!(outcome(&otlp), (2, vec![]));
}

#[tokio::test]
async fn unusable_files_are_reported_at_the_start() {
    let authority = Authority::new();
    let refused = |name, path: &str| {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c".to_owned()), file(name, &authority.path(path))];
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let settings = OtlpSettings::read(&value, &FileSettings::default()).unwrap();
        Otlp::start(&settings).unwrap_err().to_string()
    };
    let missing = refused("OTEL_EXPORTER_OTLP_CERTIFICATE", "none.pem");
    assert!(missing.starts_with("cannot read `") && missing.ends_with("none.pem`"), "{missing}");
    let key = refused("OTEL_EXPORTER_OTLP_CERTIFICATE", "client.key");
    assert!(key.contains("there is no certificate in it"), "{key}");
}
