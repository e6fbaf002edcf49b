//! Tests of config values and secrets that do not come from the manifest: their precedence, for each command.

use crate::support::{Server, Workspace};

const MANIFEST: &str = "[app]\nname = \"values\"\nversion = \"0.1.0\"\n\n\
    [components.env]\nwasm = \"env.wasm\"\nroutes = [\"/...\"]\n\
    grants = { config = { LEVEL = \"manifest\", OTHER = \"manifest\" }, secrets = [\"token\"] }\n\n\
    [secrets]\ntoken = { env = \"ISOMER_TEST_TOKEN\" }\n";

fn workspace(guest: &str) -> Workspace {
    let workspace = Workspace::with_manifest(MANIFEST);
    workspace.guest(guest, "env.wasm");
    workspace.write(".env", "LEVEL=dotenv\nISOMER_TEST_TOKEN=dotenv\nUNASKED=x\n");
    workspace
}

fn level(server: &Server) -> String {
    let (status, body) = server.get("/config?key=LEVEL");
    assert_eq!(status, 200, "{body}");
    body.trim().to_owned()
}

#[test]
fn the_source_with_the_highest_precedence_is_used() {
    let workspace = workspace("env-print");
    workspace.write("more.env", "export LEVEL=\"env file\"\nISOMER_TEST_TOKEN=file\n");
    workspace.write("values.toml", "LEVEL = \"config file\"\n");
    for (flags, expected) in [
        (&[][..], "some=dotenv"),
        (&["--env-file", "more.env"], "some=env file"),
        (&["--env-file", "more.env", "--config-file", "values.toml"], "some=config file"),
        (&["--config-file", "values.toml", "--config", "LEVEL=flag"], "some=flag"),
        (&["--config", "env.LEVEL=own"], "some=own"),
    ] {
        let server = workspace.serve_with(&[&["run"], flags].concat(), &[("LEVEL", "the user's own")]);
        assert_eq!(level(&server), expected, "{flags:?}");
        let all = server.get("/").1;
        assert!(all.contains("env=OTHER=manifest") && !all.contains("UNASKED"), "{all}");
    }
}

#[test]
fn the_environment_takes_precedence_over_the_env_file_for_secrets() {
    let workspace = workspace("secret-probe");
    assert_eq!(workspace.serve(&["run"]).get("/?name=token").1, "dotenv");
    let variables = [("ISOMER_TEST_TOKEN", "environment")];
    assert_eq!(workspace.serve_with(&["run"], &variables).get("/?name=token").1, "environment");
    std::fs::remove_file(workspace.path(".env")).unwrap();
    let failed = workspace.run(&["run", "--listen", "127.0.0.1:0"]);
    assert!(failed.contains("start again with ISOMER_TEST_TOKEN=…") && failed.starts_with("exit code: 1"), "{failed}");
}

#[test]
fn processes_of_a_shape_have_the_values() {
    let workspace = workspace("secret-probe");
    let shape = "\n[components.other]\nwasm = \"other.wasm\"\n[shapes.split]\ngroups = \"each\"\n";
    workspace.write("isomer.toml", format!("{MANIFEST}{shape}"));
    workspace.guest("pong", "other.wasm");
    let server = workspace.serve(&["run", "--shape", "split"]);
    assert_eq!(server.get("/?name=token"), (200, "dotenv".to_owned()));
}

#[test]
fn dev_applies_changes_of_the_env_file() {
    let workspace = workspace("env-print");
    let mut server = workspace.serve(&["dev"]);
    assert_eq!(level(&server), "some=dotenv");
    workspace.write(".env", "LEVEL=edited\nISOMER_TEST_TOKEN=x\n");
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(level(&server), "some=edited");
}

