//! Tests of `isomer exec` with commands of both WASI versions: arguments, streams, exit codes, grants, traps.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Stdio;

use crate::support::{Workspace, assert_run, signal};

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.guest("command-hello", "tool.wasm");
    workspace.guest("command-hello-p3", "tool3.wasm");
    workspace
}

#[test]
fn arguments_and_exit_code() {
    let workspace = workspace();
    let runs = ["tool.wasm", "tool3.wasm"].map(|file| workspace.run(&["exec", file, "--", "one", "--exit", "42"]));
    assert_run!(workspace, runs.join("\n"));
}

#[test]
fn failure_without_a_code() {
    let workspace = workspace();
    assert_run!(workspace, workspace.run(&["exec", "tool3.wasm", "--", "--fail"]));
}

#[test]
fn input_reaches_the_command() {
    let workspace = workspace();
    for file in ["tool.wasm", "tool3.wasm"] {
        let printed = workspace.run_with_input(&["exec", file, "--", "--stdin"], "line 1\nline 2\n");
        assert!(printed.starts_with("exit code: 0\n") && printed.contains("line 1\nline 2\n"), "{printed}");
    }
}

#[test]
fn trap() {
    let workspace = workspace();
    assert_run!(workspace, workspace.run(&["exec", "tool.wasm", "--", "--trap"]));
}

#[test]
fn the_environment_is_what_was_granted() {
    let workspace = workspace();
    let printed = workspace.run(&["exec", "--env", "A=1=2", "tool.wasm", "--", "--env", "A", "--env", "PATH"]);
    assert!(printed.contains("A=1=2\nPATH=nothing\n"), "{printed}");
    // The variables are in the order of the flags. If a name is repeated, the last value is used.
    let printed =
        workspace.run(&["exec", "--env", "Z=1", "--env", "A=2", "--env", "Z=3", "tool.wasm", "--", "--all-env"]);
    assert!(printed.contains("all Z=3\nall A=2\n"), "{printed}");
}

