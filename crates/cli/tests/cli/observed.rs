//! Tests of the commands that observe an app: the app that `isomer run` serves from the same folder, or an app on a fake
//! node.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use crate::fake::{REQUEST, TRACE};
use crate::remote::Remote;
use crate::support::{Workspace, assert_run, get, signal};

#[test]
fn a_command_in_the_apps_folder_finds_the_running_process() {
    let workspace = Workspace::ping_pong("grants = { config = { WHO = \"pong\" } }\n");
    let server = workspace.serve(&["run", "--access-log"]);
    let token = workspace.path(".isomer/admin.token");
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    let url = std::fs::read_to_string(workspace.path(".isomer/admin.url")).unwrap();
    assert_eq!(server.admin(), url.trim());
    assert_eq!(server.get("/env?name=WHO").0, 200);
    server.wait_for_log("pong sees WHO=pong");
    let lines = workspace.run(&["logs"]);
    assert!(lines.contains("| pong sees WHO=pong"), "{lines}");
    let requests = workspace.run(&["logs", "--access"]);
    assert!(requests.contains("GET /env"), "{requests}");
    let apps = workspace.run(&["apps", "--node", ".isomer"]);
    assert!(apps.contains("table-tennis") && apps.contains("loaded"), "{apps}");
    // A client without the token learns only that there is an API.
    let (status, body) = get(server.admin().strip_prefix("http://").unwrap(), "/v1/apps");
    assert!(status == 401 && !body.contains("table-tennis"), "{body}");
    // A web page cannot reach the API through a browser: requests with the page's host name or the page's origin are
    // refused.
    let secret = std::fs::read_to_string(&token).unwrap();
    let status = |host: &str, more: &str| {
        let mut stream = TcpStream::connect(server.admin().strip_prefix("http://").unwrap()).unwrap();
        let fields = format!("host: {host}\r\nauthorization: Bearer {}\r\nconnection: close\r\n{more}", secret.trim());
        stream.write_all(format!("GET /v1/plan HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("localhost", ""), "200");
    assert_eq!(status("evil.example", ""), "403");
    assert_eq!(status("localhost", "origin: http://evil.example\r\n"), "403");
    assert_eq!(server.stop(), Some(0));
    assert!(!token.exists() && !workspace.path(".isomer/admin.url").exists());
}

#[test]
fn the_admin_api_can_be_switched_off() {
    let workspace = Workspace::ping_pong("");
    let server = workspace.serve(&["run", "--admin", "off"]);
    assert!(!server.has_admin() && !workspace.path(".isomer/admin.token").exists());
    assert_eq!(server.stop(), Some(0));
    let refused = workspace.run(&["run", "--admin", "0.0.0.0:0"]);
    assert!(refused.contains("other machines can reach this address"), "{refused}");
}

#[test]
fn the_address_of_a_killed_process_is_reported() {
    let workspace = Workspace::ping_pong("");
    let server = workspace.serve(&["run"]);
    signal("KILL", server.pid());
    server.ended();
    let refused = workspace.run(&["logs"]);
    assert!(refused.contains("start it again: isomer run, or isomer dev"), "{refused}");
}

#[test]
fn traces_as_a_table() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["traces", "shop"]));
    assert_eq!(remote.asked(), [r#"traces default shop {"limit":20,"failed":false}"#]);
}

#[test]
fn advice_has_evidence() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["advise", "shop"]));
    assert_eq!(remote.asked(), ["advice default/shop"]);
}

#[test]
fn filters_of_traces_are_requested() {
    let remote = Remote::new();
    let flags = "--failed --slower 250ms --status 500 --callee cart --attribute db.namespace=carts --text ä&b -n 3";
    remote.run(&[&["traces", "shop"], flags.split(' ').collect::<Vec<_>>().as_slice()].concat());
    assert_eq!(
        remote.asked(),
        [
            r#"traces default shop {"limit":3,"callee":"cart","min_us":250000,"failed":true,"status":500,"attribute":"db.namespace=carts","text":"ä&b"}"#
        ]
    );
    let refused = remote.run(&["traces", "shop", "--slower", "250"]);
    assert!(refused.contains("write a number with a unit"), "{refused}");
    for attribute in ["foo", "=foo"] {
        let refused = remote.run(&["traces", "shop", "--attribute", attribute]);
        assert!(refused.starts_with("exit code: 2") && refused.contains("write `KEY=VALUE`"), "{refused}");
    }
    assert_eq!(remote.asked(), Vec::<String>::new(), "wrong arguments are not sent");
}

#[test]
fn new_traces_are_followed() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["traces", "shop", "-f", "--failed"]));
    assert_eq!(remote.asked(), [r#"follow-traces default shop {"failed":true}"#]);
}

#[test]
fn a_trace_as_a_waterfall() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["trace", TRACE, "shop", "--attributes"]));
    // An abbreviated id is searched for in the list of traces. The fake node has two traces.
    let found = remote.run(&["trace", "0AF765", "shop", "--json"]);
    assert!(found.contains(r#""name":"kv get""#), "{found}");
    remote.asked();
    assert!(remote.run(&["trace", REQUEST, "shop"]).contains("GET /cart"));
    assert_eq!(remote.asked(), [format!("trace default shop {REQUEST}")]);
}

#[test]
fn an_id_without_a_trace() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["trace", "ffffffffffffffffffffffffffffffff", "shop"]));
    let refused = remote.run(&["trace", "the-last", "shop"]);
    assert!(refused.contains("is not the id of a trace or a request"), "{refused}");
}

#[test]
fn the_next_requests_are_traced_and_shown() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["trace", "--next", "1", "--path", "/cart", "shop"]));
    assert_eq!(
        remote.asked(),
        [
            r#"follow-traces default shop {"path":"/cart","failed":false}"#.to_owned(),
            "order-traces default shop /cart 1".to_owned(),
            format!("trace default shop {TRACE}"),
        ]
    );
}

#[test]
fn the_lines_of_a_trace_are_those_of_its_request() {
    let remote = Remote::new();
    remote.run(&["logs", "shop", "--trace", "0af7", "-n", "1"]);
    let asked = remote.asked();
    assert!(asked.iter().any(|asked| asked.starts_with("logs default shop") && asked.contains(TRACE)), "{asked:?}");
}

#[test]
fn the_metrics_of_an_app_are_shown_as_tables() {
    let remote = Remote::new();
    assert_run!(remote.workspace, remote.run(&["metrics", "shop"]));
    let asked = remote.asked();
    assert!(asked[0].starts_with("metrics ") && asked[0].contains("shop"), "{asked:?}");
    let screen = remote.run(&["top", "shop", "--once", "--interval", "1ms"]);
    assert!(screen.contains("shop  ") && remote.asked().len() == 2, "{screen}");
    let refused = remote.run(&["top", "shop"]);
    assert!(refused.contains("isomer top --once"), "{refused}");
}
