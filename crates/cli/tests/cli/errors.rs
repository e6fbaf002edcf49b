//! Tests of errors that users can cause, with their exit codes and hints.

use std::net::TcpListener;

use crate::support::{Workspace, assert_run};

const SMALLEST: &str = "[app]\nname = \"small\"\nversion = \"0.1.0\"\n\n[components.hello]\nroutes = [\"/...\"]\n";

/// Returns a minimal manifest in which the component has `source`.
fn manifest(source: &str) -> String {
    format!("{SMALLEST}{source}\n")
}

#[test]
fn unknown_command() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["biuld"]));
}

#[test]
fn unknown_flag() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["run", "--lisen", "127.0.0.1:0"]));
}

#[test]
fn no_manifest() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["plan"]));
}

#[test]
fn no_address_to_listen_on() {
    let workspace = Workspace::new();
    let runs = ["localhost", "*:80", "http://localhost:3000", "shop.example:80", ":70000"]
        .map(|address| workspace.run(&["run", "--listen", address]));
    assert_run!(workspace, runs.join("\n"));
}

#[test]
fn an_invalid_log_level() {
    let workspace = Workspace::new();
    let output = workspace.command(&["build"]).env("ISOMER_LOG", "loud").output().unwrap();
    let of_environment = String::from_utf8(output.stderr).unwrap();
    let of_flag = workspace.run(&["run", "--log", "h2=debug"]);
    assert_run!(workspace, format!("{of_flag}\n{:?}\n{of_environment}", output.status.code()));
}

#[test]
fn no_app() {
    let workspace = Workspace::with_manifest(SMALLEST);
    workspace.write("other.toml", "");
    workspace.write("notes.txt", "hello");
    workspace.guest("pong", "pong.wasm");
    workspace.guest("command-hello", "tool.wasm");
    let named = ["other.toml", "notes.txt", "nowhere/isomer.toml", "pong.wasm", "tool.wasm", "nothing.wasm"];
    assert_run!(workspace, named.map(|path| workspace.run(&["plan", path])).join("\n"));
}

#[test]
fn no_folder() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["build", "nowhere"]));
}

#[test]
fn bad_manifest() {
    let workspace = Workspace::with_manifest(&manifest("wsm = \"hello.wasm\""));
    assert_run!(workspace, workspace.run(&["run", "--listen", "127.0.0.1:0"]));
}

#[test]
fn unknown_shape() {
    let workspace = Workspace::ping_pong("\n[shapes.split.groups]\nback = [\"pong\"]\n");
    assert_run!(workspace, workspace.run(&["plan", "--shape", "splti"]));
}

#[test]
fn a_shape_that_cannot_be_run() {
    let workspace = Workspace::with_manifest(
        "[app]\nname = \"twice\"\nversion = \"0.1.0\"\n\n\
         [components.left]\nwasm = \"hello.wasm\"\nroutes = [\"/left\"]\n\n\
         [components.right]\nwasm = \"hello.wasm\"\nroutes = [\"/right\"]\n\n\
         [shapes.each]\ngroups = \"each\"\n",
    );
    workspace.guest("http-hello", "hello.wasm");
    assert_run!(workspace, workspace.run(&["run", "--shape", "each", "--listen", "127.0.0.1:0"]));
}

#[test]
fn missing_exporter() {
    let workspace = Workspace::with_manifest(&manifest("wasm = \"ping.wasm\""));
    workspace.guest("ping", "ping.wasm");
    assert_run!(workspace, workspace.run(&["run", "--listen", "127.0.0.1:0"]));
}

