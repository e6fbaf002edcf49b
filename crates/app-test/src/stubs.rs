//! Stubs: responses that a script defines for external hosts. A small HTTP server on the loopback interface serves
//! them.
//!
//! The app's process sends requests for these hosts to this server, without TLS. It still checks first that the app has
//! a grant for the host.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The maximum time that one read or write may take.
const IO_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum size of a request in bytes. A larger request gets no response.
const REQUEST_BYTES_MAX: usize = 32 << 20;

/// The maximum number of stored requests that match no stub.
const UNKNOWN_MAX: usize = 20;

/// A response, and the requests that get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStub {
    /// The external host as `HOST` or `HOST:PORT`, in lower case.
    pub(crate) host: String,
    /// The method and the path of the request, with a query if the query must match. `None` matches every request to
    /// the host.
    pub(crate) request: Option<(String, String)>,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A server that responds with stubs. Dropping it stops the server.
pub struct StubServer {
    address: SocketAddr,
    hosts: Vec<String>,
    stopped: Arc<AtomicBool>,
    unknown: Arc<Mutex<Vec<String>>>,
}

impl StubServer {
    /// Starts a server for `stubs`. Returns `None` if `stubs` is empty.
    ///
    /// # Errors
    /// If the server cannot listen on a loopback address.
    pub fn start(stubs: &[HostStub]) -> io::Result<Option<Self>> {
        if stubs.is_empty() {
            return Ok(None);
        }
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let mut hosts: Vec<_> = stubs.iter().map(|stub| stub.host.clone()).collect();
        hosts.sort();
        hosts.dedup();
        let server = Self { address: listener.local_addr()?, hosts, stopped: Arc::default(), unknown: Arc::default() };
        let (stopped, unknown, stubs) =
            (server.stopped.clone(), server.unknown.clone(), Arc::<[HostStub]>::from(stubs));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (stubs, unknown) = (stubs.clone(), unknown.clone());
                // An error is ignored, because it means that the client has closed the connection.
                std::thread::spawn(move || drop(serve(stream, &stubs, &unknown)));
            }
        });
        Ok(Some(server))
    }

    /// Returns the values of `isomer run --stub`: each external host with the address of this server.
    pub(crate) fn flags(&self) -> impl Iterator<Item = String> {
        self.hosts.iter().map(|host| format!("{host}={}", self.address))
    }

    /// Returns the requests that no stub matches.
    pub fn unknown(&self) -> Vec<String> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for StubServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // The server's thread waits for a connection. This connection wakes the thread, which then checks `stopped`.
        drop(TcpStream::connect(self.address));
    }
}

/// Parses the value of `--stub`: `HOST=ADDRESS`.
///
/// # Errors
/// Returns a message for the user if the value does not have this form.
pub fn parse_stub(text: &str) -> Result<(String, SocketAddr), String> {
    let (host, address) = text.rsplit_once('=').ok_or("write HOST=ADDRESS")?;
    Ok((host.to_owned(), address.parse().map_err(|_| format!("`{address}` is not an address"))?))
}

fn serve(mut stream: TcpStream, stubs: &[HostStub], unknown: &Mutex<Vec<String>>) -> io::Result<()> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let head = read(&mut stream)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.map(|(_, value)| value.trim().to_ascii_lowercase()).unwrap_or_default();
    let found = stubs.iter().find(|stub| stub.is_for(&host, method, target));
    let (status, headers, body) = match found {
        Some(stub) => (stub.status, stub.headers.clone(), stub.body.clone()),
        None => {
            let request = format!("{method} {target} of {host}");
            let body = format!("the script has no stub for {request}\n").into_bytes();
            let mut unknown = unknown.lock().unwrap_or_else(PoisonError::into_inner);
            if unknown.len() < UNKNOWN_MAX && !unknown.contains(&request) {
                unknown.push(request);
            }
            (404, vec![("content-type".to_owned(), "text/plain".to_owned())], body)
        }
    };
    let mut response = format!("HTTP/1.1 {status} \r\nconnection: close\r\n");
    for (name, value) in headers {
        response += &format!("{name}: {value}\r\n");
    }
    // Responses with these statuses have neither a body nor a `content-length`.
    let has_body = !matches!(status, 204 | 304);
    if has_body {
        response += &format!("content-length: {}\r\n", body.len());
    }
    response += "\r\n";
    stream.write_all(response.as_bytes())?;
    if has_body && method != "HEAD" {
        stream.write_all(&body)?;
    }
    stream.flush()
}

