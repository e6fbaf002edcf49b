//! Tests of the lines in the audit log.

use std::process::Command;

use isomer_admin::{AUDIT_FILE, ClientError};
use serde_json::json;

use crate::operations::release;
use crate::served::{PATIENCE, Served};

#[tokio::test]
async fn an_action_has_a_line_before_and_one_after() {
    let served = Served::tcp().await;
    let (acme, shop) = ("acme".parse().unwrap(), "shop".parse().unwrap());
    served.client().deploy(&acme, &shop, &release()).await.unwrap();
    let lines = served.audit();
    assert_eq!(lines.len(), 2);
    let [begin, end] = [&lines[0], &lines[1]];
    assert_eq!(begin["action_id"], end["action_id"]);
    for (line, phase) in [(begin, "begin"), (end, "end")] {
        assert_eq!(line["phase"], phase);
        assert_eq!(
            (&line["action"], &line["tenant"], &line["app"]),
            (&json!("deploy"), &json!("acme"), &json!("shop"))
        );
        assert_eq!(line["token"], "valid");
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(line["at_ms"].as_u64().unwrap() > 1_700_000_000_000, "{line}");
    }
    assert_eq!(begin["details"], json!({ "hosts": ["shop.example"], "shape": "monolith" }));
    assert_eq!((begin.get("status"), &end["status"]), (None, &json!(200)));
    assert_eq!(end["revision"], "02".repeat(16));
}

#[tokio::test]
async fn failures_and_refusals_are_recorded() {
    let served = Served::tcp().await;
    let client = served.client();
    let (acme, bad, panics) = ("acme".parse().unwrap(), "bad".parse().unwrap(), "panics".parse().unwrap());
    assert!(matches!(client.deploy(&acme, &bad, &release()).await, Err(ClientError::Problem(_))));
    assert!(matches!(client.deploy(&acme, &panics, &release()).await, Err(ClientError::Problem(_))));
    assert_eq!(served.ask("PUT", "/v1/tenants/acme", "{").await.status, 400);
    assert_eq!(served.ask("DELETE", "/v1/tenants/Bad%0AName", "").await.status, 400);
    assert_eq!(served.send("DELETE", "/v1/tenants/acme", "host: localhost\r\n", "").await.status, 401);
    let wrong = format!("host: localhost\r\nauthorization: Bearer {}\r\n", "0".repeat(64));
    assert_eq!(served.send("DELETE", "/v1/tenants/acme", &wrong, "").await.status, 401);
    let foreign = format!("host: evil.example\r\nauthorization: Bearer {}\r\n", served.token_text());
    assert_eq!(served.send("DELETE", "/v1/tenants/acme", &foreign, "").await.status, 403);
    let told: Vec<_> = served
        .audit()
        .into_iter()
        .map(|line| (line["phase"].clone(), line["token"].clone(), line["status"].clone(), line["tenant"].clone()))
        .collect();
    let line = |phase: &str, token: &str, status: Option<u16>, tenant: Option<&str>| {
        (json!(phase), json!(token), json!(status), json!(tenant))
    };
    assert_eq!(
        told,
        [
            line("begin", "valid", None, Some("acme")),
            line("end", "valid", Some(422), Some("acme")),
            line("begin", "valid", None, Some("acme")),
            line("end", "valid", Some(500), Some("acme")),
            line("refused", "valid", Some(400), Some("acme")),
            line("refused", "valid", Some(400), None),
            line("refused", "missing", Some(401), Some("acme")),
            line("refused", "wrong", Some(401), Some("acme")),
            line("refused", "valid", Some(403), Some("acme")),
        ]
    );
}

#[tokio::test]
async fn an_action_that_cannot_be_recorded_does_not_start() {
    let data = tempfile::tempdir().unwrap();
    // Create a named pipe as the audit log: it can be opened like a file, but cannot be synced.
    assert!(Command::new("mkfifo").arg(data.path().join(AUDIT_FILE)).status().unwrap().success());
    let served = Served::over(data).await;
    for (method, path, body) in [
        ("PUT", "/v1/tenants/acme", "{}"),
        ("DELETE", "/v1/tenants/acme", ""),
        ("POST", "/v1/tenants/acme/apps/shop/stop", ""),
    ] {
        let answered = served.ask(method, path, body).await;
        assert_eq!(answered.status, 500, "{answered:?}");
        assert_eq!(answered.json()["title"], "nothing was done: the audit log cannot be written");
    }
    let release = release();
    let deployed = served.client().deploy(&"acme".parse().unwrap(), &"shop".parse().unwrap(), &release).await;
    assert!(matches!(deployed, Err(ClientError::Problem(_))), "{deployed:?}");
    assert_eq!(served.fake.asked(), Vec::<String>::new());
    served.client().status().await.unwrap();
    assert_eq!(served.fake.asked(), ["status"], "reads need no line");
}

