//! Tests with a hostile registry: its responses are refused in bounded time and memory, and it receives no credentials
//! for other servers.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use isomer_parcel::artifact::{ARTIFACT_MANIFEST_BYTES_MAX, AppArtifact, ArtifactError, sha256};
use isomer_registry::{
    BlobCache, CredentialSource, PulledApp, PushedApp, Registry, RegistryError, RegistryOptions, pull_app, push_app,
};

use crate::app::shop;
use crate::fake::{Fake, Received, Reply, honest};

async fn open(fake: &Fake, credentials: &CredentialSource) -> Registry {
    Registry::open(&fake.reference(), &RegistryOptions::default(), credentials).await.unwrap()
}

async fn pull(fake: &Fake) -> Result<PulledApp, RegistryError> {
    let registry = open(fake, &CredentialSource::default()).await;
    pull_app(&registry, &fake.reference(), &BlobCache::disabled(), "monolith").await
}

async fn push(fake: &Fake, credentials: &CredentialSource) -> Result<PushedApp, RegistryError> {
    push_app(&open(fake, credentials).await, &fake.reference(), &shop(), &|_| {}).await
}

/// Writes Docker's configuration with the password `hunter2` for each of the registries.
fn login(registries: &[&Fake]) -> (tempfile::TempDir, CredentialSource) {
    let folder = tempfile::tempdir().unwrap();
    let auth = STANDARD.encode("me:hunter2");
    let entries = registries.iter().map(|fake| format!("\"{}\":{{\"auth\":\"{auth}\"}}", fake.address));
    let config = format!("{{\"auths\":{{{}}}}}", entries.collect::<Vec<_>>().join(","));
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let source = CredentialSource { docker_config: Some(folder.path().to_owned()) };
    (folder, source)
}

/// Returns the digest of the component of the app.
fn component() -> String {
    sha256(b"\0asm cart").to_string()
}

#[tokio::test]
async fn altered_bytes_are_refused_and_not_cached() {
    let fake = Fake::start(|request| match request.target.ends_with(&component()) {
        true => Reply::ok(b"\0asm evil"),
        false => honest(&shop(), request),
    });
    let folder = tempfile::tempdir().unwrap();
    let cache = BlobCache::new(folder.path().to_owned());
    let registry = open(&fake, &CredentialSource::default()).await;
    let error = pull_app(&registry, &fake.reference(), &cache, "monolith").await.unwrap_err();
    assert!(matches!(&error, RegistryError::Digest { expected, .. } if *expected == component()), "{error}");
    assert!(!folder.path().join("sha256").join(component()).exists());
    // A wrong manifest for a request by digest.
    let digest = AppArtifact::of(&shop().release).unwrap().digest;
    let other = Fake::start(|_| Reply::ok(b"{}"));
    let registry = open(&other, &CredentialSource::default()).await;
    let pinned = other.reference().with_digest(digest);
    let error = pull_app(&registry, &pinned, &BlobCache::disabled(), "monolith").await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { what: "the manifest", .. }), "{error}");
    // A manifest whose digest differs from the one in the response's header.
    let damaged = Fake::start(|request| match honest(&shop(), request) {
        Reply::Whole(status, _, body) if request.target.contains("/manifests/") => {
            Reply::Whole(status, format!("docker-content-digest: sha256:{}\r\n", component()), body)
        }
        reply => reply,
    });
    assert!(matches!(pull(&damaged).await.unwrap_err(), RegistryError::Digest { .. }));
}

#[tokio::test]
async fn a_blob_has_the_size_in_the_manifest() {
    for body in [b"\0asm cart and more".as_slice(), b"\0asm"] {
        let fake = Fake::start(move |request| match request.target.ends_with(&component()) {
            true => Reply::ok(body),
            false => honest(&shop(), request),
        });
        let error = pull(&fake).await.unwrap_err();
        assert!(matches!(error, RegistryError::TooLarge { .. } | RegistryError::Digest { .. }), "{error}");
    }
}

#[tokio::test]
async fn endless_bodies_are_cut_off() {
    let manifest = Fake::start(|_| Reply::Endless(200));
    let error = pull(&manifest).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { what: "the manifest", .. }), "{error}");
    let blob = Fake::start(|request| match request.target.contains("/blobs/") {
        true => Reply::Endless(200),
        false => honest(&shop(), request),
    });
    assert!(matches!(pull(&blob).await.unwrap_err(), RegistryError::TooLarge { what: "a blob", .. }));
    let failing = Fake::start(|_| Reply::Endless(500));
    let error = pull(&failing).await.unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 500, message: None, .. }), "{error}");
    let token = Fake::start(|request| match request.target.starts_with("/token") {
        true => Reply::Endless(200),
        false => bearer(request, "own"),
    });
    assert!(matches!(pull(&token).await.unwrap_err(), RegistryError::TooLarge { what: "the token", .. }));
}

