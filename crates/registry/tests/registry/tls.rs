//! Connections with TLS.

use std::sync::Arc;

use isomer_registry::{
    BlobCache, CredentialSource, PulledApp, Registry, RegistryError, RegistryOptions, TransportSecurity, pull_app,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::app::shop;
use crate::fake::{Fake, honest};

/// Returns the configuration of a server at 127.0.0.1, and its certificate as PEM.
fn server(name: &str) -> (Arc<ServerConfig>, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap()), certificate.pem())
}

async fn pull(fake: &Fake, options: &RegistryOptions) -> Result<PulledApp, RegistryError> {
    let registry = Registry::open(&fake.reference(), options, &CredentialSource::default()).await.unwrap();
    pull_app(&registry, &fake.reference(), &BlobCache::disabled(), "monolith").await
}

#[tokio::test]
async fn only_trusted_certificates_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (config, pem) = server("127.0.0.1");
    let (other_config, other_pem) = server("registry.example");
    let fake = Fake::start_with(Some(config), |request| honest(&shop(), request));
    let other = Fake::start_with(Some(other_config), |request| honest(&shop(), request));
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, pem + &other_pem).unwrap();
    let public = RegistryOptions { security: TransportSecurity::Tls, ..RegistryOptions::default() };
    let trusting = RegistryOptions { authorities: vec![authority], ..public.clone() };
    assert_eq!(pull(&fake, &trusting).await.unwrap().contents.release, shop().release);
    for (fake, options) in [(&fake, &public), (&other, &trusting)] {
        let error = pull(fake, options).await.unwrap_err();
        assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
        let hints = error.hints(true).join("\n");
        assert!(hints.contains("--plain-http"), "{hints}");
    }
    // A client without TLS sends no request that this server could read.
    let plain = pull(&fake, &RegistryOptions::default()).await.unwrap_err();
    assert!(matches!(plain, RegistryError::Broken { .. } | RegistryError::Status { .. }), "{plain}");
    let missing = RegistryOptions { authorities: vec![folder.path().join("none.pem")], ..public };
    let error = Registry::open(&fake.reference(), &missing, &CredentialSource::default()).await.err().unwrap();
    assert!(error.to_string().contains("none.pem"), "{error}");
}
