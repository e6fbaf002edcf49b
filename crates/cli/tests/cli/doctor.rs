//! Tests of `isomer doctor`: the state of each check, and the exit code.

use std::net::TcpListener;

use crate::support::Workspace;

#[test]
fn every_check_is_reported() {
    let workspace = Workspace::ping_pong("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = workspace.command(&["doctor", "--json", "--listen", &address]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let state = |about: &str| {
        let checks = json["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["about"] == about);
        check.unwrap_or_else(|| panic!("no check of {about}: {json:#}"))
    };
    for about in ["rust", "components", "disk", "mappings", "open files", "node", "compilers", "sockets"] {
        assert!(state(about)["found"].is_string());
    }
    assert_eq!(state("data")["state"], "ok");
    assert_eq!(state("port")["state"], "warn");
    let who = format!("(process {})", std::process::id());
    assert!(state("port")["found"].as_str().unwrap().contains(&who), "{json:#}");
    assert!(state("port")["hint"].as_str().unwrap().contains("--listen 127.0.0.1:0"), "{json:#}");
    assert_eq!(json["ok"], output.status.success());
}

#[test]
fn an_unusable_data_directory_fails() {
    let workspace = Workspace::new();
    let printed = workspace.run(&["doctor", "--data", "/proc/nowhere"]);
    assert!(printed.starts_with("exit code: 1\n"), "{printed}");
    assert!(printed.contains("fail  data        `/proc/nowhere` cannot be created"), "{printed}");
    assert!(printed.contains("hint: name another folder: --data DIR"), "{printed}");
}
