//! Tests of node files: valid files are parsed, and problems are reported with their locations and a hint.

use isomer_diagnostics::{Renderer, SourceFile};
use isomer_manifest::{
    LinkAddress, NodeFile, NodeSampling, Sampling, SecretSource, SignatureKeys, node_schema_json, parse_node_file,
};

const RIGHT: &str = r#"
[link]
listen = "0.0.0.0:7070"

[peers]
services = ["10.0.0.7:7070", "10.0.0.8:7070"]
mail = "unix:/run/mail.sock"

[tls]
certificate = "node.crt"
key = "node.key"
authority = "authority.crt"
"#;

fn said(text: &str) -> String {
    let found = parse_node_file(&SourceFile::new("node.toml", text)).expect_err("it is wrong");
    Renderer::plain().diagnostics(&found)
}

#[test]
fn a_valid_file_is_parsed() {
    let file = parse_node_file(&SourceFile::new("node.toml", RIGHT)).expect("the file is valid");
    assert_eq!(file.listen.map(|at| at.value.to_string()).as_deref(), Some("0.0.0.0:7070"));
    let peers: Vec<_> = file
        .peers
        .iter()
        .map(|(group, addresses)| {
            let addresses = addresses.value.iter().map(LinkAddress::to_string).collect::<Vec<_>>();
            format!("{group} {}", addresses.join(" "))
        })
        .collect();
    assert_eq!(peers, ["mail unix:/run/mail.sock", "services 10.0.0.7:7070 10.0.0.8:7070"]);
    assert_eq!(file.tls.expect("it is there").key.value.to_str(), Some("node.key"));
    let nothing = parse_node_file(&SourceFile::new("node.toml", ""));
    assert_eq!(nothing.expect("an empty file is valid"), NodeFile::default());
}

const HOST: &str = r#"
[node]
data = "/var/lib/isomer"
grace = "10s"

[front]
listen = ["0.0.0.0:80", "[::]:80"]
listen_tls = "localhost:8443"
trusted_proxies = ["10.0.0.0/8", "::1"]
proxy_protocol = true

[front.tls]
folder = "certificates"
default = "shop.example"

[front.tls.certificates.shop]
certificate = "shop.crt"
key = "shop.key"

[admin]
listen = "unix:/run/isomer/admin.sock"

[telemetry]
sample = 0.05
sample_max = 1
samples_per_second = 10
slow = "2s"
slow_min = "500ms"

[telemetry.otlp]
endpoint = "https://otlp.example"
signals = ["traces", "logs"]
authority = "ca.pem"

[telemetry.otlp.headers]
authorization = { file = "otlp-token" }
x-scope = { env = "SCOPE" }

[limits]
apps_loaded = 500
connections = 2000
connections_per_address = 50
idle_grace = "2s"
head = "32KiB"
head_timeout = "5s"
request_deadline = "90s"
"#;

