//! Calls from tabs: the gateway of an app with a browser group, with `seam-caller` in the tab and `seam-callee` on the
//! server. The tests send what a service worker would send.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use isomer_apps::Package;
use isomer_ids::PlanDigest;
use isomer_wire::frame::FrameHead as _;
use isomer_wire::image::{BASE, BLOCKS};
use isomer_wire::{CallError, CallFailure, CallHead, CallResult, FunctionKey, ReplyHead};

use crate::harness::body::{pieces, whole};
use crate::harness::client::TestResponse;
use crate::harness::{Setup, TestNode, components, parse};

/// The app. `wait` returns its parameter `name`, which must be the identity of the session.
const MANIFEST: &str = r#"
    [session]
    cookie = "visitor"

    [components.seam-caller]
    wasm = "seam-caller"
    routes = ["/..."]
    [components.seam-callee]
    wasm = "seam-callee"
    limits.request_deadline = "2s"
    exposed = [
        { functions = "guest:seam/work.wait", session = "name" },
        "guest:seam/work.add", "guest:seam/work.change", "guest:seam/work.echo", "guest:seam/work.make",
        "guest:seam/work.act", "guest:seam/work.act-carefully", "guest:seam/work.act-later",
        "guest:seam/work.act-later-carefully", "guest:seam/work.leave",
    ]
    [shapes.tab.groups]
    client = { components = ["seam-caller"], place = "browser" }
"#;

/// A node with the app, and what a tab knows about it.
struct TabNode {
    node: TestNode,
    plan: PlanDigest,
    functions: Vec<(String, FunctionKey)>,
}

/// A browser: its cookies and its identity.
struct Tab {
    cookie: String,
    identity: String,
}

impl TabNode {
    async fn start() -> Self {
        Self::of(Setup::new(MANIFEST)).await
    }

    async fn of(setup: Setup) -> Self {
        let node = setup.making(|making| making.shape = "tab".to_owned()).start().await;
        let app = parse(&format!("[app]\nname = \"test\"\nversion = \"0.1.0\"\n\n{MANIFEST}"));
        let components = components(&app);
        let plan = isomer_seam::plan(&app, &components, "tab").unwrap_or_else(|error| panic!("no plan: {error:?}"));
        let browser = plan.browser.as_ref().expect("a browser group");
        let functions = browser.functions().map(|(_, function)| (function.function.clone(), function.key)).collect();
        let plan = Package::digest_of(&app, &plan, &components);
        Self { node, plan, functions }
    }

    fn key(&self, function: &str) -> FunctionKey {
        self.functions.iter().find(|(name, _)| name == function).expect("the function is exposed").1
    }

    fn frame(&self, function: &str, image: &[u8]) -> Vec<u8> {
        frame(self.key(function), self.plan, image)
    }

    /// Opens the app in a new browser.
    async fn tab(&self) -> Tab {
        let mut tab = Tab { cookie: String::new(), identity: String::new() };
        tab.refresh(&self.node).await;
        tab
    }

    async fn call(&self, tab: &Tab, frame: Vec<u8>) -> TestResponse {
        let mut connection = self.node.connect().await;
        let request = request(&self.node, tab, "/_isomer/call", "application/vnd.isomer.call");
        let request = request.header("isomer-revision", self.plan.to_string());
        connection.exchange(request.body(whole(frame)).expect("a valid request")).await
    }
}

impl Tab {
    /// Requests the identity, as a service worker does when it starts.
    async fn refresh(&mut self, node: &TestNode) {
        let mut connection = node.connect().await;
        let request = request(node, self, "/_isomer/session", "application/json");
        let response = connection.exchange(request.body(whole("{}")).expect("a valid request")).await;
        let report: serde_json::Value = serde_json::from_str(response.ok()).expect("JSON");
        self.identity = report["identity"].as_str().expect("text").to_owned();
        if let Some((pair, _)) = response.header("set-cookie").split_once(';') {
            self.cookie = pair.to_owned();
        }
    }
}

/// Returns a request as a script of the app's own origin sends it.
fn request(node: &TestNode, tab: &Tab, path: &str, kind: &str) -> http::request::Builder {
    let host = node.address.to_string();
    let request = http::Request::builder().method(Method::POST).uri(path);
    let request = request.header("origin", format!("http://{host}")).header("host", host).header("content-type", kind);
    request.header("sec-fetch-site", "same-origin").header("cookie", &tab.cookie)
}

