//! A minimal HTTP client that sends one request per connection and measures the time to the first byte of the response.
//!
//! The client does not decode bodies: a chunked body contains its chunk headers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// The maximum time for a response.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The durations of one request.
pub(crate) struct Timing {
    /// The time from the first byte of the request to the first byte of the response.
    pub first_byte: Duration,
    /// The time from the first byte of the request to the last byte of the response.
    pub whole: Duration,
}

/// Sends a GET request for `path`.
///
/// # Errors
/// If there is no response, or its status is not 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Timing> {
    Ok(exchange(address, path)?.0)
}

/// Sends a GET request for `path` and returns the first line of the response that begins with `{`.
pub(crate) fn get_json_line(address: SocketAddr, path: &str) -> Result<String> {
    let response = exchange(address, path)?.1;
    let text = String::from_utf8_lossy(&response);
    let line = text.lines().find(|line| line.starts_with('{'));
    line.map(str::to_owned).with_context(|| format!("the response to GET {path} contains no JSON:\n{text}"))
}

fn exchange(address: SocketAddr, path: &str) -> Result<(Timing, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to `{address}`"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let began = Instant::now();
    stream.write_all(request.as_bytes())?;
    let mut response = vec![0; 1024];
    let read = stream.read(&mut response).with_context(|| format!("no response to GET {path}"))?;
    let first_byte = began.elapsed();
    response.truncate(read);
    stream.read_to_end(&mut response)?;
    let whole = began.elapsed();
    let status = response.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let ok = status.starts_with(b"HTTP/1.1 200");
    ensure!(ok, "unexpected response to GET {path}:\n{}", String::from_utf8_lossy(&response));
    Ok((Timing { first_byte, whole }, response))
}
