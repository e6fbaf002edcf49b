//! An answer against what was expected of it, and against that of another shape.

use regex_lite::Regex;
use serde_json::Value;

use super::client::{Answer, Session};
use super::diff::{self, Detail};
use super::script::{Capture, Expect, to_json};
use super::variables::{self, Variables};

/// The status that is expected where a case says nothing.
const STATUS: u16 = 200;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// In one line.
    pub(crate) what: String,
    /// What was found, or how it differs.
    pub(crate) lines: Vec<String>,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), lines: Vec::new() }
    }

    fn lines(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }
}

/// What is wrong with an answer.
///
/// # Errors
/// The first variable that has no value.
pub(super) fn judge(
    expect: &Expect,
    answer: &Answer,
    variables: &Variables,
    detail: Detail,
) -> Result<Vec<Problem>, String> {
    let mut problems = Vec::new();
    let text = answer.text();
    let body = || diff::beginning(&String::from_utf8_lossy(&Comparable::of(answer).body), detail);
    let status = expect.status.unwrap_or(STATUS);
    if answer.status != status {
        problems.push(Problem::new(format!("expected status {status}, found {}", answer.status)).lines(body()));
    }
    for (name, wanted) in &expect.headers {
        let wanted = variables::plain(wanted, variables)?;
        let found: Vec<_> = answer.header(&name.to_ascii_lowercase()).map(str::to_owned).collect();
        if !found.contains(&wanted) {
            let found = if found.is_empty() { "none".to_owned() } else { format!("`{}`", found.join("`, `")) };
            problems.push(Problem::new(format!("expected the header `{name}: {wanted}`, found {found}")));
        }
    }
    if let Some(wanted) = &expect.body {
        let wanted = variables::plain(wanted, variables)?;
        if wanted != text {
            let lines = match diff::lines(&wanted, &text, detail) {
                lines if lines.is_empty() => vec![format!("- {wanted:?}"), format!("+ {text:?}")],
                lines => lines,
            };
            problems.push(Problem::new("the body is not the one expected").lines(lines));
        }
    }
    if let Some(wanted) = &expect.json {
        let wanted = variables::json(&to_json(wanted), variables)?;
        match serde_json::from_slice::<Value>(&answer.body) {
            Ok(found) if found == wanted => {}
            Ok(found) => {
                let lines = diff::lines(&format!("{wanted:#}"), &format!("{found:#}"), detail);
                problems.push(Problem::new("the body is not the JSON expected").lines(lines));
            }
            Err(error) => problems.push(Problem::new(format!("the body is not JSON: {error}")).lines(body())),
        }
    }
    for wanted in expect.contains.all() {
        let wanted = variables::plain(wanted, variables)?;
        if !text.contains(&wanted) {
            problems.push(Problem::new(format!("the body does not contain `{wanted}`")).lines(body()));
        }
    }
    for unwanted in expect.lacks.all() {
        let unwanted = variables::plain(unwanted, variables)?;
        let line = text.lines().find(|line| line.contains(&unwanted) && !unwanted.is_empty());
        if line.is_some() || text.contains(&unwanted) {
            let lines = diff::beginning(line.unwrap_or_default(), detail);
            problems.push(Problem::new(format!("the body contains `{unwanted}`")).lines(lines));
        }
    }
    for pattern in expect.matches.all() {
        let pattern = variables::filled(pattern, variables, regex_lite::escape)?;
        let matches = Regex::new(&pattern).is_ok_and(|pattern| pattern.is_match(&text));
        if !matches {
            problems.push(Problem::new(format!("nothing in the body matches `{pattern}`")).lines(body()));
        }
    }
    Ok(problems)
}

