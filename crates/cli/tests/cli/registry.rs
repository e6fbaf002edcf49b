//! Tests of the commands for registries and signatures, with a real registry (`docker-registry`).

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use isomer_registry::{CredentialSource, Registry, RegistryOptions, push_component};
use serde_json::Value;

use crate::docker_registry::DockerRegistry;
use crate::support::{Server, Workspace, assert_run};

/// A workspace with an app, and a registry.
pub(crate) struct Setup {
    pub(crate) workspace: Workspace,
    pub(crate) registry: DockerRegistry,
}

impl Setup {
    /// Starts a registry, and creates an app of two components with a granted folder.
    pub(crate) fn new() -> Self {
        let grants = "\n[components.ping.grants]\ndirs = [{ host = \"static\", guest = \"/static\" }]\n";
        let workspace = Workspace::ping_pong(grants);
        workspace.write("static/a.txt", "a file");
        Self { workspace, registry: DockerRegistry::start(None) }
    }

    /// Returns the reference of the app with this tag.
    pub(crate) fn reference(&self, tag: &str) -> String {
        format!("{}/team/tennis:{tag}", self.registry.address)
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command_in(arguments, Path::new(""))
    }

    pub(crate) fn command_in(&self, arguments: &[&str], folder: &Path) -> Output {
        let mut command = self.workspace.command(arguments);
        command.current_dir(self.workspace.path(".").join(folder)).env("DOCKER_CONFIG", self.workspace.path("docker"));
        command.output().unwrap()
    }

    /// Runs a command that succeeds, and returns its standard output.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Runs a command that fails, and returns its standard error.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn node(&self, more: &[&str]) -> Server {
        self.workspace.serve(&[&["node", "--data", "data", "--admin", "127.0.0.1:0"], more].concat())
    }
}

#[test]
fn an_app_runs_from_a_registry_and_keeps_its_data() {
    let setup = Setup::new();
    let reference = setup.reference("1.2.3");
    let pushed = setup.json(&["push", &reference]);
    let pinned = pushed["pinned"].as_str().unwrap().to_owned();
    // Two components, a file, and the config.
    assert_eq!((&pushed["uploaded"], &pushed["existing"]), (&4.into(), &0.into()), "{pushed}");
    assert_eq!(setup.json(&["push", &reference])["existing"], 4);
    let pulled = setup.json(&["pull", &reference]);
    assert_eq!((&pulled["digest"], &pulled["files"]), (&pushed["digest"], &1.into()), "{pulled}");
    // Neither the app's folder nor, with a digest, the registry is needed.
    std::fs::remove_file(setup.workspace.path("ping.wasm")).unwrap();
    for reference in [reference, pinned] {
        let app = setup.workspace.serve(&["run", &format!("oci://{reference}")]);
        assert_eq!(app.get("/seen?by=me").0, 200);
        assert_eq!(app.stop(), Some(0));
    }
    let folder = setup.workspace.path(".data/isomer/apps").join(format!("{}+team+tennis", setup.registry.address));
    let files = folder.join("release").join(pulled["digest"].as_str().unwrap().trim_start_matches("sha256:"));
    assert_eq!(std::fs::read_to_string(files.join("static/a.txt")).unwrap(), "a file");
    assert!(folder.join("data/cache").is_dir(), "the compiled code is kept");
}

#[test]
fn an_app_is_deployed_from_a_registry() {
    let setup = Setup::new();
    let node = setup.node(&[]);
    let reference = setup.reference("1");
    setup.done(&["push", &reference]);
    let reference = format!("oci://{reference}");
    let deployed = setup.json(&["deploy", &reference, "--host", "*", "--node", "data"]);
    assert_eq!(deployed["app"], "table-tennis");
    assert_eq!(node.get("/seen?by=me").0, 200);
    // The node gets the same release as from the app's folder.
    let again = setup.json(&["deploy", "--node", "data"]);
    assert_eq!((&again["revision"], &again["previous"]), (&deployed["revision"], &deployed["revision"]));
}

#[test]
fn mistakes_with_references_have_hints() {
    let setup = Setup::new();
    let run = |arguments: &[&str]| setup.workspace.run(arguments);
    let missing = setup.reference("none");
    assert_run!(
        setup.workspace,
        [
            run(&["pull", "tennis"]),
            run(&["run", "oci://tennis:1"]),
            run(&["pull", &missing]),
            run(&["push", &format!("{}@sha256:{}", setup.reference("1"), "0".repeat(64))]),
            run(&["pull", "127.0.0.1:1/tennis"]),
        ]
        .join("\n\n")
    );
}