fn frame(function: FunctionKey, plan: PlanDigest, image: &[u8]) -> Vec<u8> {
    let head = CallHead {
        function,
        remaining: Duration::from_secs(60),
        request: 1,
        traceparent: None,
        plan,
        image_bytes: u32::try_from(image.len()).expect("short"),
    };
    let mut frame = Vec::new();
    head.encode(&mut frame).expect("a valid head");
    frame.extend_from_slice(image);
    frame
}

/// Returns the image of a string and a number, as the stub of `wait` encodes them.
fn text_image(text: &str, number: u32) -> Vec<u8> {
    let mut image = vec![0; (BLOCKS - BASE) as usize];
    image[..4].copy_from_slice(&BLOCKS.to_le_bytes());
    image[4..8].copy_from_slice(&u32::try_from(text.len()).expect("short").to_le_bytes());
    image[8..12].copy_from_slice(&number.to_le_bytes());
    image.extend_from_slice(text.as_bytes());
    image
}

#[track_caller]
fn reply(response: &TestResponse) -> CallResult {
    assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    assert_eq!(response.header("content-type"), "application/vnd.isomer.call");
    let (head, body) = response.body.split_at(ReplyHead::FIXED_BYTES);
    ReplyHead::parse(head).expect("a valid head").into_result(body.to_vec()).expect("a valid reply")
}

