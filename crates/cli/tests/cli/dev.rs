//! Tests of `isomer dev`: a changed app replaces the running revision, an app with errors does not, and no request is
//! refused in the meantime.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::support::{Server, TIMEOUT, Workspace, get};

const MANIFEST: &str = "[app]\nname = \"dev\"\nversion = \"0.1.0\"\n\n\
    [components.hello]\nwasm = \"hello.wasm\"\nroutes = [\"/...\"]\n";

fn workspace() -> Workspace {
    let workspace = Workspace::with_manifest(MANIFEST);
    workspace.guest("http-hello", "hello.wasm");
    workspace
}

#[test]
fn a_change_takes_over_and_no_request_is_dropped() {
    let workspace = workspace();
    let mut server = workspace.serve(&["dev"]);
    let stop = Arc::new(AtomicBool::new(false));
    let (address, stopped) = (server.address().to_owned(), stop.clone());
    let visitor = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            let (status, body) = get(&address, "/");
            assert_eq!(status, 200, "{body}");
            if seen.last() != Some(&body) {
                seen.push(body);
            }
        }
        seen
    });
    workspace.guest("http-hello-p2", "hello.wasm");
    let replaced = server.event();
    assert_eq!(replaced["event"], "replaced");
    assert_eq!(server.get("/").1, "hello from WASI 0.2\n");
    stop.store(true, Ordering::Relaxed);
    let seen = visitor.join().unwrap();
    // The responses come from the old revision first and then from the new revision, and never from the old one again.
    assert!(seen.len() <= 2 && seen.iter().all(|body| body.starts_with("hello from WASI 0.")), "{seen:?}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn an_error_is_shown_and_the_previous_revision_keeps_serving() {
    let workspace = workspace();
    let mut server = workspace.serve(&["dev"]);
    workspace.write("hello.wasm", "not a component");
    server.wait_for_log("this is not WebAssembly");
    server.wait_for_log("the previous revision still serves");
    assert_eq!(server.get("/").1, "hello from WASI 0.3\n");
    workspace.write("isomer.toml", format!("{MANIFEST}rotes = []\n"));
    server.wait_for_log("rotes");
    assert_eq!(server.get("/").1, "hello from WASI 0.3\n");
    workspace.guest("http-hello", "hello.wasm");
    workspace.write("isomer.toml", MANIFEST);
    server.wait_for_log("the sources match those of the serving revision again");
    workspace.guest("http-hello-p2", "hello.wasm");
    workspace.write("isomer.toml", MANIFEST);
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get("/").1, "hello from WASI 0.2\n");
}

#[test]
fn stores_are_kept_across_revisions() {
    let manifest = format!("{MANIFEST}grants = {{ kv = [\"things\"], config = {{ ROUND = \"1\" }} }}\n");
    let workspace = Workspace::with_manifest(&manifest);
    workspace.guest("kv-probe", "hello.wasm");
    let mut server = workspace.serve(&["dev"]);
    let increment = "/increment?store=things&key=k&delta=5";
    assert_eq!(server.get(increment), (200, "5\n".to_owned()));
    workspace.write("isomer.toml", manifest.replace("\"1\"", "\"2\""));
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get(increment), (200, "10\n".to_owned()));
}

#[test]
fn removing_and_recreating_a_folder_is_noticed_each_time() {
    let workspace = Workspace::with_manifest(&MANIFEST.replace("hello.wasm", "dist/deep/hello.wasm"));
    workspace.guest("http-hello", "dist/deep/hello.wasm");
    let mut server = workspace.serve(&["dev"]);
    for guest in ["http-hello-p2", "http-hello", "http-hello-p2"] {
        std::fs::remove_dir_all(workspace.path("dist")).unwrap();
        server.wait_for_log("there is no file");
        workspace.guest(guest, "dist/deep/hello.wasm");
        assert_eq!(server.event()["event"], "replaced", "{guest}");
    }
    // The file is changed by one rename, which replaces its folder with another folder.
    workspace.guest("http-hello", "other/deep/hello.wasm");
    std::fs::rename(workspace.path("dist"), workspace.path("before")).unwrap();
    std::fs::rename(workspace.path("other"), workspace.path("dist")).unwrap();
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get("/").1, "hello from WASI 0.3\n");
}

