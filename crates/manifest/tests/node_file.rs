//! Node files: what is right is read, what is wrong is said with its place and the line to write.

use isomer_manifest::{LinkAddress, NodeFile, Renderer, SourceFile, node_schema_json, parse_node_file};

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
fn a_right_file_is_read() {
    let file = parse_node_file(&SourceFile::new("node.toml", RIGHT)).expect("it is right");
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
    assert_eq!(nothing.expect("nothing is needed"), NodeFile::default());
}

#[test]
fn the_schema_accepts_it() {
    let schema = serde_json::from_str(&node_schema_json()).expect("the schema is JSON");
    jsonschema::meta::validate(&schema).expect("the schema is a schema");
    let validator = jsonschema::validator_for(&schema).expect("the schema can be used");
    let json = |text| serde_json::to_value(toml::from_str::<toml::Value>(text).expect("TOML")).expect("JSON");
    assert!(validator.is_valid(&json(RIGHT)));
    assert!(!validator.is_valid(&json("[peers]\nservices = \"10.0.0.7\"\n")));
    assert!(!validator.is_valid(&json("[link]\n")));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    insta::assert_snapshot!(said(
        "[link]\nlisten = \"10.0.0.7\"\n\n[peers]\nservices = [\"https://10.0.0.7:7070/\"]\nmail = []\nother = 7070\n\n\
         [tls]\ncertificate = \"node.crt\"\nkye = \"node.key\"\n"
    ));
    insta::assert_snapshot!(said("[link\n"));
}
