//! Tests of the commands for nodes with a fake node that records requests. The file is long because each command has
//! its tests here, and all of them use the same fake node.

use std::sync::Arc;

use isomer_admin::{AdminLimits, AdminServer, AdminService, AuditLog, Token};
use tokio::runtime::Runtime;

use crate::fake::{Fake, line};
use crate::support::{Workspace, assert_run};

/// A workspace, and a fake node whose data directory is the folder `node`.
pub(crate) struct Remote {
    pub(crate) workspace: Workspace,
    fake: Arc<Fake>,
    runtime: Runtime,
}

impl Remote {
    pub(crate) fn new() -> Self {
        Self::of(Workspace::new())
    }

    fn of(workspace: Workspace) -> Self {
        let data = workspace.path("node");
        std::fs::create_dir(&data).unwrap();
        let runtime = Runtime::new().unwrap();
        let fake = Fake::new();
        let server = runtime.block_on(AdminServer::listen(&"127.0.0.1:0".parse().unwrap(), false)).unwrap();
        std::fs::write(data.join("admin.url"), server.address().url()).unwrap();
        let service: AdminService = AdminService {
            admin: fake.clone(),
            token: Token::of_node(&data).unwrap(),
            audit: Some(AuditLog::open(&data).unwrap()),
            hosts: Vec::new(),
            limits: AdminLimits::default(),
        };
        runtime.spawn(server.serve(service, std::future::pending()));
        Self { workspace, fake, runtime }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.run_with_input(arguments, "")
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> String {
        self.workspace.run_with_input(&[arguments, &["--node", "node"]].concat(), input)
    }

    /// Returns the requests that the fake node received since the last call of this function.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.fake.take_asked()
    }
}

#[test]
fn apps() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["apps"]));
    assert_eq!(remote.asked(), ["apps -"]);
    remote.run(&["apps", "--tenant", "acme"]);
    assert_eq!(remote.asked(), ["apps acme"]);
}

#[test]
fn apps_as_json() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["apps", "--json"]));
}

#[test]
fn tenants() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["tenants"]));
}

#[test]
fn tenant_shown() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["tenant", "show", "acme"]));
}

#[test]
fn only_named_quotas_of_a_tenant_are_changed() {
    let remote = Remote::new();
    remote.run(&["tenant", "set", "acme"]);
    assert_eq!(remote.asked(), ["set-tenant acme {\"quotas\":{}}"]);
    let flags = "--memory 512MiB --cpu 0.5 --concurrent 10 --rate 100 --burst 200 --outbound api.example --storage 1GiB --apps 3 --log 1MiB \
        --host shop.example --host *.shop.example";
    remote.run(&[&["tenant", "set", "acme"], flags.split_whitespace().collect::<Vec<_>>().as_slice()].concat());
    assert_eq!(
        remote.asked(),
        [
            "set-tenant acme {\"quotas\":{\"memory_bytes\":536870912,\"cpu_ms_per_second\":500,\"requests_concurrent\":10,\
          \"requests_per_second\":100,\"requests_burst\":200,\"outbound_hosts\":[\"api.example\"],\"storage_bytes\":1073741824,\
          \"apps\":3,\"log_bytes_per_hour\":1048576},\"hosts\":[\"shop.example\",\"*.shop.example\"]}"
        ]
    );
    remote.run(&["tenant", "set", "acme", "--memory", "unlimited", "--outbound", "none", "--host", "none"]);
    assert_eq!(
        remote.asked(),
        ["set-tenant acme {\"quotas\":{\"memory_bytes\":18446744073709551615,\"outbound_hosts\":[]},\"hosts\":[]}"]
    );
}

#[test]
fn an_invalid_quota() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["tenant", "set", "acme", "--memory", "512"]));
    assert_eq!(remote.asked(), Vec::<String>::new());
}

#[test]
fn a_tenant_is_removed() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["tenant", "remove", "acme", "--yes"]));
    assert_eq!(remote.asked(), ["remove-tenant acme"]);
}

#[test]
fn removing_data_requires_confirmation() {
    let remote = Remote::new();
    for (arguments, command) in [
        (&["remove", "shop", "--data", "--tenant", "acme"][..], "isomer remove shop --tenant acme --data --yes"),
        (&["tenant", "remove", "acme"], "isomer tenant remove acme --yes"),
    ] {
        let printed = remote.run(arguments);
        assert!(printed.starts_with("exit code: 2") && printed.contains(command), "{printed}");
    }
    assert_eq!(remote.asked(), Vec::<String>::new());
}

