//! A small HTTP client: one connection a request, cookies kept. It talks to the app's own front door and nobody else.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer to go on is none.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    /// Those that the client does not make itself.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case, in the order in which they came.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The values of a header. `name` is in lower case.
    pub(super) fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text; what is none is replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What one visitor sends and gets.
pub(super) struct Session {
    address: SocketAddr,
    cookies: BTreeMap<String, String>,
}

impl Session {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, cookies: BTreeMap::new() }
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub(super) fn send(&mut self, request: &Request) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let head = self.head(request);
        // A server may answer and close before it has read a body that it does not want.
        let sent = stream.write_all(&[head.as_bytes(), &request.body].concat());
        let mut bytes = Vec::new();
        let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
        if bytes.is_empty() {
            sent?;
            read?;
        }
        let answer = parsed(&bytes, &request.method)?;
        for cookie in answer.header("set-cookie") {
            self.keep(cookie);
        }
        Ok(answer)
    }

    /// The value of a cookie.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    fn head(&self, request: &Request) -> String {
        let given = |name: &str| request.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let mut lines = vec![format!("{} {} HTTP/1.1", request.method, request.target)];
        if !given("host") {
            lines.push(format!("host: {}", self.address));
        }
        lines.push("connection: close".to_owned());
        if !self.cookies.is_empty() && !given("cookie") {
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

    /// Keeps a cookie, or forgets it where that is what the server wants. Paths and domains mean nothing here: there is one app.
    fn keep(&mut self, cookie: &str) {
        let mut parts = cookie.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let over = parts.any(|attribute| match attribute.split_once('=') {
            Some((key, value)) if key.eq_ignore_ascii_case("max-age") => value.parse::<i64>().is_ok_and(|age| age <= 0),
            // Who wants a cookie to be gone says that it was, at the beginning of time.
            Some((key, value)) if key.eq_ignore_ascii_case("expires") => value.contains("1970"),
            _ => false,
        });
        if over {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

fn parsed(bytes: &[u8], method: &str) -> io::Result<Answer> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| wrong("the answer ends within its head"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong("the answer's head is no text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| wrong("the answer has no status"))?;
    // Interim answers come before the one that counts (RFC 9110, section 15.2).
    if (100..200).contains(&status) && status != 101 {
        return parsed(&bytes[end + 4..], method);
    }
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let mut answer = Answer { status, headers: headers.collect(), body: Vec::new() };
    let rest = &bytes[end + 4..];
    // These have no body, though they may say the length of one (RFC 9112, section 6.3).
    if method != "HEAD" && !matches!(status, 204 | 304) {
        let length = answer.header("content-length").next().and_then(|length| length.parse().ok());
        answer.body = match length {
            _ if answer.header("transfer-encoding").any(|coding| coding.eq_ignore_ascii_case("chunked")) => {
                dechunked(rest).ok_or_else(|| wrong("the answer's body ends too soon"))?
            }
            Some(length) => rest.get(..length).ok_or_else(|| wrong("the answer's body ends too soon"))?.to_vec(),
            None => rest.to_vec(),
        };
    }
    Ok(answer)
}

/// The chunks' contents; nothing where the last chunk is missing.
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

    fn body(answer: &str) -> io::Result<String> {
        parsed(answer.as_bytes(), "GET").map(|answer| answer.text())
    }

    #[test]
    fn bodies_are_read_by_length_by_chunks_or_to_the_end() {
        let head = "HTTP/1.1 200 OK\r\nA: b\r\n";
        assert_eq!(body(&format!("{head}content-length: 2\r\n\r\nhi")).expect("an answer"), "hi");
        let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n2;x=1\r\nhi\r\n3\r\n ho\r\n0\r\n\r\n");
        assert_eq!(body(&chunks).expect("an answer"), "hi ho");
        assert_eq!(body(&format!("{head}\r\nall of it")).expect("an answer"), "all of it");
        let unchanged = "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(body(unchanged).expect("an answer"), "");
        let interim = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{unchanged}");
        assert_eq!(parsed(interim.as_bytes(), "GET").expect("an answer").status, 304);
    }

    #[test]
    fn what_is_cut_off_is_no_answer() {
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
    fn cookies_are_kept_until_the_server_forgets_them() {
        let mut session = Session::new(SocketAddr::from(([127, 0, 0, 1], 1)));
        session.keep("a=1; Path=/; HttpOnly");
        session.keep("b=2=3");
        assert_eq!((session.cookie("a"), session.cookie("b")), (Some("1"), Some("2=3")));
        session.keep("a=; Max-Age=0");
        session.keep("b=; expires=Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!((session.cookie("a"), session.cookie("b")), (None, None));
    }
}
