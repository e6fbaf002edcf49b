//! Tests the pipeline with a fake handler and without a connection.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use isomer_observe::Format;
use isomer_telemetry::{SamplingPolicy, Span, SpanKind, SpanStatus, TraceFragment, TraceSink, Tracer};
use isomer_transport::Limiter;
use serde_json::Value;

use super::*;
use crate::activity::Activity;
use crate::failure_kind::FailureKind;
use crate::fake::{FakeHandler, FakeResponse, target, target_with};
use crate::forwarded::Endpoints;
use crate::refusal::Refusal;
use crate::resolver::{ResolvedSite, SiteLookup};

/// The host of requests that name no other host.
pub(super) const HOST: &str = "shop.example";

/// A resolver with one site, for [`HOST`].
struct OneSite {
    site: Arc<Site<FakeHandler>>,
    tenant: Limiter,
    loading: bool,
}

impl SiteResolver<FakeHandler> for OneSite {
    fn resolve(&self, host: &str) -> Result<ResolvedSite<FakeHandler>, Refusal> {
        if host != HOST {
            return Err(Refusal::NoHost);
        }
        let permit = self.tenant.try_acquire().ok_or(Refusal::Concurrency)?;
        let site = match self.loading {
            true => SiteLookup::Loading(Box::pin(std::future::pending())),
            false => SiteLookup::Ready(self.site.begin_request()),
        };
        Ok(ResolvedSite { permit: Some(permit), site })
    }
}

/// A log in memory.
#[derive(Clone, Default)]
struct MemoryLog(Arc<Mutex<Vec<u8>>>);

impl Write for MemoryLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Traces in memory.
#[derive(Default)]
struct MemoryTraces(Mutex<Vec<TraceFragment>>);

impl TraceSink for MemoryTraces {
    fn record(&self, fragment: TraceFragment) {
        self.0.lock().expect("no test panics with it").push(fragment);
    }
}

/// A pipeline with a fake site, and a log and traces in memory.
pub(super) struct World {
    pub(super) pipeline: Pipeline<FakeHandler>,
    tenant: Limiter,
    log: Log,
    memory: MemoryLog,
    traces: Arc<MemoryTraces>,
    /// Whether the requests arrive from a trusted proxy.
    pub(super) is_trusted: bool,
}