#[test]
fn a_secret_comes_from_standard_input_or_a_file() {
    let remote = Remote::new();
    let printed = remote.run_with_input(&["secrets", "set", "payment-key", "--tenant", "acme"], "hush\n");
    assert!(printed.starts_with("exit code: 0") && !printed.contains("hush"), "{printed}");
    remote.workspace.write("key", "two\nlines\r\n");
    remote.run(&["secrets", "set", "payment-key", "--from-file", "key"]);
    remote.run(&["secrets", "remove", "payment-key"]);
    remote.run(&["secrets", "remove", "payment-key", "--force"]);
    assert_eq!(
        remote.asked(),
        [
            "set-secret acme payment-key hush",
            "set-secret default payment-key two\nlines",
            "remove-secret default payment-key",
            "remove-secret default payment-key by force"
        ]
    );
    assert_run!(remote.workspace, remote.run(&["secrets", "list"]));
}

#[test]
fn a_secret_is_not_accepted_on_the_command_line() {
    let remote = Remote::new();
    let printed = remote.run(&["secrets", "set", "payment-key", "hush"]);
    assert!(printed.starts_with("exit code: 2"), "{printed}");
    let printed = remote.run(&["secrets", "set", "payment-key"]);
    assert!(printed.starts_with("exit code: 2") && printed.contains("the value is empty"), "{printed}");
    assert_eq!(remote.asked(), Vec::<String>::new());
}

#[test]
fn revisions() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["revisions", "shop"]));
}

#[test]
fn rollback() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["rollback", "shop", "--tenant", "acme"]));
    assert_eq!(remote.asked(), ["rollback acme shop -"]);
    remote.run(&["rollback", "shop", "010101"]);
    assert_eq!(remote.asked(), ["revisions default shop", "rollback default shop 010101010101"]);
    let printed = remote.run(&["rollback", "shop", "77"]);
    assert!(printed.contains("`77` is too short: use at least 4 digits"), "{printed}");
    let printed = remote.run(&["rollback", "shop", "7777"]);
    assert!(
        printed.contains("no revision of `shop` begins with `7777`") && printed.contains("isomer revisions shop"),
        "{printed}"
    );
}

#[test]
fn rollback_to_a_snapshot_names_what_is_lost() {
    let remote = Remote::new();
    let arguments = ["rollback", "shop", "--tenant", "acme", "--to-snapshot"];
    assert_run!(remote.workspace, remote.run(&arguments));
    assert_eq!(remote.asked(), ["revisions acme shop"]);
    remote.run(&[&arguments[..], &["--yes"]].concat());
    assert_eq!(remote.asked(), ["revisions acme shop", "rollback acme shop 020202020202 with its stores"]);
    let printed = remote.run(&["rollback", "shop", "0101", "--to-snapshot", "--yes"]);
    assert!(printed.starts_with("exit code: 1") && printed.contains("has no snapshot"), "{printed}");
}

#[test]
fn stop_start_and_remove() {
    let remote = Remote::new();
    let printed: Vec<String> =
        [&["stop", "shop"][..], &["start", "shop"], &["remove", "shop"], &["remove", "shop", "--data", "--yes"]]
            .iter()
            .map(|arguments| remote.run(arguments))
            .collect();
    assert_run!(remote.workspace, printed.join(""));
    assert_eq!(
        remote.asked(),
        ["stop default shop", "start default shop", "remove default shop false", "remove default shop true"]
    );
}

#[test]
fn status() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["status"]));
}

#[test]
fn control_characters_in_logs_are_escaped() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["logs", "shop", "-n", "3"]));
}

