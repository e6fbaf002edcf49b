//! A script: a file of cases that run in order. This module defines the keys of the file, and reports errors with their
//! locations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::CliError;
use isomer_diagnostics::{Diagnostic, SourceFile, Span};
use isomer_manifest::{OutboundHost, Spanned, unclosed_value};
use isomer_project::{shown, toml_to_json};
use regex_lite::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::stubs::HostStub;
use crate::variables;

/// The folder of scripts, relative to the app's folder.
const FOLDER: &str = "tests";

/// A parsed script: a file of cases.
#[derive(Debug)]
pub struct Script {
    /// The file with its path and text.
    pub source: SourceFile,
    /// Whether the responses of all shapes must be equal, byte for byte.
    pub same_answers: bool,
    /// The values of the app's secrets, by name.
    pub secrets: BTreeMap<String, String>,
    /// The stubs: responses for requests that the app sends to external hosts.
    pub stubs: Vec<HostStub>,
    /// The cases, in the order in which they run.
    pub cases: Vec<TestCase>,
}

/// A request, and the expectations for its response.
#[derive(Debug)]
pub struct TestCase {
    pub(crate) name: String,
    /// The line number of the request in the file, counted from 1.
    pub(crate) line: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Body,
    /// Whether the response is compared with the responses of other shapes. Only used if the script compares responses.
    pub(crate) compare: bool,
    pub(crate) expect: Expect,
    pub(crate) capture: BTreeMap<String, Capture>,
}

/// The body of a request.
#[derive(Debug)]
pub(crate) enum Body {
    Nothing,
    Text(String),
    Form(BTreeMap<String, String>),
    Json(Value),
}

/// The expectations for a response.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// The expected status; `None` means 200.
    pub(crate) status: Option<u16>,
    pub(crate) headers: BTreeMap<String, String>,
    /// The text that the body must equal.
    pub(crate) body: Option<String>,
    /// The value that the body must equal when it is parsed as JSON.
    pub(crate) json: Option<toml::Value>,
    pub(crate) contains: OneOrMore,
    pub(crate) lacks: OneOrMore,
    /// Regular expressions that the body must match.
    pub(crate) matches: OneOrMore,
}

/// One text, or a list of texts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl OneOrMore {
    pub(crate) fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(all) => all,
        }
    }
}

/// A value that a case takes from its response and stores in a variable.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Capture {
    /// The part of the body that a regular expression matches. If the expression has groups, the part that the first
    /// group matches.
    Body(String),
    /// The value at a JSON pointer (RFC 6901) in the body.
    Json { json: String },
    /// The value of a header, or the part of it that a regular expression matches.
    Header {
        header: String,
        #[serde(default)]
        matches: Option<String>,
    },
    /// The value of a cookie.
    Cookie { cookie: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScript {
    #[serde(default)]
    same_answers: bool,
    #[serde(default)]
    secrets: BTreeMap<Spanned<String>, String>,
    #[serde(default, rename = "stub")]
    stubs: Vec<RawStub>,
    #[serde(default, rename = "case")]
    cases: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStub {
    host: Spanned<String>,
    request: Option<Spanned<String>>,
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    json: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: Option<String>,
    request: Spanned<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    form: Option<BTreeMap<String, toml::Value>>,
    json: Option<toml::Value>,
    #[serde(default = "yes")]
    compare: bool,
    #[serde(default)]
    expect: Expect,
    #[serde(default)]
    capture: BTreeMap<String, Capture>,
}

fn yes() -> bool {
    true
}

/// Reads scripts of an app: the files in `named`, or all scripts in the folder `tests` of the app, ordered by name.
/// `secrets` contains the names of the app's secrets.
///
/// # Errors
/// If there is no script, or if a script has errors.
pub fn read_scripts(app_dir: &Path, named: &[PathBuf], secrets: &BTreeSet<&str>) -> Result<Vec<Script>, CliError> {
    let paths = if named.is_empty() { in_folder(&app_dir.join(FOLDER))? } else { named.to_vec() };
    if paths.is_empty() {
        return Err(CliError::failed(
            format!("there are no scripts in `{}`", shown(&app_dir.join(FOLDER))),
            format!(
                "write a script, for example `{FOLDER}/first.toml`:\n[[case]]\nrequest = \"GET /\"\nexpect.contains = \"hello\""
            ),
        ));
    }
    let mut found = Vec::new();
    let mut scripts = Vec::with_capacity(paths.len());
    for path in paths {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()));
        match parse(SourceFile::new(shown(&path), text.map_err(CliError::Usage)?), secrets) {
            Ok(script) => scripts.push(script),
            Err(mistakes) => found.extend(mistakes),
        }
    }
    if found.is_empty() { Ok(scripts) } else { Err(CliError::Findings(found)) }
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    Ok(paths)
}

