//! The least of an HTTP client: one request on one connection, timed to the first byte of its answer.
//!
//! Bodies are taken as they come: whole, or in chunks.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// No answer takes longer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long one request took.
pub(crate) struct Timing {
    /// From the request's first byte to the answer's first.
    pub first_byte: Duration,
    /// From the request's first byte to the answer's last.
    pub whole: Duration,
}

/// GET `path`; anything but 200 is an error.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Timing> {
    Ok(exchange(address, path)?.0)
}

/// GET `path`; gives the first line of the body that has a `{`.
pub(crate) fn get_json_line(address: SocketAddr, path: &str) -> Result<String> {
    let answer = exchange(address, path)?.1;
    let text = String::from_utf8_lossy(&answer);
    let line = text.lines().find(|line| line.starts_with('{'));
    line.map(str::to_owned).with_context(|| format!("GET {path} was answered without JSON:\n{text}"))
}

fn exchange(address: SocketAddr, path: &str) -> Result<(Timing, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("`{address}` takes no connection"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let began = Instant::now();
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).with_context(|| format!("no answer to GET {path}"))?;
    let first_byte = began.elapsed();
    answer.truncate(read);
    stream.read_to_end(&mut answer)?;
    let whole = began.elapsed();
    let status = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let ok = status.starts_with(b"HTTP/1.1 200");
    ensure!(ok, "GET {path} was answered with:\n{}", String::from_utf8_lossy(&answer));
    Ok((Timing { first_byte, whole }, answer))
}