#[test]
fn the_file_of_a_node_is_parsed() {
    let file = parse_node_file(&SourceFile::new("node.toml", HOST)).expect("the file is valid");
    let node = &file.node;
    assert_eq!(node.data.as_ref().and_then(|path| path.value.to_str()), Some("/var/lib/isomer"));
    assert_eq!(node.grace, Some(std::time::Duration::from_secs(10)));
    let addresses = |all: &[isomer_manifest::Spanned<std::net::SocketAddr>]| {
        all.iter().map(|at| at.value.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(addresses(&node.listen), ["0.0.0.0:80", "[::]:80"]);
    assert_eq!(addresses(&node.listen_tls), ["127.0.0.1:8443"]);
    let tls = node.tls.as_ref().expect("it is there");
    assert_eq!(tls.folder.as_ref().and_then(|path| path.value.to_str()), Some("certificates"));
    assert_eq!(tls.default.as_ref().map(|host| host.value.as_str()), Some("shop.example"));
    let pairs: Vec<_> = tls.certificates.iter().map(|(crt, key)| (crt.value.to_str(), key.value.to_str())).collect();
    assert_eq!(pairs, [(Some("shop.crt"), Some("shop.key"))]);
    assert_eq!(
        node.admin_listen.as_ref().map(|at| at.value.to_string()).as_deref(),
        Some("unix:/run/isomer/admin.sock")
    );
    assert_eq!((node.limits.apps_loaded, node.limits.connections), (Some(500), Some(2000)));
    assert_eq!((node.limits.head_bytes, node.limits.requests), (Some(32 << 10), None));
    assert_eq!(node.limits.head_timeout, Some(std::time::Duration::from_secs(5)));
    let (deadline, timeout) = (node.limits.request_deadline(), node.limits.statement_timeout());
    assert_eq!((deadline.as_secs(), timeout.as_secs()), (90, 60), "a written value and a default");
    assert_eq!(node.limits.connections_per_address, Some(50));
    assert_eq!(node.limits.idle_grace, Some(std::time::Duration::from_secs(2)));
    let proxies: Vec<_> = node.trusted_proxies.iter().map(|network| network.value.to_string()).collect();
    assert_eq!((proxies, node.proxy_protocol), (vec!["10.0.0.0/8".to_owned(), "::1/128".to_owned()], true));
    let seconds = std::time::Duration::from_secs_f64;
    let default = Sampling { fraction: Some(0.05), per_second_max: Some(10), slow: Some(seconds(2.0)) };
    let sampling = NodeSampling { default, fraction_max: Some(1.0), slow_min: Some(seconds(0.5)) };
    assert_eq!(node.sampling, sampling);
    let otlp = node.otlp.as_ref().expect("it is there");
    assert_eq!(otlp.endpoint.value, "https://otlp.example");
    let signals: Vec<_> = otlp.signals.iter().flatten().map(|signal| signal.value.as_str()).collect();
    assert_eq!(
        (signals, otlp.authority.as_ref().and_then(|path| path.value.to_str())),
        (vec!["traces", "logs"], Some("ca.pem"))
    );
    let headers: Vec<_> = otlp.headers.iter().map(|(name, source)| (name.value.as_str(), source.clone())).collect();
    let sources = [SecretSource::File("otlp-token".into()), SecretSource::Env("SCOPE".to_owned())];
    let [file_source, variable] = sources;
    assert_eq!(headers, [("authorization", file_source), ("x-scope", variable)]);
    // `isomer node` reads all tables of this file. `isomer run --group` does not, which is reported.
    assert!(file.unread_by_node().is_empty());
    insta::assert_snapshot!(Renderer::plain().diagnostics(&file.unread_by_group()));
    let group = parse_node_file(&SourceFile::new("node.toml", RIGHT)).expect("the file is valid");
    assert!(group.unread_by_group().is_empty());
    assert_eq!(group.unread_by_node().len(), 3);
}

#[test]
fn problems_of_a_collector_are_reported_without_secrets() {
    let said = said(
        "[telemetry.otlp]\nsignals = [\"trace\", \"x\"]\n[telemetry.otlp.headers]\na = \"s3cret\"\nb = {}\n\
         c = { env = \"not-a-name s3cret\" }\nd = { env = \"A\", file = \"b\" }\ne = { value = \"s3cret\" }\nf = { file = 7 }\n",
    );
    assert!(!said.contains("s3cret"), "{said}");
    insta::assert_snapshot!(said);
}

#[test]
fn problems_in_the_file_of_a_node_are_reported() {
    insta::assert_snapshot!(said(
        "[node]\ngrace = \"10 seconds\"\n[front]\nlisten = [\"shop.example:80\", \"unix:/run/a\"]\nlisten_tls = \"0.0.0.0:443\"\n\
         trusted_proxies = [\"10.0.0.0/33\"]\nproxy_protocol = true\n[admin]\n[limits]\nrequests = 0\nconections = 7\nhead = \"64\"\n"
    ));
}

#[test]
fn the_schema_accepts_a_valid_file() {
    let schema = serde_json::from_str(&node_schema_json()).expect("the schema is JSON");
    jsonschema::meta::validate(&schema).expect("the schema is a schema");
    let validator = jsonschema::validator_for(&schema).expect("the schema can be used");
    let json = |text| serde_json::to_value(toml::from_str::<toml::Value>(text).expect("TOML")).expect("JSON");
    assert!(validator.is_valid(&json(RIGHT)));
    assert!(validator.is_valid(&json(HOST)));
    assert!(!validator.is_valid(&json("[peers]\nservices = \"10.0.0.7\"\n")));
    assert!(!validator.is_valid(&json("[link]\n")));
}

#[test]
fn problems_are_reported_with_their_places() {
    insta::assert_snapshot!(said(
        "[link]\nlisten = \"10.0.0.7\"\n\n[peers]\nservices = [\"https://10.0.0.7:7070/\"]\nmail = []\nother = 7070\n\n\
         [tls]\ncertificate = \"node.crt\"\nkye = \"node.key\"\n"
    ));
    insta::assert_snapshot!(said("[link\n"));
}

#[test]
fn signatures_have_rules_for_tenants() {
    let text = "[signatures]\nkeys = [\"release.pub\"]\n\n[signatures.tenants.acme]\nkeys = [\"acme.pub\", \"b.pub\"]\n\n\
                [signatures.tenants.free]\nunsigned = true\n";
    let source = SourceFile::new("node.toml", text);
    let signatures = parse_node_file(&source).expect("the file is valid").node.signatures;
    let files = |keys: &SignatureKeys| {
        keys.files.as_ref().map(|files| files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>())
    };
    assert_eq!(files(signatures.others.as_ref().expect("it is there")).unwrap(), ["release.pub"]);
    let acme = &signatures.tenants["acme"];
    assert_eq!(files(acme).unwrap(), ["acme.pub", "b.pub"]);
    assert_eq!(&text[acme.span.start..acme.span.end], "[\"acme.pub\", \"b.pub\"]");
    assert_eq!(files(&signatures.tenants["free"]), None);
    for (text, problem) in [
        ("[signatures]\nkeys = []\n", "no key may deploy, because the list is empty"),
        ("[signatures.tenants.acme]\n", "neither `keys` nor `unsigned`"),
        ("[signatures.tenants.acme]\nkeys = [\"a\"]\nunsigned = true\n", "both `keys` and `unsigned`"),
        ("[signatures.tenants.Acme]\nunsigned = true\n", "`Acme` is not a tenant name"),
    ] {
        let said = said(text);
        assert!(said.contains(problem), "{said}");
    }
}
