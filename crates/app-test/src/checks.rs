//! Checks a response: compares it with the expectations of the case, and with the response of another shape.

use isomer_manifest::is_front_door_cookie;
use isomer_project::toml_to_json;
use regex_lite::Regex;
use serde_json::Value;

use crate::client::{TestClient, TestResponse};
use crate::diff::{self, ReportDetail};
use crate::script::{Capture, Expect};
use crate::variables::{self, Variables};

/// The expected status of a case that does not set one.
const STATUS: u16 = 200;

/// A difference between a response and the expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// A one-line description of the difference.
    pub(crate) what: String,
    /// The wrong lines of the response. If the response was compared with a text, the lines in which the two differ.
    pub(crate) lines: Vec<String>,
}

impl Mismatch {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), lines: Vec::new() }
    }

    fn lines(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }
}

/// Checks a response and returns its differences from the expectation.
///
/// # Errors
/// If the expectation contains a variable that has no value. The error is the name of the first such variable.
pub(crate) fn check(
    expect: &Expect,
    response: &TestResponse,
    variables: &Variables,
    detail: ReportDetail,
) -> Result<Vec<Mismatch>, String> {
    let mut mismatches = Vec::new();
    let text = response.text();
    let body =
        || diff::beginning(&String::from_utf8_lossy(&Comparable::of(response, OtherShape::default()).body), detail);
    let status = expect.status.unwrap_or(STATUS);
    if response.status != status {
        mismatches.push(Mismatch::new(format!("expected status {status}, found {}", response.status)).lines(body()));
    }
    for (name, wanted) in &expect.headers {
        let wanted = variables::plain(wanted, variables)?;
        let found: Vec<_> = response.header(&name.to_ascii_lowercase()).map(str::to_owned).collect();
        if !found.contains(&wanted) {
            let found = if found.is_empty() { "none".to_owned() } else { format!("`{}`", found.join("`, `")) };
            mismatches.push(Mismatch::new(format!("expected the header `{name}: {wanted}`, found {found}")));
        }
    }
    if let Some(wanted) = &expect.body {
        let wanted = variables::plain(wanted, variables)?;
        if wanted != text {
            let lines = match diff::lines(&wanted, &text, detail) {
                lines if lines.is_empty() => vec![format!("- {wanted:?}"), format!("+ {text:?}")],
                lines => lines,
            };
            mismatches.push(Mismatch::new("the body is not as expected").lines(lines));
        }
    }
    if let Some(wanted) = &expect.json {
        let wanted = variables::json(&toml_to_json(wanted), variables)?;
        match serde_json::from_slice::<Value>(&response.body) {
            Ok(found) if found == wanted => {}
            Ok(found) => {
                let lines = diff::lines(&format!("{wanted:#}"), &format!("{found:#}"), detail);
                mismatches.push(Mismatch::new("the JSON body is not as expected").lines(lines));
            }
            Err(error) => mismatches.push(Mismatch::new(format!("the body is not JSON: {error}")).lines(body())),
        }
    }
    for wanted in expect.contains.all() {
        let wanted = variables::plain(wanted, variables)?;
        if !text.contains(&wanted) {
            mismatches.push(Mismatch::new(format!("the body does not contain `{wanted}`")).lines(body()));
        }
    }
    for unwanted in expect.lacks.all() {
        let unwanted = variables::plain(unwanted, variables)?;
        let line = text.lines().find(|line| line.contains(&unwanted) && !unwanted.is_empty());
        if line.is_some() || text.contains(&unwanted) {
            let lines = diff::beginning(line.unwrap_or_default(), detail);
            mismatches.push(Mismatch::new(format!("the body contains `{unwanted}`")).lines(lines));
        }
    }
    for pattern in expect.matches.all() {
        let pattern = variables::filled(pattern, variables, regex_lite::escape)?;
        let matches = Regex::new(&pattern).is_ok_and(|pattern| pattern.is_match(&text));
        if !matches {
            mismatches.push(Mismatch::new(format!("nothing in the body matches `{pattern}`")).lines(body()));
        }
    }
    Ok(mismatches)
}

