//! Tests of `isomer reshape` for an app that `isomer run` or `isomer dev` serves: no request fails, no acknowledged
//! write is lost, and after a failure the app keeps its shape.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::Value;

use crate::support::{Server, TIMEOUT, Workspace, get, signal};

/// The shapes among which the tests change: two in one process, two in several processes.
const SHAPES: [&str; 4] = ["monolith", "isolated", "split", "micro"];

/// The number of changes in an ordinary run and with `ISOMER_LONG=1`.
const CHANGES: usize = 8;
const CHANGES_LONG: usize = 100;

/// Inserts a row. The table has one column.
const INSERT: &str = "/execute?store=default&sql=INSERT%20INTO%20t%20VALUES%20(1)";
const COUNT: &str = "/query?store=default&sql=SELECT%20count(*)%20AS%20n%20FROM%20t";
const CREATE: &str = "/execute?store=default&sql=CREATE%20TABLE%20t%20(c)";
const INCREMENT: &str = "/increment?store=things&key=k&delta=1";

/// Creates an app with a key-value store, an SQL store, and a component that is called over a seam. `health` is a line
/// for the table `app`.
fn app(health: &str) -> Workspace {
    let workspace = Workspace::with_manifest(&format!(
        "[app]\nname = \"stand\"\nversion = \"0.1.0\"\n{health}\n\n\
         [components.ping]\nwasm = \"ping.wasm\"\nroutes = [\"/...\"]\n\n\
         [components.pong]\nwasm = \"pong.wasm\"\n\n\
         [components.kv]\nwasm = \"kv.wasm\"\nroutes = [\"/increment\", \"/get\"]\ngrants = {{ kv = [\"things\"] }}\n\n\
         [components.sql]\nwasm = \"sql.wasm\"\nroutes = [\"/execute\", \"/query\", \"/check/...\"]\ngrants = {{ sql = [\"default\"] }}\n\n\
         [shapes.isolated]\nisolate = [\"pong\", \"kv\"]\ngroups = {{ all = [\"ping\", \"pong\", \"kv\", \"sql\"] }}\n\n\
         [shapes.split.groups]\nfront = [\"ping\", \"kv\", \"sql\"]\nback = [\"pong\"]\n\n\
         [shapes.micro]\nisolate = [\"kv\", \"sql\"]\ngroups = {{ web = [\"ping\", \"kv\", \"sql\"], game = [\"pong\"] }}\n"
    ));
    for (guest, file) in
        [("ping", "ping.wasm"), ("pong", "pong.wasm"), ("kv-probe", "kv.wasm"), ("sql-probe", "sql.wasm")]
    {
        workspace.guest(guest, file);
    }
    workspace
}

/// Clients that send requests all the time. Every response must have status 200.
struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    clients: Vec<JoinHandle<()>>,
}

/// The numbers of acknowledged writes.
#[derive(Default)]
struct Counts {
    increments: AtomicU64,
    inserts: AtomicU64,
}

