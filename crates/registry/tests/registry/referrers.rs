//! Artifacts that refer to an app, in a registry to which everyone may write: none hides the others.

use isomer_parcel::artifact::{AppArtifact, sha256};
use isomer_registry::{
    BlobCache, CredentialSource, FoundReferrers, Referrer, ReferrerFilter, Registry, RegistryError, RegistryOptions,
    app_descriptor, fetch_referrers, push_app, tag_app,
};
use serde_json::{Value, json};

use crate::app::shop;
use crate::fake::{Fake, Received, Reply};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const SIGNATURES: ReferrerFilter<'static> =
    ReferrerFilter { artifact_type: Some(BUNDLE), predicate_type: Some(SIGNATURE) };

fn referrer(artifact_type: &str, content: String) -> Referrer {
    let predicate_type = (artifact_type == BUNDLE).then(|| SIGNATURE.to_owned());
    Referrer { artifact_type: artifact_type.to_owned(), predicate_type, content: content.into() }
}

fn artifact() -> AppArtifact {
    AppArtifact::of(&shop().release).unwrap()
}

/// Returns the entry of a referrer in a list.
fn entry(referrer: &Referrer) -> Value {
    serde_json::to_value(referrer.manifest(&app_descriptor(&artifact())).1).unwrap()
}

fn list(entries: &[Value]) -> String {
    json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries })
        .to_string()
}

/// Returns the response to a request for a manifest or a blob of one of the referrers.
fn honest(referrers: &[Referrer], request: &Received) -> Reply {
    let subject = app_descriptor(&artifact());
    let blobs = referrers.iter().flat_map(|one| [one.manifest(&subject).0].into_iter().chain(one.blobs()));
    let found = blobs.into_iter().find(|bytes| request.target.ends_with(sha256(bytes).as_str()));
    found.map_or_else(|| Reply::status(404), Reply::ok)
}

async fn fetch(fake: &Fake, filter: ReferrerFilter<'_>) -> Result<FoundReferrers, RegistryError> {
    let registry = open(fake).await;
    fetch_referrers(&registry, &artifact().digest, &BlobCache::disabled(), filter).await
}

async fn open(fake: &Fake) -> Registry {
    Registry::open(&fake.reference(), &RegistryOptions::default(), &CredentialSource::default()).await.unwrap()
}

#[tokio::test]
async fn other_artifacts_do_not_take_the_place_of_signatures() {
    let signature = referrer(BUNDLE, "{}".to_owned());
    let junk: Vec<_> = (0..300).map(|number| referrer("application/x.junk", number.to_string())).collect();
    let known = signature.clone();
    let fake = Fake::start(move |request| {
        let all: Vec<_> = junk.iter().chain([&known]).map(entry).collect();
        match request.target.contains("/referrers/") {
            true => Reply::ok(list(&all)),
            false => honest(std::slice::from_ref(&known), request),
        }
    });
    let found = fetch(&fake, SIGNATURES).await.unwrap();
    assert_eq!((found.referrers, found.is_complete), (vec![signature], true));
    // Nothing else was requested: the list, a manifest and a blob.
    assert_eq!(fake.received().len(), 3);
    let found = fetch(&fake, ReferrerFilter::default()).await.unwrap();
    assert!(found.referrers.is_empty() && !found.is_complete, "the first hundred do not exist");
}

#[tokio::test]
async fn a_damaged_artifact_does_not_hide_the_others() {
    let signature = referrer(BUNDLE, "{\"good\":1}".to_owned());
    let [damaged, large, missing, endless] = ["a", "b", "c", "d"].map(|text| referrer(BUNDLE, text.to_owned()));
    let all = [damaged.clone(), large.clone(), missing.clone(), endless.clone(), signature.clone()];
    let fake = Fake::start(move |request| {
        let is_blob_of = |one: &Referrer| request.target.ends_with(sha256(&one.content).as_str());
        if request.target.contains("/referrers/") {
            return Reply::ok(list(&all.each_ref().map(entry)));
        }
        if is_blob_of(&damaged) {
            return Reply::ok("x");
        }
        if is_blob_of(&large) {
            return Reply::ok("larger than its descriptor says");
        }
        if is_blob_of(&missing) {
            return Reply::status(404);
        }
        let manifest = endless.manifest(&app_descriptor(&artifact())).0;
        if request.target.ends_with(sha256(&manifest).as_str()) {
            return Reply::Endless(200);
        }
        honest(&all, request)
    });
    let found = fetch(&fake, SIGNATURES).await.unwrap();
    assert_eq!((found.referrers, found.is_complete), (vec![signature], true));
    // If the registry fails, this is not an artifact less.
    let failing = Fake::start(|request| match request.target.contains("/referrers/") {
        true => Reply::ok(list(&[entry(&referrer(BUNDLE, String::new()))])),
        false => Reply::status(500),
    });
    assert!(matches!(fetch(&failing, SIGNATURES).await, Err(RegistryError::Status { status: 500, .. })));
}

