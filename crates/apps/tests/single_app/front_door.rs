//! Tests of the admission of requests: by host name, by limits, and while an app is loaded.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::Method;
use isomer_apps::{AppSite, GroupHandler};
use isomer_front::{Refusal, ResolvedSite, SiteLookup, SiteResolver};
use isomer_transport::Limiter;
use tokio::sync::oneshot;

use crate::harness::body::whole;
use crate::harness::front::{TestFront, front, site};
use crate::harness::{one, until};

/// The receiver with which a request waits until its app is loaded. The test simulates the load: it sends the app's
/// site.
type PendingSite = oneshot::Receiver<Result<Arc<AppSite>, Refusal>>;

/// The result of resolving a host name.
enum HostResult {
    Site(Arc<AppSite>),
    /// A site with a limit on concurrent requests.
    Counted(Limiter, Arc<AppSite>),
    /// A site that is loaded while the request waits. The test sends the site.
    Loading(Mutex<Option<PendingSite>>),
    Refused(Refusal),
}

/// A resolver with fixed results, which records the host names that it has resolved.
#[derive(Default)]
struct TestResolver {
    hosts: HashMap<&'static str, HostResult>,
    /// The site for host names that are not in `hosts`.
    any: Option<Arc<AppSite>>,
    resolved: Mutex<Vec<String>>,
}

impl TestResolver {
    fn take_resolved(&self) -> Vec<String> {
        std::mem::take(&mut self.resolved.lock().unwrap())
    }
}

impl SiteResolver<GroupHandler> for TestResolver {
    fn resolve(&self, host: &str) -> Result<ResolvedSite<GroupHandler>, Refusal> {
        self.resolved.lock().unwrap().push(host.to_owned());
        let (place, site) = match self.hosts.get(host) {
            Some(HostResult::Site(site)) => (None, SiteLookup::Ready(site.begin_request())),
            Some(HostResult::Counted(limiter, site)) => {
                let permit = limiter.try_acquire().ok_or(Refusal::Concurrency)?;
                (Some(permit), SiteLookup::Ready(site.begin_request()))
            }
            Some(HostResult::Loading(site)) => {
                let site = site.lock().unwrap().take().ok_or(Refusal::Loading)?;
                let loading = async {
                    let site: Result<Arc<AppSite>, Refusal> = site.await.unwrap_or(Err(Refusal::Broken));
                    site.map(|site| site.begin_request())
                };
                (None, SiteLookup::Loading(Box::pin(loading)))
            }
            Some(HostResult::Refused(refusal)) => return Err(refusal.clone()),
            None => {
                let site = self.any.clone().ok_or(Refusal::NoHost)?;
                (None, SiteLookup::Ready(site.begin_request()))
            }
        };
        Ok(ResolvedSite { permit: place, site })
    }
}