#[test]
fn port_in_use() {
    let workspace = Workspace::ping_pong("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_run!(workspace, workspace.run(&["run", "--listen", &address]));
}

#[test]
fn app_that_already_runs() {
    let workspace = Workspace::ping_pong("");
    let server = workspace.serve(&["dev"]);
    let printed = workspace.run(&["run", "--listen", server.address()]);
    assert_run!(workspace, printed);
}

#[test]
fn data_directory_that_cannot_be_created() {
    let workspace = Workspace::ping_pong("");
    assert_run!(workspace, workspace.run(&["run", "--listen", "127.0.0.1:0", "--data", "/proc/nowhere"]));
}

#[test]
fn data_directory_in_use() {
    let workspace = Workspace::ping_pong("");
    let _server = workspace.serve(&["run"]);
    assert_run!(workspace, workspace.run(&["run", "--listen", "127.0.0.1:0"]));
}

#[test]
fn missing_source_folder() {
    let workspace = Workspace::with_manifest(&manifest("cargo = \"hello\""));
    assert_run!(workspace, workspace.run(&["build"]));
}

#[test]
fn missing_source_file() {
    let workspace = Workspace::with_manifest(&manifest("wasm = \"hello.wasm\""));
    assert_run!(workspace, workspace.run(&["build"]));
}

#[test]
fn source_command_that_fails() {
    let workspace = Workspace::with_manifest(&manifest("command = \"echo oh; exit 3\"\nwasm = \"hello.wasm\""));
    assert_run!(workspace, workspace.run(&["build"]));
}

#[test]
fn all_sources_are_checked_before_a_command_runs() {
    let more = "\n[components.other]\ncargo = \"udir\"\n\n[components.third]\ncargo = \"vdir\"";
    let workspace =
        Workspace::with_manifest(&manifest(&format!("command = \"touch ran; false\"\nwasm = \"hello.wasm\"\n{more}")));
    let printed = workspace.run(&["build"]);
    assert!(
        printed.starts_with("exit code: 1\n") && printed.contains("udir`") && printed.contains("vdir`"),
        "{printed}"
    );
    assert!(printed.contains("isomer.toml:11:9") && !workspace.path("ran").exists(), "{printed}");
}

#[test]
fn source_that_a_command_of_another_component_makes() {
    let workspace = Workspace::with_manifest(&manifest(
        "command = \"cp given.wasm hello.wasm; cp given.wasm other.wasm\"\nwasm = \"hello.wasm\"\n\n\
         [components.other]\nwasm = \"other.wasm\"",
    ));
    workspace.guest("http-hello", "given.wasm");
    let printed = workspace.run(&["build"]);
    assert!(printed.starts_with("exit code: 0\n"), "{printed}");
}

#[test]
fn missing_migrations_folder() {
    let workspace = Workspace::with_manifest(&manifest(
        "wasm = \"hello.wasm\"\ngrants = { sql = [\"s\"] }\n\n[sql.s]\nmigrations = \"nodir\"",
    ));
    workspace.guest("http-hello", "hello.wasm");
    let plan = workspace.run(&["plan"]);
    for arguments in [&["run", "--listen", "127.0.0.1:0"][..], &["deploy"]] {
        let printed = workspace.run(arguments);
        assert!(
            printed.starts_with("exit code: 1\n") && printed.contains("isomer.toml:11:14"),
            "{arguments:?}: {printed}"
        );
    }
    assert_run!(workspace, plan);
}

#[test]
fn source_command_that_is_killed() {
    // When memory runs out, the system kills processes with SIGKILL. It can kill the command's shell, or the last
    // program that the shell runs.
    for (command, ended) in [
        ("kill -KILL $$", "was killed by SIGKILL (possibly out of memory)"),
        ("sh -c 'kill -KILL $$'; exit $?", "ended with exit code 137: killed by SIGKILL (possibly out of memory)"),
    ] {
        let workspace = Workspace::with_manifest(&manifest(&format!("command = \"{command}\"\nwasm = \"hello.wasm\"")));
        let printed = workspace.run(&["build"]);
        assert!(printed.starts_with("exit code: 1\n") && printed.contains(ended), "{printed}");
    }
}

#[test]
fn source_command_that_makes_nothing() {
    let workspace = Workspace::with_manifest(&manifest("command = \"true\"\nwasm = \"hello.wasm\""));
    assert_run!(workspace, workspace.run(&["build"]));
}

#[test]
fn missing_granted_directory() {
    let workspace = Workspace::with_manifest(&manifest(
        "wasm = \"hello.wasm\"\ngrants = { dirs = [{ host = \"nowhere\", guest = \"/data\" }] }",
    ));
    workspace.guest("dirs-probe", "hello.wasm");
    let deploy = workspace.run(&["deploy"]);
    assert!(deploy.starts_with("exit code: 1\n") && deploy.contains("isomer.toml:8:20"), "{deploy}");
    assert_run!(workspace, workspace.run(&["run", "--listen", "127.0.0.1:0"]));
}

/// Runs a file that is not a component with `run`, with `exec`, and as a component of an app. Returns the outputs.
fn not_a_component(bytes: &[u8]) -> (Workspace, String) {
    let workspace = Workspace::with_manifest(&manifest("wasm = \"hello.wasm\""));
    workspace.write("hello.wasm", bytes);
    let runs = [&["run", "hello.wasm"][..], &["exec", "hello.wasm"], &["plan"]];
    let printed = runs.map(|arguments| format!("$ isomer {}\n{}", arguments.join(" "), workspace.run(arguments)));
    (workspace, printed.join("\n"))
}

#[test]
fn core_module() {
    let (workspace, printed) = not_a_component(b"\0asm\x01\0\0\0");
    assert_run!(workspace, printed);
}

#[test]
fn wrong_version() {
    let (workspace, printed) = not_a_component(b"\0asm\x0c\0\x01\0");
    assert_run!(workspace, printed);
}

#[test]
fn a_file_that_is_not_wasm() {
    let (workspace, printed) = not_a_component(b"hello, world\n");
    assert_run!(workspace, printed);
}

#[test]
fn missing_file() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["run", "hello.wasm"]));
}