#[test]
fn the_target_of_a_link_is_watched() {
    use std::os::unix::fs::symlink;
    let workspace = Workspace::with_manifest(MANIFEST);
    for (build, guest) in [("1", "http-hello"), ("2", "http-hello-p2")] {
        workspace.guest(guest, &format!("built/{build}/hello.wasm"));
    }
    symlink("1", workspace.path("built/current")).unwrap();
    symlink("built/current/hello.wasm", workspace.path("hello.wasm")).unwrap();
    let mut server = workspace.serve(&["dev"]);
    // The target of the symbolic links is changed.
    workspace.guest("http-hello-p2", "built/1/hello.wasm");
    assert_eq!(server.event()["event"], "replaced");
    workspace.guest("http-hello", "built/1/hello.wasm");
    assert_eq!(server.event()["event"], "replaced");
    // A symbolic link on the path to the target is changed.
    symlink("2", workspace.path("built/next")).unwrap();
    std::fs::rename(workspace.path("built/next"), workspace.path("built/current")).unwrap();
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get("/").1, "hello from WASI 0.2\n");
}

#[test]
fn a_missing_variable_has_a_hint_and_can_be_added_to_the_env_file() {
    let manifest =
        format!("{MANIFEST}grants.secrets = [\"token\"]\n\n[secrets]\ntoken = {{ env = \"ISOMER_TEST_TOKEN\" }}\n");
    let workspace = Workspace::with_manifest(&manifest);
    workspace.guest("secret-probe", "hello.wasm");
    workspace.write(".env", "ISOMER_TEST_TOKEN=first\n");
    let mut server = workspace.serve(&["dev"]);
    assert_eq!(server.get("/?name=token"), (200, "first".to_owned()));
    std::fs::remove_file(workspace.path(".env")).unwrap();
    let printed = server.wait_for_log("the previous revision still serves");
    assert!(
        printed.contains("start again with ISOMER_TEST_TOKEN=…") && !printed.contains("waiting for a change"),
        "{printed}"
    );
    workspace.write(".env", "ISOMER_TEST_TOKEN='second'\n");
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get("/?name=token"), (200, "second".to_owned()));
}

const WITH_STORE: &str =
    "grants = { sql = [\"notes\"], config = { ROUND = \"1\" } }\n\n[sql.notes]\nmigrations = \"migrations\"\n";

const FIRST: &str = "CREATE TABLE note (text TEXT);\n";

fn with_store() -> (Workspace, String) {
    let manifest = format!("{MANIFEST}{WITH_STORE}");
    let workspace = Workspace::with_manifest(&manifest);
    workspace.guest("sql-probe", "hello.wasm");
    workspace.write("migrations/1.sql", FIRST);
    (workspace, manifest)
}

const INSERT: &str = "/execute?store=notes&sql=INSERT%20INTO%20note%20(text)%20VALUES%20('kept')";
const COUNT: &str = "/query?store=notes&sql=SELECT%20count(*)%20AS%20n%20FROM%20note";
const STARS: &str = "/query?store=notes&sql=SELECT%20stars%20FROM%20note";

#[test]
fn editing_a_draft_migration_recreates_the_store_from_before_it() {
    let (workspace, _) = with_store();
    let mut server = workspace.serve(&["dev", "--recreate-stores"]);
    assert_eq!(server.get(INSERT).0, 200);
    workspace.write("migrations/2.sql", "ALTER TABLE note ADD COLUMN stars INTEGER DEFAULT 1;\n");
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get(STARS), (200, "stars\ni:1\n".to_owned()), "the earlier row is kept");
    assert_eq!(server.get(INSERT).0, 200);
    workspace.write("migrations/2.sql", "ALTER TABLE note ADD COLUMN stars INTEGER DEFAULT 5;\n");
    server.wait_for_log("the SQL store notes have changed: the store was recreated from the latest copy");
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(
        server.get(STARS),
        (200, "stars\ni:5\n".to_owned()),
        "the store has the row from before the draft, but not the later one"
    );
    // The edit to the migration is reverted, so the store is restored.
    workspace.write("migrations/2.sql", "ALTER TABLE note ADD COLUMN stars INTEGER DEFAULT 1;\n");
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get(STARS), (200, "stars\ni:1\ni:1\n".to_owned()));
    // The first migration can also be edited. The store was never copied before this migration, so it is recreated
    // empty.
    std::fs::remove_file(workspace.path("migrations/2.sql")).unwrap();
    workspace.write("migrations/1.sql", "CREATE TABLE note (text TEXT, other TEXT);\n");
    server.wait_for_log("the SQL store notes have changed: the store was recreated empty");
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get(COUNT), (200, "n\ni:0\n".to_owned()));
}

#[test]
fn the_copy_from_before_a_draft_survives_many_edits() {
    let (workspace, _) = with_store();
    let mut server = workspace.serve(&["dev", "--recreate-stores"]);
    assert_eq!(server.get(INSERT).0, 200);
    // The number of edits is larger than the number of copies that are kept.
    for stars in 1..=12 {
        workspace.write("migrations/2.sql", format!("ALTER TABLE note ADD COLUMN stars INTEGER DEFAULT {stars};\n"));
        assert_eq!(server.event()["event"], "replaced");
        assert_eq!(server.get(STARS), (200, format!("stars\ni:{stars}\n")));
    }
}

