//! Tests of a node that requires signatures: tenants that share a release, and keys that are replaced.

use crate::registry::Setup;

const SHAPE: &str = "\n[shapes.split.groups]\nfront = [\"ping\"]\nback = [\"pong\"]\n";

/// Creates an app with a second shape, and keys with these names.
fn setup(keys: &[&str]) -> Setup {
    let setup = Setup::new();
    let manifest = std::fs::read_to_string(setup.workspace.path("isomer.toml")).unwrap();
    setup.workspace.write("isomer.toml", manifest + SHAPE);
    keys.iter().for_each(|name| drop(setup.done(&["keys", "generate", name])));
    setup
}

#[test]
fn tenants_that_deploy_the_same_release_have_their_own_signatures() {
    let setup = setup(&["acme", "rival"]);
    setup.workspace.write(
        "node.toml",
        "[signatures.tenants]\nacme = { keys = [\"acme.pub\"] } # until the audit of rival\nrival = { keys = [\"rival.pub\"] }\n",
    );
    let _node = setup.node(&["--config", "node.toml"]);
    let to = |tenant: &'static str| ["--node", "data", "--tenant", tenant];
    for tenant in ["acme", "rival", "free"] {
        setup.done(&["tenant", "set", tenant, "--host", &format!("*.{tenant}.example"), "--node", "data"]);
    }
    // Other tenants first and last, without a signature and with one of another key.
    let deploy = |tenant: &'static str, key: &[&str]| setup.done(&[&["deploy"], key, &to(tenant)[..]].concat());
    deploy("free", &[]);
    deploy("acme", &["--sign", "acme.key"]);
    deploy("rival", &["--sign", "rival.key"]);
    deploy("free", &[]);
    for tenant in ["acme", "rival", "free"] {
        let reshaped = setup.json(&[&["reshape", "table-tennis", "split"], &to(tenant)[..]].concat());
        assert_eq!(reshaped["shape"], "split");
        setup.done(&[&["rollback", "table-tennis"], &to(tenant)[..]].concat());
    }
    // A refusal shows neither comments nor the rules of other tenants.
    setup.workspace.write("static/b.txt", "b");
    let refused = setup.refused(&[&["deploy"], &to("acme")[..]].concat());
    assert!(refused.contains("line 2: `keys = [\"acme.pub\"]`") && !refused.contains("rival"), "{refused}");
}

#[test]
fn a_running_release_is_signed_again_with_a_new_key() {
    let setup = setup(&["own", "next"]);
    let rule = |key: &str| setup.workspace.write("node.toml", format!("[signatures]\nkeys = [\"{key}.pub\"]\n"));
    rule("own");
    let node = setup.node(&["--config", "node.toml"]);
    setup.done(&["deploy", "--sign", "own.key", "--node", "data"]);
    setup.done(&["stop", "table-tennis", "--node", "data"]);
    assert_eq!(node.stop(), Some(0));
    rule("next");
    let _node = setup.node(&["--config", "node.toml"]);
    // The key of the stopped app was removed from the node file.
    let start = ["start", "table-tennis", "--node", "data"];
    let reshape = ["reshape", "table-tennis", "split", "--node", "data"];
    for command in [&start[..], &reshape] {
        let refused = setup.refused(command);
        assert!(refused.contains("no key that may deploy for it has signed"), "{command:?}: {refused}");
    }
    setup.done(&["deploy", "--sign", "next.key", "--node", "data"]);
    setup.done(&["stop", "table-tennis", "--node", "data"]);
    setup.done(&start);
    assert_eq!(setup.json(&reshape)["shape"], "split");
}

#[test]
fn config_values_are_signed_and_an_app_of_others_is_used_only_with_its_signature() {
    let setup = setup(&["own", "other"]);
    let manifest = std::fs::read_to_string(setup.workspace.path("isomer.toml")).unwrap();
    setup.workspace.write(
        "isomer.toml",
        manifest.replace("[components.ping.grants]\n", "[components.ping.grants]\nconfig = { X = \"0\" }\n"),
    );
    setup.workspace.write("node.toml", "[signatures]\nkeys = [\"own.pub\"]\n");
    let _node = setup.node(&["--config", "node.toml"]);
    let reference = setup.reference("1");
    setup.done(&["push", "--sign", "own.key", &reference]);
    let remote = format!("oci://{reference}");
    let to = ["--node", "data"];
    let altered = setup.refused(&[&["deploy", &remote, "--config", "X=1"], &to[..]].concat());
    assert!(altered.contains("altered after it was signed"), "{altered}");
    setup.done(&[&["deploy", &remote, "--config", "X=1", "--sign", "own.key"], &to[..]].concat());
    // Of a pinned app, standard output has only the name that other commands take.
    let pinned = setup.done(&["verify", &reference, "--key", "own.pub"]);
    assert!(pinned.contains("@sha256:") && pinned.lines().count() == 1, "{pinned}");
    let pinned = format!("oci://{}", pinned.trim());
    let app = setup.workspace.serve(&["run", &pinned, "--key", "other.pub", "--key", "own.pub"]);
    assert_eq!(app.stop(), Some(0));
    let copy = setup.reference("copy");
    for command in [&["run", &pinned][..], &["deploy", &pinned, "--node", "data"], &["push", &pinned, &copy]] {
        let refused = setup.refused(&[command, &["--key", "other.pub"]].concat());
        assert!(refused.contains("none of the keys has signed"), "{command:?}: {refused}");
    }
    setup.refused(&["pull", &copy]);
    let own = setup.output(&["deploy", "--key", "own.pub", "--node", "data"]);
    assert_eq!(own.status.code(), Some(2), "the app in the folder has no signatures");
}
