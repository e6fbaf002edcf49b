//! Tests of authentication.

use isomer_admin::{Client, ClientError, NodeAddress, Token};
use isomer_api::ProblemKind;

use crate::document::operations;
use crate::served::Served;

#[tokio::test]
async fn requests_without_the_token_are_refused() {
    let served = Served::tcp().await;
    let stranger = "0".repeat(64);
    for (method, path) in operations() {
        let path = path.replace("{tenant}", "acme").replace("{app}", "shop").replace("{secret}", "key");
        let path = path.replace("{digest}", &"0".repeat(64)).replace("{token}", "ci");
        for header in [String::new(), format!("authorization: Bearer {stranger}\r\n")] {
            let answered = served.send(&method, &path, &format!("host: localhost\r\n{header}"), "").await;
            assert_eq!(answered.status, 401, "{method} {path} {header}");
            assert!(answered.head.contains("www-authenticate: bearer"), "{}", answered.head);
            assert_eq!(answered.json()["type"], "unauthorized");
        }
    }
    assert_eq!(served.fake.asked(), Vec::<String>::new());
}

/// A client without a token does not learn which paths exist.
#[tokio::test]
async fn a_client_without_a_token_does_not_learn_what_exists() {
    let served = Served::tcp().await;
    for (method, path) in [("POST", "/"), ("GET", "/v1/nothing"), ("PATCH", "/v1/status"), ("GET", "/v1/tenants/%ff")] {
        let answered = served.send(method, path, "host: localhost\r\n", "").await;
        assert_eq!(answered.status, 401, "{method} {path}");
    }
    for (method, path, status) in [("GET", "/v1/nothing", 404), ("PATCH", "/v1/status", 400)] {
        let answered = served.ask(method, path, "").await;
        assert_eq!((answered.status, answered.json()["title"].is_string()), (status, true), "{method} {path}");
    }
}

#[tokio::test]
async fn the_token_counts_only_in_its_header() {
    let served = Served::tcp().await;
    let token = served.token_text();
    for path in [format!("/v1/status?token={token}"), format!("/v1/status?access_token={token}")] {
        let headers = format!("host: localhost\r\ncookie: token={token}\r\n");
        assert_eq!(served.send("GET", &path, &headers, "").await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn browsers_and_rebound_names_are_refused_even_with_the_token() {
    let served = Served::tcp().await;
    let token = format!("authorization: Bearer {}\r\n", served.token_text());
    let status = async |headers: &str| served.send("GET", "/v1/status", &format!("{token}{headers}"), "").await.status;
    assert_eq!(status("host: 127.0.0.1:7171\r\n").await, 200);
    assert_eq!(status("host: node.internal\r\n").await, 200);
    assert_eq!(status("host: evil.example\r\n").await, 403);
    assert_eq!(status("host: localhost\r\norigin: http://localhost\r\n").await, 403);
    assert_eq!(status("host: localhost\r\nsec-fetch-site: same-origin\r\n").await, 403);
    assert_eq!(
        served.send("GET", "http://evil.example/v1/status", &format!("{token}host: localhost\r\n"), "").await.status,
        403
    );
    assert_eq!(served.fake.asked().len(), 2);
}

/// A web page can send a form without a preflight request. The test assumes that the page has guessed the token.
#[tokio::test]
async fn a_form_does_nothing() {
    let served = Served::tcp().await;
    let body = "{\"quotas\":{\"apps\":0}}";
    let headers = format!(
        "host: localhost\r\nauthorization: Bearer {}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n",
        served.token_text(),
        body.len()
    );
    let answered = served.send("PUT", "/v1/tenants/acme", &headers, body).await;
    assert_eq!(answered.status, 400);
    assert!(answered.body.contains("application/json"), "{}", answered.body);
}

#[tokio::test]
async fn a_unix_socket_serves_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut served = Served::unix().await;
    let mode = std::fs::metadata(served.socket_path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(served.client().status().await.unwrap().pid, 1);
    served.client().remove_tenant(&"acme".parse().unwrap()).await.unwrap();
    let lines = served.audit();
    assert_eq!(lines[1]["uid"], serde_json::json!(rustix::process::geteuid().as_raw()));
    assert_eq!(lines[1]["pid"], serde_json::json!(std::process::id()));
    let stranger = Client::new(NodeAddress::from(&served.address), Token::parse(&"0".repeat(64)).unwrap());
    match stranger.status().await {
        Err(ClientError::Problem(problem)) => assert_eq!(problem.kind, ProblemKind::Unauthorized),
        other => panic!("{other:?}"),
    }
    served.stop().await;
    assert!(!served.socket_path().exists());
    assert!(matches!(served.client().status().await, Err(ClientError::Unreachable { .. })));
}
