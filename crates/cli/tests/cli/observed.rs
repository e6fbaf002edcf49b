//! Tests of the commands that observe an app which `isomer run` serves from the same folder.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Workspace, get, signal};

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
