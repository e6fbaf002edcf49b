//! A fake registry for tests: it records requests, and sends the responses that a test defines.

use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use isomer_ids::OciReference;
use isomer_parcel::Contents;
use isomer_parcel::artifact::AppArtifact;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request that the registry received.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// The path with the query.
    pub(crate) target: String,
    /// The host and port to which the request was sent.
    pub(crate) host: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// A response of the registry.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A status, header fields (each with a line break) and a body.
    Whole(u16, String, Vec<u8>),
    /// A status and a body without end.
    Endless(u16),
    /// A status 200 that announces a body of this size, and no body.
    Announced(usize),
    /// A status 200 and the first bytes of a body of this size; the connection stays open until the client closes it.
    Stops(usize),
    /// No response; the connection stays open until the client closes it.
    Silent,
}

/// A registry in a thread, on a free port.
pub(crate) struct Fake {
    pub(crate) address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Fake {
    pub(crate) fn start(reply: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, reply)
    }

    /// Starts a registry with TLS if there is a configuration.
    pub(crate) fn start_with(
        tls: Option<Arc<ServerConfig>>,
        reply: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (received.clone(), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, reply, tls) = (log.clone(), reply.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        serve(StreamOwned::new(connection, stream), &log, &*reply);
                    }
                    None => serve(stream, &log, &*reply),
                });
            }
        });
        Self { address, received }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the reference `shop:1` at this registry.
    pub(crate) fn reference(&self) -> OciReference {
        format!("{}/shop:1", self.address).parse().unwrap()
    }
}

impl Reply {
    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::Whole(200, String::new(), body.as_ref().to_vec())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Whole(status, String::new(), Vec::new())
    }

    pub(crate) fn with(status: u16, fields: &str) -> Self {
        Self::Whole(status, format!("{fields}\r\n"), Vec::new())
    }
}

/// Returns the response of a correct registry that has the app.
pub(crate) fn honest(contents: &Contents, request: &Received) -> Reply {
    let artifact = AppArtifact::of(&contents.release).unwrap();
    let digest = |bytes: &[u8]| isomer_parcel::artifact::sha256(bytes).to_string();
    let blobs = contents.parts.values().chain([&artifact.config]);
    if request.target.contains("/manifests/") {
        return Reply::ok(&artifact.manifest);
    }
    match blobs.into_iter().find(|bytes| request.target.ends_with(&digest(bytes))) {
        Some(bytes) => Reply::ok(bytes),
        None => Reply::status(404),
    }
}

/// Serves one request.
fn serve(stream: impl Read + Write, log: &Mutex<Vec<Received>>, reply: &dyn Fn(&Received) -> Reply) {
    let mut stream = BufReader::new(stream);
    let Some(request) = read(&mut stream) else { return };
    log.lock().unwrap().push(request.clone());
    // Writing fails if the client closes the connection early.
    let _closed = match reply(&request) {
        Reply::Whole(status, fields, body) => {
            let head =
                format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{fields}\r\n", body.len());
            let body = if request.method == "HEAD" { Vec::new() } else { body };
            let stream = stream.get_mut();
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).and_then(|()| stream.flush())
        }
        Reply::Endless(status) => {
            let stream = stream.get_mut();
            let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n");
            let mut done = stream.write_all(head.as_bytes());
            while done.is_ok() {
                done = stream.write_all(&[b' '; 65536]);
            }
            done
        }
        Reply::Announced(bytes) => {
            let stream = stream.get_mut();
            let head = format!("HTTP/1.1 200 X\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).and_then(|()| stream.flush())
        }
        Reply::Stops(bytes) => {
            let head = format!("HTTP/1.1 200 X\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n ");
            let sent = stream.get_mut().write_all(head.as_bytes()).and_then(|()| stream.get_mut().flush());
            sent.and_then(|()| stream.read_to_end(&mut Vec::new()).map(drop))
        }
        Reply::Silent => stream.read_to_end(&mut Vec::new()).map(drop),
    };
}

fn read(stream: &mut impl std::io::BufRead) -> Option<Received> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut words = line.split(' ');
    let mut request =
        Received { method: words.next()?.to_owned(), target: words.next()?.to_owned(), ..Received::default() };
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "host" => request.host = value.to_owned(),
            "authorization" => request.authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    request.body = vec![0; length];
    stream.read_exact(&mut request.body).ok()?;
    Some(request)
}
