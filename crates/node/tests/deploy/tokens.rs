//! Tests of what the holder of a tenant's token may deploy, and of the node's records about tokens.

use isomer_admin::{Admin as _, AppApi as _, Caller};
use isomer_api::{ApiProblem, DeployReport, ProblemKind, StoredToken, SwapRequest, TenantChange, TokenInfo, TokenRole};
use isomer_ids::{AppName, Digest, TenantName};

use crate::migrating_app::refused;
use crate::node::{TestNode, TestRelease, app, custom, release, shop, tenant};

/// Returns the holder of a token of `tenant` with the role `deploy`.
pub(crate) fn holder(tenant: &TenantName) -> Caller {
    Caller::Tenant(info(tenant, "ci", 1))
}

fn info(tenant: &TenantName, name: &str, number: u8) -> TokenInfo {
    TokenInfo {
        name: name.parse().unwrap(),
        id: [number; 8].into(),
        tenant: tenant.clone(),
        role: TokenRole::Deploy,
        data: false,
        created_at: 7,
        expires_at: None,
    }
}

async fn missing(node: &TestNode, caller: &Caller, release: &TestRelease) -> Vec<Digest> {
    node.node.clone().missing(caller.clone(), release.release.clone()).await.unwrap().digests
}

async fn upload(node: &TestNode, caller: &Caller, bytes: &[u8], digest: &Digest) -> Result<(), ApiProblem> {
    let pieces = bytes.chunks(1 << 16).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
    node.node.clone().put_blob(caller.clone(), digest.clone(), Box::pin(futures::stream::iter(pieces))).await
}

async fn deploy(
    node: &TestNode,
    caller: &Caller,
    app: &AppName,
    release: &TestRelease,
) -> Result<DeployReport, ApiProblem> {
    let tenant = caller.tenant().unwrap().clone();
    node.node.clone().deploy(caller.clone(), tenant, app.clone(), release.release.clone()).await
}

/// Creates a tenant with host names of its own.
async fn make(node: &TestNode, name: &str) -> TenantName {
    let hosts = Some(vec![format!("*.{name}.example").parse().unwrap()]);
    node.node.clone().set_tenant(tenant(name), TenantChange { hosts, ..TenantChange::default() }).await.unwrap();
    tenant(name)
}

