//! Tests of the client: it calls every operation of the API. Also tests of invalid requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::StreamExt as _;
use isomer_admin::ClientError;
use isomer_api::{
    AppState, LogQuery, ProblemKind, QuotaChange, Release, ReleasePart, ReshapeRequest, RollbackRequest, SwapRequest,
    TenantChange, TokenRequest, TokenRole,
};
use isomer_ids::{AppName, Digest, TenantName};

use crate::fake::{line, revision};
use crate::served::Served;

fn digest(digit: u8) -> Digest {
    Digest::from([digit; 32])
}

pub(crate) fn release() -> Release {
    Release {
        manifest: "[app]".to_owned(),
        shape: "monolith".to_owned(),
        components: [("front".to_owned(), ReleasePart { digest: digest(1), bytes: 7 })].into(),
        files: Default::default(),
        hosts: Some(vec!["shop.example".parse().unwrap()]),
        folders: Default::default(),
        message: None,
        signatures: Vec::new(),
    }
}

#[tokio::test]
async fn every_operation_reaches_the_node_and_returns_its_result() {
    let served = Served::tcp().await;
    let client = served.client();
    let (acme, shop): (TenantName, AppName) = ("acme".parse().unwrap(), "shop".parse().unwrap());
    assert_eq!(client.status().await.unwrap().apps_loaded_max, 100);
    assert_eq!(client.openapi().await.unwrap()["openapi"], "3.1.0");
    assert_eq!(client.tenants().await.unwrap()[0].name, acme);
    assert_eq!(client.tenant(&acme).await.unwrap().secrets, ["payment-key"]);
    let change = TenantChange { quotas: QuotaChange { apps: Some(3), ..Default::default() }, hosts: None };
    assert_eq!(client.set_tenant(&acme, &change).await.unwrap().name, acme);
    client.remove_tenant(&acme).await.unwrap();
    client.set_secret(&acme, "payment.key", b"hush".to_vec()).await.unwrap();
    client.remove_secret(&acme, "payment.key", false).await.unwrap();
    assert_eq!(client.apps(None).await.unwrap()[0].name, shop);
    assert_eq!(
        client.apps(Some(&acme)).await.unwrap()[1].failure.as_deref(),
        Some("its store `orders` cannot be opened")
    );
    let new = TokenRequest { name: "ci".parse().unwrap(), role: TokenRole::Deploy, data: false, expires_in_s: None };
    let made = client.create_token(&acme, &new).await.unwrap();
    assert_eq!((made.info.name.as_str(), made.info.role), ("ci", TokenRole::Deploy));
    assert_eq!(client.tokens(&acme).await.unwrap(), [made.info]);
    client.revoke_token(&acme, &new.name).await.unwrap();
    assert_eq!(client.app(&acme, &shop).await.unwrap().state, AppState::Idle);
    assert!(client.revisions(&acme, &shop).await.unwrap()[0].current);
    assert_eq!(client.missing(&release()).await.unwrap().digests, [digest(1)]);
    let told = Arc::new(AtomicU64::new(0));
    let counted = told.clone();
    let bytes = Bytes::from(vec![7; 300_000]);
    let counting = move |sent| {
        counted.fetch_add(sent, Ordering::Relaxed);
    };
    client.put_blob(&digest(1), bytes, counting).await.unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 300_000);
    client.put_blob(&digest(2), Bytes::new(), |_| {}).await.unwrap();
    let deployed = client.deploy(&acme, &shop, &release()).await.unwrap();
    assert_eq!((deployed.revision, deployed.previous), (revision(2), Some(revision(1))));
    assert_eq!(client.rollback(&acme, &shop, &RollbackRequest::default()).await.unwrap().revision, revision(1));
    client
        .rollback(&acme, &shop, &RollbackRequest { revision: Some(revision(4)), ..RollbackRequest::default() })
        .await
        .unwrap();
    let swap = SwapRequest { components: release().components, message: None };
    assert_eq!(client.swap(&acme, &shop, &swap).await.unwrap().revision, revision(3));
    let reshape = ReshapeRequest { shape: "micro".to_owned(), message: None };
    assert_eq!(client.reshape(&acme, &shop, &reshape).await.unwrap().revision, revision(3));
    assert_eq!(client.stop(&acme, &shop).await.unwrap().state, AppState::Stopped);
    assert_eq!(client.start(&acme, &shop).await.unwrap().state, AppState::Idle);
    client.remove(&acme, &shop, false).await.unwrap();
    client.remove(&acme, &shop, true).await.unwrap();
    let access = LogQuery { lines: Some(0), access: true, ..LogQuery::default() };
    assert_eq!(client.logs(&acme, &shop, &access).await.unwrap().count().await, 0);
    let query = LogQuery { lines: Some(3), ..LogQuery::default() };
    let lines: Vec<_> = client.logs(&acme, &shop, &query).await.unwrap().collect().await;
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2].as_ref().unwrap().text, "line 2");
    assert_eq!(
        served.fake.asked(),
        [
            "status",
            "tenants",
            "tenant acme",
            "set-tenant acme {\"quotas\":{\"apps\":3}}",
            "remove-tenant acme",
            "set-secret acme payment.key hush",
            "remove-secret acme payment.key",
            "apps -",
            "apps acme",
            "add-token acme ci deploy",
            "tokens acme",
            "revoke-token acme ci",
            "app acme shop",
            "revisions acme shop",
            "missing",
            "put-blob 0101 300000",
            "put-blob 0202 0",
            "deploy acme shop monolith",
            "rollback acme shop -",
            "rollback acme shop 040404040404",
            "swap acme shop front",
            "reshape acme shop micro",
            "stop acme shop",
            "start acme shop",
            "remove acme shop false",
            "remove acme shop true",
            "logs acme shop false access",
            "logs acme shop false",
        ]
    );
}