/// Reads a complete request and returns its head.
fn read(stream: &mut TcpStream) -> io::Result<String> {
    let too_large = || io::Error::new(io::ErrorKind::InvalidData, "the request is too large");
    let mut bytes = Vec::new();
    let mut more = |bytes: &mut Vec<u8>| {
        let mut piece = [0; 16 << 10];
        match stream.read(&mut piece)? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ if bytes.len() > REQUEST_BYTES_MAX => Err(too_large()),
            read => {
                bytes.extend_from_slice(&piece[..read]);
                Ok(())
            }
        }
    };
    let end = loop {
        match bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(at) => break at,
            None => more(&mut bytes)?,
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let value = |name: &str| {
        let found = head.split("\r\n").filter_map(|line| line.split_once(':'));
        found.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).next()
    };
    // The body must be read before the response is sent. If it were not, closing the connection would reset it, and the
    // client could lose the response.
    if let Some(length) = value("content-length").and_then(|length| length.parse::<usize>().ok()) {
        while bytes.len() < (end + 4).saturating_add(length) {
            more(&mut bytes)?;
        }
    } else if value("transfer-encoding").is_some() {
        while !is_whole(&bytes[end + 4..]) {
            more(&mut bytes)?;
        }
    }
    Ok(head)
}

/// Returns whether a chunked body is complete: whether it ends with the last chunk and its trailers (RFC 9112, section
/// 7.1). Also returns `true` for bytes that are not valid chunks, because waiting for more would not help.
fn is_whole(chunks: &[u8]) -> bool {
    let mut rest = chunks;
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else { return false };
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|line| line.split(';').next());
        let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        match size {
            Some(0) => return rest[end..].windows(4).any(|window| window == b"\r\n\r\n"),
            Some(size) if size <= REQUEST_BYTES_MAX => match rest.get(end + 2 + size + 2..) {
                Some(next) => rest = next,
                None => return false,
            },
            _ => return true,
        }
    }
}

impl HostStub {
    fn is_for(&self, host: &str, method: &str, target: &str) -> bool {
        let (name, has_port) = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, true),
            _ => (host, false),
        };
        // A client leaves out the port if it is the default of the scheme. The scheme is not known here, so both
        // default ports are accepted.
        let has_default_port = self.host.strip_prefix(name).is_some_and(|port| matches!(port, ":80" | ":443"));
        let is_host = self.host == host || self.host == name || (!has_port && has_default_port);
        let path = target.split('?').next().unwrap_or_default();
        let fits = |(wanted, place): &(String, String)| {
            wanted == method && (place == target || (!place.contains('?') && place == path))
        };
        is_host && self.request.as_ref().is_none_or(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stub(host: &str, request: Option<(&str, &str)>, body: &str) -> HostStub {
        let request = request.map(|(method, target)| (method.to_owned(), target.to_owned()));
        let headers = vec![("x-from".to_owned(), "stub".to_owned())];
        HostStub { host: host.to_owned(), request, status: 201, headers, body: body.as_bytes().to_vec() }
    }

    fn send(server: &StubServer, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    #[test]
    fn chunks_end_with_the_last_chunk_and_its_trailers() {
        for whole in
            ["0\r\n\r\n", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "A;q\r\n0123456789\r\n0\r\na: b\r\nc: d\r\n\r\n", "none\r\n"]
        {
            assert!(is_whole(whole.as_bytes()), "{whole:?}");
            // A proper prefix of a complete body is never complete.
            for end in 0..whole.len() {
                assert!(!is_whole(&whole.as_bytes()[..end]), "{:?}", &whole[..end]);
            }
        }
    }

    #[test]
    fn the_first_matching_stub_responds_and_other_requests_are_remembered() {
        let stubs = [
            stub("api.example", Some(("GET", "/rates?of=eur")), "euro"),
            stub("api.example", Some(("GET", "/rates")), "all"),
            stub("api.example:8080", None, "any"),
            stub("pay.example:443", None, "paid"),
        ];
        let server = StubServer::start(&stubs).unwrap().unwrap();
        let get = |host: &str, target: &str| send(&server, &format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        let response = get("api.example", "/rates?of=eur");
        assert!(response.starts_with("HTTP/1.1 201 "), "{response}");
        assert!(response.contains("x-from: stub\r\n") && response.ends_with("euro"), "{response}");
        assert!(get("API.example:443", "/rates?of=usd").ends_with("\r\n\r\nall"));
        assert!(get("pay.example", "/x").ends_with("\r\n\r\npaid") && get("pay.example:443", "/x").ends_with("paid"));
        assert!(!stubs[3].is_for("pay.example:8443", "GET", "/x"));
        let body = "5\r\nhello\r\n0\r\n\r\n";
        let chunked = "POST /x HTTP/1.1\r\nHost: api.example:8080\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(send(&server, &format!("{chunked}{body}")).ends_with("\r\n\r\nany"));
        let with_trailers = "5;x=y\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n";
        assert!(send(&server, &format!("{chunked}{with_trailers}")).ends_with("\r\n\r\nany"));
        assert_eq!(server.unknown(), Vec::<String>::new());
        for _ in 0..2 {
            assert!(get("api.example", "/else").starts_with("HTTP/1.1 404 "));
        }
        assert_eq!(server.unknown(), ["GET /else of api.example"]);
        let flags: Vec<_> = server.flags().collect();
        assert_eq!(parse_stub(&flags[1]), Ok(("api.example:8080".to_owned(), server.address)));
        assert!(StubServer::start(&[]).unwrap().is_none());
    }
}
