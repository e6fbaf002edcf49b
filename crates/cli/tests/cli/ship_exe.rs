//! Tests of `isomer ship exe`, and of the programs that it writes.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Server, Workspace};

/// The runtime of the tests: the program itself, whose code these tests build.
const BASE: &str = env!("CARGO_BIN_EXE_isomer");

const SHAPES: &str = "grants = { config = { WHO = \"pong\" } }\n\n\
    [shapes.split.groups]\nfront = [\"ping\"]\nback = [\"pong\"]\n";

/// Ships the app of a workspace as `file` in the workspace. Returns the result that the command prints.
fn ship(workspace: &Workspace, file: &str, more: &[&str]) -> serde_json::Value {
    let arguments = [&["ship", "exe", "-o", file, "--base", BASE, "--json"], more].concat();
    workspace.warm_for(&arguments);
    let output = workspace.command(&arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until no process has the new program open for writing. A child process of another test may have inherited the
/// descriptor, for as long as it has not executed its own program.
fn wait_until_executable(file: &Path) {
    while Command::new(file).arg("--version").output().is_err_and(|e| e.kind() == ErrorKind::ExecutableFileBusy) {
        std::thread::yield_now();
    }
}

/// Returns a command that runs a shipped program in the folder of `workspace`.
fn program(workspace: &Workspace, file: &Path, arguments: &[&str]) -> Command {
    wait_until_executable(file);
    let isomer = workspace.command(arguments);
    let mut command = Command::new(file);
    command.args(isomer.get_args()).current_dir(workspace.path("")).stdin(Stdio::null());
    for (variable, value) in isomer.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command.env("XDG_STATE_HOME", workspace.path(".state")).env_remove("STATE_DIRECTORY");
    command
}

fn start(workspace: &Workspace, file: &Path, more: &[&str]) -> Server {
    let arguments = [&["--listen", "127.0.0.1:0", "--json", "--telemetry", "0"], more].concat();
    workspace.started(program(workspace, file, &arguments))
}

/// Runs a shipped program until it ends. Returns its exit code and its standard error.
fn fails(workspace: &Workspace, file: &Path) -> (Option<i32>, String) {
    let output = program(workspace, file, &["--listen", "127.0.0.1:0"]).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Returns the payload of a shipped program, and its index.
fn payload(file: &Path, shipped: &serde_json::Value) -> (Vec<u8>, serde_json::Value) {
    let at = shipped["base_bytes"].as_u64().unwrap().next_multiple_of(4096);
    let mut content = Vec::new();
    let mut file = File::open(file).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_to_end(&mut content).unwrap();
    let index_at = content.windows(11).rposition(|window| window == br#"{"isomer":""#).unwrap();
    let index = serde_json::from_slice(&content[index_at..]).unwrap();
    (content, index)
}

fn answers(server: &Server) -> Vec<(u16, String)> {
    let paths = ["/greet?name=ann", "/greet", "/env?name=WHO", "/many?n=50", "/later?name=bob&ms=1"];
    paths.map(|path| server.get(path)).into()
}

#[test]
fn a_shipped_program_answers_as_isomer_run_does() {
    let workspace = Workspace::ping_pong(SHAPES);
    let shipped = ship(&workspace, "tennis", &[]);
    let file = workspace.path("tennis");
    let bytes = fs::metadata(&file).unwrap().len();
    assert_eq!((shipped["bytes"].as_u64(), shipped["target"].as_str()), (Some(bytes), Some("x86-64-v2")));
    let server = workspace.serve(&["run", "--telemetry", "0"]);
    let expected = answers(&server);
    assert_eq!(server.stop(), Some(0));

    // The program needs nothing else: it runs in another folder.
    let elsewhere = Workspace::new();
    let moved = elsewhere.path("other-name");
    fs::rename(&file, &moved).or_else(|_| fs::copy(&file, &moved).map(drop)).unwrap();
    let server = start(&elsewhere, &moved, &[]);
    assert_eq!(answers(&server), expected);
    assert!(!server.has_admin(), "the admin API is off by default");
    assert_eq!(server.stop(), Some(0));
    assert!(elsewhere.path(".state/isomer/table-tennis/LOCK").exists());
    assert!(!elsewhere.path(".isomer").exists());

    let server = start(&elsewhere, &moved, &["--config", "pong.WHO=ann", "--data", "data", "--admin", "127.0.0.1:0"]);
    assert_eq!(server.get("/env?name=WHO").1, "ping=nothing pong=ann\n");
    assert!(server.has_admin());
    assert_eq!(server.stop(), Some(0));

    let version = program(&elsewhere, &moved, &["--version", "--json"]).output().unwrap();
    let version: serde_json::Value = serde_json::from_slice(&version.stdout).unwrap();
    assert_eq!((&version["name"], &version["version"]), (&"table-tennis".into(), &"1.2.3".into()));
    assert_eq!((&version["release"], &version["shape"]), (&shipped["release"], &"monolith".into()));
    let help = program(&elsewhere, &moved, &["--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.starts_with("table-tennis 1.2.3 as one program"), "{help}");
    assert!(program(&elsewhere, &moved, &["--verify"]).status().unwrap().success());
}

#[test]
fn the_same_app_gives_the_same_bytes() {
    let (first, second) = (Workspace::ping_pong(SHAPES), Workspace::ping_pong(SHAPES));
    let results = [ship(&first, "tennis", &[]), ship(&second, "out", &[])];
    assert_eq!(results[0]["release"], results[1]["release"]);
    assert!(fs::read(first.path("tennis")).unwrap() == fs::read(second.path("out")).unwrap(), "the files differ");
    // A shipped program can be the base of another one, without its app.
    let of_shipped = first.command(&["ship", "exe", "-o", "again", "--base", "tennis"]).output().unwrap();
    assert!(of_shipped.status.success(), "{}", String::from_utf8_lossy(&of_shipped.stderr));
    assert!(fs::read(first.path("tennis")).unwrap() == fs::read(first.path("again")).unwrap(), "the files differ");
}

#[test]
fn a_damaged_program_says_what_happened() {
    let workspace = Workspace::ping_pong(SHAPES);
    let shipped = ship(&workspace, "tennis", &[]);
    let (file, bytes) = (workspace.path("tennis"), shipped["bytes"].as_u64().unwrap());
    let base_bytes = shipped["base_bytes"].as_u64().unwrap();
    let damaged = |name: &str, damage: &dyn Fn(&File)| {
        let damaged = workspace.path(name);
        fs::copy(&file, &damaged).unwrap();
        damage(&OpenOptions::new().read(true).write(true).open(&damaged).unwrap());
        fails(&workspace, &damaged)
    };
    let stripped = workspace.path("stripped");
    assert!(Command::new("strip").arg("-o").arg(&stripped).arg(&file).status().unwrap().success());
    let (code, text) = fails(&workspace, &stripped);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("was stripped or truncated after it was made"), "{text}");
    assert!(text.contains("isomer ship exe") && text.contains("do not run `strip`"), "{text}");

    let (code, text) = damaged("without", &|file| file.set_len(base_bytes).unwrap());
    assert!(code == Some(1) && text.contains("ends before the app"), "{text}");
    let (code, text) = damaged("cut", &|file| file.set_len(bytes - 7).unwrap());
    assert!(code == Some(1) && text.contains("ends 7 bytes before the end of the app"), "{text}");

    // The payload begins after the base, and ends with the index.
    let payload = base_bytes.next_multiple_of(4096);
    for (name, at) in [("index", bytes - 10), ("first", payload), ("middle", payload + (bytes - payload) / 2)] {
        let flip = |file: &File| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        };
        let altered = workspace.path(name);
        fs::copy(&file, &altered).unwrap();
        flip(&OpenOptions::new().read(true).write(true).open(&altered).unwrap());
        let verified = program(&workspace, &altered, &["--verify"]).output().unwrap();
        let text = String::from_utf8(verified.stderr).unwrap();
        assert!(!verified.status.success() && text.contains("was changed after the file was made"), "{name}: {text}");
    }

    // Bytes that another tool appends are not a part of the app.
    let appended = workspace.path("appended");
    fs::copy(&file, &appended).unwrap();
    let mut more = OpenOptions::new().append(true).open(&appended).unwrap();
    more.write_all(b"signature").unwrap();
    drop(more);
    let server = start(&workspace, &appended, &[]);
    assert_eq!(server.get("/greet?name=ann").0, 200);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn altered_code_does_not_run() {
    let workspace = Workspace::ping_pong(SHAPES);
    let shipped = ship(&workspace, "tennis", &[]);
    let (_, index) = payload(&workspace.path("tennis"), &shipped);
    let payload = shipped["base_bytes"].as_u64().unwrap().next_multiple_of(4096);
    let components: Vec<_> = index["release"]["components"].as_object().unwrap().values().collect();
    let code: Vec<_> = index["code"].as_object().unwrap().values().map(|entry| &entry["code"]).collect();
    assert_eq!(code.len(), 2, "the plain code, and the code with probes");
    let flip = |file: &File, digest: &str| {
        let at = payload + index["parts"][digest]["offset"].as_u64().unwrap() + 100;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    };
    let altered = |name: &str, digests: &[&str]| {
        let altered = workspace.path(name);
        fs::copy(workspace.path("tennis"), &altered).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&altered).unwrap();
        digests.iter().for_each(|digest| flip(&file, digest));
        drop(file);
        fails(&workspace, &altered)
    };
    let component = components[0]["digest"].as_str().unwrap();
    let (exit, text) = altered("component", &[component]);
    assert!(exit == Some(1) && text.contains(&format!("the part `{component}` of the app was changed")), "{text}");
    let code: Vec<_> = code.iter().map(|digest| digest.as_str().unwrap()).collect();
    let (exit, text) = altered("code", &code);
    assert!(exit == Some(1) && text.contains("cannot read the app's compiled code"), "{text}");
    assert!(text.contains("was changed after the file was made"), "{text}");
}

#[test]
fn a_shape_with_several_processes_starts_the_program_several_times() {
    let workspace = Workspace::ping_pong(SHAPES);
    let server = workspace.serve(&["run", "--telemetry", "0"]);
    let expected = answers(&server);
    assert_eq!(server.stop(), Some(0));
    ship(&workspace, "tennis", &["--shape", "split"]);
    let server = start(&workspace, &workspace.path("tennis"), &[]);
    assert_eq!(answers(&server), expected);
    assert_eq!(server.processes().len(), 2);
    for pid in server.processes() {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert_eq!(program, workspace.path("tennis").canonicalize().unwrap());
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn data_files_and_migrations_come_with_the_program() {
    let workspace = Workspace::with_manifest(
        "[app]\nname = \"files\"\nversion = \"1.0.0\"\n\n\
         [components.sql]\nwasm = \"sql.wasm\"\nroutes = [\"/execute\", \"/query\"]\n\
         grants = { sql = [\"default\"] }\n\n\
         [components.dirs]\nwasm = \"dirs.wasm\"\nroutes = [\"/read\", \"/write\"]\n\
         grants.dirs = [{ host = \"pages\", guest = \"/pages\" }, { host = \"up\", guest = \"/up\", write = true }]\n\n\
         [sql.default]\nmigrations = \"migrations\"\n",
    );
    workspace.guest("sql-probe", "sql.wasm");
    workspace.guest("dirs-probe", "dirs.wasm");
    workspace.write("pages/about.txt", "about us");
    workspace.write("up/of-this-machine.txt", "not shipped");
    workspace.write("migrations/001-notes.sql", "CREATE TABLE notes (text TEXT NOT NULL);");
    ship(&workspace, "files", &[]);
    let elsewhere = Workspace::new();
    let file = elsewhere.path("files");
    fs::copy(workspace.path("files"), &file).unwrap();

    let server = start(&elsewhere, &file, &["--data", "data"]);
    assert_eq!(server.get("/read?path=/pages/about.txt"), (200, "about us".to_owned()));
    assert_eq!(server.get("/read?path=/up/of-this-machine.txt").0, 404);
    assert_eq!(server.get("/write?path=/up/note.txt").0, 200);
    assert_eq!(server.get("/execute?sql=INSERT%20INTO%20notes%20VALUES%20('kept')"), (200, "changed=1\n".to_owned()));
    assert_eq!(server.stop(), Some(0));

    // A changed file of the release is written again at the next start.
    let release = fs::read_dir(elsewhere.path("data/release")).unwrap().next().unwrap().unwrap().path();
    let page = release.join("pages/about.txt");
    fs::remove_file(&page).unwrap();
    fs::write(&page, "changed!").unwrap();
    let server = start(&elsewhere, &file, &["--data", "data"]);
    assert_eq!(server.get("/read?path=/pages/about.txt"), (200, "about us".to_owned()));
    assert_eq!(server.get("/read?path=/up/note.txt").0, 200);
    assert!(server.get("/query?sql=SELECT%20text%20FROM%20notes").1.contains("kept"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn secrets_are_not_shipped() {
    let workspace = Workspace::with_manifest(
        "[app]\nname = \"safe\"\nversion = \"1.0.0\"\n\n[secrets]\nkey = { file = \"key.txt\" }\n\n\
         [components.safe]\nwasm = \"safe.wasm\"\nroutes = [\"/...\"]\ngrants = { secrets = [\"key\"] }\n",
    );
    workspace.guest("secret-probe", "safe.wasm");
    workspace.write("key.txt", "of the developer");
    ship(&workspace, "safe", &[]);
    let elsewhere = Workspace::new();
    let file = elsewhere.path("safe");
    fs::copy(workspace.path("safe"), &file).unwrap();
    let (code, text) = fails(&elsewhere, &file);
    assert!(code == Some(1) && text.contains("key.txt"), "{text}");
    elsewhere.write("key.txt", "of the user");
    let server = start(&elsewhere, &file, &[]);
    assert_eq!(server.get("/?name=key"), (200, "of the user".to_owned()));
    assert_eq!(server.stop(), Some(0));
}

/// A program goes to customers, so it contains neither files of secrets nor values of this machine, wherever they are.
#[test]
fn secrets_and_values_of_this_machine_are_not_shipped_by_accident() {
    let manifest = "[app]\nname = \"safe\"\nversion = \"1.0.0\"\n\n[secrets]\nkey = { file = \"./conf/tls.key\" }\n\n\
         [components.safe]\nwasm = \"safe.wasm\"\nroutes = [\"/...\"]\ngrants.secrets = [\"key\"]\n";
    let dirs = "grants.dirs = [{ host = \"GRANTED\", guest = \"/conf\" }]\n";
    let workspace = Workspace::new();
    workspace.guest("secret-probe", "safe.wasm");
    workspace.write("conf/tls.key", "of the developer");
    workspace.write("links/page.txt", "a page");
    std::os::unix::fs::symlink("../conf/tls.key", workspace.path("links/key")).unwrap();
    for (granted, sent) in [("conf", "conf/tls.key"), ("links", "links/key"), (".", "conf/tls.key")] {
        workspace.write("isomer.toml", manifest.to_owned() + &dirs.replace("GRANTED", granted));
        for command in [&["ship", "exe", "--base", BASE][..], &["push", "127.0.0.1:1/safe:1"]] {
            let refused = workspace.run(command);
            let message = format!("the file `{sent}` of the secret `key` is in a granted folder");
            assert!(refused.starts_with("exit code: 1") && refused.contains(&message), "{granted}: {refused}");
        }
        assert!(!workspace.path("safe").exists());
    }

    let workspace = Workspace::ping_pong(SHAPES);
    workspace.write(".env", "WHO=https://me:pw@internal.example\n");
    let arguments = ["ship", "exe", "-o", "tennis", "--base", BASE];
    let shipped = workspace.run(&arguments);
    assert!(shipped.contains(".env has values for `WHO`, which are not used"), "{shipped}");
    let bytes = fs::read(workspace.path("tennis")).unwrap();
    let contains = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!contains(&bytes, "me:pw@internal.example"));
    let shipped = workspace.run(&[&arguments[..], &["--env-file", ".env"]].concat());
    assert!(
        shipped.contains("config value pong.WHO comes from .env, and can be read in the shipped file"),
        "{shipped}"
    );
    assert!(contains(&fs::read(workspace.path("tennis")).unwrap(), "me:pw@internal.example"));
}

/// The files for browsers come with the program, because it cannot make them.
#[test]
fn a_program_serves_the_files_of_its_browser_group() {
    let workspace = Workspace::with_manifest(
        "[app]\nname = \"shop\"\nversion = \"1.0.0\"\n\n[session]\ncookie = \"visitor\"\n\n\
         [components.pages]\nwasm = \"pages.wasm\"\nroutes = [\"/...\"]\ngrants.config = { CURRENCY = \"EUR\" }\n\n\
         [components.carts]\nwasm = \"carts.wasm\"\n\
         exposed = [{ functions = \"guest:seam/work.wait\", session = \"name\" }, \"guest:seam/work.add\", \
         \"guest:seam/work.change\", \"guest:seam/work.echo\", \"guest:seam/work.make\", \"guest:seam/work.act\", \
         \"guest:seam/work.act-carefully\", \"guest:seam/work.act-later\", \"guest:seam/work.act-later-carefully\", \
         \"guest:seam/work.leave\"]\n\n\
         [shapes.tab.groups]\nclient = { components = [\"pages\"], place = \"browser\" }\n",
    );
    workspace.guest("seam-caller", "pages.wasm");
    workspace.guest("seam-callee", "carts.wasm");
    ship(&workspace, "shop", &["--shape", "tab"]);
    let elsewhere = Workspace::new();
    let file = elsewhere.path("shop");
    fs::copy(workspace.path("shop"), &file).unwrap();
    assert!(program(&elsewhere, &file, &["--verify"]).status().unwrap().success());
    let server = start(&elsewhere, &file, &["--config", "CURRENCY=USD"]);
    let (status, worker) = server.get("/_isomer/worker.js");
    assert_eq!(status, 200, "{worker}");
    let script = worker.split('"').find(|part| part.starts_with("/_isomer/web/")).unwrap_or_else(|| panic!("{worker}"));
    let (status, script) = server.get(script);
    assert!(status == 200 && script.len() > 1000, "{status} {script}");
    assert_eq!(server.stop(), Some(0));
    // A new key changes the plan, and with it the files.
    let output = program(&elsewhere, &file, &["--listen", "127.0.0.1:0", "--config", "pages.NEW=1"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("the program was shipped without the code of group `client`"), "{text}");
    assert!(text.contains("for a browser group the config keys are fixed"), "{text}");

    // A runtime of the same version that was built from other sources does not find what this program has made.
    let mut runtime = fs::read(BASE).unwrap();
    let made_as = b"web files 2";
    let at = runtime.windows(made_as.len()).position(|window| window == made_as).unwrap();
    runtime[at + made_as.len() - 1] = b'0';
    workspace.write("runtime", &runtime);
    fs::set_permissions(workspace.path("runtime"), Permissions::from_mode(0o755)).unwrap();
    let before = fs::read(workspace.path("shop")).unwrap();
    let refused = workspace.run(&["ship", "exe", "--shape", "tab", "--base", "runtime"]);
    assert!(refused.starts_with("exit code: 1") && refused.contains("`runtime` does not run this app"), "{refused}");
    assert!(refused.contains("build the runtime and `isomer` from the same sources"), "{refused}");
    assert!(fs::read(workspace.path("shop")).unwrap() == before, "the old file was replaced");
}

#[test]
fn a_program_contains_its_software_bill_of_materials() {
    let workspace = Workspace::ping_pong(SHAPES);
    ship(&workspace, "tennis", &[]);
    let printed = program(&workspace, &workspace.path("tennis"), &["--sbom"]).output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let sbom: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(sbom["bomFormat"], "CycloneDX");
    let names: Vec<_> = sbom["components"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"ping") && names.contains(&"pong"), "{names:?}");
}

#[test]
fn only_runtimes_are_bases() {
    let workspace = Workspace::ping_pong("");
    workspace.write("text", "not a program");
    for (base, reason) in
        [("text", "not a 64-bit program"), ("/bin/sh", "no section `.isomer`"), ("missing", "cannot read")]
    {
        let output = workspace.command(&["ship", "exe", "-o", "out", "--base", base]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && text.contains(reason), "{base}: {text}");
        assert!(!workspace.path("out").exists());
    }
    fs::create_dir(workspace.path("table-tennis")).unwrap();
    let output = workspace.command(&["ship", "exe", "--base", BASE]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("a folder has this name"), "{text}");
}

/// The runtime for ARM is this program with another architecture in its header, so it does not run anywhere. The test shows
/// that the code is compiled for the architecture of the runtime.
#[test]
fn code_is_compiled_for_the_architecture_of_the_runtime() {
    const AARCH64: u16 = 183;
    let workspace = Workspace::ping_pong("");
    fs::copy(BASE, workspace.path("runtime")).unwrap();
    let runtime = OpenOptions::new().write(true).open(workspace.path("runtime")).unwrap();
    runtime.write_all_at(&AARCH64.to_le_bytes(), 18).unwrap();
    let arguments = ["ship", "exe", "-o", "tennis", "--base", "runtime", "--json"];
    let output = workspace.command(&arguments).output().unwrap();
    if cfg!(not(feature = "cross")) {
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("cannot compile code for aarch64") && text.contains("--features cross"), "{text}");
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shipped: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shipped["target"], "aarch64");
    let (content, index) = payload(&workspace.path("tennis"), &shipped);
    let code = index["code"].as_object().unwrap().values().map(|entry| entry["code"].as_str().unwrap());
    for digest in code {
        let at = usize::try_from(index["parts"][digest]["offset"].as_u64().unwrap()).unwrap();
        assert_eq!(content[at..at + 4], *b"\x7fELF");
        assert_eq!(content[at + 18..at + 20], AARCH64.to_le_bytes());
    }
}

#[test]
fn units_and_images_are_made_from_programs() {
    let workspace = Workspace::ping_pong("");
    let release = ship(&workspace, "tennis", &[])["release"].as_str().unwrap().to_owned();
    let unit = workspace.command(&["ship", "unit", "tennis", "--listen", "0.0.0.0:80"]).output().unwrap();
    assert!(unit.status.success(), "{}", String::from_utf8_lossy(&unit.stderr));
    let unit = String::from_utf8(unit.stdout).unwrap();
    for line in [
        &format!("# table-tennis 1.2.3 as a service, release {release}."),
        "ExecStart=/usr/local/bin/table-tennis --listen 0.0.0.0:80 --json",
        "StateDirectory=isomer-table-tennis",
        "EnvironmentFile=-/etc/isomer-table-tennis.env",
        "#   install -m 0644 isomer-table-tennis.service /etc/systemd/system/isomer-table-tennis.service",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "DynamicUser=true",
    ] {
        assert!(unit.lines().any(|found| found == line), "no line `{line}`: {unit}");
    }
    let refused = workspace.run(&["ship", "unit", "tennis", "--installed-as", "/opt/a b"]);
    assert!(refused.starts_with("exit code: 2") && refused.contains("`/opt/a b` cannot be the path"), "{refused}");
    let refused = workspace.run(&["ship", "unit", BASE]);
    assert!(refused.contains("it is a runtime without an app"), "{refused}");
    // The programs of the tests are linked with shared libraries.
    let refused = workspace.run(&["ship", "image", "tennis"]);
    assert!(refused.contains("`tennis` needs shared libraries") && refused.contains("hint: "), "{refused}");
    assert!(!workspace.path("table-tennis.tar").exists());
    let refused = workspace.run(&["ship", "image", "tennis", "--port", "0"]);
    assert!(refused.starts_with("exit code: 2") && refused.contains("--port"), "{refused}");
    let refused = workspace.run(&["ship", "unit", "/dev/zero"]);
    assert!(refused.contains("it is not a file"), "{refused}");
}

/// The user of the service exists only while the service runs, and sees the machine's folders read-only.
#[test]
fn units_are_made_only_for_programs_that_start_as_a_service() {
    let manifest = |name: &str, more: &str| {
        format!(
            "[app]\nname = \"{name}\"\nversion = \"1.0.0\"\n\n[components.web]\nwasm = \"web.wasm\"\nroutes = [\"/...\"]\n{more}"
        )
    };
    let workspace = Workspace::new();
    workspace.guest("http-hello", "web.wasm");
    let unit = |more: &str| {
        workspace.write("isomer.toml", manifest("backup", more));
        ship(&workspace, "backup", &[]);
        workspace.run(&["ship", "unit", "backup", "--json"])
    };
    let made = unit("");
    // `backup` is a user of Debian, with files of its own.
    assert!(made.starts_with("exit code: 0") && made.contains("\"name\": \"isomer-backup.service\""), "{made}");
    let refused = unit("grants.dirs = [{ host = \"/srv/up\", guest = \"/up\", write = true }]\n");
    assert!(
        refused.contains("component `web` is granted the folder `/srv/up`, to which the service cannot write"),
        "{refused}"
    );
    let refused = unit("[secrets]\nkey = { file = \"key.txt\" }\n");
    assert!(refused.contains("the secret `key` comes from the file `key.txt`"), "{refused}");
    assert!(refused.contains("write `key = { env = \"NAME\" }`"), "{refused}");
}
