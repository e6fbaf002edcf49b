//! Sends the requests of the script to a shop, and compares two lists of responses.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use http::Method;
use isomer_manifest::{App, ComponentSource, is_front_door_cookie};
use isomer_telemetry::Tracer;

use super::script::PlannedRequest;
use crate::fleet::{Fleet, Running};
use crate::harness::body::whole;
use crate::harness::client::{Connection, TestResponse};
use crate::harness::traces::MemoryTraces;
use crate::random::Random;

/// The part of a response that must be the same in every shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComparedResponse {
    pub(crate) status: u16,
    /// The header fields in their order, without the date.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// The state of one visitor's browser: the cookies, and the number of the last order.
#[derive(Debug, Default)]
struct Browser {
    cookies: BTreeMap<String, String>,
    order: Option<String>,
}

impl Browser {
    fn take_cookies(&mut self, response: &TestResponse) {
        for cookie in response.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().expect("cookies are text");
            let (pair, attributes) = cookie.split_once(';').expect("cookies have attributes");
            let (name, value) = pair.split_once('=').expect("cookies have a value");
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn cookie(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }
}

/// Starts a shop, sends all requests of the script, and returns the responses.
///
/// # Panics
/// If a request gets no response, or a response with another status than in the script.
pub(crate) async fn play(
    subject: &crate::fleet::Subject,
    running: Running<'_>,
    steps: &[PlannedRequest],
    seed: u64,
) -> Vec<ComparedResponse> {
    let (recorded, tracer) = MemoryTraces::of_all();
    let tracer = |_: &str| if running.is_probed { tracer.clone() } else { Tracer::default() };
    let fleet = Fleet::start_traced(subject, running, tracer).await;
    let visitors = steps.iter().map(|step| step.visitor).max().map_or(0, |last| last + 1);
    let mut browsers: Vec<_> = (0..visitors).map(|_| Browser::default()).collect();
    // The clock and randomness that a request sees depend only on the number of its trace.
    let mut traces = Random::new(seed, 0x7ace);
    let mut responses = Vec::with_capacity(steps.len());
    for (number, step) in steps.iter().enumerate() {
        let stranger = browsers.iter().enumerate().filter(|(index, _)| *index != step.visitor);
        let stranger = stranger.filter_map(|(_, browser)| browser.order.clone()).next().unwrap_or_default();
        let browser = &mut browsers[step.visitor];
        let own = browser.order.clone().unwrap_or_default();
        let none = |order: String| if order.is_empty() { "none".to_owned() } else { order };
        let target = step.target.replace("{order}", &none(own)).replace("{stranger}", &none(stranger));
        let mut connection = Connection::http1(fleet.front).await;
        let method = Method::from_bytes(step.method.as_bytes()).expect("the script's methods are valid");
        let trace = format!("00-{:016x}{:016x}-00000000000000ff-01", traces.next(), traces.next());
        let mut request = connection.request(method, &target).header("traceparent", trace);
        if !browser.cookies.is_empty() {
            request = request.header("cookie", browser.cookie());
        }
        for (name, value) in &step.headers {
            request = request.header(*name, value);
        }
        let request = request.body(whole(Bytes::from(step.body.clone()))).expect("the script's requests are valid");
        let response = connection.exchange(request).await;
        let place = || format!("request {number} ({} {target}) in shape `{}`, seed {seed}", step.method, running.shape);
        if response.status.as_u16() != step.status {
            let body = String::from_utf8_lossy(&response.body);
            let log = fleet.troubles().join("\n");
            panic!("{}: status {} instead of {}\n{body}\n{log}", place(), response.status, step.status);
        }
        browser.take_cookies(&response);
        if step.places_order {
            browser.order =
                Some(order_number(response.text()).unwrap_or_else(|| panic!("{}: no order number", place())));
        }
        responses.push(compared(response));
    }
    fleet.stop().await;
    assert_eq!(running.is_probed, recorded.has_fused_calls());
    responses
}

/// Returns the number of the order that a page confirms, which is a part of the link to the order's page.
pub(crate) fn order_number(page: &str) -> Option<String> {
    let (_, after) = page.split_once("/orders/")?;
    let number: String = after.chars().take_while(|it| it.is_ascii_alphanumeric() || *it == '-').collect();
    (!number.is_empty()).then_some(number)
}

fn compared(response: TestResponse) -> ComparedResponse {
    let headers = response.headers.iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    let mut body = response.body.to_vec();
    if response.header("content-type") == "application/problem+json" {
        // A problem that the front door has sent contains the request ID, which differs for each request.
        let mut problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem is JSON");
        problem["id"] = "".into();
        problem["instance"] = "".into();
        body = problem.to_string().into_bytes();
    }
    ComparedResponse { status: response.status.as_u16(), headers, body }
}

/// Returns the responses without the fields that set session cookies, if `shape` has a browser group: in such a shape, the
/// front door identifies visitors by its own session cookie, and components cannot set the app's.
pub(crate) fn comparable(responses: &[ComparedResponse], app: &App, shape: &str) -> Vec<ComparedResponse> {
    let mut responses = responses.to_vec();
    let Some(session) = app.session.as_ref().filter(|_| app.shapes[shape].browser.is_some()) else { return responses };
    let sets_session = |value: &[u8]| {
        let name = value.split(|byte| *byte == b'=').next().unwrap_or_default();
        name == session.cookie.value.as_bytes() || is_front_door_cookie(name)
    };
    for response in &mut responses {
        response.headers.retain(|(name, value)| name != "set-cookie" || !sets_session(value));
        // The front door writes the remaining `set-cookie` fields again, so they come last. Only the order of fields with
        // the same name has a meaning (RFC 9110, section 5.3).
        response.headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    }
    responses
}

/// The minimum length of the random texts in the shop's pages: numbers of orders, tracking and transactions, and sessions.
const RANDOM_BYTES_MIN: usize = 13;

/// Returns the response without the parts that depend on random numbers.
pub(crate) fn without_random(mut response: ComparedResponse) -> ComparedResponse {
    response.headers.retain(|(name, _)| name != "content-length");
    for (_, value) in &mut response.headers {
        mask(value);
    }
    const AD: (&[u8], &[u8]) = (b"<aside class=\"ad\"", b"</aside>");
    let find = |body: &[u8], sought: &[u8]| body.windows(sought.len()).position(|window| window == sought);
    while let Some(start) = find(&response.body, AD.0) {
        let end = find(&response.body[start..], AD.1).map_or(response.body.len(), |at| start + at + AD.1.len());
        response.body.drain(start..end);
    }
    mask(&mut response.body);
    response
}

/// Replaces the characters of random texts.
fn mask(text: &mut [u8]) {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    for word in text.chunk_by_mut(|left, right| is_part(left) == is_part(right)) {
        let is_code = word.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'-');
        let is_hex = word.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
        if word.len() >= RANDOM_BYTES_MIN && (is_code || is_hex) {
            word.fill(b'?');
        }
    }
}

