//! A small HTTP client for the front door of the tested app. It opens a connection for each request and stores cookies.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The maximum time that one read or write may take.
const IO_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum number of bytes of a response that are read. The rest is ignored.
const RESPONSE_BYTES_MAX: u64 = 64 << 20;

/// An HTTP request of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestRequest {
    pub(crate) method: String,
    /// The path and the query.
    pub(crate) target: String,
    /// The headers that are sent in addition to those that the client sets.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// The HTTP response to a case's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    /// The headers in the order in which they were received. Names are in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl TestResponse {
    /// Returns the values of the header `name`, which must be in lower case.
    pub(crate) fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the body as text. Invalid UTF-8 is replaced.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An HTTP client that stores cookies, like the browser of one visitor.
pub(crate) struct TestClient {
    address: SocketAddr,
    cookies: BTreeMap<String, String>,
}

impl TestClient {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, cookies: BTreeMap::new() }
    }

    /// Sends a request and reads the complete response.
    ///
    /// # Errors
    /// If the connection fails or ends before the response is complete, or if the response is not valid HTTP.
    pub(crate) fn send(&mut self, request: &TestRequest) -> io::Result<TestResponse> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        stream.set_nodelay(true)?;
        let head = self.head(request);
        // An error of writing is not returned here, because there may still be a response: a server may respond and
        // close the connection without reading the body.
        let sent = stream.write_all(&[head.as_bytes(), &request.body].concat());
        let mut bytes = Vec::new();
        let read = stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut bytes);
        if bytes.is_empty() {
            sent?;
            read?;
        }
        let response = parse(&bytes, &request.method)?;
        for cookie in response.header("set-cookie") {
            self.store_cookie(cookie);
        }
        Ok(response)
    }

    /// Returns the value of the stored cookie `name`.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    fn head(&self, request: &TestRequest) -> String {
        let is_set = |name: &str| request.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let mut lines = vec![format!("{} {} HTTP/1.1", request.method, request.target)];
        if !is_set("host") {
            lines.push(format!("host: {}", self.address));
        }
        lines.push("connection: close".to_owned());
        if !self.cookies.is_empty() && !is_set("cookie") {
            let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            lines.push(format!("cookie: {}", cookies.join("; ")));
        }
        if !request.body.is_empty() || !matches!(request.method.as_str(), "GET" | "HEAD") {
            lines.push(format!("content-length: {}", request.body.len()));
        }
        lines.extend(request.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.push("\r\n".to_owned());
        lines.join("\r\n")
    }

    /// Stores a cookie, or removes it if it has expired. Paths and domains are ignored, because the client sends
    /// requests to only one app.
    fn store_cookie(&mut self, cookie: &str) {
        let mut parts = cookie.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let has_expired = parts.any(|attribute| match attribute.split_once('=') {
            Some((key, value)) if key.eq_ignore_ascii_case("max-age") => value.parse::<i64>().is_ok_and(|age| age <= 0),
            // A server removes a cookie by setting its expiry date to the beginning of the Unix epoch.
            Some((key, value)) if key.eq_ignore_ascii_case("expires") => value.contains("1970"),
            _ => false,
        });
        if has_expired {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

fn parse(bytes: &[u8], method: &str) -> io::Result<TestResponse> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| wrong("the response ends within its head"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong("the response's head is not text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| wrong("the response has no status"))?;
    // Interim responses precede the final response (RFC 9110, section 15.2).
    if (100..200).contains(&status) && status != 101 {
        return parse(&bytes[end + 4..], method);
    }
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let mut response = TestResponse { status, headers: headers.collect(), body: Vec::new() };
    let rest = &bytes[end + 4..];
    // Responses to `HEAD` and responses with these statuses have no body, even if they have a `content-length` (RFC
    // 9112, section 6.3).
    if method != "HEAD" && !matches!(status, 204 | 304) {
        let length = response.header("content-length").next().and_then(|length| length.parse().ok());
        response.body = match length {
            _ if response.header("transfer-encoding").any(|coding| coding.eq_ignore_ascii_case("chunked")) => {
                dechunked(rest).ok_or_else(|| wrong("the response's body ends too soon"))?
            }
            Some(length) => rest.get(..length).ok_or_else(|| wrong("the response's body ends too soon"))?.to_vec(),
            None => rest.to_vec(),
        };
    }
    Ok(response)
}

/// Decodes a chunked body. Returns `None` if the last chunk is missing.
fn dechunked(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = chunks.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&chunks[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        let contents = chunks.get(end + 2..)?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(contents.get(..size)?);
        chunks = contents.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(response: &str) -> io::Result<String> {
        parse(response.as_bytes(), "GET").map(|response| response.text())
    }

    #[test]
    fn bodies_are_read_by_length_by_chunks_or_to_the_end() {
        let head = "HTTP/1.1 200 OK\r\nA: b\r\n";
        assert_eq!(body(&format!("{head}content-length: 2\r\n\r\nhi")).expect("a response"), "hi");
        let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n2;x=1\r\nhi\r\n3\r\n ho\r\n0\r\n\r\n");
        assert_eq!(body(&chunks).expect("a response"), "hi ho");
        assert_eq!(body(&format!("{head}\r\nall of it")).expect("a response"), "all of it");
        let unchanged = "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(body(unchanged).expect("a response"), "");
        let interim = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{unchanged}");
        assert_eq!(parse(interim.as_bytes(), "GET").expect("a response").status, 304);
    }

    #[test]
    fn a_truncated_response_is_an_error() {
        for cut in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert!(body(cut).is_err(), "{cut:?}");
        }
    }

    #[test]
    fn cookies_are_kept_until_they_expire() {
        let mut client = TestClient::new(SocketAddr::from(([127, 0, 0, 1], 1)));
        client.store_cookie("a=1; Path=/; HttpOnly");
        client.store_cookie("b=2=3");
        assert_eq!((client.cookie("a"), client.cookie("b")), (Some("1"), Some("2=3")));
        client.store_cookie("a=; Max-Age=0");
        client.store_cookie("b=; expires=Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!((client.cookie("a"), client.cookie("b")), (None, None));
    }
}