/// Parses a script.
///
/// # Errors
/// Returns all errors in the file, or only the first one if the file is not valid TOML or has unknown keys.
pub(crate) fn parse(source: SourceFile, secrets: &BTreeSet<&str>) -> Result<Script, Vec<Diagnostic>> {
    let raw = toml::from_str::<RawScript>(source.text()).map_err(|error| {
        if let Some(error) = unclosed_value(source.text()).filter(|_| source.text().parse::<toml::Table>().is_err()) {
            return vec![error.in_source(&source)];
        }
        let span = error.span().map(Span::from).unwrap_or_default();
        let message = error.message().lines().next().unwrap_or("the file cannot be parsed").to_owned();
        vec![Diagnostic::error(message).code("script").at(span, "").in_source(&source)]
    })?;
    let mut mistakes = Vec::new();
    let mut known = BTreeSet::new();
    let mut cases = Vec::with_capacity(raw.cases.len());
    for raw in raw.cases {
        let at = raw.request.span;
        match case(&source, raw, &mut known) {
            Ok(case) => cases.push(case),
            Err(mistake) => mistakes.push(mistake.code("script").at(at, "in this case").in_source(&source)),
        }
    }
    for name in raw.secrets.keys().filter(|name| !secrets.contains(name.value.as_str())) {
        let mistake = Diagnostic::error(format!("the app has no secret `{}`", name.value)).code("script");
        let hint = match secrets.is_empty() {
            true => "the isomer.toml of the app has no `[secrets]`".to_owned(),
            false => {
                format!(
                    "secrets of the app: {}",
                    secrets.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                )
            }
        };
        mistakes.push(mistake.at(name.span, "").hint(hint).in_source(&source));
    }
    let mut stubs = Vec::with_capacity(raw.stubs.len());
    for raw in raw.stubs {
        let at = raw.request.as_ref().map_or(raw.host.span, |request| request.span);
        match stub(raw) {
            Ok(stub) => stubs.push(stub),
            Err(mistake) => mistakes.push(mistake.code("script").at(at, "in this stub").in_source(&source)),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let secrets = raw.secrets.into_iter().map(|(name, value)| (name.value, value)).collect();
    Ok(Script { same_answers: raw.same_answers, secrets, stubs, cases, source })
}

/// Splits `METHOD /path` into the method and the path.
fn method_and_target(request: &str) -> Option<(&str, &str)> {
    let (method, target) = request.split_once(' ')?;
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_method && target.starts_with('/') && !target.contains(' ')).then_some((method, target))
}

fn not_a_request(request: &str) -> Box<Diagnostic> {
    let error = Diagnostic::error(format!("`{request}` is not a request"));
    Box::new(error.hint("write the method and the path: `request = \"GET /cart\"`"))
}

/// Checks a stub and converts it. The caller adds the location to the error.
fn stub(raw: RawStub) -> Result<HostStub, Box<Diagnostic>> {
    let host = match raw.host.value.parse::<OutboundHost>() {
        Ok(host) if !host.host.contains('*') => host.to_string(),
        Ok(_) => {
            let error = Diagnostic::error(format!("`{}` is not a single host", raw.host.value));
            return Err(Box::new(error.hint("write a stub for each host: `host = \"api.example.com\"`")));
        }
        Err(error) => {
            let hint = error.hint();
            return Err(Box::new(Diagnostic::error(error.to_string()).hint(hint)));
        }
    };
    let request = match &raw.request {
        Some(request) => {
            let (method, target) = method_and_target(&request.value).ok_or_else(|| not_a_request(&request.value))?;
            Some((method.to_owned(), target.to_owned()))
        }
        None => None,
    };
    let status = raw.status.unwrap_or(200);
    if !(200..600).contains(&status) {
        let error = Diagnostic::error(format!("{status} is not the status of a response"));
        return Err(Box::new(error.hint("write a status from 200 to 599")));
    }
    let mut headers: Vec<_> = raw.headers.into_iter().collect();
    let breaks_lines = |text: &str| text.contains(['\r', '\n', '\0']);
    if let Some((name, _)) = headers.iter().find(|(name, value)| breaks_lines(name) || breaks_lines(value)) {
        let error = Diagnostic::error(format!("the header `{}` contains a line ending", name.escape_debug()));
        return Err(Box::new(error.hint("write a separate header for each line")));
    }
    let body = match (raw.body, raw.json) {
        (Some(_), Some(_)) => {
            return Err(Box::new(
                Diagnostic::error("a response can have only one body").hint("keep only one of `body` and `json`"),
            ));
        }
        (Some(text), None) => text.into_bytes(),
        (None, Some(value)) => {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                headers.push(("content-type".to_owned(), "application/json".to_owned()));
            }
            toml_to_json(&value).to_string().into_bytes()
        }
        (None, None) => Vec::new(),
    };
    Ok(HostStub { host, request, status, headers, body })
}