/// Starts a front door whose resolver has results for `hosts`.
async fn before(hosts: impl IntoIterator<Item = (&'static str, HostResult)>) -> (TestFront, Arc<TestResolver>) {
    let names = Arc::new(TestResolver { hosts: hosts.into_iter().collect(), ..TestResolver::default() });
    (front(names.clone(), |_| {}).await, names)
}

/// Sends the bytes `request` over a new connection and returns the status of the response.
async fn status(front: &TestFront, request: &str) -> u16 {
    let mut raw = front.connect_raw().await;
    raw.write(request).await;
    let response = raw.read_all().await;
    let status = response.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status.and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{request:?}: {response:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn host_names_are_normalised_once() {
    let (front, names) = before([]).await;
    let long = format!("{}.example", "a".repeat(300));
    for (target, header, resolved) in [
        ("/", "Host: shop.example", Some("shop.example")),
        ("/", "Host: SHOP.example:8080", Some("shop.example")),
        ("/", "hOST:  shop.example.  ", Some("shop.example")),
        ("/", "Host: [0:0::1]:80", Some("[::1]")),
        ("/", "Host: 127.0.0.1", Some("127.0.0.1")),
        // The target of the request has precedence over its `Host` header (RFC 9112, section 3.2.2).
        ("http://Shop.Example:80/", "Host: other.example", Some("shop.example")),
        ("http://shop.example", "Host: ", Some("shop.example")),
        ("http://user@shop.example/", "Host: shop.example", None),
        ("http://shop.example/", "X: y", None),
        ("/", "X: y", None),
        ("/", "Host: ", None),
        ("/", "Host: .", None),
        ("/", "Host: a..example", None),
        ("/", "Host: *", None),
        ("/", "Host: *.example", None),
        ("/", "Host: shop.example:80:80", None),
        ("/", "Host: shop.example:99999", None),
        ("/", "Host: user@shop.example", None),
        ("/", "Host: shop.example@user", None),
        ("/", "Host: shop.example/path", None),
        ("/", "Host: shop.example\tother.example", None),
        ("/", "Host: shop.example, other.example", None),
        ("/", "Host: shop%2eexample", None),
        ("/", "Host: b\u{fc}cher.example", None),
        ("/", "Host: [::1", None),
        ("/", "Host: ::1", None),
        ("/", "Host: shop.example\r\nHost: shop.example", None),
        ("/", "Host: shop.example\r\nHost: other.example", None),
        ("/", &format!("Host: {long}"), None),
    ] {
        let status = status(&front, &format!("GET {target} HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(status, if resolved.is_some() { 404 } else { 400 }, "{target} {header:?}");
        assert_eq!(names.take_resolved(), resolved.into_iter().collect::<Vec<_>>(), "{target} {header:?}");
    }
    // Folded header lines are no longer part of HTTP (RFC 9112, section 5.2).
    assert_eq!(status(&front, "GET / HTTP/1.1\r\nHost: a\r\n b\r\nConnection: close\r\n\r\n").await, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_and_authority_must_agree_over_http2() {
    let (front, names) = before([]).await;
    for (authority, header, resolved) in [
        ("Shop.Example:443", None, Some("shop.example")),
        ("shop.example", Some("SHOP.example."), Some("shop.example")),
        ("shop.example:80", Some("shop.example:80"), Some("shop.example")),
        ("shop.example", Some("other.example"), None),
        ("shop.example:80", Some("shop.example:81"), None),
        ("shop.example", Some("user@shop.example"), None),
        ("*.example", None, None),
    ] {
        let mut connection = front.connect_http2().await;
        let mut request = ::http::Request::builder().uri(format!("http://{authority}/"));
        if let Some(header) = header {
            request = request.header("host", header);
        }
        let response = connection.exchange(request.body(whole("")).expect("a valid request")).await;
        response.problem(if resolved.is_some() { 404 } else { 400 });
        assert_eq!(names.take_resolved(), resolved.into_iter().collect::<Vec<_>>(), "{authority} {header:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_own_problem() {
    let wait = Duration::from_millis(1200);
    let (front, _) = before([
        ("unbuilt.example", HostResult::Refused(Refusal::NotBuilt)),
        ("stopped.example", HostResult::Refused(Refusal::Stopped)),
        ("rate.example", HostResult::Refused(Refusal::Rate { retry_after: wait })),
        ("many.example", HostResult::Refused(Refusal::Concurrency)),
        ("cpu.example", HostResult::Refused(Refusal::Cpu { retry_after: Duration::from_millis(1) })),
        ("loading.example", HostResult::Refused(Refusal::Loading)),
        ("broken.example", HostResult::Refused(Refusal::Broken)),
    ])
    .await;
    for (host, status, quota, retry_after) in [
        ("unknown.example", 404, None, ""),
        ("unbuilt.example", 503, None, "1"),
        ("stopped.example", 503, None, ""),
        ("rate.example", 429, Some("request-rate"), "2"),
        ("many.example", 429, Some("concurrent-requests"), "1"),
        ("cpu.example", 429, Some("cpu"), "1"),
        ("loading.example", 503, None, "1"),
        ("broken.example", 500, None, ""),
    ] {
        let mut connection = front.connect_http2().await;
        let request = ::http::Request::builder().uri(format!("http://{host}/"));
        let response = connection.exchange(request.body(whole("")).expect("a valid request")).await;
        response.problem(status);
        let problem: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(problem["quota"].as_str(), quota, "{host}");
        assert_eq!(response.header("retry-after"), retry_after, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_is_held_until_the_response_was_read() {
    let (_kept, stream) = site(&one("http-stream", "")).await;
    let limiter = Limiter::new(1);
    let (front, _) = before([
        ("one.example", HostResult::Counted(limiter.clone(), stream.clone())),
        ("other.example", HostResult::Site(stream)),
    ])
    .await;
    let ask = |target: &str| ::http::Request::builder().method(Method::POST).uri(format!("http://{target}"));
    for mut connection in [front.connect_http2().await, front.connect_http2().await] {
        let (piece, body) = crate::harness::body::pieces();
        let running = connection.send(ask("one.example/echo").body(body).expect("a valid request")).await;
        assert_eq!(running.status(), 200);
        let mut second = front.connect_http2().await;
        second.exchange(ask("one.example/echo").body(whole("")).expect("a valid request")).await.problem(429);
        let other = ask("other.example/echo").body(whole("other")).expect("a valid request");
        assert_eq!(second.exchange(other).await.ok(), "other");
        // After a request has ended or its client has disconnected, the next request is admitted.
        drop((piece, running, connection));
        let free = async || (limiter.in_use() == 0).then_some(());
        until("the permit to be released", free).await;
        let next = ask("one.example/echo").body(whole("next")).expect("a valid request");
        assert_eq!(second.exchange(next).await.ok(), "next");
        until("the permit to be released", free).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_while_its_app_is_loaded() {
    let (_kept, hello) = site(&one("http-hello", "")).await;
    let (loaded, loading) = oneshot::channel();
    let (broken, breaking) = oneshot::channel();
    let (front, names) = before([
        ("cold.example", HostResult::Loading(Mutex::new(Some(loading)))),
        ("broken.example", HostResult::Loading(Mutex::new(Some(breaking)))),
    ])
    .await;
    let ask = |host: &str| {
        let request = ::http::Request::builder().uri(format!("http://{host}/"));
        request.body(whole("")).expect("a valid request")
    };
    let (mut first, mut second) = (front.connect_http2().await, front.connect_http2().await);
    let waiting = tokio::spawn(async move { first.exchange(ask("cold.example")).await });
    let failing = tokio::spawn(async move { second.exchange(ask("broken.example")).await });
    until("both requests to wait", async || (names.resolved.lock().unwrap().len() == 2).then_some(())).await;
    assert!(loaded.send(Ok(hello)).is_ok() && broken.send(Err(Refusal::Broken)).is_ok());
    assert_eq!(waiting.await.expect("a response").ok(), "hello from WASI 0.3\n");
    failing.await.expect("a response").problem(500);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_load_is_limited() {
    let (_never, loading) = oneshot::channel();
    let hosts = HashMap::from([("cold.example", HostResult::Loading(Mutex::new(Some(loading))))]);
    let names = Arc::new(TestResolver { hosts, ..TestResolver::default() });
    let front = front(names, |limits| limits.load_timeout = Duration::from_millis(20)).await;
    let request = ::http::Request::builder().uri("http://cold.example/").body(whole("")).expect("a valid request");
    let response = front.connect_http2().await.exchange(request).await;
    response.problem(503);
    assert_eq!(response.header("retry-after"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_path_answers_under_every_host_name() {
    let (front, names) = before([("stopped.example", HostResult::Refused(Refusal::Stopped))]).await;
    for host in ["Host: stopped.example", "Host: unknown.example", "Host: 10.1.2.3:80"] {
        let request = format!("GET /.isomer/health HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&front, &request).await, 200, "{host}");
    }
    assert!(names.take_resolved().is_empty());
}
