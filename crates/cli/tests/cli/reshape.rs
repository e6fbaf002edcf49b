//! Tests of `isomer reshape` for an app that `isomer run` or `isomer dev` serves: no request fails, no acknowledged
//! write is lost, and after a failure the app keeps its shape.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::reshape_load::{CREATE, INSERT, Load, OnFailure, assert_written, read_chunks, read_head};
use crate::support::{Workspace, get, signal};

/// The shapes among which the tests change: two in one process, two in several processes.
const SHAPES: [&str; 4] = ["monolith", "isolated", "split", "micro"];

/// The number of changes in an ordinary run and with `ISOMER_LONG=1`.
const CHANGES: usize = 8;
const CHANGES_LONG: usize = 100;

/// Creates an app with a key-value store, an SQL store, and a component that is called over a seam. `health` is a line
/// for the table `app`.
pub(crate) fn app(health: &str) -> Workspace {
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

/// Returns the shape that the admin API shows.
pub(crate) fn shape(workspace: &Workspace) -> String {
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

/// Returns whether the tests run for long.
pub(crate) fn is_long() -> bool {
    std::env::var_os("ISOMER_LONG").is_some_and(|long| long == "1")
}

fn changes() -> usize {
    if is_long() { CHANGES_LONG } else { CHANGES }
}

#[test]
fn no_request_fails_and_no_write_is_lost_while_shapes_change() {
    let workspace = app("");
    let mut server = workspace.serve(&["run"]);
    assert_eq!(server.get(CREATE).0, 200);
    let token = std::fs::read(workspace.path(".isomer/admin.token")).unwrap();
    let load = Load::start(server.address(), OnFailure::Panic);
    for number in 1..=changes() {
        // Visits each shape, and each pair of a shape in this process and one in several processes.
        let shape_name = SHAPES[[2, 0, 3, 1, 2, 3, 1, 0][number % 8]];
        let before = shape(&workspace);
        let printed = workspace.run(&["reshape", shape_name]);
        assert!(printed.starts_with("exit code: 0"), "change {number} from {before} to {shape_name}: {printed}");
        // If the app runs in the shape already, nothing is reported.
        if before != shape_name {
            let event = server.event();
            assert_eq!((&event["event"], &event["shape"]), (&"reshaped".into(), &shape_name.into()), "{event}");
            let has_processes = matches!(shape_name, "split" | "micro");
            assert_eq!(event["processes"].as_array().map_or(0, Vec::len), if has_processes { 2 } else { 0 }, "{event}");
        }
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
    let load = Load::start(server.address(), OnFailure::Panic);
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
    // The old arrangement is started again with the secrets that it has.
    std::fs::remove_file(workspace.path("token.txt")).unwrap();
    assert_eq!(server.get("/execute?store=default&sql=DROP%20TABLE%20ready").0, 200);
    is_unhealthy("monolith");
    assert_eq!(server.get("/execute?store=default&sql=CREATE%20TABLE%20u%20(c)").0, 200, "a migration was applied");
    assert_eq!(server.get("/execute?store=default&sql=CREATE%20TABLE%20ready%20(c)").0, 200);
    let printed = workspace.run(&["reshape", "monolith"]);
    assert!(printed.starts_with("exit code: 0"), "{printed}");
    assert_eq!((shape(&workspace).as_str(), server.get(INSERT).0), ("monolith", 200));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn the_result_is_in_the_log_and_the_current_shape_is_not_started_again() {
    let workspace = app("");
    let server = workspace.serve(&["run"]);
    let again = workspace.run(&["reshape", "monolith"]);
    assert!(again.contains("already runs in shape monolith"), "{again}");
    let printed = workspace.run(&["reshape", "isolated", "--json"]);
    assert!(printed.contains("\"shape\": \"isolated\""), "{printed}");
    let logged = workspace.run(&["logs", "--level", "info"]);
    assert_eq!(logged.matches("the app now serves in shape").count(), 1, "{logged}");
    assert!(!workspace.run(&["logs", "--level", "warning"]).contains("now serves"), "it is not a warning");
    let data = workspace.path(".isomer");
    let status = workspace.run(&["status", "--node", data.to_str().unwrap()]);
    assert!(status.contains("shape      isolated"), "{status}");
    let plan = workspace.run(&["plan", "--node", data.to_str().unwrap()]);
    assert!(plan.contains("shape isolated") && plan.contains("process all"), "{plan}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn an_unknown_shape_and_an_absent_process_are_errors() {
    let workspace = app("");
    let server = workspace.serve(&["run"]);
    let printed = workspace.run(&["reshape", "round"]);
    assert!(printed.starts_with("exit code: 1") && printed.contains("no shape `round`"), "{printed}");
    assert!(workspace.run(&["logs", "--level", "error"]).contains("could not take shape `round`"));
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
        let load = Load::start(server.address(), OnFailure::Panic);
        load.wait_for_writes(2);
        let mut reshape = workspace.command(&["reshape", to]).spawn().unwrap();
        // The writes divide the time of the change: they stop while the stores move.
        load.wait_for_writes(u64::try_from(number).unwrap() * 8);
        load.expect_kill();
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
    let load = Load::start(server.address(), OnFailure::Panic);
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
fn dev_keeps_the_revision_with_its_secrets_if_the_next_one_does_not_start() {
    let workspace = app("");
    workspace.guest("secret-probe", "secret.wasm");
    let manifest = std::fs::read_to_string(workspace.path("isomer.toml")).unwrap();
    let component = |grants: &str| {
        format!(
            "{manifest}\n[components.secret]\nwasm = \"secret.wasm\"\nroutes = [\"/secret/...\"]\ngrants = {{ {grants} }}\n\n\
             [secrets]\ntoken = {{ file = \"token.txt\" }}\n"
        )
        .replace("\"kv\", \"sql\"]", "\"kv\", \"sql\", \"secret\"]")
    };
    workspace.write("isomer.toml", component("secrets = [\"token\"]"));
    workspace.write("token.txt", "sesame");
    let mut server = workspace.serve(&["dev", "--shape", "split"]);
    let read = || server.get("/secret/x?name=token");
    let before = read();
    assert!(before.0 == 200 && before.1.contains("sesame"), "{before:?}");
    // The new revision does not need the secret, and fails after the stores have moved, because its folder does not exist.
    std::fs::remove_file(workspace.path("token.txt")).unwrap();
    workspace.write("isomer.toml", component("dirs = [{ host = \"missing\", guest = \"/missing\" }]"));
    server.wait_for_log("the previous revision still serves");
    assert_eq!(read(), before);
    assert_eq!(server.get(CREATE).0, 200);
    std::fs::create_dir(workspace.path("missing")).unwrap();
    workspace.write("isomer.toml", component("dirs = [{ host = \"missing\", guest = \"/missing\", write = true }]"));
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get(INSERT).0, 200);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn open_streams_of_events_do_not_block_a_move_of_stores() {
    let workspace = app("");
    workspace.guest("http-answer-p2", "events.wasm");
    let manifest = std::fs::read_to_string(workspace.path("isomer.toml")).unwrap();
    let component = "[components.events]\nwasm = \"events.wasm\"\nroutes = [\"/events\"]\n";
    let manifest = manifest.replace("\"kv\", \"sql\"]", "\"kv\", \"sql\", \"events\"]");
    workspace.write("isomer.toml", format!("{manifest}\n{component}"));
    let server = workspace.serve(&["run"]);
    assert_eq!(server.get(CREATE).0, 200);
    let load = Load::start(server.address(), OnFailure::Panic);
    let streams = || {
        [1, 60_000].map(|pause_ms| {
            let path = format!("/events?chunks=1000000&ms={pause_ms}");
            let mut stream = BufReader::new(crate::support::begin(server.address(), &path));
            assert_eq!(read_head(&mut stream).unwrap().0, 200);
            stream
        })
    };
    for shape_name in ["split", "micro", "monolith"] {
        let open = streams();
        let printed = workspace.run(&["reshape", shape_name]);
        assert!(printed.starts_with("exit code: 0"), "{printed}");
        for mut stream in open {
            // The stream ends as if it were complete. Otherwise, reading its next chunk fails.
            let events = read_chunks(&mut stream).unwrap();
            assert!(events.starts_with("data: x\n\n"), "{events:.100}");
        }
        load.wait_for_writes(4);
    }
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