#[tokio::test]
async fn sizes_are_checked_before_the_download() {
    // Nothing follows the announced size, so it is refused without a read.
    let fake = Fake::start(|_| Reply::Announced(ARTIFACT_MANIFEST_BYTES_MAX + 1));
    let error = pull(&fake).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { what: "the manifest", .. }), "{error}");
    let mut huge = shop();
    huge.release.components.get_mut("cart").unwrap().bytes = (1 << 30) + 1;
    let fake = Fake::start(move |request| honest(&huge, request));
    let error = pull(&fake).await.unwrap_err();
    assert!(matches!(error, RegistryError::Artifact { source: ArtifactError::TooLarge { .. }, .. }), "{error}");
    let requested = fake.received();
    assert!(!requested.iter().any(|request| request.target.ends_with(&component())), "{requested:?}");
}

#[tokio::test]
async fn a_manifest_that_says_something_else_than_its_config_is_refused() {
    let fake = Fake::start(|request| match honest(&shop(), request) {
        Reply::Whole(status, fields, body) if request.target.contains("/manifests/") => {
            let text = String::from_utf8(body).unwrap().replace("static/a", "static/x");
            Reply::Whole(status, fields, text.into_bytes())
        }
        reply => reply,
    });
    let error = pull(&fake).await.unwrap_err();
    assert!(matches!(error, RegistryError::Artifact { source: ArtifactError::Mismatch, .. }), "{error}");
    let image = Fake::start(|_| {
        let config = "{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:0\",\"size\":1}";
        Reply::ok(format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[]}}"))
    });
    let error = pull(&image).await.unwrap_err();
    assert!(matches!(error, RegistryError::Artifact { source: ArtifactError::Type { .. }, .. }), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_without_credentials() {
    let content = Arc::new(Fake::start(|request| honest(&shop(), request)));
    let target = format!("http://{}", content.address);
    let fake = Fake::start(move |request| match (&request.authorization, request.target.contains("/blobs/")) {
        (None, _) => Reply::with(401, "www-authenticate: Basic realm=\"r\""),
        (Some(_), true) => Reply::with(307, &format!("location: {target}{}", request.target)),
        (Some(_), false) => honest(&shop(), request),
    });
    let (_folder, credentials) = login(&[&fake, &content]);
    let registry = open(&fake, &credentials).await;
    pull_app(&registry, &fake.reference(), &BlobCache::disabled(), "monolith").await.unwrap();
    assert!(fake.received().iter().any(|request| request.authorization.is_some()));
    let leaked: Vec<_> = content.received().into_iter().filter(|request| request.authorization.is_some()).collect();
    assert!(!content.received().is_empty() && leaked.is_empty(), "{leaked:?}");
    // A server to which the registry redirects must not receive credentials, even if it demands them.
    let asking = Arc::new(Fake::start(|_| Reply::with(401, "www-authenticate: Basic realm=\"r\"")));
    let target = format!("http://{}/x", asking.address);
    let fake = Fake::start(move |_| Reply::with(302, &format!("location: {target}")));
    let (_folder, credentials) = login(&[&fake, &asking]);
    let registry = open(&fake, &credentials).await;
    let error = pull_app(&registry, &fake.reference(), &BlobCache::disabled(), "monolith").await.unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 401, .. }), "{error}");
    assert!(asking.received().iter().all(|request| request.authorization.is_none()));
}

#[tokio::test]
async fn redirects_stay_within_their_rules() {
    for target in [
        "file:///etc/passwd",
        "https://127.0.0.1:1/x",
        "http://169.254.169.254/latest?X-Signature=secret#secret",
        "http://me:x@127.0.0.1/",
    ] {
        let fake = Fake::start(move |_| Reply::with(302, &format!("location: {target}")));
        let error = pull(&fake).await.unwrap_err();
        assert!(matches!(error, RegistryError::Redirect { .. }), "{target}: {error}");
        let shown = error.to_string();
        assert!(!shown.contains("me:x") && !shown.contains("secret"), "{shown}");
    }
    let circular = Fake::start(|request| Reply::with(302, &format!("location: {}", request.target)));
    let error = pull(&circular).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { reason: "there are too many redirects", .. }), "{error}");
    assert_eq!(circular.received().len(), 6);
    let lost = Fake::start(|_| Reply::status(302));
    assert!(matches!(pull(&lost).await.unwrap_err(), RegistryError::Malformed { .. }));
}

#[tokio::test]
async fn an_upload_stays_at_the_registry() {
    let elsewhere = Arc::new(Fake::start(|_| Reply::status(201)));
    let target = format!("http://{}/upload", elsewhere.address);
    let fake = Fake::start(move |request| match (&request.authorization, request.method.as_str()) {
        (None, _) => Reply::with(401, "www-authenticate: Basic realm=\"r\""),
        (_, "HEAD") => Reply::status(404),
        _ => Reply::with(202, &format!("location: {target}")),
    });
    let (_folder, credentials) = login(&[&fake]);
    let error = push(&fake, &credentials).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    assert!(elsewhere.received().is_empty());
}