/// Describes the first difference between two lists of responses. Returns `None` if they are equal.
pub(crate) fn difference(
    steps: &[PlannedRequest],
    expected: &[ComparedResponse],
    found: &[ComparedResponse],
) -> Option<String> {
    let pairs = steps.iter().zip(expected.iter().zip(found)).enumerate();
    let (number, (step, (expected, found))) = { pairs }.find(|(_, (_, (expected, found)))| expected != found)?;
    let mut text = format!("request {number}: {} {} of visitor {}\n", step.method, step.target, step.visitor);
    if expected.status != found.status {
        let _ = writeln!(text, "status {} became {}", expected.status, found.status);
    }
    if expected.headers != found.headers {
        let shown = |response: &ComparedResponse| {
            let lines =
                response.headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
            lines.collect::<Vec<_>>().join("\n  ")
        };
        let _ = writeln!(text, "headers\n  {}\nbecame\n  {}", shown(expected), shown(found));
    }
    if expected.body != found.body {
        let at = expected.body.iter().zip(&found.body).take_while(|(a, b)| a == b).count();
        let around = |body: &[u8]| {
            let part = &body[at.saturating_sub(60).min(body.len())..(at + 100).min(body.len())];
            String::from_utf8_lossy(part).into_owned()
        };
        let (before, after) = (around(&expected.body), around(&found.body));
        let (had, has) = (expected.body.len(), found.body.len());
        let _ = writeln!(
            text,
            "bodies of {had} and {has} bytes differ from byte {at} on:\n  …{before}…\nbecame\n  …{after}…"
        );
    }
    Some(text)
}

/// Returns the names of the components that cargo builds, in quotation marks, for lists in a manifest.
pub(crate) fn quoted(app: &App) -> Vec<String> {
    let known =
        app.components.iter().filter(|(_, component)| matches!(component.source.value, ComponentSource::Cargo(_)));
    known.map(|(name, _)| format!("\"{name}\"")).collect()
}