/// Returns the text in the image of a result.
fn text_of(image: &[u8]) -> String {
    let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().expect("four bytes")) as usize;
    let start = word(0) - BASE as usize;
    String::from_utf8(image[start..start + word(4)].to_vec()).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tab_calls_the_server_with_its_own_identity_only() {
    let app = TabNode::start().await;
    let (alice, mallory) = (app.tab().await, app.tab().await);
    assert_ne!(alice.identity, mallory.identity);
    let own = app.call(&alice, app.frame("wait", &text_image(&alice.identity, 1))).await;
    assert_eq!(text_of(&reply(&own).expect("a result")), alice.identity);
    app.call(&mallory, app.frame("wait", &text_image(&alice.identity, 1))).await.problem(401);
    app.call(&mallory, app.frame("wait", &text_image("", 1))).await.problem(401);
    // A function without an identity parameter.
    let sum = app.call(&mallory, app.frame("add", &[2, 0, 0, 0, 3, 0, 0, 0])).await;
    assert_eq!(reply(&sum), Ok(vec![5, 0, 0, 0]));
    // Without a session.
    let stranger = Tab { cookie: String::new(), identity: String::new() };
    app.call(&stranger, app.frame("add", &[0; 8])).await.problem(401);
    // The call is in the access log, with the pattern of its route.
    let event = app.node.event("access", |event| event["target"] == "/_isomer/call" && event["status"] == 200).await;
    assert_eq!(event["component"], "client");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_copy_and_the_tab_have_one_identity() {
    let app = TabNode::start().await;
    let mut tab = app.tab().await;
    let before = tab.identity.clone();
    // The server's copy of the app responds to the same routes.
    assert_eq!(app.node.get("/add?a=1&b=2").await.ok(), "3\n");
    // Sessions survive a restart.
    let node = app.node.restart(MANIFEST).await;
    tab.refresh(&node).await;
    assert_eq!(tab.identity, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_loads_the_page_the_worker_and_its_files() {
    let app = TabNode::start().await;
    let mut connection = app.node.connect().await;
    let page = connection.request(Method::GET, "/add?a=1&b=2");
    let page = page.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
    let page = connection.exchange(page.body(whole("")).expect("a valid request")).await;
    assert_eq!(page.ok(), "3\n", "a text gets no script");
    assert!(page.header("set-cookie").starts_with("isomer-session-"), "{:?}", page.headers);
    let worker = connection.get("/_isomer/worker.js").await;
    assert_eq!(worker.header("service-worker-allowed"), "/");
    let entry = worker.ok().strip_prefix("import \"").and_then(|rest| rest.strip_suffix("\";\n"));
    let entry = entry.expect("the worker imports one file");
    assert!(entry.starts_with("/_isomer/web/"), "{entry}");
    let folder = entry.rsplit_once('/').expect("a path").0;
    let modules = format!("{folder}/modules.bin");
    for (name, kind) in [(entry, "text/javascript; charset=utf-8"), (&modules, "application/octet-stream")] {
        let file = connection.get(name).await;
        assert_eq!((file.status.as_u16(), file.header("content-type")), (200, kind));
        assert!(file.header("cache-control").contains("immutable"));
        let request = connection.request(Method::GET, name).header("accept-encoding", "gzip");
        let compressed = connection.exchange(request.body(whole("")).expect("a valid request")).await;
        assert_eq!(compressed.header("content-encoding"), "gzip");
        assert!(compressed.body.len() < file.body.len());
    }
    let worker = connection.get(entry).await;
    assert!(worker.ok().contains(&app.plan.to_string()), "the tab knows the plan");
    assert_eq!(connection.get("/_isomer/web/0/worker.js").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_server_are_values_for_the_tab() {
    let app = TabNode::start().await;
    let tab = app.tab().await;
    let act = async |what: &str| reply(&app.call(&tab, app.frame("act", &text_image(what, 0))).await);
    let trapped = act("trap").await.expect_err("it traps");
    assert!(matches!(trapped, CallFailure::Trap { .. }) && !trapped.to_string().contains("unreachable"), "{trapped}");
    let event = app.node.event("call-failed", |event| event["component"] == "seam-callee").await;
    assert!(event["reason"].as_str().is_some_and(|reason| reason.contains("unreachable")), "{event}");
    assert_eq!(act("loop").await.expect_err("it is stopped").lost(), Some(CallError::Deadline));
    // The next call gets another instance.
    assert_eq!(text_of(&act("count").await.expect("a result")), "count=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_calls_run_nothing() {
    let app = TabNode::start().await;
    let tab = app.tab().await;
    let refused = async |frame: Vec<u8>| {
        let failure = reply(&app.call(&tab, frame).await).expect_err("it is refused");
        assert_eq!(failure.lost(), Some(CallError::Refused), "{failure}");
    };
    // A function that the component has not exposed, and one of another revision.
    refused(frame(FunctionKey([0; 16]), app.plan, &[])).await;
    refused(frame(app.key("add"), PlanDigest([0; 16]), &[0; 8])).await;
    // Images that the skeleton refuses: too short, and with a string outside of the image.
    refused(app.frame("add", &[0; 7])).await;
    let mut outside = text_image("count", 0);
    outside[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(app.frame("act", &outside)).await;
    refused(b"not a frame".to_vec()).await;
    let counted = reply(&app.call(&tab, app.frame("act", &text_image("count", 0))).await).expect("a result");
    assert_eq!(text_of(&counted), "count=1", "no earlier call has run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_refused() {
    let setup = Setup::new(MANIFEST).limits(|limits| limits.body_timeout = Duration::from_millis(50));
    let app = TabNode::of(setup).await;
    let tab = app.tab().await;
    let (sender, body) = pieces();
    let request = request(&app.node, &tab, "/_isomer/call", "application/vnd.isomer.call");
    let request = request.header("isomer-revision", app.plan.to_string()).body(body).expect("a valid request");
    let mut connection = app.node.connect().await;
    let part = Bytes::from(app.frame("add", &[0; 8])[..20].to_vec());
    let sent = sender.send(io::Result::Ok(part));
    let (response, sent) = futures::join!(connection.send(request), sent);
    sent.expect("the connection reads the body");
    assert_eq!(response.status(), 408);
    drop(sender);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_replaced_revision_are_gone() {
    let app = TabNode::start().await;
    let tab = app.tab().await;
    let old = app.frame("add", &[0; 8]);
    assert!(reply(&app.call(&tab, old.clone()).await).is_ok());
    app.node
        .take_over(&MANIFEST.replace("\"2s\"", "\"3s\"").replace("cookie = \"visitor\"", "cookie = \"other\""))
        .await;
    // The old revision may still be in memory for a moment.
    crate::harness::until("the end of the old revision", async || {
        let response = app.call(&tab, old.clone()).await;
        assert!(response.status == 410 || reply(&response).is_ok(), "{}", response.status);
        (response.status == 410).then_some(())
    })
    .await;
}