#[test]
fn an_edited_migration_does_not_block_a_take_over() {
    let (workspace, manifest) = with_store();
    let mut server = workspace.serve(&["dev"]);
    assert_eq!(server.get(INSERT).0, 200);
    workspace.write("migrations/1.sql", "CREATE TABLE note (text TEXT NOT NULL);\n");
    server.wait_for_log("was changed after it had been applied");
    server.wait_for_log("isomer dev --recreate-stores");
    assert_eq!(server.event()["event"], "replaced");
    workspace.write("isomer.toml", manifest.replace("\"1\"", "\"2\""));
    assert_eq!(server.event()["event"], "replaced", "a change to the code still takes effect");
    assert_eq!(server.get(COUNT), (200, "n\ni:1\n".to_owned()), "the store is unchanged");
    // Like an edited migration, an invalid new migration does not block changes to the code.
    workspace.write("migrations/1.sql", FIRST);
    assert_eq!(server.event()["event"], "replaced");
    workspace.write("migrations/2.sql", "CREATE TABLE oops (;\n");
    server.wait_for_log("no part of it was applied");
    assert_eq!(server.event()["event"], "replaced");
    workspace.write("migrations/2.sql", "ALTER TABLE note ADD COLUMN stars INTEGER DEFAULT 1;\n");
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get(STARS), (200, "stars\ni:1\n".to_owned()));
}

/// Returns an app whose build command waits until the file `wait` is removed. The command also ends when the app's
/// folder is removed.
fn slow_to_build() -> (Workspace, Server, String) {
    let command = "while [ -e wait ]; do sleep 0.02; done; cp built.wasm hello.wasm";
    let source = format!("command = \"{command}\"\nwasm = \"hello.wasm\"\ninputs = [\"built.wasm\"]");
    let workspace = Workspace::with_manifest(&MANIFEST.replace("wasm = \"hello.wasm\"", &source));
    workspace.guest("http-hello", "built.wasm");
    workspace.write("wait", "");
    // The port is chosen here, because the server reports its address only when it is ready.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = workspace.spawned(workspace.command(&["dev", "--listen", &address, "--json"]));
    let deadline = Instant::now() + TIMEOUT;
    while TcpStream::connect(&address).is_err() {
        assert!(Instant::now() < deadline, "`isomer dev` does not listen");
        std::thread::yield_now();
    }
    (workspace, server, address)
}

#[test]
fn requests_get_503_during_the_first_build() {
    let (workspace, mut server, address) = slow_to_build();
    let (status, body) = get(&address, "/");
    assert!(status == 503 && body.contains("still being built"), "{status} {body}");
    std::fs::remove_file(workspace.path("wait")).unwrap();
    server.wait_until_ready();
    assert_eq!(server.get("/"), (200, "hello from WASI 0.3\n".to_owned()));
}

#[test]
fn a_signal_stops_it_during_the_first_build() {
    let (workspace, server, address) = slow_to_build();
    // When the server responds, its signal handlers are installed.
    assert_eq!(get(&address, "/").0, 503);
    assert_eq!(server.stop(), Some(0));
    std::fs::remove_file(workspace.path("wait")).unwrap();
}

#[test]
fn an_invalid_edit_before_the_first_success_does_not_end_it() {
    let workspace = Workspace::with_manifest(MANIFEST);
    let mut server = workspace.spawned(workspace.command(&["dev", "--listen", "127.0.0.1:0", "--json"]));
    server.wait_for_log("waiting for a change");
    workspace.write(".env", "A=1\nnot a variable\n");
    server.wait_for_log("line 2: expected `NAME=VALUE`");
    server.wait_for_log("waiting for a change");
    workspace.write(".env", "A=1\n");
    workspace.guest("http-hello", "hello.wasm");
    server.wait_until_ready();
    assert_eq!(server.get("/").0, 200);
}

#[test]
fn a_new_granted_folder_and_a_new_secret_are_noticed() {
    let grants = "grants = { dirs = [{ host = \"data/deep\", guest = \"/data\" }], secrets = [\"key\"] }\n\n\
        [secrets]\nkey = { file = \"key.txt\" }\n";
    let workspace = Workspace::with_manifest(&format!("{MANIFEST}{grants}"));
    workspace.guest("dirs-probe", "hello.wasm");
    let mut server = workspace.spawned(workspace.command(&["dev", "--listen", "127.0.0.1:0", "--json"]));
    server.wait_for_log("comes from the file");
    workspace.write("key.txt", "first");
    server.wait_for_log("which does not exist");
    std::fs::create_dir_all(workspace.path("data/deep")).unwrap();
    server.wait_until_ready();
    // A changed secret causes a new revision.
    workspace.write("key.txt", "the second one");
    assert_eq!(server.event()["event"], "replaced");
}