fn under(mut release: TestRelease, hosts: &[&str]) -> TestRelease {
    release.release.hosts = Some(hosts.iter().map(|host| host.parse().unwrap()).collect());
    release
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_deploys_its_own_uploads_and_sees_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&release("one")).await.unwrap();
    let (acme, rival) = (holder(&make(&node, "acme").await), holder(&make(&node, "rival").await));
    let own = under(release("two"), &["shop.acme.example"]);
    let digest = own.release.components["it"].digest.clone();
    assert!(missing(&node, &Caller::Node, &own).await.is_empty(), "the node has the part");
    assert_eq!(
        missing(&node, &acme, &own).await,
        vec![digest.clone()],
        "a tenant that has not uploaded the part does not see it"
    );
    // Knowing the digest of a part does not give access to its bytes.
    refused(deploy(&node, &acme, &app("shop"), &own), ProblemKind::Conflict).await;
    refused(upload(&node, &acme, b"other bytes", &digest), ProblemKind::BadRequest).await;
    refused(deploy(&node, &acme, &app("shop"), &own), ProblemKind::Conflict).await;
    upload(&node, &acme, &own.bytes[&digest], &digest).await.unwrap();
    assert!(missing(&node, &acme, &own).await.is_empty());
    assert_eq!(missing(&node, &rival, &own).await, vec![digest.clone()], "only acme has uploaded the part");
    deploy(&node, &acme, &app("shop"), &own).await.unwrap();
    assert!(missing(&node, &acme, &own).await.is_empty(), "a revision refers to the part");
    assert_eq!(missing(&node, &rival, &own).await, [digest]);
    // Naming the digest of a part in a swap does not give access to its bytes either.
    let mut other = custom("http-hello", "", "");
    let part = other.release.components.remove("it").unwrap();
    node.upload(&part.digest, other.bytes[&part.digest].clone()).await.unwrap();
    let swap = || SwapRequest { components: [("it".to_owned(), part.clone())].into(), message: None };
    let (owner, shop) = (tenant("acme"), app("shop"));
    refused(node.node.clone().swap(acme.clone(), owner.clone(), shop.clone(), swap()), ProblemKind::Conflict).await;
    upload(&node, &acme, &other.bytes[&part.digest], &part.digest).await.unwrap();
    node.node.clone().swap(acme, owner, shop, swap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_of_a_tenants_revisions_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let caller = holder(&make(&node, "acme").await);
    let (first, second) = (custom("env-print", "", ""), custom("env-print", "", "").file("static/a", "text"));
    for (digest, bytes) in &second.bytes {
        upload(&node, &caller, bytes, digest).await.unwrap();
    }
    let at = |release: &TestRelease| under(release.clone(), &["shop.acme.example"]);
    deploy(&node, &caller, &app("shop"), &at(&first)).await.unwrap();
    // Make the stored file of the component larger, instead of building a large component.
    let digest = first.release.components["it"].digest.to_string();
    let path = folder.path().join("blobs").join(&digest[..2]).join(&digest);
    let blob = std::fs::File::options().write(true).open(path).unwrap();
    blob.set_len((16 << 30) + 1).unwrap();
    let mut other = at(&second);
    other.release.components = at(&custom("http-hello", "", "")).release.components;
    let part = custom("http-hello", "", "").bytes.into_values().next().unwrap();
    upload(&node, &caller, &part, &other.release.components["it"].digest).await.unwrap();
    let problem = refused(deploy(&node, &caller, &app("shop"), &other), ProblemKind::Quota).await;
    assert!(problem.title.contains("would exceed 16 GiB"), "{problem:?}");
    // The limit does not apply to admins of the node.
    node.deploy_as(&tenant("acme"), &app("other"), &under(other.clone(), &["other.acme.example"])).await.unwrap();
    // A release without new parts adds nothing to the total, so it is accepted.
    deploy(&node, &caller, &app("shop"), &other).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_deploys_under_its_own_host_names() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let acme = make(&node, "acme").await;
    // The problem does not reveal which tenant has the host name.
    make(&node, "rival").await;
    let (caller, one) = (holder(&acme), release("one"));
    let digest = one.release.components["it"].digest.clone();
    upload(&node, &caller, &one.bytes[&digest], &digest).await.unwrap();
    for foreign in ["bank.example", "*", "*.example", "acme.example", "localhost", "shop.rival.example"] {
        let hosts = ["shop.acme.example", foreign];
        let (app, release) = (app("shop"), under(one.clone(), &hosts));
        let problem = refused(deploy(&node, &caller, &app, &release), ProblemKind::Forbidden).await;
        assert!(problem.title.contains(foreign));
    }
    let names = ["shop.acme.example", "*.eu.acme.example"];
    deploy(&node, &caller, &app("shop"), &under(one.clone(), &names)).await.unwrap();
    // Deploying the current revision again with a foreign host name is refused as well, although it would change only
    // the host names.
    refused(deploy(&node, &caller, &app("shop"), &under(one, &["bank.example"])), ProblemKind::Forbidden).await;
    // A host name that an admin of the node has assigned to the app stays with the app.
    node.deploy_as(&acme, &app("given"), &under(release("two"), &["given.example"])).await.unwrap();
    deploy(&node, &caller, &app("given"), &under(release("three"), &["given.example"])).await.unwrap();
    refused(
        deploy(&node, &caller, &app("other"), &under(release("three"), &["given.example"])),
        ProblemKind::Forbidden,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_survive_a_restart_and_end_with_their_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open(folder.path()).await;
    let acme = make(&node, "acme").await;
    let kept =
        |name: &str, number: u8| StoredToken { info: info(&acme, name, number), digest: Digest::from([number; 32]) };
    let api = || node.node.clone();
    api().add_token(kept("ci", 1)).await.unwrap();
    api().add_token(kept("desk", 2)).await.unwrap();
    let problem = refused(api().add_token(kept("ci", 3)), ProblemKind::Conflict).await;
    assert!(problem.hints[0].contains("isomer tokens revoke ci --tenant acme"), "{problem:?}");
    refused(api().tokens(tenant("missing")), ProblemKind::NotFound).await;
    refused(
        api().add_token(StoredToken { info: info(&tenant("missing"), "x", 4), ..kept("x", 4) }),
        ProblemKind::NotFound,
    )
    .await;
    assert_eq!(api().tokens(shop().0).await.unwrap(), []);
    node.stop().await;
    let node = TestNode::open(folder.path()).await;
    let api = || node.node.clone();
    assert_eq!(api().stored_token(&[1; 8].into()), Some(kept("ci", 1)));
    api().revoke_token(acme.clone(), "ci".parse().unwrap()).await.unwrap();
    refused(api().revoke_token(acme.clone(), "ci".parse().unwrap()), ProblemKind::NotFound).await;
    assert_eq!(api().stored_token(&[1; 8].into()), None);
    assert_eq!(api().tokens(acme.clone()).await.unwrap(), [info(&acme, "desk", 2)]);
    api().remove_tenant(acme.clone()).await.unwrap();
    make(&node, "acme").await;
    assert_eq!((api().stored_token(&[2; 8].into()), api().tokens(acme.clone()).await.unwrap()), (None, vec![]));
}