#[test]
fn keys_are_private_and_never_replaced() {
    let setup = Setup::new();
    let made = setup.json(&["keys", "generate", "own"]);
    assert_eq!(made["encrypted"], false);
    let mode = |name: &str| std::fs::metadata(setup.workspace.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("own.key"), 0o600);
    assert_eq!(setup.done(&["keys", "show", "own.pub"]).trim(), made["key"].as_str().unwrap());
    let again = setup.refused(&["keys", "generate", "own"]);
    assert!(again.contains("`own.pub` already exists"), "{again}");
    let reference = setup.reference("1");
    std::fs::set_permissions(setup.workspace.path("own.key"), Permissions::from_mode(0o644)).unwrap();
    let open = setup.refused(&["push", "--sign", "own.key", &reference]);
    assert!(open.contains("other users may read the private key") && open.contains("chmod 600 own.key"), "{open}");
    // With a passphrase.
    let with_passphrase = |passphrase: &str, arguments: &[&str]| {
        let output = setup.workspace.command(arguments).env("ISOMER_KEY_PASSPHRASE", passphrase).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(with_passphrase("correct horse", &["keys", "generate", "locked"]).0);
    assert!(std::fs::read_to_string(setup.workspace.path("locked.key")).unwrap().contains("ENCRYPTED"));
    let push = ["push", "--sign", "locked.key", &reference];
    let (done, printed) = with_passphrase("hunter2", &push);
    assert!(!done && printed.contains("the passphrase is wrong") && !printed.contains("hunter2"), "{printed}");
    let none = setup.refused(&push);
    assert!(none.contains("the key has a passphrase") && none.contains("ISOMER_KEY_PASSPHRASE"), "{none}");
    let (done, printed) = with_passphrase("correct horse", &push);
    assert!(done, "{printed}");
}

#[test]
fn signatures_in_a_registry_are_verified() {
    let setup = Setup::new();
    let reference = setup.reference("1");
    for name in ["own", "other"] {
        setup.done(&["keys", "generate", name]);
    }
    setup.done(&["push", &reference]);
    let verify = ["verify", reference.as_str(), "--key", "own.pub"];
    let unsigned = setup.refused(&verify);
    assert!(unsigned.contains("none of the keys has signed"), "{unsigned}");
    setup.done(&["push", "--sign", "other.key", &reference]);
    let foreign = setup.output(&verify);
    let claimed = setup.done(&["keys", "show", "other.pub"]);
    let printed = String::from_utf8(foreign.stderr).unwrap();
    assert!(
        !foreign.status.success() && printed.contains(&claimed[..16]) && printed.contains("not verified"),
        "{printed}"
    );
    setup.done(&["push", "--sign", "own.key", &reference]);
    let verified = setup.json(&verify);
    assert_eq!(verified["signed"], true);
    // A signature, the provenance of the build, and the list of components, by each of the keys.
    let statements = verified["statements"].as_array().unwrap();
    let types = |is_verified: bool| -> Vec<&str> {
        let statements = statements.iter().filter(|statement| statement["verified"] == is_verified);
        let mut types: Vec<_> = statements.map(|statement| statement["predicate_type"].as_str().unwrap()).collect();
        types.sort_unstable();
        types
    };
    let expected =
        ["https://cyclonedx.org/bom", "https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1"];
    assert_eq!((types(true), types(false)), (expected.to_vec(), expected.to_vec()));
    // What is already signed is not signed again.
    setup.done(&["push", "--sign", "own.key", &reference]);
    assert_eq!(setup.json(&verify)["statements"].as_array().unwrap().len(), 6);
    // Another tag of the same app has the same digest, and so the same signatures.
    setup.done(&["push", &setup.reference("2")]);
    assert_eq!(setup.json(&["verify", &setup.reference("2"), "--key", "own.pub"])["digest"], verified["digest"]);
    setup.workspace.write("static/a.txt", "altered");
    setup.done(&["push", &reference]);
    setup.refused(&verify);
}

#[test]
fn an_archive_brings_an_app_to_a_site_without_a_network() {
    let setup = Setup::new();
    setup.done(&["keys", "generate", "own"]);
    let reference = setup.reference("1");
    let pushed = setup.json(&["push", "--sign", "own.key", &reference]);
    setup.done(&["pull", &reference, "-o", "app.tar"]);
    setup.done(&["pull", &reference, "-o", "again.tar"]);
    let [first, second] = ["app.tar", "again.tar"].map(|name| std::fs::read(setup.workspace.path(name)).unwrap());
    assert!(first == second, "the archive follows from its content");
    // The site has another registry, and a node that requires signatures.
    let site = DockerRegistry::start(None);
    setup.workspace.write("node.toml", "[signatures]\nkeys = [\"own.pub\"]\n");
    let node = setup.node(&["--config", "node.toml"]);
    assert_eq!(setup.json(&["verify", "app.tar", "--key", "own.pub"])["digest"], pushed["digest"]);
    setup.done(&["deploy", "app.tar", "--host", "*", "--node", "data"]);
    assert_eq!(node.get("/seen?by=me").0, 200);
    let there = format!("{}/copies/tennis:1", site.address);
    assert_eq!(setup.json(&["push", "app.tar", &there])["digest"], pushed["digest"]);
    assert_eq!(setup.json(&["verify", &there, "--key", "own.pub"])["signed"], true);
    let app = setup.workspace.serve(&["run", "app.tar"]);
    assert_eq!(app.get("/seen?by=me").0, 200);
    assert_eq!(app.stop(), Some(0));
    // It also becomes a program, with the same release as a program that is made from the sources.
    let base = env!("CARGO_BIN_EXE_isomer");
    let shipped = setup.json(&["ship", "exe", "app.tar", "-o", "program", "--base", base]);
    assert_eq!(shipped["release"], setup.json(&["ship", "exe", "-o", "own", "--base", base])["release"]);
    let sbom = std::process::Command::new(setup.workspace.path("program")).arg("--sbom").output().unwrap();
    let sbom: Value = serde_json::from_slice(&sbom.stdout).unwrap();
    assert_eq!(sbom["bomFormat"], "CycloneDX");
    let explained = setup.done(&["ship", "wasm", "app.tar", "--explain"]);
    assert!(explained.contains("imported from the host:"), "{explained}");
    setup.workspace.write("broken.tar", &first[..first.len() / 2]);
    let broken = setup.refused(&["deploy", "broken.tar", "--node", "data"]);
    assert!(broken.contains("cannot use `broken.tar`"), "{broken}");
}

#[test]
fn a_node_accepts_only_apps_that_its_tenants_keys_have_signed() {
    let setup = Setup::new();
    for name in ["own", "other"] {
        setup.done(&["keys", "generate", name]);
    }
    setup.workspace.write(
        "node.toml",
        "[signatures.tenants.acme]\nkeys = [\"own.pub\"]\n\n[signatures.tenants.free]\nunsigned = true\n",
    );
    let _node = setup.node(&["--config", "node.toml"]);
    for tenant in ["acme", "free"] {
        setup.done(&["tenant", "set", tenant, "--host", &format!("*.{tenant}.example"), "--node", "data"]);
    }
    let to = |tenant: &'static str| ["--node", "data", "--tenant", tenant];
    setup.done(&[&["deploy"], &to("free")[..]].concat());
    let unsigned = setup.refused(&[&["deploy"], &to("acme")[..]].concat());
    for text in [
        "tenant `acme` may deploy only signed apps, and `table-tennis` has no signature",
        "line 2: `keys = [\"own.pub\"]`",
        "isomer deploy --sign KEY --tenant acme",
    ] {
        assert!(unsigned.contains(text), "{text} is not in {unsigned}");
    }
    let foreign = setup.refused(&[&["deploy", "--sign", "other.key"], &to("acme")[..]].concat());
    assert!(foreign.contains("no key that may deploy for it has signed"), "{foreign}");
    let apps = setup.json(&["apps", "--node", "data", "--tenant", "acme"]);
    assert_eq!(apps.as_array().unwrap().len(), 0, "{apps}");
    // From a registry: the signature arrives with the app.
    let reference = setup.reference("1");
    setup.done(&["push", "--sign", "own.key", &reference]);
    let remote = format!("oci://{reference}");
    let deployed = setup.json(&[&["deploy", &remote], &to("acme")[..]].concat());
    setup.done(&[&["deploy", "--sign", "own.key", "-m", "again"], &to("acme")[..]].concat());
    let swapped = setup.refused(&[&["swap", "table-tennis", "pong=ping.wasm"], &to("acme")[..]].concat());
    assert!(swapped.contains("altered after it was signed") && swapped.contains("isomer swap"), "{swapped}");
    // A second revision, and back: a rollback is checked too, with the signature of the first deployment.
    setup.workspace.write("static/b.txt", "b");
    setup.done(&[&["deploy", "--sign", "own.key"], &to("acme")[..]].concat());
    let back = setup.json(&[&["rollback", "table-tennis"], &to("acme")[..]].concat());
    assert_eq!(back["revision"], deployed["revision"]);
}

#[test]
fn a_key_that_is_removed_can_neither_deploy_nor_roll_back() {
    let setup = Setup::new();
    for name in ["own", "next"] {
        setup.done(&["keys", "generate", name]);
    }
    let rule = |key: &str| setup.workspace.write("node.toml", format!("[signatures]\nkeys = [\"{key}.pub\"]\n"));
    rule("own");
    let node = setup.node(&["--config", "node.toml"]);
    setup.done(&["deploy", "--sign", "own.key", "--node", "data"]);
    setup.workspace.write("static/b.txt", "b");
    setup.done(&["deploy", "--sign", "own.key", "--node", "data"]);
    assert_eq!(node.stop(), Some(0));
    rule("next");
    let _node = setup.node(&["--config", "node.toml"]);
    for command in [&["deploy", "--sign", "own.key"][..], &["rollback", "table-tennis"]] {
        let refused = setup.refused(&[command, &["--node", "data"]].concat());
        assert!(refused.contains("no key that may deploy for it has signed"), "{command:?}: {refused}");
    }
    std::fs::write(setup.workspace.path("next.pub"), "not a key").unwrap();
    drop(_node);
    let printed = setup.workspace.run(&["node", "--data", "data2", "--admin", "127.0.0.1:0", "--config", "node.toml"]);
    assert!(
        printed.contains("the public key `next.pub` cannot be used") && printed.contains("node.toml:2"),
        "{printed}"
    );
}

#[test]
fn a_component_of_others_is_added_with_confirmed_grants() {
    let setup = Setup::new();
    let pushed = setup.json(&["push", "--components", &setup.reference("1")]);
    let mut pushed = pushed["components"].as_array().unwrap().iter().map(|one| one.as_str().unwrap());
    let pong = pushed.find(|one| one.ends_with(":1-component.pong")).unwrap().to_owned();
    // Another app, which has only `ping`.
    let manifest = "# Mine.\n[app]\nname = \"other\"\nversion = \"0.1.0\"\n\n[components.ping]\nwasm = \"../ping.wasm\"\nroutes = [\"/...\"]\n";
    setup.workspace.write("other/isomer.toml", manifest);
    let other = |arguments: &[&str]| setup.command_in(arguments, Path::new("other"));
    let whole = other(&["add", &setup.reference("1"), "--yes"]);
    assert!(String::from_utf8_lossy(&whole.stderr).contains("it is a whole app"), "{whole:?}");
    let foreign = other(&["add", &pong, "--name", "pong", "--grant", "secrets=key", "--yes"]);
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("does not import interfaces for secrets"), "{foreign:?}");
    let added = other(&["add", &pong, "--name", "pong", "--yes", "--json"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let text = std::fs::read_to_string(setup.workspace.path("other/isomer.toml")).unwrap();
    assert!(text.starts_with(manifest) && text.contains("[components.pong]\nwasm = \"oci://"), "{text}");
    assert!(text.contains("@sha256:"), "{text}");
    assert!(other(&["build"]).status.success());
    let lock = std::fs::read_to_string(setup.workspace.path("other/isomer.lock")).unwrap();
    assert!(lock.contains("[components.pong]"), "{lock}");
    // With a tag, the lock file keeps the digest.
    let tagged = format!("{manifest}\n[components.pong]\nwasm = \"oci://{pong}\"\n");
    setup.workspace.write("other/isomer.toml", &tagged);
    assert!(other(&["build"]).status.success());
    let locked = std::fs::read_to_string(setup.workspace.path("other/isomer.lock")).unwrap();
    // The same component with a custom section.
    setup.workspace.write("pong.wasm", [&isomer_test_guests::bytes("pong")[..], &[0, 2, 1, b'x']].concat());
    setup.done(&["push", "--components", &setup.reference("1")]);
    std::fs::remove_dir_all(setup.workspace.path("other/.isomer")).unwrap();
    assert!(other(&["build"]).status.success());
    assert_eq!(std::fs::read_to_string(setup.workspace.path("other/isomer.lock")).unwrap(), locked);
    assert_eq!(
        std::fs::read(setup.workspace.path("other/.isomer/registry/pong.wasm")).unwrap(),
        isomer_test_guests::bytes("pong")
    );
    setup.workspace.write("other/isomer.lock", "components = 1");
    let broken = other(&["build"]);
    assert!(String::from_utf8_lossy(&broken.stderr).contains("the lock file"), "{broken:?}");
}

#[test]
fn files_of_secrets_are_not_pushed() {
    let setup = Setup::new();
    let manifest = std::fs::read_to_string(setup.workspace.path("isomer.toml")).unwrap();
    setup.workspace.write("static/api.key", "secret");
    setup.workspace.write("elsewhere/api.key", "secret");
    std::os::unix::fs::symlink("../static/api.key", setup.workspace.path("elsewhere/link")).unwrap();
    let reference = setup.reference("1");
    for file in ["static/api.key", "./static/api.key", "elsewhere/link"] {
        let secrets = format!("secrets = [\"k\"]\n[secrets]\nk = {{ file = \"{file}\" }}\n");
        setup.workspace.write("isomer.toml", format!("{manifest}{secrets}"));
        for command in [&["push", &reference][..], &["ship", "exe"]] {
            let refused = setup.refused(command);
            assert!(refused.contains("of the secret `k` is in a granted folder"), "{file} {command:?}: {refused}");
        }
    }
    // Nothing was pushed.
    assert!(setup.refused(&["pull", &reference]).contains("does not exist"));
    let secrets = "secrets = [\"k\"]\n[secrets]\nk = { file = \"elsewhere/api.key\" }\n";
    setup.workspace.write("isomer.toml", format!("{manifest}{secrets}"));
    setup.done(&["push", &reference]);
}

/// Pushes a component that exports an interface of the platform.
fn push_exporting(reference: &str, interface: &str) {
    let text = format!("(component (instance $i) (export \"{interface}\" (instance $i)))");
    let wasm: bytes::Bytes = wat::parse_str(text).unwrap().into();
    let reference: isomer_ids::OciReference = reference.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let registry = Registry::open(&reference, &RegistryOptions::default(), &CredentialSource::default()).await;
        push_component(&registry.unwrap(), &reference, &wasm, &[], &[]).await.unwrap();
    });
}

