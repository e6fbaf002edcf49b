//! Tests of a shape with several processes on one machine: responses, logs, restarts, shutdown.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Server, TIMEOUT, Workspace, assert_run, begin, read_response, signal, wait_for_end_of};

const SHAPES: &str = "grants = { config = { WHO = \"pong\" } }\n\n\
    [shapes.split.groups]\nfront = [\"ping\"]\nback = [\"pong\"]\n\n\
    [shapes.apart]\nisolate = [\"pong\"]\ngroups = { all = [\"ping\", \"pong\"] }\n";

fn ping_pong() -> Workspace {
    Workspace::ping_pong(SHAPES)
}

fn split(workspace: &Workspace) -> Server {
    workspace.serve(&["run", "--shape", "split"])
}

/// Returns an app with a handler that waits, and a component that is never called.
fn sleeper() -> Workspace {
    let workspace = Workspace::with_manifest(
        "[app]\nname = \"bed\"\nversion = \"0.1.0\"\n\n\
         [components.sleeper]\nwasm = \"sleeper.wasm\"\nroutes = [\"/...\"]\n\n\
         [components.pong]\nwasm = \"pong.wasm\"\n\n\
         [shapes.split.groups]\nfront = [\"sleeper\"]\nback = [\"pong\"]\n",
    );
    workspace.guest("sleeper", "sleeper.wasm");
    workspace.guest("pong", "pong.wasm");
    workspace
}

/// Repeats a request until the status of the response is 200. All earlier responses must report a lost call.
fn get_again(server: &Server, path: &str) -> String {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match server.get(path) {
            (200, body) => return body,
            (status, _) => assert!(status == 502 || status == 503, "{status}"),
        }
        assert!(Instant::now() < deadline, "it does not come back");
    }
}

