//! Tests of the dashboard on the admin API's listener: its files, and sessions with the rights of their tokens.

use isomer_api::TokenRole;

use crate::served::{Answered, Served};

/// The cookie and the key of a session.
struct Session {
    cookie: String,
    key: String,
}

impl Session {
    /// Opens a session as a page does, with a code that the holder of `token` has created.
    async fn open(served: &Served, token: &str) -> Self {
        let code = served.ask_with(token, "POST", "/v1/dashboard-codes", "").await.json();
        let answer = exchange(served, code["code"].as_str().unwrap()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        assert!(cookie.contains("httponly") && cookie.contains("samesite=strict"), "{cookie}");
        let key = answer.json()["key"].as_str().unwrap().to_owned();
        Self { cookie: cookie.split(';').next().unwrap().to_owned(), key }
    }

    /// Sends a request as a page of the dashboard does.
    async fn ask(&self, served: &Served, method: &str, path: &str, origin: &str) -> Answered {
        let Self { cookie, key } = self;
        let fields = format!(
            "host: {HOST}\r\norigin: {origin}\r\ncookie: {cookie}\r\nx-isomer-dashboard-key: {key}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        );
        served.send(method, path, &fields, "{}").await
    }

    async fn get(&self, served: &Served, path: &str) -> Answered {
        self.ask(served, "GET", path, OWN).await
    }
}

const HOST: &str = "localhost:7171";
const OWN: &str = "http://localhost:7171";

async fn exchange(served: &Served, code: &str) -> Answered {
    let fields = format!("host: {HOST}\r\norigin: {OWN}\r\nx-isomer-dashboard-code: {code}\r\ncontent-length: 0\r\n");
    served.send("POST", "/dashboard/session", &fields, "").await
}

#[tokio::test]
async fn pages_need_no_session_but_the_right_host() {
    let served = Served::tcp().await;
    for path in ["/", "/traces/0af7?app=a", "/assets/main.js"] {
        let answer = served.send("GET", path, &format!("host: {HOST}\r\nsec-fetch-site: none\r\n"), "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains("content-security-policy: default-src 'none'"), "{}", answer.head);
        let rebound = served.send("GET", path, "host: evil.example\r\n", "").await;
        assert_eq!(rebound.status, 403, "{path}");
    }
    let answer = served.send("GET", "/assets/none.js", &format!("host: {HOST}\r\n"), "").await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_session_has_the_rights_of_its_token() {
    let served = Served::tcp().await;
    let node = Session::open(&served, &served.token_text()).await;
    assert_eq!(node.get(&served, "/v1/status").await.status, 200);
    let token = served.tenant_token("acme", "reader", TokenRole::Read).await;
    let tenant = Session::open(&served, &token).await;
    assert_eq!(tenant.get(&served, "/v1/apps").await.status, 200);
    assert_eq!(tenant.get(&served, "/v1/status").await.status, 403);
    assert_eq!(tenant.get(&served, "/v1/apps?tenant=other").await.status, 403);
    let rollback = tenant.ask(&served, "POST", "/v1/tenants/acme/apps/shop/rollback", OWN).await;
    assert_eq!(rollback.status, 403, "{rollback:?}");
    assert_eq!(tenant.get(&served, "/v1/none").await.status, 404, "a session learns that a path does not exist");
    let codes = node.ask(&served, "POST", "/v1/dashboard-codes", OWN).await;
    assert_eq!(codes.status, 403, "a session creates no other sessions");
    served.client().revoke_token(&"acme".parse().unwrap(), &"reader".parse().unwrap()).await.unwrap();
    assert_eq!(tenant.get(&served, "/v1/apps").await.status, 401, "the token was revoked");
}

#[tokio::test]
async fn cookie_key_and_origin_are_needed() {
    let served = Served::tcp().await;
    let session = Session::open(&served, &served.token_text()).await;
    for origin in ["http://localhost:3000", "http://evil.example", "null"] {
        for method in ["GET", "POST"] {
            assert_eq!(session.ask(&served, method, "/v1/missing", origin).await.status, 403, "{method} {origin}");
        }
    }
    let Session { cookie, key } = &session;
    let cookie_only = served.send("GET", "/v1/status", &format!("host: {HOST}\r\ncookie: {cookie}\r\n"), "").await;
    assert_eq!(cookie_only.status, 401);
    let fields = format!("host: {HOST}\r\nx-isomer-dashboard-key: {key}\r\n");
    assert_eq!(served.send("GET", "/v1/status", &fields, "").await.status, 401, "only the key");
    let fields = format!("host: evil.example\r\ncookie: {cookie}\r\nx-isomer-dashboard-key: {key}\r\n");
    assert_eq!(served.send("GET", "/v1/status", &fields, "").await.status, 403, "after DNS rebinding");
    let ended = session.ask(&served, "DELETE", "/dashboard/session", OWN).await;
    assert_eq!(ended.status, 204, "{ended:?}");
    assert_eq!(session.get(&served, "/v1/status").await.status, 401);
}

#[tokio::test]
async fn a_code_is_used_once_and_its_creation_is_recorded() {
    let served = Served::tcp().await;
    let code = served.ask("POST", "/v1/dashboard-codes", "").await.json();
    let code = code["code"].as_str().unwrap();
    assert_eq!(exchange(&served, code).await.status, 200);
    assert_eq!(exchange(&served, code).await.status, 401);
    assert_eq!(exchange(&served, "").await.status, 401);
    let log = std::fs::read_to_string(served.data.path().join(isomer_admin::AUDIT_FILE)).unwrap();
    assert!(log.contains("create-dashboard-code") && !log.contains(code), "{log}");
}
