//! Attacks on the gateway, and the requests of well-behaved tabs, with a fake callee and without a connection.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Mutex;

use bytes::Bytes;
use http::header::COOKIE;
use http::uri::Scheme;
use http::{HeaderMap, StatusCode};
use isomer_gateway::{AppGateway, BrowserParts, BrowserRevision, KEY_BYTES, NewStaticFile, StaticFiles};
use isomer_gateway::{CALL_TYPE, PublishedFunction, PublishedFunctions, SiteGateway};
use isomer_ids::PlanDigest;
use isomer_wire::frame::FrameHead as _;
use isomer_wire::image::{BASE, BLOCKS};
use isomer_wire::{Call, CallError, CallFailure, CallHead, CallResult, Callee, FunctionKey, ReplyHead};

use super::tests::{HOST, Received, World};
use super::*;
use crate::fake::{FakeResponse, target, target_with};

pub(super) const PLAN: PlanDigest = PlanDigest([7; 16]);
const GET_CART: FunctionKey = FunctionKey([1; 16]);
pub(super) const SHIP: FunctionKey = FunctionKey([2; 16]);
const UNLISTED: FunctionKey = FunctionKey([3; 16]);
const TRAPS: FunctionKey = FunctionKey([4; 16]);
const WAITS: FunctionKey = FunctionKey([5; 16]);
pub(super) const GROWS: FunctionKey = FunctionKey([6; 16]);

/// A callee with all functions of the app. It returns the image of the arguments.
#[derive(Default)]
pub(super) struct FakeCallee(pub(super) Mutex<Vec<Call>>);

impl Callee for FakeCallee {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>> {
        let (function, image) = (call.function, call.image.clone());
        self.0.lock().expect("no test panics with it").push(call);
        match function {
            TRAPS => Box::pin(std::future::ready(Err(CallFailure::trap("password in the backtrace")))),
            WAITS => Box::pin(std::future::pending()),
            GROWS => Box::pin(std::future::ready(Ok(vec![0; 1 << 20]))),
            _ => Box::pin(std::future::ready(Ok(image))),
        }
    }
}

/// A shop with a browser group, and what its callee has received.
pub(super) struct Shop {
    pub(super) world: World,
    pub(super) callee: Arc<FakeCallee>,
    pub(super) gateway: Arc<AppGateway>,
}

/// A browser with its cookies.
#[derive(Default)]
pub(super) struct Browser {
    pub(super) cookies: HashMap<String, String>,
}

pub(super) fn revision(plan: PlanDigest, callee: &Arc<FakeCallee>) -> Arc<BrowserRevision> {
    let function = |key, identity_offset| PublishedFunction {
        key,
        component: "cart".into(),
        identity_offset,
        allowed: Duration::from_millis(50),
    };
    let worker = Bytes::from_static(b"let worker = 1;");
    let file = NewStaticFile::compressed("sw.js".to_owned(), worker, "text/javascript".to_owned());
    let of_all = [SHIP, TRAPS, WAITS, GROWS].map(|key| function(key, None));
    let functions = of_all.into_iter().chain([function(GET_CART, Some(0))]);
    Arc::new(BrowserRevision::new(BrowserParts {
        functions: PublishedFunctions::new(plan, functions),
        callee: callee.clone(),
        files: Some(StaticFiles::new("abc", "sw.js", [file]).expect("valid files")),
        components: ["frontend".to_owned()].into(),
        config: Default::default(),
        cookie: Some("shop_session".to_owned()),
        image_bytes_max: 4096,
        memory: None,
    }))
}

impl Shop {
    pub(super) fn new() -> Self {
        Self::with_page(FakeResponse::Page("<p>shop</p>", ""))
    }

    fn with_page(page: FakeResponse) -> Self {
        let callee = Arc::new(FakeCallee::default());
        let (gateway, revision) = (Arc::new(AppGateway::new(&[1; KEY_BYTES])), revision(PLAN, &callee));
        let site_gateway = SiteGateway { app: gateway.clone(), revision };
        let frontend = target_with("frontend", page);
        let serve = |site: Site<_>| site.serving_tabs(site_gateway, &frontend);
        let world =
            World::of(serve, [("/", frontend.clone()), ("/text", target("frontend"))], &Limits::default(), false);
        Self { world, callee, gateway }
    }

    /// Opens the page in a new browser, and returns the browser.
    pub(super) async fn visitor(&self) -> Browser {
        let mut browser = Browser::default();
        browser.open(self).await;
        browser
    }

