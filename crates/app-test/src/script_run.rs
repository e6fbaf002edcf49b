//! Runs the cases of a script in order against the app in one shape. All cases share one set of cookies.

use std::net::SocketAddr;

use crate::checks::{self, Mismatch, OtherShape};
use crate::client::{TestClient, TestRequest, TestResponse};
use crate::diff::{self, ReportDetail};
use crate::script::{Body, Script, TestCase};
use crate::variables::{self, Variables};

/// The result of a script in one shape.
pub struct ScriptResult {
    /// The response to each case, or `None` if no response arrived.
    responses: Vec<Option<TestResponse>>,
    /// The failed cases, in the order of the script.
    pub(crate) failed: Vec<FailedCase>,
}

/// A case that failed.
pub(crate) struct FailedCase {
    /// The index of the case in the script.
    pub(crate) number: usize,
    /// The status of the response, or `None` if no response arrived.
    pub(crate) status: Option<u16>,
    pub(crate) mismatches: Vec<Mismatch>,
    /// The lines of the request and the response. Empty unless the report shows all lines.
    pub(crate) transcript: Vec<String>,
}

/// Runs a script against the front door at `address`. The remaining cases also run after a failed case, because their
/// failures may help to find the cause. If `reference` is set, the responses are compared with the result of the script
/// in another shape.
pub fn run_script(
    script: &Script,
    address: SocketAddr,
    reference: Option<(OtherShape<'_>, &ScriptResult)>,
    detail: ReportDetail,
) -> ScriptResult {
    let mut client = TestClient::new(address);
    let mut variables = Variables::new();
    let mut result = ScriptResult { responses: Vec::with_capacity(script.cases.len()), failed: Vec::new() };
    for (number, case) in script.cases.iter().enumerate() {
        let mut transcript = Vec::new();
        let (response, mut mismatches) = match case.request(number, script, &variables) {
            Ok(request) => {
                let response = client.send(&request);
                if detail == ReportDetail::Whole {
                    transcript = self::transcript(&request, response.as_ref().ok());
                }
                match response {
                    Ok(response) => (Some(response), Vec::new()),
                    Err(error) => (None, vec![Mismatch::new(format!("no response: {error}"))]),
                }
            }
            Err(unknown) => (None, vec![no_value(&unknown)]),
        };
        if let Some(response) = &response {
            mismatches.extend(
                checks::check(&case.expect, response, &variables, detail)
                    .unwrap_or_else(|unknown| vec![no_value(&unknown)]),
            );
            for (name, capture) in &case.capture {
                match checks::captured(capture, response, &client) {
                    Some(value) => drop(variables.insert(name.clone(), value)),
                    None => mismatches.push(Mismatch::new(format!("the response contains no value for `${{{name}}}`"))),
                }
            }
            if let Some((shape, result)) = reference.filter(|_| case.compare)
                && let Some(Some(expected)) = result.responses.get(number)
            {
                mismatches.extend(checks::difference(shape, expected, response, detail));
            }
        }
        if !mismatches.is_empty() {
            let status = response.as_ref().map(|response| response.status);
            result.failed.push(FailedCase { number, status, mismatches, transcript });
        }
        result.responses.push(response);
    }
    result
}

/// Returns the lines of the request and the response.
fn transcript(request: &TestRequest, response: Option<&TestResponse>) -> Vec<String> {
    let mut text = format!("{} {}\n", request.method, request.target);
    let add = |text: &mut String, headers: &[(String, String)], body: &[u8]| {
        headers.iter().for_each(|(name, value)| *text += &format!("{name}: {value}\n"));
        *text += &format!("\n{}\n", String::from_utf8_lossy(body));
    };
    add(&mut text, &request.headers, &request.body);
    let mut lines = vec!["sent".to_owned()];
    lines.extend(diff::beginning(text.trim_end(), ReportDetail::Whole));
    if let Some(response) = response {
        let mut text = format!("{}\n", response.status);
        add(&mut text, &response.headers, &response.body);
        lines.push("received".to_owned());
        lines.extend(diff::beginning(text.trim_end(), ReportDetail::Whole));
    }
    lines
}

fn no_value(variable: &str) -> Mismatch {
    Mismatch::new(format!("`${{{variable}}}` has no value: the case that captures it failed"))
}

impl TestCase {
    /// Returns the request of the case `number`, with variables replaced by their values.
    fn request(&self, number: usize, script: &Script, variables: &Variables) -> Result<TestRequest, String> {
        let target = variables::filled(&self.target, variables, percent_encoded)?;
        let mut headers = vec![("traceparent".to_owned(), traceparent(script.source.name(), number))];
        let mut own_headers = Vec::new();
        for (name, value) in &self.headers {
            own_headers.push((name.clone(), variables::plain(value, variables)?));
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
        headers.retain(|(name, _)| !own_headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
        headers.extend(own_headers);
        Ok(TestRequest { method: self.method.clone(), target, headers, body: body.into_bytes() })
    }
}

/// Returns the `traceparent` of a case. It must be the same in every run, because the deterministic clock and random
/// numbers are derived from it. So it is a hash of the file's name and the case's number. The path of the file is not
/// used, because it depends on the working directory.
fn traceparent(file: &str, number: usize) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    // The hash function is FNV-1a.
    let hash = file
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let number = number as u64 + 1;
    format!("00-{hash:016x}{number:016x}-{number:016x}-01")
}

/// Percent-encodes all characters except unreserved ones (RFC 3986, section 2.3).
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
    fn a_case_has_the_same_trace_in_every_working_directory() {
        assert_eq!(traceparent("tests/shop.toml", 3), traceparent("/home/ada/shop/tests/shop.toml", 3));
        assert_ne!(traceparent("tests/shop.toml", 3), traceparent("tests/shop.toml", 4));
        assert_ne!(traceparent("tests/shop.toml", 3), traceparent("tests/cart.toml", 3));
    }
}
