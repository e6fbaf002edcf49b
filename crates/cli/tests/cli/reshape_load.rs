//! Clients that send requests to an app while its shape changes, and count the writes that were acknowledged.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::support::{Server, TIMEOUT};

/// Inserts a row. The table has one column.
pub(crate) const INSERT: &str = "/execute?store=default&sql=INSERT%20INTO%20t%20VALUES%20(1)";
const COUNT: &str = "/query?store=default&sql=SELECT%20count(*)%20AS%20n%20FROM%20t";
pub(crate) const CREATE: &str = "/execute?store=default&sql=CREATE%20TABLE%20t%20(c)";
const INCREMENT: &str = "/increment?store=things&key=k&delta=1";
const GREET: &str = "/greet?name=ann";

/// Clients that send requests all the time.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    /// Whether the server is being killed, so that a client ends with its first failed request.
    is_killed: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

/// What a client does if its request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// The test fails.
    Panic,
    /// The client sends its next request.
    Continue,
}

/// The numbers of acknowledged writes.
#[derive(Default)]
pub(crate) struct Counts {
    increments: AtomicU64,
    inserts: AtomicU64,
    /// The number of writes that were not acknowledged. Each may have been made.
    unknown: AtomicU64,
}

impl Counts {
    /// Returns the number of writes that have failed, each of which may have been made.
    pub(crate) fn failed(&self) -> u64 {
        self.unknown.load(Ordering::SeqCst)
    }
}

impl Load {
    /// Starts clients with a connection for each request, and clients that reuse their connection.
    pub(crate) fn start(address: &str, on_failure: OnFailure) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let is_killed = Arc::new(AtomicBool::new(false));
        let client = |path: &'static str, keeps_connection: bool| {
            let (address, stop, counts) = (address.to_owned(), stop.clone(), counts.clone());
            let is_killed = is_killed.clone();
            std::thread::spawn(move || {
                let mut client = Client { address, keeps_connection, connection: None };
                while !stop.load(Ordering::Relaxed) {
                    match (client.get(path), on_failure) {
                        (Ok((200, _)), _) => {}
                        // The server may have received the request.
                        _ if is_killed.load(Ordering::SeqCst) => return,
                        (_, OnFailure::Continue) => {
                            if path != GREET {
                                counts.unknown.fetch_add(1, Ordering::SeqCst);
                            }
                            continue;
                        }
                        (Ok((status, body)), _) => panic!("{path}: {status} {body}"),
                        (Err(error), _) => panic!("{path}: {error}"),
                    }
                    match path {
                        INCREMENT => drop(counts.increments.fetch_add(1, Ordering::SeqCst)),
                        INSERT => drop(counts.inserts.fetch_add(1, Ordering::SeqCst)),
                        _ => {}
                    }
                }
            })
        };
        let paths = [INCREMENT, INSERT, GREET];
        let clients = paths.into_iter().flat_map(|path| [client(path, false), client(path, true)]).collect();
        Self { stop, counts, is_killed, clients }
    }

    /// Waits until `number` more writes have been acknowledged.
    pub(crate) fn wait_for_writes(&self, number: u64) {
        let written = || self.counts.increments.load(Ordering::SeqCst) + self.counts.inserts.load(Ordering::SeqCst);
        let (from, deadline) = (written(), Instant::now() + TIMEOUT);
        while written() < from + number {
            assert!(Instant::now() < deadline, "writes are not acknowledged");
            std::thread::yield_now();
        }
    }

    /// Returns the numbers of writes, which can be read after the clients have ended.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Allows the server to fail from now on.
    pub(crate) fn expect_kill(&self) {
        self.is_killed.store(true, Ordering::SeqCst);
    }

    /// Stops the clients. Returns the numbers of acknowledged increments and inserts.
    pub(crate) fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        (self.counts.increments.load(Ordering::SeqCst), self.counts.inserts.load(Ordering::SeqCst))
    }
}

struct Client {
    address: String,
    keeps_connection: bool,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Sends `GET path`. Returns the status and the body.
    fn get(&mut self, path: &str) -> std::io::Result<(u16, String)> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                BufReader::new(stream)
            }
        };
        let ends = if self.keeps_connection { "" } else { "connection: close\r\n" };
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{ends}\r\n", self.address);
        connection.get_mut().write_all(request.as_bytes())?;
        let (status, fields) = read_head(&mut connection)?;
        let field = |name: &str| fields.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let body = match field("content-length:") {
            Some(length) => read_exactly(&mut connection, length.parse().unwrap())?,
            None => read_chunks(&mut connection)?,
        };
        if self.keeps_connection && field("connection:") != Some("close") {
            self.connection = Some(connection);
        }
        Ok((status, body))
    }
}

/// Reads the head of a response. Returns the status and the header fields in lower case.
pub(crate) fn read_head(connection: &mut BufReader<TcpStream>) -> std::io::Result<(u16, Vec<String>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_ascii_lowercase()),
        }
    }
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, lines.split_off(1)))
}

fn read_exactly(connection: &mut BufReader<TcpStream>, length: usize) -> std::io::Result<String> {
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(String::from_utf8(body).unwrap())
}

pub(crate) fn read_chunks(connection: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut body = String::new();
    loop {
        let mut size = String::new();
        connection.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| std::io::Error::other("no chunk"))?;
        body += &read_exactly(connection, size)?;
        connection.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Asserts that the stores contain these numbers of acknowledged writes, and at most `unknown` more: writes whose
/// response did not arrive.
pub(crate) fn assert_written(server: &Server, (increments, inserts): (u64, u64), unknown: u64) {
    let counted = server.get("/get?store=things&key=k");
    let increments_stored: u64 = counted.1.trim().parse().unwrap_or_else(|_| panic!("{counted:?}"));
    let rows = server.get(COUNT);
    let rows_stored: u64 = rows
        .1
        .lines()
        .nth(1)
        .and_then(|row| row.strip_prefix("i:")?.parse().ok())
        .unwrap_or_else(|| panic!("{rows:?}"));
    assert!((increments..=increments + unknown).contains(&increments_stored), "{increments} {increments_stored}");
    assert!((inserts..=inserts + unknown).contains(&rows_stored), "{inserts} {rows_stored}");
}