#[tokio::test]
async fn a_problem_of_the_node_is_returned_unchanged() {
    let served = Served::tcp().await;
    let problem = |error| match error {
        ClientError::Problem(problem) => problem,
        other => panic!("{other}"),
    };
    let missing = problem(served.client().tenant(&"missing".parse().unwrap()).await.unwrap_err());
    assert_eq!((missing.kind, missing.title.as_str()), (ProblemKind::NotFound, "there is no tenant `missing`"));
    let (acme, bad) = ("acme".parse().unwrap(), "bad".parse().unwrap());
    let refused = problem(served.client().deploy(&acme, &bad, &release()).await.unwrap_err());
    assert_eq!((refused.kind, refused.hints), (ProblemKind::Refused, vec!["mend it".to_owned()]));
    let panics = "panics".parse().unwrap();
    let failed = problem(served.client().deploy(&acme, &panics, &release()).await.unwrap_err());
    assert_eq!(failed.kind, ProblemKind::Failed);
    assert!(served.client().status().await.is_ok(), "the server keeps serving");
}

#[tokio::test]
async fn a_log_is_followed_until_the_server_stops() {
    let mut served = Served::tcp().await;
    let query = LogQuery { lines: Some(0), follow: true, ..LogQuery::default() };
    let (acme, shop) = ("acme".parse().unwrap(), "shop".parse().unwrap());
    let mut lines = served.client().logs(&acme, &shop, &query).await.unwrap();
    for text in ["first", "with \u{1b}[31m and \n in it"] {
        served.fake.lines.send(line(text)).unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap().text, text);
    }
    served.stop().await;
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn invalid_requests_are_refused_with_a_reason() {
    let served = Served::tcp().await;
    let deploy = serde_json::to_string(&release()).unwrap();
    let unknown_field = deploy.replacen('{', "{\"compiled\":\"0061736d\",", 1);
    let bad_digest = deploy.replace(&"01".repeat(32), "../../etc/passwd");
    let escape = deploy
        .replace("\"files\":{}", &format!("\"files\":{{\"../x\":{{\"digest\":\"{}\",\"bytes\":1}}}}", "01".repeat(32)));
    assert!(deploy.contains("\"files\":{}"), "{deploy}");
    let cases: &[(&str, &str, &str)] = &[
        ("GET", "/v1/tenants/UPPER", ""),
        ("GET", "/v1/tenants/..", ""),
        ("GET", "/v1/tenants/%2e%2e", ""),
        ("GET", "/v1/tenants/a%2Fb", ""),
        ("GET", "/v1/tenants/acme%00", ""),
        ("GET", "/v1/tenants/%ff", ""),
        ("GET", "/v1/tenants/acme/apps/Shop", ""),
        ("GET", "/v1/apps?tenant=No!", ""),
        ("GET", "/v1/apps?teant=acme", ""),
        ("DELETE", "/v1/tenants/acme/apps/shop?data=perhaps", ""),
        ("GET", "/v1/tenants/acme/apps/shop/logs?lines=-1", ""),
        ("PUT", "/v1/tenants/acme", ""),
        ("PUT", "/v1/tenants/acme", "{"),
        ("PUT", "/v1/tenants/acme", "[]"),
        ("PUT", "/v1/tenants/acme", "{\"quotas\":{\"apps\":-1}}"),
        ("PUT", "/v1/tenants/acme", "{\"quotas\":{\"apps\":\"3\"}}"),
        ("PUT", "/v1/tenants/acme", "{\"hosts\":[\"a b\"]}"),
        ("PUT", "/v1/tenants/acme", "{\"quota\":{}}"),
        ("PUT", "/v1/tenants/acme/secrets/9lives", "x"),
        ("PUT", "/v1/blobs/abc", "x"),
        ("POST", "/v1/tenants/acme/tokens", "{\"name\":\"ci\",\"role\":\"root\"}"),
        ("POST", "/v1/tenants/acme/tokens", "{\"name\":\"C I\",\"role\":\"read\"}"),
        ("POST", "/v1/tenants/acme/tokens", "{\"name\":\"ci\",\"role\":\"read\",\"token\":\"mine\"}"),
        ("DELETE", "/v1/tenants/acme/tokens/..", ""),
        ("POST", "/v1/tenants/acme/apps/shop/deploy", &unknown_field),
        ("POST", "/v1/tenants/acme/apps/shop/deploy", &bad_digest),
        ("POST", "/v1/tenants/acme/apps/shop/deploy", &escape),
        ("POST", "/v1/tenants/acme/apps/shop/rollback", "{\"revision\":\"latest\"}"),
        ("POST", "/v1/tenants/acme/apps/shop/swap", "{}"),
    ];
    for (method, path, body) in cases {
        let answered = served.ask(method, path, body).await;
        assert_eq!(answered.status, 400, "{method} {path} {body}");
        assert!(answered.head.contains("content-type: application/problem+json"), "{}", answered.head);
        let problem = answered.json();
        assert_eq!(problem["type"], "bad-request");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
    }
    assert_eq!(served.fake.asked(), Vec::<String>::new());
    assert_eq!(served.ask("POST", "/v1/tenants/acme/apps/shop/deploy", &deploy).await.status, 200);
}

#[tokio::test]
async fn an_action_continues_when_its_client_disconnects() {
    let served = Served::tcp().await;
    let client = served.client();
    let asking =
        tokio::spawn(
            async move { client.deploy(&"acme".parse().unwrap(), &"slow".parse().unwrap(), &release()).await },
        );
    served.fake.started.notified().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    served.fake.go_on.notify_one();
    let deadline = std::time::Instant::now() + crate::served::PATIENCE;
    while served.audit().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "the end of the action is not in the audit log");
        tokio::task::yield_now().await;
    }
    assert_eq!(served.fake.asked().last().unwrap(), "deployed slow");
    assert_eq!(served.audit()[1]["revision"], revision(2).as_str());
}

#[tokio::test]
async fn shutting_down_waits_for_running_actions() {
    let mut served = Served::tcp().await;
    let client = served.client();
    let asking =
        tokio::spawn(
            async move { client.deploy(&"acme".parse().unwrap(), &"slow".parse().unwrap(), &release()).await },
        );
    served.fake.started.notified().await;
    served.tell_to_stop();
    served.fake.go_on.notify_one();
    assert_eq!(asking.await.unwrap().unwrap().revision, revision(2));
    served.stop().await;
    assert_eq!(served.audit().len(), 2);
}