/// Checks a case and converts it. `known` contains the variables that earlier cases capture. The caller adds the
/// location to the error.
fn case(source: &SourceFile, raw: RawCase, known: &mut BTreeSet<String>) -> Result<TestCase, Box<Diagnostic>> {
    let request = &raw.request.value;
    let (method, target) = method_and_target(request).ok_or_else(|| not_a_request(request))?;
    let body = match (raw.body, raw.form, raw.json) {
        (None, None, None) => Body::Nothing,
        (Some(text), None, None) => Body::Text(text),
        (None, Some(fields), None) => {
            Body::Form(fields.into_iter().map(|(key, value)| (key, form_value(value))).collect())
        }
        (None, None, Some(value)) => Body::Json(toml_to_json(&value)),
        _ => {
            return Err(Box::new(
                Diagnostic::error("a request can have only one body")
                    .hint("keep only one of `body`, `form` and `json`"),
            ));
        }
    };
    let case = TestCase {
        name: raw.name.unwrap_or_else(|| request.clone()),
        line: source.position(raw.request.span.start).line,
        method: method.to_owned(),
        target: target.to_owned(),
        headers: raw.headers,
        body,
        compare: raw.compare,
        expect: raw.expect,
        capture: raw.capture,
    };
    for text in case.texts() {
        if let Some(unknown) = variables::used(&text).find(|name| !known.contains(*name)) {
            let error = Diagnostic::error(format!("`${{{unknown}}}` has no value: no earlier case captures it"));
            return Err(Box::new(match known.is_empty() {
                true => error.hint(format!("capture it from a response: `capture.{unknown} = \"id=([0-9]+)\"`")),
                false => {
                    let known: Vec<_> = known.iter().map(|name| format!("`${{{name}}}`")).collect();
                    error.hint(format!("earlier cases capture {}", known.join(", ")))
                }
            }));
        }
    }
    for pattern in case.patterns() {
        // The pattern is checked with `x` as the value of each variable. This is enough, because values are escaped, so
        // they do not affect whether the pattern is valid.
        let sample =
            variables::used(pattern).fold(pattern.to_owned(), |text, name| text.replace(&format!("${{{name}}}"), "x"));
        if let Err(error) = Regex::new(&sample) {
            return Err(Box::new(
                Diagnostic::error(format!("`{pattern}` is not a regular expression: {error}"))
                    .hint("to search for literal text, use `contains`"),
            ));
        }
    }
    known.extend(case.capture.keys().cloned());
    Ok(case)
}

impl TestCase {
    /// Returns all texts of the case that may contain variables.
    fn texts(&self) -> Vec<String> {
        let Expect { headers, body, json, contains, lacks, matches, .. } = &self.expect;
        let mut texts = vec![self.target.clone()];
        texts.extend(self.headers.values().chain(headers.values()).chain(body).cloned());
        texts.extend([contains, lacks, matches].into_iter().flat_map(|texts| texts.all().to_vec()));
        let names =
            |value: &Value| variables::used_by_json(value).into_iter().map(|name| format!("${{{name}}}")).collect();
        match &self.body {
            Body::Nothing => {}
            Body::Text(text) => texts.push(text.clone()),
            Body::Form(fields) => texts.extend(fields.values().cloned()),
            Body::Json(value) => texts.extend::<Vec<_>>(names(value)),
        }
        if let Some(json) = json {
            texts.extend::<Vec<_>>(names(&toml_to_json(json)));
        }
        texts
    }