impl Load {
    /// Starts clients with a connection for each request, and clients that reuse their connection.
    fn start(address: &str, may_be_cut: bool) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let client = |path: &'static str, keeps_connection: bool| {
            let (address, stop, counts) = (address.to_owned(), stop.clone(), counts.clone());
            std::thread::spawn(move || {
                let mut client = Client { address, keeps_connection, connection: None };
                while !stop.load(Ordering::Relaxed) {
                    match client.get(path) {
                        Ok((200, _)) => {}
                        Ok((status, body)) => panic!("{path}: {status} {body}"),
                        Err(_) if may_be_cut => return,
                        Err(error) => panic!("{path}: {error}"),
                    }
                    match path {
                        INCREMENT => drop(counts.increments.fetch_add(1, Ordering::SeqCst)),
                        INSERT => drop(counts.inserts.fetch_add(1, Ordering::SeqCst)),
                        _ => {}
                    }
                }
            })
        };
        let paths = [INCREMENT, INSERT, "/greet?name=ann"];
        let clients = paths.into_iter().flat_map(|path| [client(path, false), client(path, true)]).collect();
        Self { stop, counts, clients }
    }

    /// Waits until `number` more writes have been acknowledged.
    fn wait_for_writes(&self, number: u64) {
        let written = || self.counts.increments.load(Ordering::SeqCst) + self.counts.inserts.load(Ordering::SeqCst);
        let (from, deadline) = (written(), Instant::now() + TIMEOUT);
        while written() < from + number {
            assert!(Instant::now() < deadline, "writes are not acknowledged");
            std::thread::yield_now();
        }
    }

    /// Stops the clients. Returns the numbers of acknowledged increments and inserts.
    fn stop(self) -> (u64, u64) {
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
fn read_head(connection: &mut BufReader<TcpStream>) -> std::io::Result<(u16, Vec<String>)> {
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

fn read_chunks(connection: &mut BufReader<TcpStream>) -> std::io::Result<String> {
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
fn assert_written(server: &Server, (increments, inserts): (u64, u64), unknown: u64) {
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

/// Returns the shape that the admin API shows.
fn shape(workspace: &Workspace) -> String {
    let url = std::fs::read_to_string(workspace.path(".isomer/admin.url")).unwrap();
    let token = std::fs::read_to_string(workspace.path(".isomer/admin.token")).unwrap();
    let address = url.trim().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    let token = token.trim();
    write!(
        stream,
        "GET /v1/plan HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let (_, body) = crate::support::read_response(stream);
    serde_json::from_str::<Value>(&body).unwrap()["shape"].as_str().unwrap().to_owned()
}

fn changes() -> usize {
    if std::env::var_os("ISOMER_LONG").is_some_and(|long| long == "1") { CHANGES_LONG } else { CHANGES }
}

#[test]
fn no_request_fails_and_no_write_is_lost_while_shapes_change() {
    let workspace = app("");
    let mut server = workspace.serve(&["run"]);
    assert_eq!(server.get(CREATE).0, 200);
    let token = std::fs::read(workspace.path(".isomer/admin.token")).unwrap();
    let load = Load::start(server.address(), false);
    for number in 1..=changes() {
        // Visits each shape, and each pair of a shape in this process and one in several processes.
        let shape_name = SHAPES[[2, 0, 3, 1, 2, 3, 1, 0][number % 8]];
        let before = shape(&workspace);
        let printed = workspace.run(&["reshape", shape_name]);
        assert!(printed.starts_with("exit code: 0"), "change {number} from {before} to {shape_name}: {printed}");
        let event = server.event();
        assert_eq!((&event["event"], &event["shape"]), (&"reshaped".into(), &shape_name.into()), "{event}");
        let has_processes = matches!(shape_name, "split" | "micro");
        assert_eq!(event["processes"].as_array().map_or(0, Vec::len), if has_processes { 2 } else { 0 }, "{event}");
        assert_eq!(shape(&workspace), shape_name);
        load.wait_for_writes(4);
    }
    let written = load.stop();
    assert_written(&server, written, 0);
    assert_eq!(std::fs::read(workspace.path(".isomer/admin.token")).unwrap(), token);
    assert_eq!(server.stop(), Some(0));
    let server = workspace.serve(&["run"]);
    assert_written(&server, written, 0);
}

#[test]
fn an_app_without_stores_is_never_paused() {
    let workspace = Workspace::ping_pong("\n[shapes.split.groups]\nfront = [\"ping\"]\nback = [\"pong\"]\n");
    let server = workspace.serve(&["run", "--shape", "split"]);
    let stop = Arc::new(AtomicBool::new(false));
    let (address, stopped) = (server.address().to_owned(), stop.clone());
    let client = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            assert_eq!(get(&address, "/greet?name=ann").0, 200);
        }
    });
    for shape_name in ["monolith", "split", "monolith"] {
        let printed = workspace.run(&["reshape", shape_name, "--json"]);
        assert!(printed.contains(&format!("\"shape\": \"{shape_name}\"")), "{printed}");
    }
    stop.store(true, Ordering::Relaxed);
    client.join().unwrap();
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn an_unhealthy_arrangement_does_not_take_over() {
    let workspace = app("health = \"/check/read/ready/c\"");
    let server = workspace.serve(&["run"]);
    assert_eq!(server.get(CREATE).0, 200);
    let load = Load::start(server.address(), false);
    for shape_name in ["split", "isolated"] {
        let printed = workspace.run(&["reshape", shape_name]);
        assert!(printed.starts_with("exit code: 1") && printed.contains("not healthy"), "{printed}");
        assert!(printed.contains("still serves in shape `monolith`"), "{printed}");
        assert_eq!(shape(&workspace), "monolith");
        load.wait_for_writes(4);
    }
    assert_eq!(server.get("/execute?store=default&sql=CREATE%20TABLE%20ready%20(c)").0, 200);
    let printed = workspace.run(&["reshape", "split"]);
    assert!(printed.starts_with("exit code: 0"), "{printed}");
    assert_eq!(server.get("/execute?store=default&sql=DROP%20TABLE%20ready").0, 200);
    let printed = workspace.run(&["reshape", "monolith"]);
    assert!(printed.contains("still serves in shape `split`"), "{printed}");
    load.wait_for_writes(4);
    assert_written(&server, load.stop(), 0);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn files_that_change_after_the_start_do_not_stop_the_app() {
    let workspace = app("health = \"/check/read/ready/c\"");
    let manifest = std::fs::read_to_string(workspace.path("isomer.toml")).unwrap();
    let manifest = manifest.replace("sql = [\"default\"]", "sql = [\"default\"], secrets = [\"token\"]");
    let tables = "[sql.default]\nmigrations = \"migrations\"\n\n[secrets]\ntoken = { file = \"token.txt\" }\n";
    workspace.write("isomer.toml", format!("{manifest}\n{tables}"));
    workspace.write("migrations/1.sql", "CREATE TABLE t (c);\n");
    workspace.write("token.txt", "secret");
    let server = workspace.serve(&["run"]);
    workspace.write("migrations/1.sql", "CREATE TABLE t (c, d);\n");
    workspace.write("migrations/2.sql", "CREATE TABLE u (c);\n");
    let is_unhealthy = |shape_name| {
        let printed = workspace.run(&["reshape", shape_name]);
        assert!(printed.starts_with("exit code: 1") && printed.contains("not healthy"), "{printed}");
        assert_eq!(server.get(INSERT).0, 200);
    };
    // The stores have moved before the health check fails, so the old arrangement opens them again.
    is_unhealthy("split");
    assert_eq!(server.get("/execute?store=default&sql=CREATE%20TABLE%20ready%20(c)").0, 200);
    for shape_name in ["isolated", "split"] {
        let printed = workspace.run(&["reshape", shape_name]);
        assert!(printed.starts_with("exit code: 0"), "{printed}");
        assert_eq!(server.get(INSERT).0, 200);
    }
    assert_eq!(server.get("/execute?store=default&sql=DROP%20TABLE%20ready").0, 200);
    is_unhealthy("monolith");
    assert_eq!(server.get("/execute?store=default&sql=CREATE%20TABLE%20u%20(c)").0, 200, "a migration was applied");
    std::fs::remove_file(workspace.path("token.txt")).unwrap();
    let printed = workspace.run(&["reshape", "monolith"]);
    assert!(printed.starts_with("exit code: 1") && printed.contains("the secret `token`"), "{printed}");
    assert_eq!((shape(&workspace).as_str(), server.get(INSERT).0), ("split", 200));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn an_unknown_shape_and_an_absent_process_are_errors() {
    let workspace = app("");
    let server = workspace.serve(&["run"]);
    let printed = workspace.run(&["reshape", "round"]);
    assert!(printed.starts_with("exit code: 1") && printed.contains("no shape `round`"), "{printed}");
    assert_eq!(server.get("/greet?name=ann").0, 200);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_kill_at_any_moment_of_a_change_loses_no_acknowledged_write() {
    let workspace = app("");
    let server = workspace.serve(&["run"]);
    assert_eq!(server.get(CREATE).0, 200);
    assert_eq!(server.stop(), Some(0));
    let (mut written, mut killed) = ((0, 0), 0);
    for (number, [from, to]) in
        [["monolith", "split"], ["split", "monolith"], ["split", "micro"], ["monolith", "micro"]]
            .into_iter()
            .enumerate()
    {
        let server = workspace.serve(&["run", "--shape", from]);
        let load = Load::start(server.address(), true);
        load.wait_for_writes(2);
        let mut reshape = workspace.command(&["reshape", to]).spawn().unwrap();
        // The writes divide the time of the change: they stop while the stores move.
        load.wait_for_writes(u64::try_from(number).unwrap() * 8);
        signal("KILL", server.pid());
        let _ = reshape.wait();
        let (increments, inserts) = load.stop();
        written = (written.0 + increments, written.1 + inserts);
        killed += 1;
        let server = workspace.serve(&["run", "--shape", to]);
        // Each of two clients for each store may have had a write in flight.
        assert_written(&server, written, 2 * killed);
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn dev_keeps_the_shape_when_the_app_is_built_again() {
    let workspace = app("");
    let mut server = workspace.serve(&["dev"]);
    assert_eq!(server.get(CREATE).0, 200);
    let load = Load::start(server.address(), false);
    let printed = workspace.run(&["reshape", "split"]);
    assert!(printed.starts_with("exit code: 0"), "{printed}");
    assert_eq!(server.event()["event"], "reshaped");
    let manifest = std::fs::read_to_string(workspace.path("isomer.toml")).unwrap();
    workspace.write("isomer.toml", manifest.replace("0.1.0", "0.2.0"));
    let event = server.event();
    assert_eq!((&event["event"], &event["shape"]), (&"replaced".into(), &"split".into()), "{event}");
    assert_eq!(event["version"], "0.2.0", "{event}");
    assert_eq!(event["processes"].as_array().map(Vec::len), Some(2), "{event}");
    load.wait_for_writes(4);
    assert_written(&server, load.stop(), 0);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn drafts_of_migrations_work_in_processes() {
    let workspace = app("");
    let manifest = std::fs::read_to_string(workspace.path("isomer.toml")).unwrap();
    let manifest = format!("{manifest}\n[sql.default]\nmigrations = \"migrations\"\n");
    workspace.write("migrations/1.sql", "CREATE TABLE t (c);\n");
    workspace.write("isomer.toml", &manifest);
    let mut server = workspace.serve(&["dev", "--shape", "split"]);
    assert_eq!(server.get(INSERT).0, 200);
    workspace.write("migrations/2.sql", "ALTER TABLE t ADD COLUMN d INTEGER DEFAULT 7;\n");
    assert_eq!(server.event()["event"], "replaced");
    let read = "/query?store=default&sql=SELECT%20d%20FROM%20t";
    assert_eq!(server.get(read), (200, "d\ni:7\n".to_owned()));
    // An applied migration was edited: the store stays unchanged, and changes of the code still take effect.
    workspace.write("migrations/2.sql", "ALTER TABLE t ADD COLUMN d INTEGER DEFAULT 8;\n");
    assert_eq!(server.event()["event"], "replaced");
    workspace.write("isomer.toml", manifest.replace("0.1.0", "0.2.0"));
    assert_eq!(server.event()["version"], "0.2.0");
    assert_eq!(server.get(read), (200, "d\ni:7\n".to_owned()));
    let printed = workspace.run(&["reshape", "monolith"]);
    assert!(printed.starts_with("exit code: 0"), "{printed}");
    assert_eq!(server.get(read), (200, "d\ni:7\n".to_owned()));
    assert_eq!(server.stop(), Some(0));
}