#[test]
fn tests_use_the_values() {
    let workspace = workspace("env-print");
    workspace
        .write("tests/all.toml", "[[case]]\nrequest = \"GET /config?key=LEVEL\"\nexpect.contains = \"some=flag\"\n");
    let failed = workspace.run(&["test"]);
    assert!(failed.starts_with("exit code: 1") && failed.contains("dotenv"), "{failed}");
    let note = "values from .env: config env.LEVEL, secret token (another file: --env-file FILE)\n";
    assert!(failed.contains(note), "{failed}");
    let passed = workspace.run(&["test", "--config", "LEVEL=flag"]);
    assert!(passed.starts_with("exit code: 0") && passed.contains("values from .env: secret token ("), "{passed}");
    workspace.write("no.env", "");
    let failed = workspace.run(&["test", "--config", "LEVEL=flag", "--env-file", "no.env"]);
    assert!(failed.contains("or write ISOMER_TEST_TOKEN=… into no.env") && !failed.contains("values from"), "{failed}");
}

#[test]
fn a_component_without_a_manifest_gets_all_values() {
    let workspace = workspace("env-print");
    workspace.write("more.env", "A=1\nB=2\n");
    let server = workspace.serve(&["run", "env.wasm", "--env-file", "more.env", "--config", "B=3", "--env", "C=4"]);
    let printed = server.get("/").1;
    assert!(["env=A=1", "env=B=3", "env=C=4"].iter().all(|line| printed.contains(line)), "{printed}");
    assert!(!printed.contains("LEVEL"), "`.env` must not be read: {printed}");
    assert_eq!(server.stop(), Some(0));
    let printed = workspace.serve(&["dev", "env.wasm", "--env-file", "more.env", "--config", "B=3"]).get("/").1;
    assert!(
        ["env=A=1", "env=B=3"].iter().all(|line| printed.contains(line)) && !printed.contains("LEVEL"),
        "{printed}"
    );
}

#[test]
fn invalid_values_are_reported_before_anything_runs() {
    let workspace = workspace("env-print");
    workspace.write("bad.env", "A=1\nnonsense\n");
    for (flags, problem, code) in [
        (["--config", "LEVEL"], "`--config LEVEL` has no value", 2),
        (["--config", "missing.LEVEL=1"], "names a component that the app does not have", 2),
        (["--config-file", "missing.toml"], "missing.toml", 2),
        (["--env-file", "bad.env"], "bad.env`, line 2", 1),
    ] {
        for command in ["run", "dev", "test", "deploy"] {
            let printed = workspace.run(&[&[command][..], &flags].concat());
            assert!(
                printed.starts_with(&format!("exit code: {code}\n")) && printed.contains(problem),
                "{command}: {printed}"
            );
        }
    }
}

#[test]
fn secrets_are_checked_before_the_build() {
    let build = "wasm = \"env.wasm\"\ncommand = \"touch was-built; exit 1\"";
    let manifest = MANIFEST.replace("wasm = \"env.wasm\"", build);
    let workspace = Workspace::with_manifest(&manifest);
    workspace.write("tests/any.toml", "[[case]]\nrequest = \"GET /\"\n");
    for command in ["run", "test"] {
        let failed = workspace.run(&[command]);
        assert!(failed.starts_with("exit code: 1") && failed.contains("isomer.toml:9:"), "{command}: {failed}");
        assert!(failed.contains("start again with ISOMER_TEST_TOKEN=… before the command"), "{command}: {failed}");
    }
    let server = workspace.spawned(workspace.command(&["dev", "--listen", "127.0.0.1:0", "--json"]));
    server.wait_for_log("start again with ISOMER_TEST_TOKEN=…, or write ISOMER_TEST_TOKEN=… into .env");
    assert!(!workspace.path("was-built").exists());
    // A test file may contain the secret's value.
    workspace.write("tests/any.toml", "[secrets]\ntoken = \"x\"\n[[case]]\nrequest = \"GET /\"\n");
    workspace.run(&["test"]);
    assert!(workspace.path("was-built").exists());
}