/// A response with its complete body.
pub(super) struct Received {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl World {
    fn new(routes: impl IntoIterator<Item = (&'static str, RouteTarget<FakeHandler>)>) -> Self {
        Self::with(routes, &Limits::default(), false)
    }

    fn with(
        routes: impl IntoIterator<Item = (&'static str, RouteTarget<FakeHandler>)>,
        limits: &Limits,
        loading: bool,
    ) -> Self {
        Self::of(|site| site, routes, limits, loading)
    }

    /// Creates a pipeline with a site that `change` has changed before its routes are added.
    pub(super) fn of(
        change: impl FnOnce(Site<FakeHandler>) -> Site<FakeHandler>,
        routes: impl IntoIterator<Item = (&'static str, RouteTarget<FakeHandler>)>,
        limits: &Limits,
        loading: bool,
    ) -> Self {
        let traces = Arc::new(MemoryTraces::default());
        // With the ratio 0, a request is sampled only if a trusted client requests it, and no request counts as slow.
        let policy = SamplingPolicy { ratio: 0.0, slow: Duration::MAX, ..SamplingPolicy::NODE };
        let mut site = change(Site::new().traced_by(Tracer::new(None, policy, traces.clone())));
        for (path, target) in routes {
            site.exact(path, target);
        }
        let (tenant, memory) = (Limiter::new(2), MemoryLog::default());
        let log = Log::start(memory.clone(), Format::Json, true).expect("the log starts");
        let resolver = OneSite { site: Arc::new(site), tenant: tenant.clone(), loading };
        let pipeline = Pipeline::new(limits, Arc::new(resolver), log.clone());
        Self { pipeline, tenant, log, memory, traces, is_trusted: false }
    }

    /// Sends a request and returns the response, whose body has not been read yet.
    async fn begin(&self, request: http::request::Builder, body: &'static str) -> Response<ResponseBody<FakeHandler>> {
        self.begin_from("192.0.2.7", request, Bytes::from_static(body.as_bytes())).await
    }

    /// Sends a request from the address `client`, and returns the response, whose body has not been read yet.
    async fn begin_from(
        &self,
        client: &str,
        request: http::request::Builder,
        body: Bytes,
    ) -> Response<ResponseBody<FakeHandler>> {
        let activity = Activity::new();
        let (client, local) = (client.parse().expect("valid"), "192.0.2.1:80".parse().expect("valid"));
        activity.set_endpoints(Endpoints::new(client, self.is_trusted, local));
        let request = request.body(BodySource::Memory(Full::new(body))).expect("valid");
        self.pipeline.respond(request, Activity::begin(&activity), &Proxies::default()).await
    }

    async fn send(&self, request: http::request::Builder) -> Received {
        self.send_from("192.0.2.7", request, Bytes::new()).await
    }

    /// Sends a request from the address `client`.
    pub(super) async fn send_from(&self, client: &str, request: http::request::Builder, body: Bytes) -> Received {
        let (head, body) = self.begin_from(client, request, body).await.into_parts();
        let body = body.collect().await.expect("the body is complete").to_bytes();
        Received { status: head.status, headers: head.headers, body }
    }

    /// Returns the spans that were recorded since the last call.
    pub(super) fn spans(&self) -> Vec<Span> {
        let fragments = std::mem::take(&mut *self.traces.0.lock().expect("no test panics with it"));
        fragments.into_iter().flat_map(|fragment| fragment.spans).collect()
    }

    /// Returns the lines of the log that contain `text`.
    pub(super) fn log_lines(&self, text: &str) -> Vec<Value> {
        self.log.flush();
        let bytes = self.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        lines.filter(|line| line.to_string().contains(text)).collect()
    }

    /// Returns the last line of the access log.
    pub(super) fn access(&self) -> Value {
        self.log.flush();
        let bytes = self.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines =
            bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        lines.rfind(|line| line["event"] == "access").expect("a line")
    }
}

fn get(path: &str) -> http::request::Builder {
    Request::builder().uri(path.to_owned()).header("host", HOST)
}

#[tokio::test]
async fn a_request_reaches_its_handler_with_the_fields_of_the_front_door() {
    let hello = target_with("hello", FakeResponse::Text("hello"));
    let requests = hello.handler.requests.clone();
    let world = World::new([("/hello", hello)]);
    let request = get("/hello?name=a").header("x-forwarded-for", "203.0.113.9").header("x-real-ip", "203.0.113.9");
    let received = world.send(request).await;
    assert_eq!((received.status, &*received.body), (StatusCode::OK, &b"hello"[..]));
    let requests = requests.lock().expect("no test panics with it");
    let [(uri, headers)] = &requests[..] else { panic!("one request: {requests:?}") };
    assert_eq!(uri, "http://shop.example/hello?name=a");
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
    assert_eq!(headers["forwarded"], "for=192.0.2.7;host=\"shop.example\";proto=http");
    assert!(headers.contains_key("traceparent") && !headers.contains_key("x-real-ip"));
    let line = world.access();
    assert_eq!((&line["status"], &line["component"], &line["host"]), (&200.into(), &"hello".into(), &HOST.into()));
}

#[tokio::test]
async fn each_layer_refuses_with_its_own_status() {
    let limits = Limits { headers_max: 2, ..Limits::default() };
    let world = World::with([("/", target("root"))], &limits, false);
    let many = get("/").header("a", "1").header("b", "2");
    let other_host = Request::builder().uri("/").header("host", "other.example");
    for (request, status) in [
        (get("/"), 200),
        (many, 431),
        (get("/").method("TRACE"), 405),
        (get("https://shop.example/"), 421),
        (other_host, 404),
        (get("/other"), 404),
        (get("/.isomer/health"), 200),
    ] {
        let received = world.send(request).await;
        assert_eq!(received.status, status);
        assert_eq!(world.access()["status"], status);
    }
}

#[tokio::test]
async fn a_permit_is_held_until_the_response_has_been_sent() {
    let world = World::new([("/", target("root"))]);
    let unread = [world.begin(get("/"), "").await, world.begin(get("/"), "").await];
    assert_eq!(world.tenant.in_use(), 2);
    let refused = world.send(get("/")).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    drop(unread);
    assert_eq!(world.tenant.in_use(), 0);
    assert_eq!(world.send(get("/")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn requests_beyond_the_maximum_are_refused() {
    let limits = Limits { requests_max: 1, ..Limits::default() };
    let world = World::with([("/", target("root"))], &limits, false);
    let first = world.begin(get("/"), "").await;
    let second = world.send(get("/")).await;
    assert_eq!(
        (second.status, &second.headers["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().expect("valid"))
    );
    drop(first);
    assert_eq!(world.send(get("/")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_app_that_is_not_loaded_in_time_is_unavailable() {
    let limits = Limits { load_timeout: Duration::ZERO, ..Limits::default() };
    let world = World::with([("/", target("root"))], &limits, true);
    assert_eq!(world.send(get("/")).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.tenant.in_use(), 0);
}

#[tokio::test]
async fn a_failure_has_the_status_of_its_kind_and_is_logged() {
    for (kind, status) in [
        (FailureKind::InvalidRequest, 400),
        (FailureKind::RequestBodyTooLarge, 413),
        (FailureKind::Deadline, 504),
        (FailureKind::Overloaded, 503),
        (FailureKind::Unreachable, 502),
        (FailureKind::InstanceLost, 503),
        (FailureKind::CannotStart, 500),
        (FailureKind::Failed, 500),
    ] {
        let world = World::new([("/", target_with("broken", FakeResponse::Failure(kind)))]);
        let received = world.send(get("/")).await;
        assert_eq!(received.status, status, "{kind:?}");
        assert!(!String::from_utf8_lossy(&received.body).contains("the fake failed"), "the reason is for the log");
        world.log.flush();
        let log = world.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(String::from_utf8_lossy(&log).contains("the fake failed"), "{kind:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_gets_413_whatever_the_handler_makes_of_it() {
    let echo = RouteTarget { body_bytes_max: 3, ..target_with("echo", FakeResponse::Echo) };
    let world = World::new([("/", echo)]);
    assert_eq!(world.begin(get("/").method("POST"), "abc").await.status(), StatusCode::OK);
    assert_eq!(world.begin(get("/").method("POST"), "abcd").await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_response_to_head_has_the_length_and_no_body() {
    let world = World::new([("/", target_with("hello", FakeResponse::Text("hello")))]);
    let received = world.send(get("/").method("HEAD")).await;
    assert_eq!((received.status, &received.headers["content-length"]), (StatusCode::OK, &"5".parse().expect("valid")));
    assert!(received.body.is_empty());
}

#[tokio::test]
async fn responses_are_compressed_only_while_the_account_has_memory() {
    let text = FakeResponse::Text(concat!("a text that is long enough to be compressed, ", "since it has no length"));
    let compressed = RouteTarget { compress: true, ..target_with("text", text) };
    let poor = RouteTarget { handler: compressed.handler.clone().without_memory(), ..compressed.clone() };
    let world = World::new([("/rich", compressed), ("/poor", poor)]);
    let rich = world.send(get("/rich").header("accept-encoding", "gzip")).await;
    assert_eq!(rich.headers["content-encoding"], "gzip");
    assert_eq!(rich.headers["vary"], "accept-encoding");
    assert_eq!(rich.body[..2], [0x1f, 0x8b]);
    let poor = world.send(get("/poor").header("accept-encoding", "gzip")).await;
    assert!(!poor.headers.contains_key("content-encoding"));
    assert!(poor.body.starts_with(b"a text"));
}

#[tokio::test]
async fn a_response_that_is_dropped_before_its_end_is_noted_in_the_access_log() {
    let world = World::new([("/", target("root"))]);
    drop(world.begin(get("/"), "").await);
    let line = world.access();
    assert!(line["cut_off"].as_str().is_some_and(|why| why.contains("before the whole response was sent")), "{line}");
}

#[tokio::test]
async fn the_sampled_flag_counts_only_if_a_trusted_proxy_sends_it() {
    let hello = target_with("hello", FakeResponse::Text("hello"));
    let requests = hello.handler.requests.clone();
    let mut world = World::new([("/hello", hello)]);
    let request =
        || get("/hello?name=a").header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    world.send(request()).await;
    assert_eq!(world.spans(), []);
    world.is_trusted = true;
    world.send(request().header("x-forwarded-for", "203.0.113.9")).await;
    let spans = world.spans();
    let [span] = &spans[..] else { panic!("one span: {spans:?}") };
    assert_eq!((span.name.as_str(), span.kind, &span.status), ("GET /hello", SpanKind::Server, &SpanStatus::Ok));
    assert_eq!(span.parent.map(|parent| parent.to_string()).as_deref(), Some("b7ad6b7169203331"));
    assert_eq!(span.component, Some("hello".into()));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/hello"),
        ("http.response.status_code", "200"),
        ("http.response.body.size", "5"),
        ("url.path", "/hello"),
        ("url.scheme", "http"),
        ("client.address", "203.0.113.9"),
    ] {
        assert_eq!(span.attribute(key).map(ToString::to_string).as_deref(), Some(value), "{key}");
    }
    let requests = requests.lock().expect("no test panics with it");
    let passed_on = |(_, headers): &(http::Uri, HeaderMap)| headers["traceparent"].to_str().expect("text").to_owned();
    let [first, second] = [&requests[0], &requests[1]].map(passed_on);
    assert!(first.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && first.ends_with("-00"), "{first}");
    assert_eq!(second, format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", span.id));
}

#[tokio::test]
async fn a_failed_request_is_recorded_with_its_reason() {
    let failing = target_with("failing", FakeResponse::Failure(FailureKind::Failed));
    let hello = target_with("hello", FakeResponse::Text("hello"));
    let world = World::new([("/failing", failing), ("/hello", hello)]);
    world.send(get("/failing")).await;
    let spans = world.spans();
    let [span] = &spans[..] else { panic!("one span: {spans:?}") };
    assert!(span.status.is_failed());
    assert_eq!(span.attribute("http.response.status_code"), Some(&500_u64.into()));
    // The client does not read the response.
    drop(world.begin(get("/hello"), "").await);
    let spans = world.spans();
    let [span] = &spans[..] else { panic!("one span: {spans:?}") };
    assert!(span.status.reason().is_some_and(|reason| reason.as_str().contains("before the whole response was sent")));
    assert_eq!(span.attribute("http.response.body.size"), Some(&0_u64.into()));
    // No route, so no span.
    assert_eq!(world.send(get("/other")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.spans(), []);
}