/// Returns a command component that succeeds if `interface` of `wasi:config` has a value for the key `COLOUR`.
fn asks_for_a_colour(interface: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "{interface}" (instance $config
                (type $error' (variant (case "upstream" string) (case "io" string)))
                (export "error" (type $error (eq $error')))
                (export "get" (func (param "key" string) (result (result (option string) (error $error)))))))
            (core module $memory
                (memory (export "memory") 1)
                (data (i32.const 16) "COLOUR")
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
            (core instance $memory (instantiate $memory))
            (core func $get (canon lower (func $config "get")
                (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
            (core module $command
                (import "" "memory" (memory 1))
                (import "" "get" (func $get (param i32 i32 i32)))
                (func (export "run") (result i32)
                    (call $get (i32.const 16) (i32.const 6) (i32.const 64))
                    ;; `ok`, and in it `some`.
                    (i32.eqz (i32.and (i32.eqz (i32.load8_u (i32.const 64))) (i32.load8_u (i32.const 68))))))
            (core instance $command (instantiate $command
                (with "" (instance (export "memory" (memory $memory "memory")) (export "get" (func $get))))))
            (func $run (result (result)) (canon lift (core func $command "run")))
            (instance $cli (export "run" (func $run)))
            (export "wasi:cli/run@0.2.6" (instance $cli)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn wasi_config_of_every_version_has_the_environment() {
    let workspace = Workspace::new();
    for interface in
        ["wasi:config/store@0.2.0-rc.1", "wasi:config/store@0.2.0-draft", "wasi:config/runtime@0.2.0-draft"]
    {
        workspace.write("tool.wasm", asks_for_a_colour(interface));
        for (flags, code) in [(&["--env", "COLOUR=red"][..], 0), (&["--env", "SIZE=large"], 1), (&[], 1)] {
            let printed = workspace.run(&[&["exec"], flags, &["tool.wasm"]].concat());
            assert!(printed.starts_with(&format!("exit code: {code}\n")), "{interface} {flags:?}: {printed}");
        }
    }
}

/// Returns a command component that logs a warning through `interface`.
fn logs_a_warning(interface: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "{interface}" (instance $logging
                (type $level' (enum "trace" "debug" "info" "warn" "error" "critical"))
                (export "level" (type $level (eq $level')))
                (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
            (core module $memory
                (memory (export "memory") 1)
                (data (i32.const 16) "paymentdeclined"))
            (core instance $memory (instantiate $memory))
            (core func $log (canon lower (func $logging "log") (memory (core memory $memory "memory"))))
            (core module $command
                (import "" "log" (func $log (param i32 i32 i32 i32 i32)))
                (func (export "run") (result i32)
                    (call $log (i32.const 3) (i32.const 16) (i32.const 7) (i32.const 23) (i32.const 8))
                    (i32.const 0)))
            (core instance $command (instantiate $command (with "" (instance (export "log" (func $log))))))
            (func $run (result (result)) (canon lift (core func $command "run")))
            (instance $cli (export "run" (func $run)))
            (export "wasi:cli/run@0.2.6" (instance $cli)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn wasi_logging_writes_to_standard_error() {
    let workspace = Workspace::new();
    for interface in ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"] {
        workspace.write("tool.wasm", logs_a_warning(interface));
        let output = workspace.command(&["exec", "tool.wasm"]).output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{interface}: {output:?}");
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(printed.ends_with("warn: payment: declined\n"), "{interface}: {printed}");
    }
}

#[test]
fn the_commands_name_is_the_name_of_its_file() {
    let workspace = Workspace::new();
    workspace.guest("command-hello", "bin/tool.wasm");
    for path in ["bin/tool.wasm", "./bin/tool.wasm"] {
        let printed = workspace.run(&["exec", path, "--", "--name"]);
        assert!(printed.contains("\nname tool.wasm\n"), "{printed}");
    }
}

#[test]
fn directories_are_what_was_granted() {
    let workspace = workspace();
    workspace.write("data/note.txt", "a note\n");
    let read = ["--", "--file", "/notes/note.txt"];
    let printed = workspace.run(&[&["exec", "tool3.wasm"][..], &read].concat());
    assert!(printed.contains("file: ") && !printed.contains("a note"), "{printed}");
    let printed = workspace.run(&[&["exec", "--dir", "data::/notes:ro", "tool3.wasm"][..], &read].concat());
    assert!(printed.contains("a note\n"), "{printed}");
    let write = ["--", "--write", "/notes/new.txt"];
    let printed = workspace.run(&[&["exec", "--dir", "data::/notes:ro", "tool3.wasm"][..], &write].concat());
    assert!(printed.contains("write: ") && !workspace.path("data/new.txt").exists(), "{printed}");
    let printed = workspace.run(&[&["exec", "--dir", "data::/notes", "tool3.wasm"][..], &write].concat());
    assert!(printed.starts_with("exit code: 0\n") && workspace.path("data/new.txt").exists(), "{printed}");
}

#[test]
fn a_missing_directory() {
    let workspace = workspace();
    assert_run!(workspace, workspace.run(&["exec", "--dir", "nowhere::/data", "tool.wasm"]));
}

#[test]
fn sockets_are_what_was_granted() {
    let workspace = workspace();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = std::thread::spawn(move || {
        // Only the two connections that are granted reach the peer.
        for _ in 0..2 {
            listener.accept().unwrap().0.write_all(b"hello from a socket\n").unwrap();
        }
    });
    let connect = ["tool.wasm", "--", "--connect", &address];
    for grants in [&[][..], &["--allow", "127.0.0.1:1"], &["--allow", "example.com"], &["--allow", "localhost:1"]] {
        let printed = workspace.run(&[&["exec"][..], grants, &connect].concat());
        assert!(printed.contains("connect: ") && !printed.contains("hello from a socket"), "{grants:?} {printed}");
        assert!(printed.contains(&format!("--allow {address}")), "{grants:?} {printed}");
    }
    for grant in ["127.0.0.1", "*"] {
        let printed = workspace.run(&[&["exec", "--allow", grant][..], &connect].concat());
        assert!(printed.contains("hello from a socket\n"), "{grant} {printed}");
    }
    peer.join().unwrap();
}

#[test]
fn ctrl_c_stops_a_command_that_waits() {
    let workspace = workspace();
    let mut command = workspace.command(&["exec", "tool.wasm", "--", "--stdin"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Standard input is moved out of `child`, because waiting for a child closes it, which would end the command.
    let _input = child.stdin.take();
    let mut first = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    assert_eq!(&first, b"hello ");
    signal("INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn code_is_compiled_once() {
    let workspace = workspace();
    let codes = || std::fs::read_dir(workspace.path(".cache/isomer/exec")).unwrap().count();
    workspace.run(&["exec", "tool.wasm"]);
    let first = codes();
    workspace.run(&["exec", "tool.wasm"]);
    assert!(first > 0 && first == codes());
}
