//! Tests of groups that run separately, each with a node file, as on different machines.

use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::{Server, TIMEOUT, Workspace, assert_run};

const SHAPES: &str = "grants = { config = { WHO = \"pong\" } }\n\n\
    [shapes.split.groups]\nfront = [\"ping\"]\nback = [\"pong\"]\n";

fn ping_pong() -> Workspace {
    Workspace::ping_pong(SHAPES)
}

/// Runs `group` with the contents `config` in the node file `NAME.toml`, and with a separate data directory.
fn group(workspace: &Workspace, group: &str, name: &str, config: &str) -> Server {
    let file = format!("{name}.toml");
    workspace.write(&file, config);
    workspace.serve(&["run", "--shape", "split", "--group", group, "--config", &file, "--data", name])
}

/// Repeats a request until the link between the groups is established.
fn get_linked(server: &Server, path: &str) -> (u16, String) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let answer = server.get(path);
        if answer.0 != 502 || Instant::now() > deadline {
            return answer;
        }
    }
}

#[test]
fn separate_groups_are_linked_over_tcp() {
    let workspace = ping_pong();
    let back = group(&workspace, "back", "back", "[link]\nlisten = \"127.0.0.1:0\"\n");
    let front = group(&workspace, "front", "front", &format!("[peers]\nback = \"{}\"\n", back.link()));
    assert_eq!(get_linked(&front, "/greet?name=ann"), (200, "pong to ann (count 1)\n".to_owned()));
    assert_eq!(front.get("/env?name=WHO"), (200, "ping=nothing pong=pong\n".to_owned()));
    back.wait_for_log("pong sees WHO=pong");
    assert_eq!(back.stop(), Some(0));
    assert_eq!(front.get("/greet?name=ann").0, 502);
    front.wait_for_log("ping → pong");
    assert_eq!(front.get("/").0, 200);
    assert_eq!(front.stop(), Some(0));
}

#[test]
fn a_group_may_run_several_times() {
    let workspace = ping_pong();
    // Any process that can open the socket of a link can call the group, so only this user may enter the socket's
    // folder.
    workspace.private("run");
    let backs = ["one", "two"].map(|name| {
        group(
            &workspace,
            "back",
            name,
            "[link]\nlisten = \"unix:socket\"\n".replace("socket", &format!("run/{name}.sock")).as_str(),
        )
    });
    let front = group(&workspace, "front", "front", "[peers]\nback = [\"unix:run/one.sock\", \"unix:run/two.sock\"]\n");
    assert_eq!(get_linked(&front, "/greet?name=ann").0, 200);
    let [first, second] = backs;
    assert_eq!(first.stop(), Some(0));
    assert_eq!(get_linked(&front, "/greet?name=bob").0, 200);
    assert_eq!(second.stop(), Some(0));
    assert_eq!(front.get("/greet?name=bob").0, 502);
}

/// Writes a certificate for `127.0.0.1` and its key to `NAME.crt` and `NAME.key`. `authority` signs the certificate.
fn certificate(workspace: &Workspace, authority: &CertifiedIssuer<'_, KeyPair>, name: &str) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    workspace.write(&format!("{name}.crt"), certificate.pem());
    workspace.write(&format!("{name}.key"), key.serialize_pem());
}

fn authority(workspace: &Workspace, name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    workspace.write(&format!("{name}.crt"), authority.pem());
    authority
}

fn tls(name: &str, authority: &str) -> String {
    format!("[tls]\ncertificate = \"{name}.crt\"\nkey = \"{name}.key\"\nauthority = \"{authority}.crt\"\n")
}