    fn received(&self) -> Vec<Call> {
        std::mem::take(&mut *self.callee.0.lock().expect("no test panics with it"))
    }
}

impl Browser {
    fn cookie(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn keep(&mut self, received: &Received) {
        for line in received.headers.get_all("set-cookie") {
            let line = line.to_str().expect("text");
            let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
            let (name, value) = pair.split_once('=').expect("a pair");
            match attributes.contains("Max-Age=0") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
    }

    async fn open(&mut self, shop: &Shop) -> Received {
        let request = Request::builder()
            .uri("/")
            .header("host", HOST)
            .header("cookie", self.cookie())
            .header("sec-fetch-site", "none")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document");
        let received = shop.world.send_from("192.0.2.7", request, Bytes::new()).await;
        self.keep(&received);
        received
    }

    /// Returns a request to the gateway as a service worker sends it.
    pub(super) fn request(&self, path: &str, kind: &str) -> http::request::Builder {
        Request::builder()
            .method("POST")
            .uri(path)
            .header("host", HOST)
            .header("origin", format!("http://{HOST}"))
            .header("sec-fetch-site", "same-origin")
            .header("content-type", kind)
            .header("cookie", self.cookie())
    }

    pub(super) async fn post(&mut self, shop: &Shop, path: &str, body: &str) -> Received {
        let request = self.request(path, "application/json");
        let received = shop.world.send_from("192.0.2.7", request, Bytes::copy_from_slice(body.as_bytes())).await;
        self.keep(&received);
        received
    }

    pub(super) async fn identity(&mut self, shop: &Shop) -> String {
        let received = self.post(shop, "/_isomer/session", "").await;
        assert_eq!(received.status, StatusCode::OK);
        let report: serde_json::Value = serde_json::from_slice(&received.body).expect("JSON");
        report["identity"].as_str().expect("text").to_owned()
    }

    pub(super) async fn call(&self, shop: &Shop, frame: Vec<u8>) -> Received {
        let request = self.request("/_isomer/call", CALL_TYPE).header("isomer-revision", PLAN.to_string());
        shop.world.send_from("192.0.2.7", request, frame.into()).await
    }
}

/// Returns the image of one string argument.
fn image(text: &str) -> Vec<u8> {
    let mut image = vec![0; (BLOCKS - BASE) as usize];
    image[..4].copy_from_slice(&BLOCKS.to_le_bytes());
    image[4..8].copy_from_slice(&u32::try_from(text.len()).expect("short").to_le_bytes());
    image.extend_from_slice(text.as_bytes());
    image
}

pub(super) fn frame(function: FunctionKey, plan: PlanDigest, image: &[u8]) -> Vec<u8> {
    let head = CallHead {
        function,
        remaining: Duration::from_secs(3600),
        request: 99,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        plan,
        image_bytes: u32::try_from(image.len()).expect("short"),
    };
    let mut frame = Vec::new();
    head.encode(&mut frame).expect("a valid head");
    frame.extend_from_slice(image);
    frame
}

/// Returns the reply in a response.
pub(super) fn reply(received: &Received) -> CallResult {
    assert_eq!(received.status, StatusCode::OK, "{:?}", received.body);
    let (head, body) = received.body.split_at(ReplyHead::FIXED_BYTES);
    ReplyHead::parse(head).expect("a valid head").into_result(body.to_vec()).expect("a valid reply")
}

fn lost(received: &Received) -> Option<CallError> {
    reply(received).expect_err("the call fails").lost()
}

#[tokio::test]
async fn a_visitor_can_call_published_functions_with_its_own_identity() {
    let shop = Shop::new();
    let mut browser = shop.visitor().await;
    let identity = browser.identity(&shop).await;
    let image = image(&identity);
    let received = browser.call(&shop, frame(GET_CART, PLAN, &image)).await;
    assert_eq!(reply(&received), Ok(image.clone()));
    assert_eq!(received.headers["content-type"], CALL_TYPE);
    assert_eq!(received.headers["cache-control"], "no-store");
    let calls = shop.received();
    let [call] = &calls[..] else { panic!("one call: {calls:?}") };
    assert_eq!((call.function, &call.image, call.is_idempotent), (GET_CART, &image, false));
    assert_ne!(call.context.request, 99, "the request is the front door's");
    let trace = call.context.traceparent.as_deref().expect("a trace");
    assert!(trace.ends_with("-00") && !trace.contains("b7ad6b7169203331"), "{trace}");
    assert!(call.context.deadline <= Instant::now() + Duration::from_millis(50), "the deadline is limited");
    let line = shop.world.access();
    assert_eq!((&line["status"], &line["component"]), (&200.into(), &"frontend".into()));
}

#[tokio::test]
async fn two_browsers_cannot_use_each_others_sessions() {
    let shop = Shop::new();
    let (mut alice, mut mallory) = (shop.visitor().await, shop.visitor().await);
    let (victim, own) = (alice.identity(&shop).await, mallory.identity(&shop).await);
    assert_ne!(victim, own);
    let received = mallory.call(&shop, frame(GET_CART, PLAN, &image(&victim))).await;
    assert_eq!(received.status, StatusCode::UNAUTHORIZED);
    // Knowing an identity does not help to forge a cookie.
    let name = mallory.cookies.keys().next().expect("a cookie").clone();
    for forged in [victim.clone(), format!("{victim}{victim}"), "0".repeat(104)] {
        let thief = Browser { cookies: HashMap::from([(name.clone(), forged)]) };
        let received = thief.call(&shop, frame(GET_CART, PLAN, &image(&victim))).await;
        assert_eq!(received.status, StatusCode::UNAUTHORIZED);
    }
    // A page with the app's own cookie, set by the client, gets the identity of the session.
    mallory.cookies.insert("shop_session".to_owned(), victim.clone());
    mallory.open(&shop).await;
    assert_eq!(mallory.identity(&shop).await, own);
    assert_eq!(shop.received().len(), 0);
}

#[tokio::test]
async fn unlisted_functions_and_other_revisions_are_refused() {
    let shop = Shop::new();
    let mut browser = shop.visitor().await;
    let identity = browser.identity(&shop).await;
    for frame in [frame(UNLISTED, PLAN, &image(&identity)), frame(GET_CART, PlanDigest([8; 16]), &image(&identity))] {
        assert_eq!(lost(&browser.call(&shop, frame).await), Some(CallError::Refused));
    }
    assert_eq!(shop.received().len(), 0);
}

#[tokio::test]
async fn forged_frames_run_nothing() {
    let shop = Shop::new();
    let mut browser = shop.visitor().await;
    let identity = browser.identity(&shop).await;
    let valid = frame(GET_CART, PLAN, &image(&identity));
    for cut in [0, 1, 40, valid.len() - 1] {
        assert_eq!(lost(&browser.call(&shop, valid[..cut].to_vec()).await), Some(CallError::Refused), "{cut}");
    }
    for at in 0..8 {
        let mut changed = valid.clone();
        changed[at] ^= 0x80;
        let received = browser.call(&shop, changed).await;
        assert!(received.status != StatusCode::OK || reply(&received).is_err(), "byte {at}");
    }
    let longer = [&valid[..], b"x"].concat();
    assert_eq!(lost(&browser.call(&shop, longer).await), Some(CallError::Refused));
    // The address of the string is outside of the image, or its length is.
    for (at, value) in [(0, 0_u32), (0, u32::MAX), (4, u32::MAX), (4, 33)] {
        let mut image = image(&identity);
        image[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(lost(&browser.call(&shop, frame(GET_CART, PLAN, &image)).await), Some(CallError::Refused));
    }
    assert_eq!(shop.received().len(), 0);
}

#[tokio::test]
async fn oversized_bodies_are_not_read() {
    let shop = Shop::new();
    let mut browser = shop.visitor().await;
    for body in [frame(SHIP, PLAN, &vec![0; 5000]), vec![0; 100_000]] {
        assert_eq!(browser.call(&shop, body).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
    let lines = format!("{{\"lines\":[{}]}}", " ".repeat(100_000));
    assert_eq!(browser.post(&shop, "/_isomer/logs", &lines).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(shop.received().len(), 0);
}

#[tokio::test]
async fn requests_of_other_origins_are_refused() {
    let shop = Shop::new();
    let mut browser = shop.visitor().await;
    let identity = browser.identity(&shop).await;
    let body = Bytes::from(frame(GET_CART, PLAN, &image(&identity)));
    let of = |origin: Option<&str>, site: &str, kind: &str| {
        let request = Request::builder().method("POST").uri("/_isomer/call").header("host", HOST);
        let request = request.header("cookie", browser.cookie()).header("sec-fetch-site", site);
        let request = request.header("content-type", kind).header("isomer-revision", PLAN.to_string());
        match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        }
    };
    let own = format!("http://{HOST}");
    for (origin, site, kind, status) in [
        (Some(own.as_str()), "same-origin", CALL_TYPE, 200),
        (None, "same-origin", CALL_TYPE, 403),
        (Some("null"), "same-origin", CALL_TYPE, 403),
        (Some("http://evil.example"), "same-origin", CALL_TYPE, 403),
        (Some("https://shop.example"), "same-origin", CALL_TYPE, 403),
        (Some(own.as_str()), "same-site", CALL_TYPE, 403),
        (Some(own.as_str()), "cross-site", CALL_TYPE, 403),
        (Some(own.as_str()), "none", CALL_TYPE, 403),
        (Some(own.as_str()), "same-origin", "text/plain", 415),
        (Some(own.as_str()), "same-origin", "application/x-www-form-urlencoded", 415),
    ] {
        let received = shop.world.send_from("192.0.2.7", of(origin, site, kind), body.clone()).await;
        assert_eq!(received.status, status, "{origin:?} {site} {kind}");
        assert!(!received.headers.contains_key("access-control-allow-origin"));
    }
    assert_eq!(shop.received().len(), 1);
    // A preflight request, with which a browser asks for permission, is refused.
    let preflight = Request::builder().method("OPTIONS").uri("/_isomer/call").header("host", HOST);
    let preflight = preflight.header("origin", "http://evil.example").header("access-control-request-method", "POST");
    let received = shop.world.send_from("192.0.2.7", preflight, Bytes::new()).await;
    assert_eq!(received.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(!received.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_cross_site_form_cannot_replace_a_session() {
    let shop = Shop::new();
    let form = Request::builder().method("POST").uri("/").header("host", HOST);
    let form = form.header("origin", "http://evil.example").header("sec-fetch-site", "cross-site");
    let form = form.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
    let received = shop.world.send_from("192.0.2.7", form, Bytes::new()).await;
    assert!(!received.headers.contains_key("set-cookie"), "{:?}", received.headers);
}

#[tokio::test]
async fn failures_reach_the_tab_without_their_reasons() {
    let shop = Shop::new();
    let browser = shop.visitor().await;
    let received = browser.call(&shop, frame(TRAPS, PLAN, &[])).await;
    let failure = reply(&received).expect_err("it traps");
    assert!(matches!(failure, CallFailure::Trap { .. }) && !failure.to_string().contains("password"), "{failure}");
    let received = browser.call(&shop, frame(WAITS, PLAN, &[])).await;
    assert_eq!(lost(&received), Some(CallError::Deadline));
}

#[tokio::test]
async fn floods_of_one_session_are_limited() {
    let shop = Shop::new();
    let (flooding, other) = (shop.visitor().await, shop.visitor().await);
    let headers = HeaderMap::from_iter([(COOKIE, flooding.cookie().parse().expect("valid"))]);
    let session = shop.gateway.session(&headers, &Scheme::HTTP, RequestTime::now()).expect("a session");
    // The time of the flood is in the future, so no token is added while the test runs.
    let later = RequestTime { instant: Instant::now() + Duration::from_secs(3600), ..RequestTime::now() };
    let client = GatewayClient { network: None, scheme: Scheme::HTTP };
    while shop.gateway.admit(Some(session.identity()), &client, 1, later).is_ok() {}
    // A session can be used from many addresses.
    for address in ["192.0.2.7", "198.51.100.1"] {
        let request = flooding.request("/_isomer/call", CALL_TYPE).header("isomer-revision", PLAN.to_string());
        let received = shop.world.send_from(address, request, frame(SHIP, PLAN, &[]).into()).await;
        assert_eq!(received.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(received.headers.contains_key("retry-after"));
    }
    assert_eq!(reply(&other.call(&shop, frame(SHIP, PLAN, &[])).await), Ok(vec![]));
}

#[tokio::test]
async fn pages_get_the_script_and_other_responses_do_not() {
    let shop = Shop::new();
    let mut browser = Browser::default();
    let page = browser.open(&shop).await;
    assert!(page.body.starts_with(b"<p>shop</p><script>") && page.body.ends_with(b"</script>"));
    assert_eq!(page.headers["content-length"], page.body.len().to_string());
    let fetch = Request::builder().uri("/").header("host", HOST);
    let fetched = shop.world.send_from("192.0.2.7", fetch, Bytes::new()).await;
    assert_eq!(&fetched.body[..], b"<p>shop</p>");
    let worker = Request::builder().uri("/_isomer/worker.js").header("host", HOST);
    let worker = shop.world.send_from("192.0.2.7", worker, Bytes::new()).await;
    assert_eq!(&worker.body[..], b"import \"/_isomer/web/abc/sw.js\";\n");
    assert_eq!(worker.headers["service-worker-allowed"], "/");
    let file = Request::builder().uri("/_isomer/web/abc/sw.js").header("host", HOST);
    let file = shop.world.send_from("192.0.2.7", file, Bytes::new()).await;
    assert_eq!((file.status, &file.body[..]), (StatusCode::OK, &b"let worker = 1;"[..]));
    for path in ["/_isomer/web/abd/sw.js", "/_isomer/web/abc/..%2f..%2fetc", "/_isomer/other", "/_isomer/"] {
        let request = Request::builder().uri(path).header("host", HOST);
        assert_eq!(shop.world.send_from("192.0.2.7", request, Bytes::new()).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_login_in_a_component_starts_another_session() {
    let shop = Shop::with_page(FakeResponse::Page("<p>welcome</p>", "shop_session=chosen-by-the-app; Path=/"));
    let mut browser = Browser::default();
    browser.post(&shop, "/_isomer/session", "").await;
    let before = browser.identity(&shop).await;
    let page = browser.open(&shop).await;
    assert!(!page.headers.get_all("set-cookie").iter().any(|line| line.as_bytes().starts_with(b"shop_session")));
    assert_ne!(browser.identity(&shop).await, before);
}

#[tokio::test]
async fn a_tab_logs_and_sets_cookies_within_limits() {
    let shop = Shop::new();
    let mut browser = shop.visitor().await;
    let lines = r#"{"lines":[{"component":"frontend","stream":"stdout","message":"from the tab"}]}"#;
    assert_eq!(browser.post(&shop, "/_isomer/logs", lines).await.status, StatusCode::NO_CONTENT);
    let [line] = &shop.world.log_lines("from the tab")[..] else { panic!("one line") };
    assert!(line["stream"] == "tab", "lines of tabs cannot imitate those of the server: {line}");
    let other = r#"{"lines":[{"component":"cart","message":"forged"}]}"#;
    assert_eq!(browser.post(&shop, "/_isomer/logs", other).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(shop.world.log_lines("forged").len(), 0);

    let set = browser.post(&shop, "/_isomer/cookies", r#"{"set_cookie":["cart=1; Path=/; HttpOnly"]}"#).await;
    assert_eq!(
        (set.status, &set.headers["set-cookie"]),
        (StatusCode::NO_CONTENT, &"cart=1; Path=/; HttpOnly".parse().expect("valid"))
    );
    for line in [
        "cart=1",
        "cart=1; HttpOnly; Domain=example",
        "isomer-session-00000000=x; HttpOnly",
        "__Host-isomer-session=x; HttpOnly",
        "cart=1\\r\\nset-cookie: a=b; HttpOnly",
    ] {
        let body = format!(r#"{{"set_cookie":["{line}"]}}"#);
        assert_eq!(browser.post(&shop, "/_isomer/cookies", &body).await.status, StatusCode::BAD_REQUEST, "{line}");
    }
    let before = browser.identity(&shop).await;
    let logout = browser.post(&shop, "/_isomer/cookies", r#"{"set_cookie":["shop_session=; Max-Age=0"]}"#).await;
    assert_eq!(logout.status, StatusCode::OK);
    assert_ne!(browser.identity(&shop).await, before);
}

#[tokio::test]
async fn a_call_without_memory_is_refused() {
    let callee = Arc::new(FakeCallee::default());
    let (gateway, revision) = (Arc::new(AppGateway::new(&[1; KEY_BYTES])), revision(PLAN, &callee));
    let poor = RouteTarget { handler: target("frontend").handler.without_memory(), ..target("frontend") };
    let site_gateway = SiteGateway { app: gateway, revision };
    let page = target_with("frontend", FakeResponse::Page("", ""));
    let world = World::of(|site| site.serving_tabs(site_gateway, &poor), [("/", page)], &Limits::default(), false);
    let mut browser = Browser::default();
    let session = browser.request("/_isomer/session", "application/json");
    browser.keep(&world.send_from("192.0.2.7", session, Bytes::new()).await);
    let request = browser.request("/_isomer/call", CALL_TYPE).header("isomer-revision", PLAN.to_string());
    let received = world.send_from("192.0.2.7", request, frame(SHIP, PLAN, &[0]).into()).await;
    assert_eq!(received.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(callee.0.lock().expect("no test panics with it").is_empty());
}