#[tokio::test]
async fn all_pages_of_a_list_are_read() {
    let signatures = [1, 2].map(|number| referrer(BUNDLE, number.to_string()));
    let known = signatures.clone();
    let fake = Fake::start(move |request| {
        let page = |number: usize| list(&[entry(&known[number])]).into_bytes();
        match (request.target.contains("/referrers/"), request.target.contains("page=2")) {
            (true, false) => {
                let next = format!("{}?page=2", request.target);
                Reply::Whole(200, format!("link: <{next}>; rel=\"next\"\r\n"), page(0))
            }
            (true, true) => Reply::Whole(200, String::new(), page(1)),
            (false, _) => honest(&known, request),
        }
    });
    let found = fetch(&fake, SIGNATURES).await.unwrap();
    assert_eq!((found.referrers, found.is_complete), (signatures.to_vec(), true));
    // A list without end, and one that continues at another server.
    let endless = Fake::start(|request| match request.target.contains("/referrers/") {
        true => Reply::Whole(200, "link: <?more>; rel=\"next\"\r\n".to_owned(), list(&[]).into_bytes()),
        false => Reply::status(404),
    });
    assert!(!fetch(&endless, SIGNATURES).await.unwrap().is_complete);
    assert!(endless.received().len() <= 11, "{}", endless.received().len());
    let other = Fake::start(|_| Reply::ok(list(&[])));
    let target = format!("link: <http://{}/more>; rel=\"next\"\r\n", other.address);
    let elsewhere = Fake::start(move |_| Reply::Whole(200, target.clone(), list(&[]).into_bytes()));
    assert!(!fetch(&elsewhere, SIGNATURES).await.unwrap().is_complete);
    assert!(other.received().is_empty());
}

#[tokio::test]
async fn an_app_is_tagged_after_its_signatures() {
    let accept = |request: &Received| match request.method.as_str() {
        "HEAD" => Reply::status(200),
        _ => Reply::Whole(201, "oci-subject: x\r\n".to_owned(), Vec::new()),
    };
    let push = async |fake: &Fake| {
        let registry = open(fake).await;
        let pushed = push_app(&registry, &fake.reference(), &shop(), &|_| {}).await?;
        registry.attach(&pushed.descriptor, &referrer(BUNDLE, "{}".to_owned())).await?;
        tag_app(&registry, &fake.reference(), &pushed).await
    };
    let puts = |fake: &Fake| -> Vec<String> {
        let puts = fake.received().into_iter().filter(|request| request.method == "PUT");
        puts.map(|request| request.target.rsplit('/').next().unwrap().to_owned()).collect()
    };
    let fake = Fake::start(accept);
    push(&fake).await.unwrap();
    let [app, signature, tag] = <[String; 3]>::try_from(puts(&fake)).unwrap();
    assert!(app.starts_with("sha256:") && signature.starts_with("sha256:") && app != signature);
    assert_eq!(tag, "1");
    // The registry refuses the signature: the tag stays as it is.
    let app = format!("sha256:{}", artifact().digest);
    let refusing = Fake::start(move |request| match request.method == "PUT" && !request.target.ends_with(&app) {
        true => Reply::status(500),
        false => accept(request),
    });
    assert!(matches!(push(&refusing).await, Err(RegistryError::Status { status: 500, .. })));
    assert!(!puts(&refusing).contains(&"1".to_owned()), "{:?}", puts(&refusing));
}

#[tokio::test]
async fn a_list_of_other_tools_is_extended() {
    let own = referrer(BUNDLE, "{}".to_owned());
    let foreign = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "annotations": { "org.example": "kept" },
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", "1".repeat(64)),
            "size": 1,
            "platform": { "architecture": "wasm", "os": "wasip2" },
        }],
    });
    let listed = foreign.to_string();
    let fake = Fake::start(move |request| {
        let last = request.target.rsplit('/').next().unwrap_or_default();
        match (request.method.as_str(), last.starts_with("sha256-")) {
            ("HEAD", _) => Reply::status(200),
            ("GET", true) => Reply::ok(&listed),
            ("PUT", _) => Reply::status(201),
            _ => Reply::status(404),
        }
    });
    let registry = open(&fake).await;
    // The list never contains the new entry, as if another client replaced it each time.
    assert!(registry.attach(&app_descriptor(&artifact()), &own).await.is_err());
    let written = fake.received().into_iter().rfind(|request| request.method == "PUT").unwrap();
    let mut written: Value = serde_json::from_slice(&written.body).unwrap();
    let added = written["manifests"].as_array_mut().unwrap().pop().unwrap();
    assert_eq!((added, written), (entry(&own), foreign));
}
