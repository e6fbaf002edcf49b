//! Pushing to and pulling from a real registry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use isomer_ids::OciReference;
use isomer_registry::{
    BlobCache, CredentialSource, PulledApp, PushedApp, Registry, RegistryError, RegistryOptions, pull_app, push_app,
    tag_app,
};

use crate::app::shop;
use crate::docker_registry::DockerRegistry;

/// The line of `htpasswd -Bbn me secret`.
const PASSWORD: &str = "me:$2y$05$BDZh7Kuhjh9D2cjpuO1ofeZwYHoa5TPlmeLV5w9LOQ3LqYYZfniIW\n";

async fn open(reference: &OciReference, credentials: &CredentialSource) -> Registry {
    Registry::open(reference, &RegistryOptions::default(), credentials).await.unwrap()
}

async fn push(reference: &OciReference, credentials: &CredentialSource) -> Result<PushedApp, RegistryError> {
    let registry = open(reference, credentials).await;
    let pushed = push_app(&registry, reference, &shop(), &|_| {}).await?;
    tag_app(&registry, reference, &pushed).await?;
    Ok(pushed)
}

async fn pull(reference: &OciReference, credentials: &CredentialSource) -> Result<PulledApp, RegistryError> {
    pull_app(&open(reference, credentials).await, reference, &BlobCache::disabled(), "monolith").await
}

/// Writes Docker's configuration with a name and a password for a registry.
fn login(registry: &str, password: &str) -> (tempfile::TempDir, CredentialSource) {
    let folder = tempfile::tempdir().unwrap();
    let auth = STANDARD.encode(format!("me:{password}"));
    let config = format!("{{\"auths\":{{\"{registry}\":{{\"auth\":\"{auth}\"}}}}}}");
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let source = CredentialSource { docker_config: Some(folder.path().to_owned()) };
    (folder, source)
}

#[tokio::test]
async fn an_app_survives_a_push_and_a_pull() {
    let registry = DockerRegistry::start(None);
    let anonymous = CredentialSource::default();
    let reference: OciReference = format!("{}/team/shop:1.0.0", registry.address).parse().unwrap();
    let missing = pull(&reference, &anonymous).await.unwrap_err();
    assert!(matches!(missing, RegistryError::NotFound { .. }), "{missing}");
    let pushed = push(&reference, &anonymous).await.unwrap();
    // A component, two different files (three paths), and the config.
    assert_eq!((pushed.uploaded, pushed.existing), (4, 0));
    let pulled = pull(&reference, &anonymous).await.unwrap();
    assert_eq!(pulled.digest, pushed.digest);
    assert_eq!((pulled.contents.release, pulled.contents.parts), (shop().release, shop().parts));
    let again = push(&reference, &anonymous).await.unwrap();
    assert_eq!((again.uploaded, again.existing, &again.digest), (0, 4, &pushed.digest));
    let pinned = reference.with_digest(pushed.digest.clone());
    assert_eq!(pull(&pinned, &anonymous).await.unwrap().digest, pushed.digest);
    let refused = push(&pinned, &anonymous).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Reference { .. }), "{refused}");
    // With the cache, the digest is enough, and the registry is not needed.
    let folder = tempfile::tempdir().unwrap();
    let cache = BlobCache::new(folder.path().to_owned());
    let client = open(&reference, &anonymous).await;
    pull_app(&client, &reference, &cache, "monolith").await.unwrap();
    drop(registry);
    assert_eq!(pull_app(&client, &pinned, &cache, "monolith").await.unwrap().digest, pushed.digest);
    let gone = pull(&pinned, &anonymous).await.unwrap_err();
    assert!(matches!(gone, RegistryError::Unreachable { .. }), "{gone}");
}

#[tokio::test]
async fn credentials_come_from_dockers_configuration() {
    let registry = DockerRegistry::start(Some(PASSWORD));
    let reference: OciReference = format!("{}/shop:1", registry.address).parse().unwrap();
    let is_refused = |error: RegistryError, sent: bool| match error {
        RegistryError::Unauthorized { has_credentials, .. } => has_credentials == sent,
        _ => false,
    };
    assert!(is_refused(push(&reference, &CredentialSource::default()).await.unwrap_err(), false));
    let (_wrong_folder, wrong) = login(&registry.address, "wrong");
    assert!(is_refused(push(&reference, &wrong).await.unwrap_err(), true));
    let (_folder, right) = login(&registry.address, "secret");
    let pushed = push(&reference, &right).await.unwrap();
    assert_eq!(pull(&reference, &right).await.unwrap().digest, pushed.digest);
    assert!(is_refused(pull(&reference, &CredentialSource::default()).await.unwrap_err(), false));
}