#[test]
fn responses_are_the_same_in_every_shape() {
    let workspace = ping_pong();
    let answers = ["monolith", "apart", "split"].map(|shape| {
        // Sampled requests would get instances with other counters as soon as the probed code is ready.
        let server = workspace.serve(&["run", "--shape", shape, "--telemetry", "0"]);
        let paths = ["/greet?name=ann", "/greet", "/env?name=WHO", "/many?n=50", "/later?name=bob&ms=1"];
        let answers = paths.map(|path| server.get(path));
        let line = server.wait_for_log("pong sees WHO=pong");
        assert_eq!(line.contains(r#""group":"back""#), shape == "split", "{line}");
        assert_eq!(server.stop(), Some(0));
        answers
    });
    assert_eq!(answers[0][0], (200, "pong to ann (count 1)\n".to_owned()));
    assert_eq!(answers[0][2], (200, "ping=nothing pong=pong\n".to_owned()));
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[test]
fn a_trap_behind_a_seam_traps_the_caller_and_is_logged_by_the_callee() {
    let workspace = ping_pong();
    let server = split(&workspace);
    assert_eq!(server.get("/trap").0, 500);
    let failed = server.wait_for_log(r#""event":"call-failed""#);
    assert!(failed.contains(r#""group":"back""#) && failed.contains("unreachable"), "{failed}");
    assert_eq!(server.get("/greet?name=ann").0, 200);
}

/// Returns the values in the lines of a command's output that are JSON.
fn json_lines(output: &str) -> Vec<Value> {
    output.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_request_through_two_processes_is_one_trace() {
    let workspace = ping_pong();
    let server = split(&workspace);
    assert_eq!(server.get("/greet?name=ann").0, 200);
    // The members send their parts of the trace after the response.
    let deadline = Instant::now() + TIMEOUT;
    let (id, spans) = loop {
        let traces = json_lines(&workspace.run(&["traces", "--json"]));
        if let Some(id) = traces.first().and_then(|page| page["traces"][0]["id"].as_str()) {
            let trace = json_lines(&workspace.run(&["trace", id, "--json"])).remove(0);
            let spans = trace["spans"].as_array().unwrap().clone();
            if spans.iter().any(|span| span["process"] == "back") && spans[0]["process"] == "front" {
                break (id.to_owned(), spans);
            }
        }
        assert!(Instant::now() < deadline, "the trace is not complete in time");
    };
    assert_eq!((&spans[0]["name"], &spans[0]["parent"]), (&json!("GET /..."), &Value::Null), "{spans:?}");
    let listed = workspace.run(&["traces", "--path", "/greet"]);
    assert!(listed.contains("GET /greet ") && !listed.contains("name=ann"), "the path without the query: {listed}");
    assert!(workspace.run(&["traces", "--path", "/gree"]).contains("no traces match"));
    let called = spans.iter().find(|span| span["process"] == "back").unwrap();
    let caller = spans.iter().find(|span| span["id"] == called["parent"]).unwrap();
    assert_eq!((&called["kind"], &caller["kind"]), (&json!("server"), &json!("client")), "{spans:?}");
    assert_eq!((&called["component"], &caller["process"]), (&json!("pong"), &json!("front")), "{spans:?}");
    assert_eq!(server.stop(), Some(0));
    // Traces survive a restart.
    let server = split(&workspace);
    let stored = workspace.run(&["trace", &id, "--json"]);
    assert_eq!(json_lines(&stored)[0]["spans"].as_array().unwrap().len(), spans.len(), "{stored}");
    assert_eq!(server.stop(), Some(0));
}

/// Returns how many values of a metric each process has sent, as the supervisor shows it.
fn counts(workspace: &Workspace, metric: &str) -> BTreeMap<String, u64> {
    let report = json_lines(&workspace.run(&["metrics", "--json"])).remove(0);
    let metrics = report["metrics"].as_array().unwrap();
    let series = metrics.iter().filter(|found| found["name"] == metric).flat_map(|found| found["series"].as_array());
    let mut counts = BTreeMap::new();
    for series in series.flatten() {
        let process = series["labels"]["process"].as_str().unwrap_or_default().to_owned();
        let buckets = series["counts"].as_array().unwrap().iter();
        *counts.entry(process).or_default() += buckets.map(|count| count.as_u64().unwrap()).sum::<u64>();
    }
    counts
}

/// Waits until the supervisor shows `count` values of a metric, all of them from the process `front`.
fn wait_for_count(workspace: &Workspace, metric: &str, count: u64) {
    let (deadline, expected) = (Instant::now() + TIMEOUT, BTreeMap::from([("front".to_owned(), count)]));
    let mut last = 0;
    loop {
        let found = counts(workspace, metric);
        if found == expected {
            return;
        }
        let now = found.get("front").copied().unwrap_or_default();
        assert!(last <= now && now <= count && Instant::now() < deadline, "{metric}: {found:?}, not {count}");
        last = now;
    }
}

#[test]
fn the_metrics_of_all_members_are_shown_and_continue_after_a_restart() {
    let workspace = ping_pong();
    let server = split(&workspace);
    let (requests, calls) = ("http.server.request.duration", "rpc.client.call.duration");
    for _ in 0..3 {
        assert_eq!(server.get("/greet?name=ann").0, 200);
    }
    wait_for_count(&workspace, requests, 3);
    wait_for_count(&workspace, calls, 3);
    let killed = server.process_of("front");
    signal("KILL", killed);
    wait_for_end_of(killed);
    // Until the new process has connected to the other group, its requests fail.
    let (deadline, mut sent) = (Instant::now() + TIMEOUT, 1);
    while server.get("/greet?name=ann").0 != 200 {
        assert!(Instant::now() < deadline, "no request succeeds");
        sent += 1;
    }
    wait_for_count(&workspace, requests, 3 + sent);
    wait_for_count(&workspace, calls, 3 + sent);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn ordered_requests_are_traced_once_by_the_member_with_the_front_door() {
    let workspace = ping_pong();
    let server = workspace.serve(&["run", "--shape", "split", "--telemetry", "0"]);
    assert_eq!(server.get("/greet?name=ann").0, 200);
    let mut command = workspace.command(&["trace", "--next", "2", "--path", "/greet", "--json"]);
    let mut waiting = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while waiting.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the requests are not traced");
        assert_eq!(server.get("/greet?name=ann").0, 200);
        assert_eq!(server.get("/").0, 200);
    }
    let output = waiting.wait_with_output().unwrap();
    let shown = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert_eq!(server.get("/greet?name=ann").0, 200);
    let page = json_lines(&workspace.run(&["traces", "--json"])).remove(0);
    let sampled = page["traces"].as_array().unwrap().iter().filter(|trace| trace["sampled"] == true).count();
    assert_eq!(sampled, 2, "{page}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn orders_to_trace_requests_survive_the_member_with_the_front_door() {
    let workspace = ping_pong();
    let server = workspace.serve(&["run", "--shape", "split", "--telemetry", "0"]);
    let mut command = workspace.command(&["trace", "--next", "2", "--path", "/greet", "--json"]);
    let mut waiting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut messages = std::io::BufRead::lines(std::io::BufReader::new(waiting.stderr.take().unwrap()));
    assert!(messages.any(|line| line.unwrap().contains("waiting for the next 2 requests")));
    signal("KILL", server.process_of("front"));
    server.wait_for_log("is ready again (process ");
    let deadline = Instant::now() + TIMEOUT;
    while waiting.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the order was lost");
        get_again(&server, "/greet?name=ann");
    }
    let shown = json_lines(&String::from_utf8(waiting.wait_with_output().unwrap().stdout).unwrap());
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_killed_member_is_restarted() {
    let workspace = ping_pong();
    let server = split(&workspace);
    assert_eq!(server.get("/greet?name=ann").0, 200);
    let killed = server.process_of("back");
    signal("KILL", killed);
    server.wait_for_log(&format!("process {killed} was killed by SIGKILL (possibly out of memory)"));
    assert_eq!(get_again(&server, "/greet?name=ann"), "pong to ann (count 1)\n");
    let again = server.wait_for_log("is ready again (process ");
    assert!(again.contains(r#""group":"back""#), "{again}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn the_front_door_keeps_its_port_and_new_connections_wait() {
    let workspace = ping_pong();
    let server = split(&workspace);
    let killed = server.process_of("front");
    signal("KILL", killed);
    wait_for_end_of(killed);
    // While no process accepts connections, they wait in the kernel's queue, so none is refused.
    assert_eq!(server.get("/"), (200, "ping\n".to_owned()));
    assert_eq!(get_again(&server, "/greet?name=ann"), "pong to ann (count 1)\n");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn no_member_outlives_its_supervisor() {
    let workspace = ping_pong();
    let server = split(&workspace);
    let processes = server.processes();
    assert_eq!(processes.len(), 2);
    let home = home_of(processes[0]);
    assert!(std::path::Path::new(&home).is_dir());
    signal("KILL", server.pid());
    processes.iter().for_each(|pid| wait_for_end_of(*pid));
    let deadline = Instant::now() + TIMEOUT;
    while std::fs::exists(&home).unwrap() {
        assert!(Instant::now() < deadline, "`{home}` was not removed");
        std::thread::yield_now();
    }
    // The data directory can be opened immediately, because no process holds its lock any more.
    assert_eq!(split(&workspace).stop(), Some(0));
}

/// Returns the folder that contains the sockets of the process.
fn home_of(pid: u32) -> String {
    let sockets = std::fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap();
    let mine: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let path = sockets.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let path = fields.get(7)?;
        (mine.iter().any(|inode| inode == fields[6]) && path.starts_with('/')).then(|| (*path).to_owned())
    });
    let path = path.expect("a member listens on a socket");
    path.rsplit_once('/').unwrap().0.to_owned()
}

#[test]
fn ctrl_c_stops_all_members_after_running_requests() {
    let workspace = Workspace::with_manifest(
        "[app]\nname = \"tap\"\nversion = \"0.1.0\"\n\n\
         [components.stream]\nwasm = \"stream.wasm\"\nroutes = [\"/...\"]\n\n\
         [components.pong]\nwasm = \"pong.wasm\"\n\n\
         [shapes.split.groups]\nfront = [\"stream\"]\nback = [\"pong\"]\n",
    );
    workspace.guest("http-stream", "stream.wasm");
    workspace.guest("pong", "pong.wasm");
    let server = split(&workspace);
    let processes = server.processes();
    let request = begin(server.address(), "/drip?chunks=3&ms=250&bytes=4");
    // The first byte of the response shows that the request is in progress. Most of the body is sent later.
    request.peek(&mut [0]).unwrap();
    signal("INT", server.pid());
    // A service manager may send a signal to all processes. Members ignore it, because their supervisor stops them.
    processes.iter().for_each(|pid| signal("TERM", *pid));
    assert_eq!(read_response(request), (200, "aaaabbbbcccc".to_owned()));
    assert_eq!(server.ended(), Some(0));
    processes.iter().for_each(|pid| wait_for_end_of(*pid));
}

#[test]
fn a_second_signal_kills_all_members() {
    let workspace = sleeper();
    for shape in ["monolith", "split"] {
        let server = workspace.serve(&["run", "--shape", shape, "--grace", "3600"]);
        let address = server.address().to_owned();
        let request = begin(&address, "/?ms=20000");
        assert_eq!(server.get("/?ms=1").0, 200);
        signal("TERM", server.pid());
        // When the port is closed, the first signal has been handled.
        let deadline = Instant::now() + TIMEOUT;
        while std::net::TcpStream::connect(&address).is_ok() {
            assert!(Instant::now() < deadline, "the front door still listens");
        }
        signal("TERM", server.pid());
        assert_eq!(server.ended(), Some(130), "{shape}");
        drop(request);
    }
}

#[test]
fn a_member_that_ends_too_often_stops_all() {
    let workspace = ping_pong();
    let server = split(&workspace);
    let mut process = server.process_of("back");
    for _ in 0..8 {
        signal("KILL", process);
        let again = server.wait_for_log("is ready again (process ");
        let (_, number) = again.split_once("(process ").unwrap();
        process = number.split(')').next().unwrap().parse().unwrap();
    }
    signal("KILL", process);
    let printed = server.wait_for_log("ended 9 times within 60 s");
    assert!(
        printed.contains("group `back`") && printed.contains("the last time it was killed by SIGKILL"),
        "{printed}"
    );
    assert_eq!(server.ended(), Some(1));
}

#[test]
fn members_log_to_one_stream_with_their_names() {
    let workspace = ping_pong();
    let mut command = workspace.command(&["run", "--shape", "split", "--listen", "127.0.0.1:0", "--access-log"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap())).map(Result::unwrap);
    let ready = log.find(|line| line.contains("is listening at")).unwrap();
    let address = ready.split("http://").nth(1).unwrap().split(',').next().unwrap().to_owned();
    assert_eq!(crate::support::get(&address, "/env?name=WHO").0, 200);
    // The order of lines from different processes varies. So three lines are read while the processes run and the rest
    // after they have exited, and all lines are sorted before they are compared.
    let mut lines: Vec<String> = log.by_ref().take(3).collect();
    signal("INT", child.id());
    lines.extend(log);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let without_ids = |line: &String| {
        let hex = |word: &&str| !(word.len() == 8 && word.bytes().all(|b| b.is_ascii_hexdigit()));
        line.split(' ').skip(1).filter(hex).collect::<Vec<_>>().join(" ")
    };
    let mut printed: Vec<String> = lines.iter().map(without_ids).collect();
    printed.sort();
    assert!(printed[0].starts_with("back  pong") && printed[0].ends_with("| pong sees WHO=pong"), "{lines:?}");
    assert!(printed[1].starts_with("front 200 GET /env?name=WHO"), "{lines:?}");
    assert!(printed[2].starts_with("front ping") && printed[2].ends_with("| ping sees WHO=nothing"), "{lines:?}");
    assert!(ready.contains("in 2 processes: back (process "), "{ready}");
}

#[test]
fn a_group_that_does_not_start_reports_why_and_stops_all() {
    let workspace = Workspace::with_manifest(
        "[app]\nname = \"files\"\nversion = \"0.1.0\"\n\n\
         [components.hello]\nwasm = \"hello.wasm\"\nroutes = [\"/...\"]\n\n\
         [components.files]\nwasm = \"files.wasm\"\n\
         grants = { dirs = [{ host = \"nowhere\", guest = \"/data\" }] }\n\n\
         [shapes.split.groups]\nfront = [\"hello\"]\nback = [\"files\"]\n",
    );
    workspace.guest("http-hello", "hello.wasm");
    // This guest is used because it opens files itself, so its imports are the same with every compiler.
    workspace.guest("dirs-probe", "files.wasm");
    assert_run!(workspace, workspace.run(&["run", "--shape", "split", "--listen", "127.0.0.1:0"]));
}

#[test]
fn two_groups_with_routes_cannot_share_an_address() {
    let workspace = Workspace::with_manifest(
        "[app]\nname = \"two\"\nversion = \"0.1.0\"\n\n\
         [components.a]\nwasm = \"hello.wasm\"\nroutes = [\"/a\"]\n\n\
         [components.b]\nwasm = \"hello.wasm\"\nroutes = [\"/b\"]\n\n\
         [shapes.split.groups]\nfirst = [\"a\"]\nsecond = [\"b\"]\n",
    );
    workspace.guest("http-hello", "hello.wasm");
    assert_run!(workspace, workspace.run(&["run", "--shape", "split", "--listen", "127.0.0.1:0"]));
}

#[test]
fn dev_runs_in_every_shape() {
    let workspace = ping_pong();
    for shape in ["split", "apart"] {
        let server = workspace.serve(&["dev", "--shape", shape]);
        assert_eq!(server.get("/greet?name=ann").0, 200);
        assert_eq!(server.stop(), Some(0));
    }
}