/// What an answer has for a variable.
pub(super) fn captured(capture: &Capture, answer: &Answer, session: &Session) -> Option<String> {
    let matched = |pattern: &str, text: &str| {
        let pattern = Regex::new(pattern).ok()?;
        let found = pattern.captures(text)?;
        Some(found.get(1).or_else(|| found.get(0))?.as_str().to_owned())
    };
    match capture {
        Capture::Body(pattern) => matched(pattern, &answer.text()),
        Capture::Header { header, matches } => {
            let header = header.to_ascii_lowercase();
            answer.header(&header).find_map(|value| match matches {
                Some(pattern) => matched(pattern, value),
                None => Some(value.to_owned()),
            })
        }
        Capture::Json { json } => {
            let body: Value = serde_json::from_slice(&answer.body).ok()?;
            Some(match body.pointer(json)? {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        }
        Capture::Cookie { cookie } => session.cookie(cookie).map(str::to_owned),
    }
}

/// How an answer differs from that of `other`, another shape; nothing where they are the same. `date` is the server's own clock, and the
/// platform's error pages name the request, which has another number each time.
pub(super) fn difference(other: &str, expected: &Answer, found: &Answer, detail: Detail) -> Option<Problem> {
    let (expected, found) = (Comparable::of(expected), Comparable::of(found));
    if expected == found {
        return None;
    }
    let lines = match diff::lines(&expected.shown(), &found.shown(), detail) {
        lines if lines.is_empty() => {
            vec![format!("- {} bytes", expected.body.len()), format!("+ {} other bytes", found.body.len())]
        }
        lines => lines,
    };
    Some(Problem::new(format!("the answer is not that of shape {other}")).lines(lines))
}

/// What of an answer must not differ from shape to shape.
#[derive(PartialEq, Eq)]
struct Comparable {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Comparable {
    fn of(answer: &Answer) -> Self {
        let mut headers = answer.headers.clone();
        headers.retain(|(name, _)| name != "date");
        let mut body = answer.body.clone();
        if answer.header("content-type").any(|kind| kind == "application/problem+json")
            && let Ok(Value::Object(mut fields)) = serde_json::from_slice(&body)
        {
            fields.retain(|key, _| key != "id" && key != "instance");
            body = Value::Object(fields).to_string().into_bytes();
            headers.retain(|(name, _)| name != "content-length");
        }
        headers.sort();
        Self { status: answer.status, headers, body }
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

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Answer { status, headers, body: body.as_bytes().to_vec() }
    }

    fn differ(expected: &Answer, found: &Answer) -> Option<Problem> {
        difference("x", expected, found, Detail::Short)
    }

    #[test]
    fn answers_differ_in_all_but_the_servers_clock() {
        let one = answer(200, &[("a", "1"), ("date", "now"), ("b", "2")], "first\nsecond\n");
        assert_eq!(differ(&one, &answer(200, &[("b", "2"), ("a", "1"), ("date", "then")], "first\nsecond\n")), None);
        for other in [
            answer(201, &[("a", "1"), ("b", "2")], "first\nsecond\n"),
            answer(200, &[("a", "1"), ("b", "3")], "first\nsecond\n"),
            answer(200, &[("a", "1"), ("b", "2")], "first\nthird\n"),
            answer(200, &[("a", "1"), ("b", "2")], "first\nsecond"),
        ] {
            let problem = differ(&one, &other).expect("they differ");
            assert_eq!(problem.what, "the answer is not that of shape x");
            assert!(!problem.lines.is_empty(), "{other:?}");
        }
    }

    #[test]
    fn error_pages_of_the_platform_name_their_request() {
        let page = |id: &str, detail: &str| {
            let body =
                json!({ "detail": detail, "id": id, "instance": format!("urn:isomer:request:{id}") }).to_string();
            answer(
                500,
                &[("content-type", "application/problem+json"), ("content-length", &body.len().to_string())],
                &body,
            )
        };
        assert_eq!(differ(&page("1", "it failed"), &page("22", "it failed")), None);
        assert!(differ(&page("1", "it failed"), &page("1", "it is late")).is_some());
    }

    #[test]
    fn what_is_captured_is_a_group_a_match_or_a_place() {
        let answer = answer(302, &[("location", "/orders/7?x")], "{\"a\":{\"b\":[1,\"two\"]}}");
        let session = Session::new(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let body = |pattern: &str| captured(&Capture::Body(pattern.to_owned()), &answer, &session);
        assert_eq!(
            (body("b.*?([a-z]+)"), body("two"), body("three")),
            (Some("two".to_owned()), Some("two".to_owned()), None)
        );
        let json = |json: &str| captured(&Capture::Json { json: json.to_owned() }, &answer, &session);
        assert_eq!((json("/a/b/1"), json("/a/b/0"), json("/c")), (Some("two".to_owned()), Some("1".to_owned()), None));
        let header = |header: &str, matches: Option<&str>| {
            let capture = Capture::Header { header: header.to_owned(), matches: matches.map(str::to_owned) };
            captured(&capture, &answer, &session)
        };
        assert_eq!(header("Location", None).as_deref(), Some("/orders/7?x"));
        assert_eq!(header("location", Some("/orders/([0-9]+)")).as_deref(), Some("7"));
        assert_eq!((header("location", Some("carts")), header("x-none", None)), (None, None));
    }
}