#[tokio::test]
async fn no_secret_and_no_token_is_in_it() {
    let served = Served::tcp().await;
    let acme = "acme".parse().unwrap();
    served.client().set_secret(&acme, "payment-key", b"correct horse battery staple".to_vec()).await.unwrap();
    let token = served.token_text();
    served.send("PUT", &format!("/v1/tenants/acme/secrets/{token}x"), "host: localhost\r\n", "").await;
    served.send("DELETE", &format!("/v1/tenants/acme?token={token}"), "host: localhost\r\n", "").await;
    let text = std::fs::read_to_string(served.data.path().join("audit.log")).unwrap();
    assert!(text.contains("\"object\":\"payment-key\""), "{text}");
    assert!(!text.contains("horse") && !text.contains(&token), "{text}");
}

#[tokio::test]
async fn reads_are_not_recorded() {
    let served = Served::tcp().await;
    served.client().status().await.unwrap();
    served.client().missing(&release()).await.unwrap();
    served.send("GET", "/v1/status", "host: localhost\r\n", "").await;
    assert_eq!(served.audit(), Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn clients_without_a_token_cannot_fill_the_disk() {
    let served = Served::tcp().await;
    for _ in 0..50 {
        served.send("DELETE", "/v1/tenants/acme", "host: localhost\r\n", "").await;
    }
    assert_eq!(served.audit().len(), 30);
}

#[tokio::test]
async fn reading_data_is_recorded_without_keys_values_and_statements() {
    let served = Served::tcp().await;
    let of_store = "/v1/tenants/acme/apps/shop/stores";
    let key = json!({ "key": "private-key" }).to_string();
    let value = served.ask("POST", &format!("{of_store}/kv/carts/value"), &key).await;
    assert_eq!((value.status, &value.json()["hex"]), (200, &json!("736563726574")));
    let body = json!({ "statement": "SELECT 'private-text'" }).to_string();
    assert_eq!(served.ask("POST", &format!("{of_store}/sql/orders/query"), &body).await.status, 200);
    assert_eq!(served.ask("GET", of_store, "").await.status, 200);
    let lines = served.audit();
    let told: Vec<_> = lines.iter().map(|line| (&line["action"], &line["phase"], &line["object"])).collect();
    let line = |action: &'static str, phase: &'static str, store: &'static str| (action, phase, store);
    let expected = [
        line("kv-value", "begin", "carts"),
        line("kv-value", "end", "carts"),
        line("sql-query", "begin", "orders"),
        line("sql-query", "end", "orders"),
    ];
    let expected = expected.map(|(action, phase, store)| (json!(action), json!(phase), json!(store)));
    assert_eq!(told, expected.iter().map(|(action, phase, store)| (action, phase, store)).collect::<Vec<_>>());
    let text = json!(lines).to_string();
    assert!(!text.contains("private") && !text.contains("7365"), "{text}");
}

#[tokio::test]
async fn problems_of_operations_on_data_are_recorded_without_their_titles() {
    let served = Served::tcp().await;
    let of_store = "/v1/tenants/acme/apps/shop/stores/sql/orders";
    let fails = json!({ "statement": "SELECT 'fails'" }).to_string();
    let answered = served.ask("POST", &format!("{of_store}/query"), &fails).await;
    assert_eq!((answered.status, &answered.json()["title"]), (400, &json!("JSON path error near 'private-text'")));
    let unknown = json!({ "private-field": 1 }).to_string();
    assert_eq!(served.ask("POST", &format!("{of_store}/execute"), &unknown).await.status, 400);
    let lines = served.audit();
    let told: Vec<_> = lines.iter().map(|line| (&line["action"], &line["phase"], &line["status"])).collect();
    let (query, execute, status) = (json!("sql-query"), json!("execute-sql"), json!(400));
    let phases = ["begin", "end", "refused"].map(|phase| json!(phase));
    assert_eq!(
        told,
        [(&query, &phases[0], &json!(null)), (&query, &phases[1], &status), (&execute, &phases[2], &status)]
    );
    assert!(!json!(lines).to_string().contains("private"), "{lines:?}");
}

#[tokio::test]
async fn a_read_is_recorded_to_its_end_although_the_client_disconnects() {
    let served = Served::tcp().await;
    let body = json!({ "statement": "SELECT 'waits'" }).to_string();
    let waits = served.ask("POST", "/v1/tenants/acme/apps/shop/stores/sql/orders/query", &body);
    tokio::select! {
        _ = waits => panic!("the statement has not ended"),
        () = served.fake.started.notified() => {}
    }
    // During these requests, the server notices that the first connection is closed.
    for _ in 0..5 {
        served.client().status().await.unwrap();
    }
    served.fake.go_on.notify_one();
    let recorded = async {
        while served.audit().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, recorded).await.expect("the end of the read is recorded");
    assert_eq!(served.audit()[1]["phase"], "end");
}
