//! `isomer run`: apps, and single components with grants as flags.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::support::Workspace;

#[test]
fn an_app_answers_and_stops() {
    let workspace = Workspace::ping_pong("grants = { config = { WHO = \"pong\" } }\n");
    let server = workspace.serve(&["run"]);
    assert_eq!(server.get("/greet?name=ann"), (200, "pong to ann (count 1)\n".to_owned()));
    assert_eq!(server.get("/env?name=WHO"), (200, "ping=nothing pong=pong\n".to_owned()));
    assert_eq!(server.get("/.isomer/health").0, 200);
    server.wait_for_log("pong sees WHO=pong");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn single_components_of_both_generations_answer() {
    let workspace = Workspace::new();
    for (guest, hello) in [("http-hello", "hello from WASI 0.3\n"), ("http-hello-p2", "hello from WASI 0.2\n")] {
        workspace.guest(guest, "hello.wasm");
        let server = workspace.serve(&["run", "hello.wasm"]);
        assert_eq!(server.get("/any/path"), (200, hello.to_owned()));
        assert_eq!(server.stop(), Some(0));
    }
    assert!(!workspace.path(".isomer").exists(), "nothing is left beside the file");
}

#[test]
fn a_single_component_has_the_grants_of_its_flags() {
    let workspace = Workspace::new();
    workspace.guest("env-print", "env.wasm");
    let server = workspace.serve(&["run", "env.wasm", "--env", "NAME=value"]);
    let (status, body) = server.get("/?name=NAME");
    assert!(status == 200 && body.contains("value"), "{body}");
}

#[test]
fn a_single_component_reaches_the_hosts_of_its_flags() {
    let workspace = Workspace::new();
    workspace.guest("fetch-probe", "fetch.wasm");
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in upstream.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nupstream").unwrap();
        }
    });
    let path = format!("/?url=http://{address}/");
    let denied = workspace.serve(&["run", "fetch.wasm"]);
    assert!(!denied.get(&path).1.contains("upstream"), "{:?}", denied.get(&path));
    denied.wait_for_log("was denied");
    let allowed = workspace.serve(&["run", "fetch.wasm", "--allow", &address.to_string()]);
    assert!(allowed.get(&path).1.contains("upstream"), "{:?}", allowed.get(&path));
}
