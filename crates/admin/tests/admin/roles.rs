//! Tests of tenants' tokens: which operations each role may call, for which tenant. Each kind of token is tested with
//! each operation of the API.

use futures::stream::StreamExt as _;
use isomer_api::{LogQuery, MetricsQuery, TokenRole};
use serde_json::json;

use crate::document::with_ids;
use crate::fake::{TRACE, line};
use crate::operations::release;
use crate::served::{Served, answer_of};

/// The callers that may call an operation, in addition to the holder of the node's token.
#[derive(Clone, Copy)]
enum Who {
    /// No tenant's token.
    NoTenant,
    /// Tokens of the tenant in the path, with at least this role.
    Tenant(TokenRole),
    /// Tokens of any tenant, with at least this role, for objects of that tenant.
    Any(TokenRole),
    /// Tokens of the tenant in the path that permit reading data.
    Data,
}

/// Returns the rule of an operation. All rules are listed here a second time, independently of the implementation. An
/// operation that is missing here fails the test.
fn rule_of(operation: &str) -> Who {
    match operation {
        "status" | "set-tenant" | "remove-tenant" => Who::NoTenant,
        "openapi" | "create-dashboard-code" | "tenants" | "apps" | "metrics" | "metrics-text" => {
            Who::Any(TokenRole::Read)
        }
        "missing" | "put-blob" => Who::Any(TokenRole::Deploy),
        "stores" | "shapes" | "compare-shape" | "advice" => Who::Tenant(TokenRole::Read),
        "kv-keys" | "kv-value" | "sql-schema" | "sql-query" => Who::Data,
        "set-kv" | "delete-kv" | "execute-sql" => Who::Tenant(TokenRole::Admin),
        "tenant" | "app" | "plan" | "revisions" | "logs" => Who::Tenant(TokenRole::Read),
        "traces" | "trace" | "follow-traces" => Who::Tenant(TokenRole::Read),
        "deploy" | "rollback" | "swap" | "reshape" | "stop" | "start" | "order-traces" => {
            Who::Tenant(TokenRole::Deploy)
        }
        "set-secret" | "remove-secret" | "remove" | "tokens" | "create-token" | "revoke-token" => {
            Who::Tenant(TokenRole::Admin)
        }
        other => {
            panic!("operation `{other}` has no rule in this test: add the rule here and in the table of operations")
        }
    }
}

/// Returns a valid request body for the operation.
fn body_of(operation: &str) -> String {
    match operation {
        "missing" | "deploy" => serde_json::to_string(&release()).unwrap(),
        "rollback" | "set-tenant" => "{}".to_owned(),
        "swap" => json!({ "components": release().components }).to_string(),
        "order-traces" => json!({ "path": "/", "requests": 1 }).to_string(),
        "sql-query" | "execute-sql" => json!({ "statement": "SELECT 1" }).to_string(),
        "set-kv" => json!({ "key": "a", "hex": "00" }).to_string(),
        "kv-keys" => "{}".to_owned(),
        "delete-kv" | "kv-value" => json!({ "key": "a" }).to_string(),
        "compare-shape" => json!({ "shape": "micro" }).to_string(),
        "reshape" => json!({ "shape": "micro" }).to_string(),
        "create-token" => json!({ "name": "mine", "role": "read" }).to_string(),
        "set-secret" => "hush".to_owned(),
        _ => String::new(),
    }
}

/// Returns the path of an operation, with the names of objects of `acme`. The token in the path of `revoke-token` is
/// one that the test does not use.
fn path_of(path: &str) -> String {
    let path = path
        .replace("{tenant}", "acme")
        .replace("{app}", "shop")
        .replace("{secret}", "key")
        .replace("{store}", "carts");
    path.replace("{digest}", &"0".repeat(64)).replace("{token}", "other").replace("{trace}", TRACE)
}