    fn patterns(&self) -> impl Iterator<Item = &str> {
        let captured = self.capture.values().filter_map(|capture| match capture {
            Capture::Body(pattern) | Capture::Header { matches: Some(pattern), .. } => Some(pattern.as_str()),
            _ => None,
        });
        self.expect.matches.all().iter().map(String::as_str).chain(captured)
    }
}

/// Returns the value of a form field as text.
fn form_value(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use isomer_diagnostics::Renderer;

    use super::*;

    fn read(text: &str) -> Result<Script, String> {
        parse(SourceFile::new("tests/a.toml", text), &BTreeSet::from(["payment-key"]))
            .map_err(|found| Renderer::plain().diagnostics(&found))
    }

    #[test]
    fn a_case_has_a_line_and_defaults() {
        let script = read(
            "# first\n\n[[case]]\nrequest = \"GET /\"\n\n[[case]]\nname = \"second\"\nrequest = \"POST /x?y=1\"\n",
        )
        .expect("the script is valid");
        assert!(!script.same_answers);
        let [first, second] = script.cases.as_slice() else { panic!("two cases") };
        assert_eq!((first.name.as_str(), first.line, first.target.as_str()), ("GET /", 4, "/"));
        assert_eq!((second.name.as_str(), second.line, second.method.as_str()), ("second", 8, "POST"));
        assert!(first.compare && first.expect.status.is_none());
    }

    #[test]
    fn secrets_and_stubs_are_read() {
        let script = read(
            "secrets.payment-key = \"s3cret\"\n\n[[stub]]\nhost = \"API.example\"\nrequest = \"GET /rates\"\njson = { eur = 1 }\n\n\
             [[stub]]\nhost = \"[::1]:80\"\nstatus = 503\n",
        )
        .expect("the script is valid");
        assert_eq!(script.secrets["payment-key"], "s3cret");
        let [first, second] = script.stubs.as_slice() else { panic!("two stubs") };
        assert_eq!(
            (first.host.as_str(), first.status, first.body.as_slice()),
            ("api.example", 200, &b"{\"eur\":1}"[..])
        );
        assert_eq!(first.headers, [("content-type".to_owned(), "application/json".to_owned())]);
        assert_eq!((second.host.as_str(), second.status, &second.request), ("[::1]:80", 503, &None));
    }

    #[test]
    fn mistakes_have_their_places() {
        let shown = |text: &str| read(text).expect_err("the script is invalid");
        for (text, message, hint) in [
            ("[[case]]\nrequest = \"/cart\"\n", "`/cart` is not a request", "GET /cart"),
            ("[[case]]\nrequest = \"GET /\"\nbody = \"a\"\njson = 1\n", "only one body", "keep only one of `body`"),
            ("[[case]]\nrequest = \"GET /${id}\"\n", "`${id}` has no value", "capture.id"),
            (
                "[[case]]\nrequest = \"GET /\"\nexpect.matches = \"(\"\n",
                "`(` is not a regular expression",
                "`contains`",
            ),
            (
                "[[case]]\nrequest = \"GET /\"\ncapture.a = \"a\"\n[[case]]\nrequest = \"GET /\"\njson = { x = [\"${b}\"] }\n",
                "`${b}`",
                "`${a}`",
            ),
            ("secrets.payment = \"x\"\n", "the app has no secret `payment`", "`payment-key`"),
            ("[[stub]]\nhost = \"*.a.example\"\n", "`*.a.example` is not a single host", "for each host"),
            ("[[stub]]\nhost = \"https://a.example\"\n", "not a URL", "a.example"),
            ("[[stub]]\nhost = \"a.example\"\nrequest = \"/x\"\n", "`/x` is not a request", "GET /cart"),
            ("[[stub]]\nhost = \"a.example\"\nbody = \"a\"\njson = 1\n", "one body", "keep only one of `body`"),
            ("[[stub]]\nhost = \"a.example\"\nstatus = 100\n", "100 is not the status", "200 to 599"),
            ("[[stub]]\nhost = \"a.example\"\nheaders = { a = \"b\\nc\" }\n", "line ending", "each line"),
        ] {
            let shown = shown(text);
            assert!(shown.contains(message) && shown.contains(hint) && shown.contains("--> tests/a.toml:"), "{shown}");
        }
        let unknown = shown("[[case]]\nrequest = \"GET /\"\nexpct.status = 200\n");
        assert!(unknown.contains("unknown field `expct`") && unknown.contains("--> tests/a.toml:3:1"), "{unknown}");
    }
}