#[test]
fn only_certificates_of_the_same_authority_can_link_groups() {
    let workspace = ping_pong();
    let ours = authority(&workspace, "ours");
    let theirs = authority(&workspace, "theirs");
    certificate(&workspace, &ours, "back-cert");
    certificate(&workspace, &ours, "front-cert");
    certificate(&workspace, &theirs, "stranger-cert");
    let listen = format!("[link]\nlisten = \"127.0.0.1:0\"\n{}", tls("back-cert", "ours"));
    let back = group(&workspace, "back", "back", &listen);
    let peers = format!("[peers]\nback = \"{}\"\n", back.link());
    let front = group(&workspace, "front", "front", &format!("{peers}{}", tls("front-cert", "ours")));
    assert_eq!(get_linked(&front, "/greet?name=ann"), (200, "pong to ann (count 1)\n".to_owned()));
    let stranger = group(&workspace, "front", "stranger", &format!("{peers}{}", tls("stranger-cert", "theirs")));
    assert_eq!(stranger.get("/greet?name=ann").0, 502);
    let naked = group(&workspace, "front", "naked", &peers);
    assert_eq!(naked.get("/greet?name=ann").0, 502);
    assert_eq!(front.get("/greet?name=bob").0, 200);
}

#[test]
fn another_revision_is_refused_and_logged() {
    let workspace = ping_pong();
    let back = group(&workspace, "back", "back", "[link]\nlisten = \"127.0.0.1:0\"\n");
    let changed = Workspace::ping_pong(&SHAPES.replace("WHO", "WHOM"));
    let front = group(&changed, "front", "front", &format!("[peers]\nback = \"{}\"\n", back.link()));
    // The response is the same as if the other group could not be reached. Only the log shows that the other group
    // refuses the link, because it runs another revision.
    let deadline = Instant::now() + TIMEOUT;
    loop {
        assert_eq!(front.get("/greet?name=ann").0, 502);
        if front.wait_for_log("ping → pong").contains("this process runs another revision of the app") {
            break;
        }
        assert!(Instant::now() < deadline, "no refusal because of the revision is logged");
    }
}

#[test]
fn mistakes_in_node_files_are_reported_with_their_places() {
    let workspace = ping_pong();
    let run = |group: &str, config: &str| {
        workspace.write("node.toml", config);
        let arguments =
            ["run", "--shape", "split", "--group", group, "--config", "node.toml", "--listen", "127.0.0.1:0"];
        format!("$ isomer run --group {group}\n{}", workspace.run(&arguments))
    };
    let far = "[link]\nlisten = \"0.0.0.0:7070\"\n\n[peers]\nback = [\"127.0.0.1:7070\", \"10.0.0.7:7070\"]\n";
    let files = format!("{far}\n[tls]\ncertificate = \"node.crt\"\nkey = \"node.toml\"\nauthority = \"deep/ca.crt\"\n");
    workspace.write("node.crt", "no certificate\n");
    workspace.write("deep/ca.crt", "no certificate\n");
    let runs = [
        run("frnot", ""),
        run("front", ""),
        run("back", ""),
        run("front", "[peers]\nbakc = \"127.0.0.1:7070\"\n"),
        run("front", far),
        run("front", &files.replace("node.crt", "nowhere.crt")),
        run("front", &files),
        run("front", "[link]\n"),
    ];
    assert_run!(workspace, runs.join("\n"));
}

#[test]
fn a_group_with_a_store_has_one_address() {
    let workspace = Workspace::ping_pong(&SHAPES.replace("} }", "}, kv = [\"greetings\"] }"));
    workspace.write("node.toml", "[peers]\nback = [\"127.0.0.1:7070\", \"127.0.0.1:7071\"]\n");
    let run = workspace.run(&["run", "--shape", "split", "--group", "front", "--config", "node.toml"]).to_string();
    let error = "group `back` has 2 addresses, but only one process can have the key-value store `greetings`";
    assert!(run.contains(error), "{run}");
    assert!(run.contains("node.toml:2"), "{run}");
}

#[test]
fn flags_that_need_each_other() {
    let workspace = ping_pong();
    workspace.guest("http-hello", "hello.wasm");
    let runs = [
        workspace.run(&["run", "--group", "front"]),
        workspace.run(&["run", "--config", "node.toml"]),
        workspace.run(&["run", "--group", "front", "--config", "nowhere.toml"]),
        workspace.run(&["run", "hello.wasm", "--group", "front", "--config", "nowhere.toml"]),
        workspace.run(&["run", "--member"]),
    ];
    assert_run!(workspace, runs.join("\n"));
}