#[test]
fn logs_are_followed() {
    use std::io::BufRead as _;
    let remote = Remote::new();
    let mut command = remote.workspace.command(&["logs", "shop", "-f", "-n", "1", "--json", "--node", "node"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = || {
        let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        line["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(text(), "line 0");
    remote.fake.lines.send(line("later\u{1b}[2J")).unwrap();
    assert_eq!(text(), "later\u{1b}[2J");
    drop(remote.runtime);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn deploy() {
    let remote = Remote::of(Workspace::ping_pong(
        "grants.dirs = [{ host = \"static\", guest = \"/static\" }, { host = \"uploads\", guest = \"/up\", write = true }]\n",
    ));
    remote.workspace.write("static/index.html", "<p>hello");
    remote.workspace.write("static/deep/same.html", "<p>hello");
    std::fs::create_dir_all(remote.workspace.path("static/empty/inner")).unwrap();
    remote.workspace.write("uploads/own.txt", "stays here");
    remote.workspace.write("isomer.lock", "not granted");
    let arguments = ["deploy", "--tenant", "acme", "--host", "shop.example", "--as", "shop"];
    assert_run!(remote.workspace, remote.run(&arguments));
    let asked = remote.asked();
    let uploads = asked.iter().filter(|asked| asked.starts_with("put-blob")).count();
    // Three parts are uploaded: two components, and one part for two files, because these have the same contents.
    assert_eq!(uploads, 3, "{asked:?}");
    assert_eq!(asked[0], "tenant acme");
    assert_eq!(asked.last().unwrap(), "deploy acme shop monolith");
    let release = remote.fake.release().unwrap();
    let files: Vec<&str> = release.files.keys().map(isomer_api::PartPath::as_str).collect();
    assert_eq!(files, ["static/deep/same.html", "static/index.html"]);
    let folders: Vec<&str> = release.folders.iter().map(isomer_api::PartPath::as_str).collect();
    assert_eq!((folders, release.message), (vec!["static/empty/inner"], None));
    assert!(release.manifest.starts_with("[app]\nname = \"table-tennis\""));
}

#[test]
fn a_deployment_carries_its_message() {
    let remote = Remote::of(Workspace::ping_pong(""));
    remote.run(&["deploy", "--as", "shop", "-m", "Show the sum\n\nIt was asked for."]);
    assert_eq!(remote.asked().last().unwrap(), "deploy default shop monolith: Show the sum\n\nIt was asked for.");
    let printed = remote.run(&["deploy", "--as", "shop", "-m", ""]);
    assert!(printed.starts_with("exit code: 2") && printed.contains("a message has 1 to 1000 bytes"), "{printed}");
    assert_eq!(remote.asked(), Vec::<String>::new());
}

#[test]
fn tokens_are_created_listed_and_revoked() {
    let remote = Remote::new();
    let printed = remote.run(&["tokens", "create", "ci", "--role", "deploy", "--tenant", "acme"]);
    let token = printed.lines().nth(2).unwrap();
    assert!(token.starts_with("isomer_") && printed.matches(&token[24..]).count() == 1, "{printed}");
    assert!(printed.contains("shown only once"), "{printed}");
    remote.run(&["tokens", "create", "desk", "--role", "read", "--tenant", "acme", "--to-file", "desk.token"]);
    let listed = remote.run(&["tokens", "list", "--tenant", "acme"]);
    assert!(listed.contains("ci     deploy") && listed.contains("desk   read"), "{listed}");
    assert!(!listed.contains(&token[24..]), "{listed}");
    let printed = remote.run(&["tokens", "create", "other", "--role", "read", "--to-file", "desk.token"]);
    assert!(printed.starts_with("exit code: 2") && printed.contains("exists already"), "{printed}");
    remote.run(&["tokens", "revoke", "ci", "--tenant", "acme"]);
    assert_eq!(
        remote.asked(),
        ["add-token acme ci deploy", "add-token acme desk read", "tokens acme", "revoke-token acme ci",]
    );
    let printed = remote.run(&["tokens", "create", "short", "--role", "read", "--tenant", "acme", "--expires", "30d"]);
    let listed = remote.run(&["tokens", "list", "--tenant", "acme"]);
    let expires = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap().ends_with("never");
    assert!(printed.contains(" until 2") && expires("desk") && !expires("short"), "{printed}{listed}");
    for wrong in ["soon", "0s", "d", "30"] {
        let printed = remote.run(&["tokens", "create", "x", "--role", "read", "--expires", wrong]);
        assert!(printed.starts_with("exit code: 2"), "{printed}");
    }
    let printed = remote.run(&["tokens", "create", "x", "--role", "root"]);
    assert!(printed.starts_with("exit code: 2") && printed.contains("`read`, `deploy` or `admin`"), "{printed}");
}

#[test]
fn a_tenants_token_is_limited_to_the_tenant() {
    let remote = Remote::new();
    remote.run(&["tokens", "create", "desk", "--role", "read", "--tenant", "acme", "--to-file", "desk.token"]);
    remote.asked();
    let with = |arguments: &[&str]| remote.run(&[arguments, &["--token-file", "desk.token"]].concat());
    assert!(with(&["apps"]).starts_with("exit code: 0"));
    assert_eq!(remote.asked(), ["apps acme"]);
    let printed = ["status", "stop shop --tenant acme", "logs shop", "tokens list --tenant rival"];
    let printed = printed.map(|arguments| with(&arguments.split(' ').collect::<Vec<_>>()));
    assert_run!(remote.workspace, printed.join(""));
    assert_eq!(remote.asked(), Vec::<String>::new());
    let token = std::fs::read_to_string(remote.workspace.path("desk.token")).unwrap();
    let printed = remote.run_with_input(&["apps", "--token-file", "-"], &token);
    assert!(printed.starts_with("exit code: 0"), "{printed}");
    remote.run(&["tokens", "revoke", "desk", "--tenant", "acme"]);
    let printed = with(&["apps"]);
    assert!(printed.starts_with("exit code: 1") && printed.contains("the token is unknown to this node"), "{printed}");
}

#[test]
fn suggested_commands_name_the_tenant() {
    let remote = Remote::new();
    let printed = remote.run(&["stop", "shop", "--tenant", "acme"]);
    assert!(printed.contains("to serve it again: isomer start shop --tenant acme"), "{printed}");
    let printed = remote.run(&["secrets", "set", "key", "--tenant", "acme"]);
    assert!(printed.contains("isomer secrets set key --tenant acme --from-file FILE"), "{printed}");
    let printed = remote.run(&["rollback", "shop", "7777", "--tenant", "acme"]);
    assert!(printed.contains("isomer revisions shop --tenant acme"), "{printed}");
    let printed = remote.run(&["tokens", "list", "--tenant", "acme"]);
    assert!(printed.contains("isomer tokens create NAME --role ROLE --tenant acme"), "{printed}");
}

#[test]
fn the_access_log_is_requested() {
    let remote = Remote::new();
    remote.run(&["logs", "shop", "--access", "-n", "0"]);
    assert_eq!(remote.asked(), ["logs default shop false access"]);
}

#[test]
fn tenants_deploy_one_manifest_with_different_values() {
    let remote = Remote::of(Workspace::ping_pong("grants.config = { GREETING = \"hi\", COLOUR = \"red\" }\n"));
    remote.workspace.write(".env", "GREETING=from the file\nOTHER=unused\n");
    for (tenant, greeting) in [("acme", "hey"), ("default", "hello")] {
        let printed = remote.run(&["deploy", "--tenant", tenant, "--config", &format!("GREETING={greeting}")]);
        let manifest = remote.fake.release().unwrap().manifest;
        let source = isomer_diagnostics::SourceFile::new("isomer.toml", manifest.as_str());
        let app = isomer_manifest::parse(&source).unwrap_or_else(|_| panic!("{manifest}")).app;
        let config = &app.components["pong"].grants.config;
        assert_eq!((config["GREETING"].as_str(), config["COLOUR"].as_str()), (greeting, "red"), "{printed}");
        assert!(!manifest.contains("OTHER"), "{manifest}");
    }
    let printed = remote.run(&["deploy"]);
    assert!(printed.contains("config value pong.GREETING comes from .env"), "{printed}");
    assert!(remote.fake.release().unwrap().manifest.contains("from the file"));
}

#[test]
fn missing_secrets_are_reported_before_the_upload() {
    let remote = Remote::of(Workspace::ping_pong(
        "grants.secrets = [\"payment-key\", \"mail-key\", \"salt\"]\ngrants.dirs = [{ host = \"keys\", guest = \"/keys\" }]\n\n\
        [secrets]\npayment-key = { env = \"PAYMENT_KEY\" }\nmail-key = { env = \"MAIL_KEY\" }\nsalt = { file = \"./keys/salt\" }\n",
    ));
    remote.workspace.write("keys/salt", "a part of the release");
    let printed = remote.run(&["deploy", "--tenant", "acme"]);
    assert!(printed.contains("tenant `acme` lacks secrets that the app needs: `mail-key`\n"), "{printed}");
    assert!(printed.contains("isomer secrets set mail-key --tenant acme"), "{printed}");
    assert_eq!(remote.asked(), ["tenant acme"]);
}

#[test]
fn deploy_for_a_missing_tenant() {
    let remote = Remote::of(Workspace::ping_pong(""));
    assert_run!(remote.workspace, remote.run(&["deploy", "--tenant", "missing"]));
    assert_eq!(remote.asked(), ["tenant missing"]);
}

#[test]
fn deploy_that_the_node_refuses() {
    let remote = Remote::of(Workspace::ping_pong(""));
    assert_run!(remote.workspace, remote.run(&["deploy", "--as", "bad"]));
}

#[test]
fn deploy_of_a_folder_outside_of_the_app() {
    let remote = Remote::of(Workspace::ping_pong("grants.dirs = [{ host = \"../secrets\", guest = \"/s\" }]\n"));
    assert_run!(remote.workspace, remote.run(&["deploy"]));
    assert_eq!(remote.asked(), Vec::<String>::new());
}

#[test]
fn deploy_of_the_whole_folder_leaves_out_local_files() {
    let remote = Remote::of(Workspace::ping_pong("grants.dirs = [{ host = \".\", guest = \"/app\" }]\n"));
    let (left_out, sent) = (
        [".env", ".env.local", ".git/config", "target/debug/x", "deep/.env", "deep/.env.local", "node/admin.token"],
        [".environment", "deep/target", "isomer.toml", "page.html", "ping.wasm"],
    );
    for path in left_out.iter().chain(&sent).filter(|path| !remote.workspace.path(path).exists()) {
        remote.workspace.write(path, "A=1");
    }
    let printed = remote.run(&["deploy"]);
    let release = remote.fake.release().unwrap_or_else(|| panic!("{printed}"));
    let is_sent = |path: &&str| release.files.keys().any(|sent| sent.as_str() == *path);
    assert!(sent.iter().all(is_sent) && !left_out.iter().any(is_sent), "{:?}", release.files.keys());
}

#[test]
fn deploy_does_not_follow_links_out_of_the_folder() {
    let remote = Remote::of(Workspace::ping_pong("grants.dirs = [{ host = \"static\", guest = \"/s\" }]\n"));
    remote.workspace.write("static/a.txt", "a");
    std::os::unix::fs::symlink("/etc/passwd", remote.workspace.path("static/b.txt")).unwrap();
    let printed = remote.run(&["deploy"]);
    assert!(
        printed.starts_with("exit code: 1") && printed.contains("`static/b.txt` is not a file in the app's folder"),
        "{printed}"
    );
    assert_eq!(remote.asked(), Vec::<String>::new());
}

#[test]
fn swap() {
    let remote = Remote::new();
    remote.workspace.guest("pong", "pong.wasm");
    assert_run!(remote.workspace, remote.run(&["swap", "shop", "pong=pong.wasm"]));
    let asked = remote.asked();
    assert_eq!((asked.len(), asked[0].as_str(), asked[2].as_str()), (3, "missing", "swap default shop pong"));
    let printed = remote.run(&["swap", "shop", "pong"]);
    assert!(printed.starts_with("exit code: 2") && printed.contains("write `COMPONENT=FILE.wasm`"), "{printed}");
}

#[test]
fn reshape() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["reshape", "shop", "isolated"]));
    assert_eq!(remote.asked(), ["reshape default shop isolated"]);
}

#[test]
fn no_node() {
    let workspace = Workspace::new();
    workspace.write("token", "0".repeat(64));
    // No server can listen on port 0.
    assert_run!(workspace, workspace.run(&["status", "--node", "http://127.0.0.1:0", "--token-file", "token"]));
}

#[test]
fn no_token() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["status"]));
}