#[tokio::test]
async fn each_operation_takes_the_tokens_that_its_rule_says_and_no_other() {
    let served = Served::tcp().await;
    let mut tokens = Vec::new();
    for tenant in ["acme", "rival"] {
        for role in TokenRole::ALL {
            tokens.push((tenant, role, served.tenant_token(tenant, role.as_str(), role).await));
        }
    }
    let operations = with_ids();
    assert!(operations.len() >= 23, "{operations:?}");
    for (id, method, path) in operations {
        let (rule, path, body) = (rule_of(&id), path_of(&path), body_of(&id));
        assert!(served.ask(&method, &path, &body).await.status < 300, "{id} with the node's token");
        for (tenant, role, token) in &tokens {
            let may = match rule {
                Who::NoTenant => false,
                Who::Tenant(needed) => *tenant == "acme" && *role >= needed,
                Who::Any(needed) => *role >= needed,
                Who::Data => *tenant == "acme" && *role == TokenRole::Admin,
            };
            served.fake.take_asked();
            let answered = served.ask_with(token, &method, &path, &body).await;
            if may {
                assert!(answered.status < 300, "{id} with {tenant}'s {role}: {answered:?}");
                continue;
            }
            assert_eq!(answered.status, 403, "{id} with {tenant}'s {role}: {answered:?}");
            assert_eq!(answered.json()["type"], "forbidden");
            assert_eq!(served.fake.asked(), Vec::<String>::new(), "{id} with {tenant}'s {role}");
        }
        let (_, _, token) = &tokens[2];
        let (_, _, other) = &tokens[5];
        let spoiled = [
            format!("{}{}", &token[..87], if token.ends_with('0') { "1" } else { "0" }),
            format!("{}{}", &token[..24], &other[24..]),
            format!("isomer_{}_{}", "0".repeat(16), &token[24..]),
            token[24..].to_owned(),
            served.token_text().replacen('a', "b", 1).replacen('1', "2", 1) + "0",
        ];
        served.fake.take_asked();
        for wrong in spoiled {
            let answered = served.ask_with(&wrong, &method, &path, &body).await;
            assert_eq!(answered.status, 401, "{id} {wrong}");
        }
        assert_eq!(served.fake.asked(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn lists_show_a_tenant_only_its_own_objects() {
    let served = Served::tcp().await;
    let token = served.tenant_token("acme", "desk", TokenRole::Read).await;
    served.fake.take_asked();
    let tenants = served.ask_with(&token, "GET", "/v1/tenants", "").await.json();
    assert_eq!((tenants.as_array().unwrap().len(), &tenants[0]["name"]), (1, &json!("acme")));
    served.ask_with(&token, "GET", "/v1/apps", "").await;
    served.ask_with(&token, "GET", "/v1/apps?tenant=acme", "").await;
    assert_eq!(served.ask_with(&token, "GET", "/v1/apps?tenant=rival", "").await.status, 403);
    assert_eq!(served.fake.asked(), ["tenant acme", "apps acme", "apps acme"], "the node gets no further call");
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_ends_its_followed_logs() {
    let served = Served::tcp().await;
    let token = served.tenant_token("acme", "desk", TokenRole::Admin).await;
    let client = served.client_with(&token);
    let (acme, shop) = ("acme".parse().unwrap(), "shop".parse().unwrap());
    let query = LogQuery { lines: Some(0), follow: true, ..LogQuery::default() };
    let mut lines = client.logs(&acme, &shop, &query).await.unwrap();
    served.fake.lines.send(line("before")).unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().text, "before");
    let mut silent = client.logs(&acme, &"silent".parse().unwrap(), &query).await.unwrap();
    // The holder of a token may revoke this token.
    client.revoke_token(&acme, &"desk".parse().unwrap()).await.unwrap();
    served.fake.lines.send(line("after")).unwrap();
    assert!(lines.next().await.is_none());
    // The response ends even if the log has no new line. Otherwise, it would use one of the tenant's permits forever.
    assert!(silent.next().await.is_none());
    for path in ["/v1/apps", "/v1/tenants/acme", "/v1/openapi.json"] {
        assert_eq!(served.ask_with(&token, "GET", path, "").await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn an_expired_token_is_refused_and_creates_no_successor() {
    let served = Served::tcp().await;
    let make = async |with: Option<&str>, name: &str, expires_in_s: Option<u64>| {
        let body = json!({ "name": name, "role": "admin", "expires_in_s": expires_in_s }).to_string();
        let path = "/v1/tenants/acme/tokens";
        let made = match with {
            Some(token) => served.ask_with(token, "POST", path, &body).await,
            None => served.ask("POST", path, &body).await,
        };
        assert_eq!(made.status, 200, "{made:?}");
        let made = made.json();
        (made["token"].as_str().unwrap().to_owned(), made["expires_at"].as_u64(), made["created_at"].as_u64().unwrap())
    };
    let opens = async |token: &str| served.ask_with(token, "GET", "/v1/tenants/acme", "").await.status;
    let (token, expires_at, made_at) = make(None, "for-an-hour", Some(3600)).await;
    assert_eq!((expires_at, opens(&token).await), (Some(made_at + 3600), 200));
    for (name, asked) in [("without-end", None), ("longer", Some(7200))] {
        assert_eq!(
            make(Some(&token), name, asked).await.1,
            expires_at,
            "the new token expires with the token that created it"
        );
    }
    assert!(make(Some(&token), "shorter", Some(60)).await.1 < expires_at);
    let (token, _, _) = make(None, "over", Some(0)).await;
    assert_eq!(opens(&token).await, 401);
    let (token, expires_at, _) = make(None, "for-ever", Some(u64::MAX)).await;
    assert_eq!((expires_at, opens(&token).await), (Some(u64::MAX), 200));
    assert_eq!(make(None, "unsaid", None).await.1, None);
    let kept = served.ask("GET", "/v1/tenants/acme/tokens", "").await.json();
    assert_eq!(kept.as_array().unwrap().len(), 7, "an expired token is listed until it is revoked");
}

/// If a token is revoked while a request arrives, the request has no effect, no matter how long the request takes to
/// arrive.
#[tokio::test]
async fn a_token_that_is_revoked_before_the_body_has_arrived_does_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let served = Served::tcp().await;
    let token = served.tenant_token("acme", "desk", TokenRole::Admin).await;
    let mut slow = served.connect().await;
    let head = format!(
        "PUT /v1/tenants/acme/secrets/key HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
        expect: 100-continue\r\ncontent-length: 4\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    // The server has accepted the head of the request, and requests the body (`100 Continue`).
    let mut asked = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut slow, &mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    served.client().revoke_token(&"acme".parse().unwrap(), &"desk".parse().unwrap()).await.unwrap();
    served.fake.take_asked();
    slow.write_all(b"hush").await.unwrap();
    let answered = answer_of(slow).await;
    assert_eq!((answered.status, served.fake.asked()), (401, Vec::<String>::new()), "{answered:?}");
    assert_eq!(served.audit().last().unwrap()["phase"], "refused");
}

#[tokio::test]
async fn only_the_digest_of_a_token_is_stored() {
    let served = Served::tcp().await;
    let token = served.tenant_token("acme", "ci", TokenRole::Deploy).await;
    let secret = &token[24..];
    assert!(token.starts_with("isomer_") && token.len() == 88, "{token}");
    let kept = serde_json::to_string(&served.fake.kept_tokens()).unwrap();
    let listed = served.ask("GET", "/v1/tenants/acme/tokens", "").await.body;
    served.ask_with(&token, "POST", "/v1/tenants/acme/apps/shop/stop", "").await;
    served.ask_with(&token, "DELETE", &format!("/v1/tenants/acme/tokens/{token}"), "").await;
    let refused = served.ask_with(&token, "DELETE", "/v1/tenants/acme", "").await.body;
    let audit = std::fs::read_to_string(served.data.path().join("audit.log")).unwrap();
    for text in [&kept, &listed, &refused, &audit] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(listed.contains("\"role\":\"deploy\"") && !listed.contains("digest"), "{listed}");
}

#[tokio::test]
async fn the_audit_log_names_the_token() {
    let served = Served::tcp().await;
    let token = served.tenant_token("acme", "ci", TokenRole::Deploy).await;
    let id = &token[7..23];
    let shop = "/v1/tenants/acme/apps/shop";
    assert_eq!(served.ask_with(&token, "POST", &format!("{shop}/stop"), "").await.status, 200);
    assert_eq!(served.ask_with(&token, "DELETE", shop, "").await.status, 403);
    // A request that reads the tenant's own object has no line in the audit log. The attempt to read another tenant's
    // object has one.
    assert_eq!(served.ask_with(&token, "GET", shop, "").await.status, 200);
    assert_eq!(served.ask_with(&token, "GET", "/v1/tenants/rival/apps/shop/logs", "").await.status, 403);
    let lines = served.audit();
    let told: Vec<_> = lines.iter().map(|line| (line["action"].clone(), line["phase"].clone())).collect();
    let line = |action: &str, phase: &str| (json!(action), json!(phase));
    assert_eq!(
        told,
        [
            line("create-token", "begin"),
            line("create-token", "end"),
            line("stop", "begin"),
            line("stop", "end"),
            line("remove", "refused"),
            line("logs", "refused"),
        ]
    );
    assert_eq!(
        lines[0]["details"],
        json!({ "name": "ci", "role": "deploy", "data": false, "id": id, "expires_at": null })
    );
    assert_eq!((&lines[0]["token"], lines[0].get("tenant_token")), (&json!("valid"), None));
    for line in &lines[2..] {
        assert_eq!(line["token"], "tenant");
        let token = &line["tenant_token"];
        assert_eq!((&token["name"], &token["id"], &token["tenant"]), (&json!("ci"), &json!(id), &json!("acme")));
    }
    assert_eq!(lines[5]["tenant"], "rival");
}

#[tokio::test]
async fn a_tenant_cannot_fill_the_audit_log_with_refusals_nor_keep_others_out_of_it() {
    let served = Served::tcp().await;
    let acme = served.tenant_token("acme", "ci", TokenRole::Read).await;
    let rival = served.tenant_token("rival", "ci", TokenRole::Read).await;
    let before = served.audit().len();
    for _ in 0..50 {
        served.ask_with(&acme, "DELETE", "/v1/tenants/acme", "").await;
    }
    served.ask_with(&rival, "DELETE", "/v1/tenants/acme", "").await;
    assert_eq!(served.audit().len() - before, 31);
}

#[tokio::test]
async fn a_tenant_leaves_others_their_share_of_the_api() {
    let served = Served::tcp().await;
    let acme = served.client_with(&served.tenant_token("acme", "ci", TokenRole::Read).await);
    let rival = served.tenant_token("rival", "ci", TokenRole::Read).await;
    let query = LogQuery { lines: Some(0), follow: true, ..LogQuery::default() };
    let (tenant, shop) = ("acme".parse().unwrap(), "shop".parse().unwrap());
    let mut followed = Vec::new();
    for _ in 0..12 {
        followed.push(acme.logs(&tenant, &shop, &query).await.unwrap());
    }
    let refused = acme.tenant(&tenant).await.unwrap_err();
    assert!(refused.to_string().contains("token `ci` of tenant `acme` has 12 requests"), "{refused}");
    // The tenant can still send requests with another token, for example to revoke the token `ci`.
    let desk = served.client_with(&served.tenant_token("acme", "desk", TokenRole::Admin).await);
    for _ in 0..4 {
        followed.push(desk.logs(&tenant, &shop, &query).await.unwrap());
    }
    let refused = desk.tenant(&tenant).await.unwrap_err();
    assert!(refused.to_string().contains("16 requests"), "{refused}");
    drop(followed.pop());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while let Err(refused) = desk.revoke_token(&tenant, &"ci".parse().unwrap()).await {
        // The server may notice the end of a request later than the client ends it.
        assert!(std::time::Instant::now() < until, "{refused}");
        tokio::task::yield_now().await;
    }
    for lines in &mut followed[..12] {
        assert!(lines.next().await.is_none());
    }
    desk.tenant(&tenant).await.unwrap();
    assert_eq!(served.ask_with(&rival, "GET", "/v1/tenants/rival", "").await.status, 200);
    assert_eq!(served.ask("GET", "/v1/tenants/acme", "").await.status, 200);
}

#[tokio::test]
async fn a_tenant_does_not_see_files_of_the_node() {
    let served = Served::tcp().await;
    let token = served.tenant_token("acme", "ci", TokenRole::Deploy).await;
    let body = body_of("deploy");
    let path = "/v1/tenants/acme/apps/disk/deploy";
    let answered = served.ask_with(&token, "POST", path, &body).await;
    assert!(answered.status == 500 && !answered.body.contains("/var"), "{answered:?}");
    assert!(served.ask("POST", path, &body).await.body.contains("/var/lib/isomer"), "the node's admin sees the path");
    assert!(served.audit().iter().any(|line| line["problem"].as_str().is_some_and(|it| it.contains("/var"))));
}

#[tokio::test]
async fn a_tenants_token_gets_only_its_own_metrics() {
    let served = Served::tcp().await;
    let token = served.tenant_token("acme", "reader", TokenRole::Read).await;
    let text = served.ask_with(&token, "GET", "/metrics", "").await;
    assert_eq!((text.status, text.body.as_str()), (200, "up 1\n"));
    assert!(text.head.contains("content-type: text/plain; version=0.0.4"), "{}", text.head);
    assert_eq!(served.ask_with(&token, "GET", "/v1/metrics", "").await.status, 200);
    assert_eq!(served.ask_with(&token, "GET", "/v1/metrics?tenant=rival", "").await.status, 403);
    assert_eq!(served.ask("GET", "/metrics", "").await.status, 200);
    let query = MetricsQuery { name: Some("http.".to_owned()), ..MetricsQuery::default() };
    assert_eq!(served.client().metrics(&query).await.unwrap().series("http.server.active_requests").len(), 1);
    let asked = served.fake.asked();
    assert_eq!(
        asked[asked.len() - 4..],
        ["metrics-text acme ", "metrics {\"tenant\":\"acme\"}", "metrics-text - ", "metrics {\"name\":\"http.\"}"]
    );
}
