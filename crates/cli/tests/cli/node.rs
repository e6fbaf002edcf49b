//! Tests of a running node that the commands for nodes control.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde_json::Value;

use crate::support::{Server, TIMEOUT, TemplatesHome, Workspace, assert_run, read_response};

/// Starts a node whose data directory is `data` in the workspace.
fn node(workspace: &Workspace) -> Server {
    workspace.serve(&["node", "--data", "data", "--admin", "127.0.0.1:0"])
}

/// Returns the status and the body of the response to `GET path` for the host name `host`.
fn get(node: &Server, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    read_response(stream)
}

/// Runs a command in the folder `dir`, and returns the JSON that it prints. The command sends its requests to the node
/// whose data directory is `data`, and builds components in `target`.
fn ask(workspace: &Workspace, dir: &Path, target: &Path, arguments: &[&str]) -> Value {
    let data = workspace.path("data");
    let arguments = [arguments, &["--json", "--node", data.to_str().unwrap()]].concat();
    let mut command = workspace.command(&arguments);
    let output = command.current_dir(dir).env("CARGO_TARGET_DIR", target).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {printed}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn the_life_of_an_app_from_new_to_remove() {
    let home = TemplatesHome::lock();
    let workspace = Workspace::new();
    let (app, target) = (home.new_app("shop"), home.target());
    let made = workspace.command(&["new", "shop", "--template", "two"]).current_dir(&home.path).status().unwrap();
    assert!(made.success());
    let running = node(&workspace);
    let isomer = |arguments: &[&str]| ask(&workspace, &app, &target, arguments);
    let answer = |node: &Server| get(node, "shop.example", "/ann");

    let first = isomer(&["deploy", "--host", "shop.example"]);
    assert_eq!(
        (&first["app"], &first["tenant"], &first["previous"]),
        (&"shop".into(), &"default".into(), &Value::Null)
    );
    assert_eq!(answer(&running), (200, "Hello, ann!\n".to_owned()));
    assert_eq!(get(&running, "SHOP.example:80", "/ann").0, 200, "the case and the port of a host name are ignored");
    assert_ne!(get(&running, "other.example", "/ann").0, 200);

    // Replaces the component `greeter` of the serving app.
    let source = app.join("greeter/src/lib.rs");
    let changed = std::fs::read_to_string(&source).unwrap().replace("{greeting}, {name}!", "{greeting} again, {name}!");
    std::fs::write(&source, changed).unwrap();
    let mut build = workspace.command(&["build", "--json"]);
    let built = build.current_dir(&app).env("CARGO_TARGET_DIR", &target).output().unwrap();
    let built: Value = serde_json::from_slice(&built.stdout).unwrap();
    let greeter =
        built["components"].as_array().unwrap().iter().find(|component| component["name"] == "greeter").unwrap();
    let second = isomer(&["swap", "shop", &format!("greeter={}", greeter["wasm"].as_str().unwrap())]);
    assert_eq!(second["previous"], first["revision"]);
    assert_eq!(answer(&running), (200, "Hello again, ann!\n".to_owned()));

    assert_eq!(isomer(&["rollback", "shop"])["revision"], first["revision"]);
    assert_eq!(answer(&running), (200, "Hello, ann!\n".to_owned()));
    let digits = &second["revision"].as_str().unwrap()[..8];
    isomer(&["rollback", "shop", digits]);
    assert_eq!(answer(&running), (200, "Hello again, ann!\n".to_owned()));
    let revisions = isomer(&["revisions", "shop"]);
    let current: Vec<&Value> = revisions.as_array().unwrap().iter().filter(|it| it["current"] == true).collect();
    assert_eq!((current.len(), &current[0]["revision"]), (1, &second["revision"]));

    isomer(&["stop", "shop"]);
    assert_eq!(answer(&running).0, 503);
    isomer(&["start", "shop"]);
    assert_eq!(answer(&running).0, 200);

    // After a restart, the node serves all apps without compiling them again.
    assert_eq!(running.stop(), Some(0));
    let running = node(&workspace);
    assert_eq!(answer(&running), (200, "Hello again, ann!\n".to_owned()));
    let status = isomer(&["status"]);
    assert_eq!((&status["apps"], &status["apps_loaded"]), (&1.into(), &1.into()));
    assert_eq!(isomer(&["apps"])[0]["state"], "loaded");
    isomer(&["logs", "shop"]);

    isomer(&["remove", "shop", "--data", "--yes"]);
    assert_ne!(answer(&running).0, 200);
    assert_eq!(isomer(&["apps"]), Value::Array(Vec::new()));
    let audit = std::fs::read_to_string(workspace.path("data/audit.log")).unwrap();
    let ended = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ended = ended.filter(|line| line["phase"] == "end" && line["action"] != "put-blob");
    let actions: Vec<String> = ended.map(|line| line["action"].as_str().unwrap().to_owned()).collect();
    assert_eq!(actions, ["deploy", "swap", "rollback", "rollback", "stop", "start", "remove"]);
}

#[test]
fn commands_reach_a_node_over_a_socket() {
    let workspace = Workspace::new();
    let socket = format!("unix:{}", workspace.path("admin.sock").display());
    let running = workspace.serve(&["node", "--data", "data", "--admin", &socket]);
    let printed = workspace.run(&["status", "--node", "data", "--json"]);
    assert!(printed.starts_with("exit code: 0"), "{printed}");
    let printed = workspace.run(&["status", "--node", &socket, "--token-file", "data/admin.token"]);
    assert!(printed.starts_with("exit code: 0") && printed.contains("admin.sock"), "{printed}");
    assert_eq!(running.stop(), Some(0));
    assert!(!workspace.path("admin.sock").exists());
}

#[test]
fn a_data_directory_has_one_node() {
    let workspace = Workspace::new();
    let _running = node(&workspace);
    assert_run!(
        workspace,
        workspace.run(&["node", "--data", "data", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
    );
}

#[test]
fn ports_in_use_are_reported() {
    let workspace = Workspace::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let printed: Vec<String> =
        [["--listen", &address, "--admin", "127.0.0.1:0"], ["--listen", "127.0.0.1:0", "--admin", &address]]
            .iter()
            .map(|flags| workspace.run(&[&["node", "--data", "data"], flags.as_slice()].concat()))
            .collect();
    assert_run!(workspace, printed.join(""));
}

#[test]
fn a_public_admin_api_requires_a_setting() {
    let workspace = Workspace::new();
    assert_run!(
        workspace,
        workspace.run(&["node", "--data", "data", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"])
    );
}

/// Sends one request, or several until the server closes the connection. Returns the number of responses.
fn ask_until_told(address: std::net::SocketAddr, several: bool) -> u64 {
    let mut stream = TcpStream::connect(address).expect("the port is always open");
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let connection = if several { "keep-alive" } else { "close" };
    let mut answered = 0;
    for _ in 0..200 {
        write!(stream, "GET /.isomer/health HTTP/1.1\r\nhost: a\r\nconnection: {connection}\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            let mut bytes = [0; 512];
            let come = stream.read(&mut bytes).expect("an answer");
            assert!(come > 0, "the connection was closed before the end of the response: {answer:?}");
            answer.extend(&bytes[..come]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answered += 1;
        if answer.contains("connection: close\r\n") {
            break;
        }
    }
    answered
}

#[test]
fn a_restart_on_the_service_managers_socket_loses_nothing() {
    let workspace = Workspace::new();
    // The time is long, so that a client that is slow on a busy machine is not disconnected.
    workspace.write("node.toml", "[limits]\nidle_grace = \"100s\"\n");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let start = || {
        let arguments = ["node", "--config", "node.toml", "--data", "data", "--admin", "127.0.0.1:0"];
        workspace.serve_on(&socket, "http", &arguments)
    };
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let more = || {
        let (before, deadline) = (answered.load(Ordering::Relaxed), Instant::now() + TIMEOUT);
        while answered.load(Ordering::Relaxed) < before + 100 {
            assert!(Instant::now() < deadline, "there is no response");
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        // The clients connect before the first process starts, and also between the first and the second process.
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (over, answered) = (&over, &answered);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        answered.fetch_add(ask_until_told(address, number % 2 == 0), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            let running = start();
            assert_eq!(running.address(), address.to_string());
            more();
            assert_eq!(running.stop(), Some(0));
        }
        let last = start();
        more();
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("no request is lost");
        }
        assert_eq!(last.stop(), Some(0));
    });
}

#[test]
fn an_unknown_inherited_socket_is_reported() {
    let workspace = Workspace::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let printed = workspace.run_on(&socket, "isomer.socket", &["node", "--data", "data"]);
    assert!(printed.contains("`isomer.socket` has a name that a node does not know"), "{printed}");
    assert!(printed.contains("FileDescriptorName=http, https or admin"), "{printed}");
}

#[test]
fn a_bad_node_file() {
    let workspace = Workspace::new();
    workspace.write("node.toml", "[node]\ndata = \"data\"\n\n[frnt]\nlisten = \"127.0.0.1:0\"\n");
    assert_run!(workspace, workspace.run(&["node", "--config", "node.toml"]));
}

#[test]
fn an_authority_that_cannot_be_read_is_shown_with_its_place() {
    let workspace = Workspace::new();
    workspace.write("node.toml", "[outbound]\nauthority = \"missing.pem\"\n");
    let printed = workspace.run(&["node", "--config", "node.toml", "--data", "data"]);
    assert!(printed.starts_with("exit code: 1") && printed.contains("--> node.toml:2:"), "{printed}");
    assert!(
        printed.contains("missing.pem")
            && printed.contains("a relative path is resolved against the node file's folder"),
        "{printed}"
    );
}

#[test]
fn a_token_that_others_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let workspace = Workspace::new();
    assert_eq!(node(&workspace).stop(), Some(0));
    let token = workspace.path("data/admin.token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let printed = workspace.run(&["node", "--data", "data", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert!(
        printed.starts_with("exit code: 1")
            && printed.contains("other users can read the token file")
            && printed.contains("hint:"),
        "{printed}"
    );
}

#[test]
fn a_hangup_starts_a_new_audit_log() {
    let workspace = Workspace::new();
    let running = node(&workspace);
    let audit = workspace.path("data/audit.log");
    workspace.run(&["tenant", "set", "one", "--node", "data"]);
    std::fs::rename(&audit, workspace.path("audit.old")).unwrap();
    crate::support::signal("HUP", running.pid());
    running.wait_for_log("reopened the audit log");
    workspace.run(&["tenant", "set", "two", "--node", "data"]);
    let mut text = String::new();
    std::fs::File::open(&audit).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("\"two\"") && !text.contains("\"one\""), "{text}");
    assert_eq!(running.stop(), Some(0));
}

/// Checks that a tenant needs nothing to deploy except a token that the node's administrator created for the tenant.
#[test]
fn a_tenant_deploys_with_its_own_token_and_reads_its_access_log() {
    let workspace = Workspace::ping_pong("");
    let running = workspace.serve(&["node", "--data", "data", "--admin", "127.0.0.1:0", "--access-log"]);
    let admin = |arguments: &[&str]| {
        let printed = workspace.run(&[arguments, &["--node", "data"]].concat());
        assert!(printed.starts_with("exit code: 0"), "{arguments:?}: {printed}");
        printed
    };
    admin(&["tenant", "set", "acme", "--host", "*.acme.example"]);
    admin(&["tokens", "create", "ci", "--role", "deploy", "--tenant", "acme", "--to-file", "ci.token"]);
    let token = std::fs::read_to_string(workspace.path("ci.token")).unwrap();
    let secret = token.trim()[24..].to_owned();
    let with = |arguments: &[&str]| {
        let arguments = [arguments, &["--tenant", "acme", "--node", "data", "--token-file", "ci.token"]].concat();
        workspace.run(&arguments)
    };
    let printed = with(&["deploy", "--host", "bank.example"]);
    assert!(printed.starts_with("exit code: 1") && printed.contains("`bank.example` is not one of them"), "{printed}");
    let printed = with(&["deploy", "--host", "shop.acme.example", "-m", "The first one"]);
    assert!(printed.starts_with("exit code: 0"), "{printed}");
    assert_eq!(get(&running, "shop.acme.example", "/seen?by=me").0, 200);
    let revisions = with(&["revisions", "table-tennis"]);
    assert!(revisions.contains("deploy by ci") && revisions.contains("The first one"), "{revisions}");
    let until = Instant::now() + TIMEOUT;
    // A request is logged after its response is sent, so the test waits for the line.
    while !with(&["logs", "table-tennis", "--access"]).contains("200 GET /seen?by=me") {
        assert!(Instant::now() < until, "the request is not in the access log");
    }
    assert!(!with(&["logs", "table-tennis"]).contains("/seen"), "the app's own log contains no requests");
    assert!(with(&["remove", "table-tennis", "--yes"]).contains("this operation needs `admin`"));
    let own = with(&["apps"]);
    assert!(own.contains("table-tennis"), "{own}");
    admin(&["tokens", "revoke", "ci", "--tenant", "acme"]);
    let printed = with(&["apps"]);
    assert!(printed.starts_with("exit code: 1") && printed.contains("the token is unknown to this node"), "{printed}");
    assert_eq!(running.stop(), Some(0));
    let mut folders = vec![workspace.path("data")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "the token is in {}", path.display());
            }
        }
    }
}
