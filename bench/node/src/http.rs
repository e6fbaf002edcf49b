//! An HTTP/1.1 client with one persistent connection and one request at a time. It measures the time to the first byte
//! of each response.
//!
//! The client supports the body encodings of the servers under test: bodies with a length, in chunks, or up to the end
//! of the connection. It never sends a request twice. If a server closes the connection although its last response did
//! not announce that, the next request fails, so that a soak detects this mistake of the server.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The maximum length of a response body, in bytes.
const BODY_BYTES_MAX: usize = 256 << 20;
/// The maximum length of a response head, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
const READ_BYTES: usize = 16 << 10;

/// A complete response.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The decoded body, without chunk headers.
    pub body: Vec<u8>,
    /// The time from the first byte of the request to the first byte of the response.
    pub first_byte: Duration,
    /// The time from the first byte of the request to the last byte of the response.
    pub whole: Duration,
}

impl Response {
    /// Returns at most the first 2000 bytes of the body as text, for a message.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]).into_owned()
    }
}

/// Returns an encoded HTTP/1.1 request.
#[must_use]
pub fn request(method: &str, path: &str, host: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in headers {
        let _fits = write!(head, "{name}: {value}\r\n");
    }
    if !body.is_empty() || !matches!(method, "GET" | "DELETE") {
        let _fits = write!(head, "content-length: {}\r\n", body.len());
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// A connection to a server. [`Connection::send`] opens it if it is not open. It is closed after a response in which
/// the server announces the end of the connection.
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    /// Bytes that were read and do not belong to an earlier response.
    buffer: Vec<u8>,
}

struct Head {
    status: u16,
    bytes: usize,
    length: Length,
    closes: bool,
}

#[derive(Debug, PartialEq)]
enum Length {
    Known(usize),
    Chunked,
    ToTheEnd,
}

impl Connection {
    /// Creates a connection without opening it.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Opens the connection, unless it is open already.
    ///
    /// # Errors
    /// If the server accepts no connection.
    pub async fn open(&mut self) -> Result<&mut TcpStream> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.address)
                .await
                .with_context(|| format!("cannot connect to `{}`", self.address))?;
            stream.set_nodelay(true)?;
            self.buffer.clear();
            self.stream = Some(stream);
        }
        self.stream.as_mut().context("the connection is closed")
    }

    /// Sends an encoded request and reads the response, whatever its status. [`request`] encodes a request.
    ///
    /// # Errors
    /// If there is no complete HTTP response within `patience`. The connection is then closed.
    pub async fn send(&mut self, request: &[u8], patience: Duration) -> Result<Response> {
        let result = tokio::time::timeout(patience, self.exchange(request)).await;
        let response = result.unwrap_or_else(|_| bail!("no response within {} s", patience.as_secs_f32()));
        if response.is_err() {
            self.close();
        }
        response
    }

    /// Closes the connection. The next request opens a new one.
    pub fn close(&mut self) {
        self.stream = None;
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Response> {
        self.open().await?;
        let began = Instant::now();
        let stream = self.stream.as_mut().context("the connection is closed")?;
        stream.write_all(request).await.context("cannot send the request")?;
        ensure!(self.fill().await?, "the connection was closed before a response");
        let first_byte = began.elapsed();
        let head = loop {
            match read_head(&self.buffer)? {
                Some(head) if head.status < 200 => drop(self.buffer.drain(..head.bytes)),
                Some(head) => break head,
                None => ensure!(self.fill().await?, "the connection was closed within a response head"),
            }
        };
        self.buffer.drain(..head.bytes);
        let body = match head.length {
            Length::Known(bytes) => self.take(bytes).await?,
            Length::Chunked => self.chunks().await?,
            Length::ToTheEnd => {
                while self.fill().await? {}
                std::mem::take(&mut self.buffer)
            }
        };
        if head.closes || head.length == Length::ToTheEnd {
            self.close();
        }
        Ok(Response { status: head.status, body, first_byte, whole: began.elapsed() })
    }

    /// Reads more bytes into the buffer. Returns `false` if the server has closed the connection.
    async fn fill(&mut self) -> Result<bool> {
        let stream = self.stream.as_mut().context("the connection is closed")?;
        self.buffer.reserve(READ_BYTES);
        Ok(stream.read_buf(&mut self.buffer).await.context("cannot read the response")? > 0)
    }

    async fn take(&mut self, bytes: usize) -> Result<Vec<u8>> {
        ensure!(bytes <= BODY_BYTES_MAX, "a body of {bytes} bytes is too long");
        while self.buffer.len() < bytes {
            ensure!(self.fill().await?, "the connection was closed within a body");
        }
        let rest = self.buffer.split_off(bytes);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size =
                usize::from_str_radix(size, 16).with_context(|| format!("`{size}` is not a valid chunk size"))?;
            if size == 0 {
                // Skips the trailers and the empty line after them.
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            ensure!(body.len() + size <= BODY_BYTES_MAX, "the body is too long");
            body.extend(self.take(size).await?);
            ensure!(self.line().await?.is_empty(), "a chunk is longer than its size");
        }
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            ensure!(self.buffer.len() <= HEAD_BYTES_MAX, "a line of the response is too long");
            ensure!(self.fill().await?, "the connection was closed within a body");
        }
    }
}