#[test]
fn another_nodes_token() {
    let remote = Remote::new();
    remote.workspace.write("token", "0".repeat(64));
    assert_run!(remote.workspace, remote.run(&["status", "--token-file", "token"]));
}

#[test]
fn no_admin_api() {
    use std::io::{Read as _, Write as _};
    let workspace = Workspace::new();
    workspace.write("token", "0".repeat(64));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").unwrap();
    });
    assert_run!(workspace, workspace.run(&["status", "--node", &url, "--token-file", "token"]));
    answering.join().unwrap();
}

/// Checks that a token that the user did not name is sent only to a node on this machine.
#[test]
fn a_default_token_is_not_sent_to_other_machines() {
    let workspace = Workspace::new();
    let data = workspace.path(".data/isomer/node");
    std::fs::create_dir_all(&data).unwrap();
    Token::of_node(&data).unwrap();
    let printed = workspace.run(&["status", "--node", "http://node.invalid:7171"]);
    assert!(printed.starts_with("exit code: 2") && printed.contains("there is no token for the node"), "{printed}");
}

#[test]
fn help_of_deploy() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["deploy", "--help"]));
}

#[test]
fn help_of_tenant_set() {
    let workspace = Workspace::new();
    assert_run!(workspace, workspace.run(&["tenant", "set", "--help"]));
}
