//! Tests of building and planning apps, and of `isomer wit`.

use crate::support::{Workspace, assert_run};

const APART: &str = "\n[shapes.split.groups]\nback = [\"pong\"]\n";

#[test]
fn build_lists_what_has_changed() {
    let workspace = Workspace::ping_pong("");
    workspace.write("ping.wasm", [isomer_test_guests::bytes("ping"), vec![]].concat());
    // The sizes of components depend on the compiler, so the snapshot has placeholders for them.
    let sizes = |printed: String| {
        let lines = printed.lines().map(|line| match line.split_once("KiB") {
            Some((name, rest)) => format!("{} [SIZE] KiB{rest}", name.split_whitespace().next().unwrap_or_default()),
            None => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let first = sizes(workspace.run(&["build"]));
    let second = sizes(workspace.run(&["build"]));
    workspace.guest("http-hello", "ping.wasm");
    let third = sizes(workspace.run(&["build"]));
    assert_run!(workspace, [first, second, third].join("\n\n"));
}

#[test]
fn build_as_json() {
    let workspace = Workspace::ping_pong("");
    let output = workspace.command(&["build", "--json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let components = json["components"].as_array().unwrap();
    assert_eq!(components.len(), 2);
    assert_eq!(components[0]["name"], "ping");
    assert_eq!(components[0]["changed"], true);
    let wasm = std::fs::metadata(components[0]["wasm"].as_str().unwrap()).unwrap();
    assert_eq!(components[0]["bytes"], wasm.len());
}

#[test]
fn plan_explains() {
    let workspace = Workspace::ping_pong("grants = { config = { GREETING = \"hi\" }, kv = [\"scores\"] }\n");
    assert_run!(workspace, workspace.run(&["plan"]));
}

#[test]
fn plan_explains_another_shape() {
    let workspace = Workspace::ping_pong(APART);
    assert_run!(workspace, workspace.run(&["plan", "--shape", "split"]));
}

#[test]
fn plan_as_json() {
    let workspace = Workspace::ping_pong(APART);
    let json = |arguments: &[&str]| {
        let output = workspace.command(arguments).output().unwrap();
        assert!(output.status.success());
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let monolith = json(&["plan", "--json"]);
    assert_eq!(monolith["seams"][0]["mode"], "fused");
    let split = json(&["plan", "--json", "--shape", "split"]);
    assert_eq!(split["seams"][0]["mode"], "remote");
    assert_eq!(split["processes"], serde_json::json!({ "back": ["pong"], "ping": ["ping"] }));
    let [back, ping] = [&split["groups"][0], &split["groups"][1]];
    let (stub, skeleton) = (&ping["stubs"][0]["functions"][0], &back["skeletons"][0]["functions"][0]);
    assert_eq!((&stub["callee"], &stub["mode"]), (&"pong".into(), &"remote".into()));
    assert_eq!((&stub["function"], &stub["key"]), (&skeleton["function"], &skeleton["key"]));
}

#[test]
fn plan_changes_nothing_but_the_built_components() {
    let workspace = Workspace::ping_pong("");
    workspace.run(&["plan"]);
    let made: Vec<_> =
        std::fs::read_dir(workspace.path(".isomer")).unwrap().flatten().map(|it| it.file_name()).collect();
    assert_eq!(made, ["build"]);
}

#[test]
fn wit_writes_the_platforms_packages_once() {
    let workspace = Workspace::ping_pong("");
    let none = workspace.run(&["wit"]);
    assert!(none.contains("no world in wit uses") && !workspace.path("wit").exists(), "{none}");
    workspace.write("wit/app.wit", "package my:app;\nworld w { import isomer:sql/store@0.1.0; }\n");
    let first = workspace.run(&["wit"]);
    assert!(first.contains("wrote wit/deps/isomer-sql-0.1.0/sql.wit"), "{first}");
    let written: Vec<_> = std::fs::read_dir(workspace.path("wit/deps")).unwrap().flatten().collect();
    assert_eq!(written.len(), 1, "{written:?}");
    assert_run!(workspace, workspace.run(&["wit"]));
    workspace.write("wit/app.wit", "package my:app;\nworld w { import isomer:secrets/store@0.1.0; }\n");
    let other = workspace.run(&["wit"]);
    assert!(other.contains("removed wit/deps/isomer-sql-0.1.0") && other.contains("isomer-secrets-0.1.0"), "{other}");
    workspace.write("wit/app.wit", "package my:app;\nworld w { import isomer:sql/stor@0.1.0; }\n");
    let wrong = workspace.run(&["wit"]);
    assert!(wrong.starts_with("exit code: 1\n") && wrong.contains("error: wit/app.wit:2:29: "), "{wrong}");
    assert!(wrong.contains("hint: did you mean `store`?"), "{wrong}");
    let listed = workspace.run(&["wit", "--list"]);
    assert!(listed.contains("wasi:keyvalue@0.2.0-draft2\n"), "{listed}");
}

#[test]
fn clean_removes_build_results_and_data_only_with_a_flag() {
    let workspace = Workspace::ping_pong("");
    workspace.run(&["build"]);
    for folder in ["cache", "sql", "kv", "drafts"] {
        workspace.write(&format!(".isomer/{folder}/something"), "");
    }
    let cleaned = workspace.run(&["clean"]);
    assert!(cleaned.starts_with("exit code: 0"), "{cleaned}");
    let left = |folder: &str| workspace.path(".isomer").join(folder).exists();
    assert!(!left("build") && !left("cache/something") && left("sql/something") && left("kv/something"));
    let refused = workspace.run(&["clean", "--data"]);
    assert!(refused.starts_with("exit code: 2") && refused.contains("--yes") && left("sql/something"), "{refused}");
    let removed = workspace.command(&["clean", "--data", "--yes", "--json"]).output().unwrap();
    let removed: serde_json::Value = serde_json::from_slice(&removed.stdout).unwrap();
    assert_eq!(removed["removed"], serde_json::json!(["built components", "compiled code", "data"]));
    assert!(!left("sql/something") && !left("kv/something") && !left("drafts"));
    assert!(workspace.path("ping.wasm").exists());
}

#[test]
fn every_command_for_apps_accepts_a_component() {
    let workspace = Workspace::new();
    workspace.guest("http-hello", "Hello_World.wasm");
    let plan = workspace.run(&["plan", "Hello_World.wasm"]);
    assert!(plan.starts_with("exit code: 0\n") && plan.contains("hello-world"), "{plan}");
    let build = workspace.run(&["build", "Hello_World.wasm"]);
    assert!(build.starts_with("exit code: 0\n") && build.contains("hello-world"), "{build}");
    let doctor = workspace.run(&["doctor", "Hello_World.wasm", "--listen", ":0"]);
    assert!(doctor.contains("127.0.0.1:0 is free"), "{doctor}");
    workspace.write("tests/hello.toml", "[[case]]\nname = \"it answers\"\nrequest = \"GET /\"\n");
    let test = workspace.run(&["test", "Hello_World.wasm"]);
    assert!(test.starts_with("exit code: 0\n"), "{test}");
    let mut dev = workspace.serve(&["dev", "Hello_World.wasm"]);
    assert_eq!(dev.get("/"), (200, "hello from WASI 0.3\n".to_owned()));
    workspace.guest("http-hello-p2", "Hello_World.wasm");
    assert_eq!(dev.event()["event"], "replaced");
    assert_eq!(dev.get("/"), (200, "hello from WASI 0.2\n".to_owned()));
}