/// Refuses requests without the token of the service at `realm`: a URL, or `own` for a path of this registry.
fn bearer(request: &Received, realm: &str) -> Reply {
    let own = format!("http://{}/token", request.host);
    let realm = if realm == "own" { &own } else { realm };
    match request.authorization.as_deref() {
        Some("Bearer good") => honest(&shop(), request),
        _ => Reply::with(
            401,
            &format!("www-authenticate: Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:other:*\""),
        ),
    }
}

#[tokio::test]
async fn a_token_is_requested_for_this_repository_only() {
    let tokens = Arc::new(Fake::start(|_| Reply::ok("{\"token\": \"good\"}")));
    let realm = format!("http://{}/token", tokens.address);
    let fake = Fake::start(move |request| bearer(request, &realm));
    let (_folder, credentials) = login(&[&fake]);
    let registry = open(&fake, &credentials).await;
    pull_app(&registry, &fake.reference(), &BlobCache::disabled(), "monolith").await.unwrap();
    let requests = tokens.received();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].target, "/token?service=s&scope=repository%3Ashop%3Apull");
    assert_eq!(requests[0].authorization, Some(format!("Basic {}", STANDARD.encode("me:hunter2"))));
    // Only the token service receives the password.
    let basic = |request: &Received| request.authorization.as_ref().is_some_and(|value| value.starts_with("Basic"));
    assert!(!fake.received().iter().any(basic));
    for realm in ["http://169.254.169.254/token", "https://127.0.0.1:1/token", "file:///token", "token"] {
        let fake = Fake::start(move |request| bearer(request, realm));
        let error = pull(&fake).await.unwrap_err();
        assert!(matches!(error, RegistryError::Redirect { .. }), "{realm}: {error}");
    }
    let refusing = Fake::start(|request| match request.target.starts_with("/token") {
        true => Reply::status(403),
        false => bearer(request, "own"),
    });
    let error = pull(&refusing).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { has_credentials: false, .. }), "{error}");
}

#[tokio::test]
async fn messages_are_shown_without_control_characters() {
    let fake =
        Fake::start(|_| Reply::Whole(418, String::new(), b"{\"errors\":[{\"message\":\"\\u001b[2Jowned\"}]}".to_vec()));
    let error = pull(&fake).await.unwrap_err().to_string();
    assert!(error.contains("owned") && !error.contains('\u{1b}'), "{error:?}");
    let long = Fake::start(|_| {
        Reply::Whole(
            500,
            String::new(),
            format!("{{\"errors\":[{{\"message\":\"{}\"}}]}}", "x".repeat(9000)).into_bytes(),
        )
    });
    let error = pull(&long).await.unwrap_err().to_string();
    assert!(error.len() < 1000, "{}", error.len());
}

/// Pulls from a registry, and pauses the clock when it has received as many requests as `before`. A paused clock advances to
/// the next timeout when all tasks wait, so it must not be paused while a connection is established.
async fn pull_with_paused_clock(fake: &Fake, before: usize) -> RegistryError {
    let pull = pull(fake);
    let pause = async {
        while fake.received().len() < before {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        pulled = pull => pulled.unwrap_err(),
        () = pause => unreachable!("it waits forever"),
    }
}

#[tokio::test]
async fn a_silent_registry_is_given_up() {
    let silent = Fake::start(|_| Reply::Silent);
    let error = pull_with_paused_clock(&silent, 1).await;
    assert!(matches!(error, RegistryError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_response_that_stops_is_given_up() {
    let stopping = Fake::start(|_| Reply::Stops(100));
    let error = pull_with_paused_clock(&stopping, 1).await;
    assert!(matches!(error, RegistryError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn an_error_of_a_registry_has_its_message_and_a_hint() {
    let message = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"not yours\"}]}";
    let fake = Fake::start(|_| Reply::Whole(403, String::new(), message.into()));
    let error = pull(&fake).await.unwrap_err();
    assert!(error.to_string().contains("not yours") && !error.hints(true).is_empty(), "{error}");
    // Another server refuses: the registry's account is not the reason.
    let other = Arc::new(Fake::start(|_| Reply::status(403)));
    let target = format!("http://{}/x", other.address);
    let fake = Fake::start(move |request| match request.authorization {
        None => Reply::with(401, "www-authenticate: Basic realm=\"r\""),
        Some(_) => Reply::with(307, &format!("location: {target}")),
    });
    let (_folder, credentials) = login(&[&fake]);
    let registry = open(&fake, &credentials).await;
    let error = pull_app(&registry, &fake.reference(), &BlobCache::disabled(), "monolith").await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::Status { status: 403, server, .. } if server.contains(&other.address)),
        "{error}"
    );
}