/// Parses the head of a response. Returns `None` if `buffer` does not contain the complete head yet.
fn read_head(buffer: &[u8]) -> Result<Option<Head>> {
    let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(buffer.len() <= HEAD_BYTES_MAX, "a response head is too long");
        return Ok(None);
    };
    let text = std::str::from_utf8(&buffer[..end]).context("a response head is not text")?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status: u16 = status.with_context(|| format!("`{first}` is not a status line"))?;
    let mut head = Head { status, bytes: end + 4, length: Length::ToTheEnd, closes: first.starts_with("HTTP/1.0") };
    if status < 200 || matches!(status, 204 | 304) {
        head.length = Length::Known(0);
    }
    for line in lines {
        let (name, value) = line.split_once(':').with_context(|| format!("`{line}` is not a header"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.length =
                Length::Known(value.parse().with_context(|| format!("`{value}` is not a valid `content-length`"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            head.length = Length::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Starts a server for one connection. It responds to each request with the next item of `responses`, and closes
    /// the connection after the last one.
    async fn server(responses: &'static [&'static [u8]]) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            for response in responses {
                if stream.read(&mut request).await.unwrap() == 0 {
                    return;
                }
                // Sends one byte at a time, as a network may deliver a response.
                for byte in *response {
                    stream.write_all(&[*byte]).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        });
        address
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn bodies_of_each_kind_are_read() {
        run(async {
            let address = server(&[
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
                b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
                b"HTTP/1.1 500 Oh\r\n\r\nto the end",
            ])
            .await;
            let mut connection = Connection::new(address);
            for (status, body) in [(200, "hello"), (201, "abcde"), (204, ""), (500, "to the end")] {
                let response = connection.send(&request("GET", "/", "a.test", &[], b""), PATIENCE).await.unwrap();
                assert_eq!((response.status, response.text().as_str()), (status, body));
                assert!(response.first_byte <= response.whole);
            }
        });
    }

    #[test]
    fn malformed_responses_are_errors() {
        run(async {
            for responses in [
                &[b"" as &[u8]][..],
                &[b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell"],
                &[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"],
                &[b"something else\r\n\r\n"],
            ] {
                let mut connection = Connection::new(server(responses).await);
                assert!(connection.send(&request("GET", "/", "a.test", &[], b""), PATIENCE).await.is_err());
            }
        });
    }

    #[test]
    fn a_request_has_its_host_and_its_length() {
        let text = |method, body: &[u8]| {
            String::from_utf8(request(method, "/a", "x.test", &[("accept", "*/*")], body)).unwrap()
        };
        assert_eq!(text("GET", b""), "GET /a HTTP/1.1\r\nhost: x.test\r\naccept: */*\r\n\r\n");
        assert!(text("PUT", b"").contains("content-length: 0\r\n"));
        assert!(text("POST", b"ab").ends_with("content-length: 2\r\n\r\nab"));
    }
}