#[test]
fn a_command_is_not_served() {
    let workspace = Workspace::new();
    workspace.guest("command-hello", "tool.wasm");
    assert_run!(workspace, workspace.run(&["run", "tool.wasm"]));
}

#[test]
fn a_handler_is_not_executed() {
    let workspace = Workspace::new();
    workspace.guest("http-hello", "hello.wasm");
    assert_run!(workspace, workspace.run(&["exec", "hello.wasm"]));
}

#[test]
fn a_library_is_neither() {
    let workspace = Workspace::new();
    workspace.guest("pong", "pong.wasm");
    let runs = [workspace.run(&["run", "pong.wasm"]), workspace.run(&["exec", "pong.wasm"])];
    assert_run!(workspace, runs.join("\n"));
}

#[test]
fn bad_grant_flags() {
    let workspace = Workspace::new();
    let flags = [
        ["--env", "NAME"],
        ["--env", "1=x"],
        ["--dir", "data"],
        ["--dir", "data::data:ro"],
        ["--allow", "https://example.com/"],
        ["--allow", "example.com:http"],
    ];
    let runs = flags.map(|[flag, value]| workspace.run(&["exec", "tool.wasm", flag, value]));
    assert_run!(workspace, runs.join("\n"));
}

#[test]
fn grant_flags_for_an_app() {
    let workspace = Workspace::ping_pong("");
    assert_run!(workspace, workspace.run(&["run", "--allow", "*"]));
}

#[test]
fn new_with_a_bad_name() {
    let workspace = Workspace::new();
    assert_run!(workspace, [workspace.run(&["new", "My Shop"]), workspace.run(&["new", "../shop"])].join("\n"));
}

#[test]
fn new_in_an_existing_folder() {
    let workspace = Workspace::new();
    workspace.write("shop/precious.txt", "mine");
    workspace.write("file", "mine, too");
    assert_run!(workspace, [workspace.run(&["new", "shop"]), workspace.run(&["new", "file"])].join("\n"));
    assert_eq!(std::fs::read_dir(workspace.path("shop")).unwrap().count(), 1);
}
