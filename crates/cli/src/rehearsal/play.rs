//! A script in one shape, from the first case to the last, by one visitor.

use std::net::SocketAddr;

use super::client::{Answer, Request, Session};
use super::diff::{self, Detail};
use super::judge::{self, Problem};
use super::script::{Body, Case, Script};
use super::variables::{self, Variables};

/// What came of a script in one shape.
pub(crate) struct Played {
    /// By case; nothing where no answer came.
    answers: Vec<Option<Answer>>,
    /// The cases that went wrong, by number.
    pub(crate) failed: Vec<FailedCase>,
}

/// A case that went wrong.
pub(crate) struct FailedCase {
    pub(crate) number: usize,
    /// The status of the answer, if there was one.
    pub(crate) status: Option<u16>,
    pub(crate) problems: Vec<Problem>,
    /// What was sent and what came, line by line, where everything is to be shown.
    pub(crate) transcript: Vec<String>,
}

/// Plays a script at the front door of an app. A case that fails does not end it: what follows may say more. `reference` is the name
/// of another shape and what came of the script there: answers must be the same.
pub(crate) fn play(script: &Script, address: SocketAddr, reference: Option<(&str, &Played)>, detail: Detail) -> Played {
    let mut session = Session::new(address);
    let mut variables = Variables::new();
    let mut played = Played { answers: Vec::with_capacity(script.cases.len()), failed: Vec::new() };
    for (number, case) in script.cases.iter().enumerate() {
        let mut transcript = Vec::new();
        let (answer, mut problems) = match case.request(number, script, &variables) {
            Ok(request) => {
                let answer = session.send(&request);
                if detail == Detail::Whole {
                    transcript = self::transcript(&request, answer.as_ref().ok());
                }
                match answer {
                    Ok(answer) => (Some(answer), Vec::new()),
                    Err(error) => (None, vec![Problem::new(format!("no answer came: {error}"))]),
                }
            }
            Err(unknown) => (None, vec![no_value(&unknown)]),
        };
        if let Some(answer) = &answer {
            problems.extend(
                judge::judge(&case.expect, answer, &variables, detail)
                    .unwrap_or_else(|unknown| vec![no_value(&unknown)]),
            );
            for (name, capture) in &case.capture {
                match judge::captured(capture, answer, &session) {
                    Some(value) => drop(variables.insert(name.clone(), value)),
                    None => problems.push(Problem::new(format!("the answer has nothing for `${{{name}}}`"))),
                }
            }
            if let Some((shape, reference)) = reference.filter(|_| case.compare)
                && let Some(Some(expected)) = reference.answers.get(number)
            {
                problems.extend(judge::difference(shape, expected, answer, detail));
            }
        }
        if !problems.is_empty() {
            let status = answer.as_ref().map(|answer| answer.status);
            played.failed.push(FailedCase { number, status, problems, transcript });
        }
        played.answers.push(answer);
    }
    played
}

/// What was sent, and what came.
fn transcript(request: &Request, answer: Option<&Answer>) -> Vec<String> {
    let mut text = format!("{} {}\n", request.method, request.target);
    let add = |text: &mut String, headers: &[(String, String)], body: &[u8]| {
        headers.iter().for_each(|(name, value)| *text += &format!("{name}: {value}\n"));
        *text += &format!("\n{}\n", String::from_utf8_lossy(body));
    };
    add(&mut text, &request.headers, &request.body);
    let mut lines = vec!["sent".to_owned()];
    lines.extend(diff::beginning(text.trim_end(), Detail::Whole));
    if let Some(answer) = answer {
        let mut text = format!("{}\n", answer.status);
        add(&mut text, &answer.headers, &answer.body);
        lines.push("received".to_owned());
        lines.extend(diff::beginning(text.trim_end(), Detail::Whole));
    }
    lines
}

fn no_value(variable: &str) -> Problem {
    Problem::new(format!("`${{{variable}}}` has no value: the case that captures it failed"))
}

impl Case {
    /// The request, with values for its variables.
    fn request(&self, number: usize, script: &Script, variables: &Variables) -> Result<Request, String> {
        let target = variables::filled(&self.target, variables, percent_encoded)?;
        let mut headers = vec![("traceparent".to_owned(), traceparent(script.source.name(), number))];
        let mut given = Vec::new();
        for (name, value) in &self.headers {
            given.push((name.clone(), variables::plain(value, variables)?));
        }
        let (kind, body) = match &self.body {
            Body::Nothing => (None, String::new()),
            Body::Text(text) => (None, variables::plain(text, variables)?),
            Body::Json(value) => (Some("application/json"), variables::json(value, variables)?.to_string()),
            Body::Form(fields) => {
                let field = |(name, value): (&String, &String)| {
                    let value = variables::plain(value, variables)?;
                    Ok(format!("{}={}", percent_encoded(name), percent_encoded(&value)))
                };
                let fields = fields.iter().map(field).collect::<Result<Vec<_>, String>>()?;
                (Some("application/x-www-form-urlencoded"), fields.join("&"))
            }
        };
        headers.extend(kind.map(|kind| ("content-type".to_owned(), kind.to_owned())));
        headers.retain(|(name, _)| !given.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)));
        headers.extend(given);
        Ok(Request { method: self.method.clone(), target, headers, body: body.into_bytes() })
    }
}

/// The same for the same case of the same file in every run: where clock and randomness are given, they follow from it. Of the file only its name
/// counts: as it is shown, its path depends on the working directory.
fn traceparent(file: &str, number: usize) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    // FNV-1a.
    let hash = file
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let number = number as u64 + 1;
    format!("00-{hash:016x}{number:016x}-{number:016x}-01")
}

/// All but what may stand anywhere in a URL (RFC 3986, section 2.3).
fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_the_same_from_every_working_directory() {
        assert_eq!(traceparent("tests/shop.toml", 3), traceparent("/home/ada/shop/tests/shop.toml", 3));
        assert_ne!(traceparent("tests/shop.toml", 3), traceparent("tests/shop.toml", 4));
        assert_ne!(traceparent("tests/shop.toml", 3), traceparent("tests/cart.toml", 3));
    }
}