#[test]
fn a_component_that_replaces_the_platform_is_not_added_unnoticed() {
    let setup = Setup::new();
    let before = std::fs::read_to_string(setup.workspace.path("isomer.toml")).unwrap();
    let reference = format!("{}/tools/cart:1", setup.registry.address);
    let interface = "isomer:secrets/store@0.1.0";
    push_exporting(&reference, interface);
    for more in [&[][..], &["--yes"]] {
        let refused = setup.refused(&[&["add", &reference], more].concat());
        for text in [
            "`cart` would provide `isomer:secrets/store@0.1.0` to the other components in place of the platform",
            "--allow-export isomer:secrets/store@0.1.0",
        ] {
            assert!(refused.contains(text), "{refused}");
        }
    }
    let wrong = setup.output(&["add", &reference, "--allow-export", "isomer:sql/store@0.1.0"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(setup.workspace.path("isomer.toml")).unwrap(), before);
    let added = setup.json(&["add", &reference, "--allow-export", interface]);
    assert_eq!((&added["replaces_platform"][0], &added["exports"][0]), (&interface.into(), &interface.into()));
    // An entry point replaces nothing, and other interfaces are the component's own.
    for (name, interface) in [("handler", "wasi:http/incoming-handler@0.2.0"), ("own", "shop:cart/store@0.1.0")] {
        let reference = format!("{}/tools/{name}:1", setup.registry.address);
        push_exporting(&reference, interface);
        let added = setup.json(&["add", &reference]);
        assert_eq!(
            (added["replaces_platform"].as_array().unwrap().len(), &added["exports"][0]),
            (0, &interface.into())
        );
    }
}