/// Returns the value that `capture` selects from a response, or `None` if the response does not contain it.
pub(crate) fn captured(capture: &Capture, response: &TestResponse, client: &TestClient) -> Option<String> {
    let matched = |pattern: &str, text: &str| {
        let pattern = Regex::new(pattern).ok()?;
        let found = pattern.captures(text)?;
        Some(found.get(1).or_else(|| found.get(0))?.as_str().to_owned())
    };
    match capture {
        Capture::Body(pattern) => matched(pattern, &response.text()),
        Capture::Header { header, matches } => {
            let header = header.to_ascii_lowercase();
            response.header(&header).find_map(|value| match matches {
                Some(pattern) => matched(pattern, value),
                None => Some(value.to_owned()),
            })
        }
        Capture::Json { json } => {
            let body: Value = serde_json::from_slice(&response.body).ok()?;
            Some(match body.pointer(json)? {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        }
        Capture::Cookie { cookie } => client.cookie(cookie).map(str::to_owned),
    }
}

/// The shape with whose responses the responses of a script are compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct OtherShape<'a> {
    /// The shape's name.
    pub name: &'a str,
    /// The app's session cookie, if one of the two shapes has a browser group: in such a shape, the front door identifies
    /// visitors by its own session cookie, so the fields that set session cookies are not compared.
    pub session_cookie: Option<&'a str>,
}

/// Returns the difference between a response and the `expected` response of another shape, if they differ. These parts
/// are not compared: `date`, which is the time of the server; in error pages of the platform, the identifier of the
/// request, which is always unique; and session cookies, if the other shape has the name of the app's.
pub(crate) fn difference(
    other: OtherShape<'_>,
    expected: &TestResponse,
    found: &TestResponse,
    detail: ReportDetail,
) -> Option<Mismatch> {
    let (expected, found) = (Comparable::of(expected, other), Comparable::of(found, other));
    if expected == found {
        return None;
    }
    let lines = match diff::lines(&expected.shown(), &found.shown(), detail) {
        lines if lines.is_empty() => {
            vec![format!("- {} bytes", expected.body.len()), format!("+ {} other bytes", found.body.len())]
        }
        lines => lines,
    };
    Some(Mismatch::new(format!("the response differs from that of shape {}", other.name)).lines(lines))
}

/// Returns whether the value of a `Set-Cookie` field sets a session cookie: the app's, or the front door's.
fn sets_session_cookie(value: &str, app_cookie: &str) -> bool {
    let name = value.split_once('=').map_or(value, |(name, _)| name).trim();
    name == app_cookie || is_front_door_cookie(name)
}

/// The parts of a response that must be equal in all shapes.
#[derive(PartialEq, Eq)]
struct Comparable {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Comparable {
    fn of(response: &TestResponse, other: OtherShape<'_>) -> Self {
        let mut headers = response.headers.clone();
        headers.retain(|(name, value)| {
            let is_session = |cookie| name == "set-cookie" && sets_session_cookie(value, cookie);
            name != "date" && !other.session_cookie.is_some_and(is_session)
        });
        let mut body = response.body.clone();
        if response.header("content-type").any(|kind| kind == "application/problem+json")
            && let Ok(Value::Object(mut fields)) = serde_json::from_slice(&body)
        {
            fields.retain(|key, _| key != "id" && key != "instance");
            body = Value::Object(fields).to_string().into_bytes();
            headers.retain(|(name, _)| name != "content-length");
        }
        headers.sort();
        Self { status: response.status, headers, body }
    }

    fn shown(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("{}\n{headers}\n{}", self.status, String::from_utf8_lossy(&self.body))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn response(status: u16, headers: &[(&str, &str)], body: &str) -> TestResponse {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        TestResponse { status, headers, body: body.as_bytes().to_vec() }
    }

    fn differ(expected: &TestResponse, found: &TestResponse) -> Option<Mismatch> {
        difference(OtherShape { name: "x", session_cookie: None }, expected, found, ReportDetail::Short)
    }

    #[test]
    fn session_cookies_are_not_compared_if_tabs_have_sessions_of_their_own() {
        let other_shape = OtherShape { name: "x", session_cookie: Some("shop-session") };
        let differs = |cookie: &str, other: &str| {
            let (one, other) =
                (response(200, &[("set-cookie", cookie)], ""), response(200, &[("set-cookie", other)], ""));
            difference(other_shape, &one, &other, ReportDetail::Short).is_some()
        };
        assert!(!differs("shop-session=1; Path=/", "isomer-session-0a0b0c0d=2; HttpOnly"));
        assert!(!differs("shop-session=1", "__Host-isomer-session=2; Secure"));
        assert!(differs("shop-session=1", "shop-session2=1") && differs("color=red", "color=blue"));
    }

    #[test]
    fn every_difference_but_the_servers_clock_is_found() {
        let one = response(200, &[("a", "1"), ("date", "now"), ("b", "2")], "first\nsecond\n");
        assert_eq!(differ(&one, &response(200, &[("b", "2"), ("a", "1"), ("date", "then")], "first\nsecond\n")), None);
        for other in [
            response(201, &[("a", "1"), ("b", "2")], "first\nsecond\n"),
            response(200, &[("a", "1"), ("b", "3")], "first\nsecond\n"),
            response(200, &[("a", "1"), ("b", "2")], "first\nthird\n"),
            response(200, &[("a", "1"), ("b", "2")], "first\nsecond"),
        ] {
            let mismatch = differ(&one, &other).expect("they differ");
            assert_eq!(mismatch.what, "the response differs from that of shape x");
            assert!(!mismatch.lines.is_empty(), "{other:?}");
        }
    }

    #[test]
    fn request_identifiers_in_error_pages_are_ignored() {
        let page = |id: &str, detail: &str| {
            let body =
                json!({ "detail": detail, "id": id, "instance": format!("urn:isomer:request:{id}") }).to_string();
            response(
                500,
                &[("content-type", "application/problem+json"), ("content-length", &body.len().to_string())],
                &body,
            )
        };
        assert_eq!(differ(&page("1", "it failed"), &page("22", "it failed")), None);
        assert!(differ(&page("1", "it failed"), &page("1", "it is late")).is_some());
    }

    #[test]
    fn captures_return_a_group_a_match_or_a_json_value() {
        let response = response(302, &[("location", "/orders/7?x")], "{\"a\":{\"b\":[1,\"two\"]}}");
        let client = TestClient::new(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let body = |pattern: &str| captured(&Capture::Body(pattern.to_owned()), &response, &client);
        assert_eq!(
            (body("b.*?([a-z]+)"), body("two"), body("three")),
            (Some("two".to_owned()), Some("two".to_owned()), None)
        );
        let json = |json: &str| captured(&Capture::Json { json: json.to_owned() }, &response, &client);
        assert_eq!((json("/a/b/1"), json("/a/b/0"), json("/c")), (Some("two".to_owned()), Some("1".to_owned()), None));
        let header = |header: &str, matches: Option<&str>| {
            let capture = Capture::Header { header: header.to_owned(), matches: matches.map(str::to_owned) };
            captured(&capture, &response, &client)
        };
        assert_eq!(header("Location", None).as_deref(), Some("/orders/7?x"));
        assert_eq!(header("location", Some("/orders/([0-9]+)")).as_deref(), Some("7"));
        assert_eq!((header("location", Some("carts")), header("x-none", None)), (None, None));
    }
}
