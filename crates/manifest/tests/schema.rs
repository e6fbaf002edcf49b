//! Checks that the JSON Schema and the parser agree on example manifests and on generated manifests.

use std::path::Path;
use std::sync::LazyLock;

use isomer_diagnostics::{Diagnostic, Renderer, SourceFile};
use isomer_manifest::{MANIFEST_FILE, parse, schema_json};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The codes of errors that a JSON Schema cannot express, because they depend on several keys.
const BEYOND: &[&str] = &[
    "colliding-directories",
    "bad-config-value",
    "bad-reference",
    "duplicate-route",
    "health-without-route",
    "bad-link",
    "monolith-defined",
    "placed-twice",
    "two-browser-groups",
    "unknown-component",
    "unknown-secret",
    "zero-limit",
];

static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(&schema_json()).expect("the schema is JSON");
    jsonschema::meta::validate(&schema).expect("the schema is a schema");
    jsonschema::validator_for(&schema).expect("the schema can be used")
});

fn files(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let paths = folder.read_dir().expect("the folder is there").map(|entry| entry.expect("it can be read").path());
    let files: Vec<_> = paths
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("the file can be read")))
        .collect();
    assert!(!files.is_empty());
    files
}

fn json_of(toml: &str) -> Option<Value> {
    let value: toml::Value = toml::from_str(toml).ok()?;
    Some(serde_json::to_value(value).expect("TOML fits into JSON"))
}

#[test]
fn valid_manifests_match_the_schema() {
    let full = ("full.toml".to_owned(), include_str!("full.toml").to_owned());
    for (path, text) in files("good").into_iter().chain([full]) {
        let errors: Vec<_> =
            VALIDATOR.iter_errors(&json_of(&text).expect("it is TOML")).map(|e| e.to_string()).collect();
        assert_eq!(errors, [""; 0], "{path}");
    }
}

#[test]
fn the_examples_of_the_project_are_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let folders = examples.read_dir().expect("there are examples").map(|entry| entry.expect("it can be read").path());
    let manifests: Vec<_> = folders.map(|folder| folder.join(MANIFEST_FILE)).filter(|path| path.is_file()).collect();
    assert!(!manifests.is_empty());
    for path in manifests {
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let source = SourceFile::new(path.display().to_string(), text.as_str());
        let found = parse(&source).map_or_else(|found| found, |parsed| parsed.warnings);
        assert_eq!(Renderer::plain().diagnostics(&found), "");
        assert!(VALIDATOR.is_valid(&json_of(&text).expect("it is TOML")), "{}", path.display());
    }
}

#[test]
fn invalid_manifests_do_not_match_the_schema_unless_only_their_meaning_is_wrong() {
    for (path, text) in files("bad") {
        let Some(json) = json_of(&text) else { continue };
        let found = parse(&SourceFile::new("isomer.toml", text.as_str())).expect_err(&path);
        let errors = found.iter().filter(|diagnostic| diagnostic.is_error());
        let beyond: Vec<&Diagnostic> =
            errors.filter(|error| error.code.is_some_and(|code| BEYOND.contains(&code))).collect();
        let only_beyond = beyond.len() == found.iter().filter(|diagnostic| diagnostic.is_error()).count();
        let marked = text.starts_with("# The schema accepts this manifest: only the parser finds the error.");
        assert_eq!(VALIDATOR.is_valid(&json), only_beyond, "{path}");
        assert_eq!(only_beyond, marked, "{path} says in its first line whether the schema accepts it");
    }
}

/// Generates manifests by replacing a few values and adding, removing or renaming a few keys of a valid manifest.
fn mutated() -> impl Strategy<Value = Value> {
    let full: Value = json_of(include_str!("full.toml")).expect("it is TOML");
    let change = (any::<prop::sample::Index>(), replacement(), 0..4_u8);
    prop::collection::vec(change, 0..3).prop_map(move |changes| {
        let mut manifest = full.clone();
        for (index, value, kind) in changes {
            let mut paths = vec![];
            collect(&manifest, "", &mut paths);
            let path = paths[index.index(paths.len())].clone();
            mutate(&mut manifest, &path, value, kind);
        }
        manifest
    })
}

/// Generates values of different types. Some of them are valid for one kind of text and invalid for another.
fn replacement() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(true)),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(10_001)),
        Just(json!(1.5)),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["a"])),
        Just(json!([1])),
        Just(json!({ "host": "h" })),
        Just(json!({ "env": "A" })),
        "[a-zA-Z0-9_/.-]{0,6}".prop_map(Value::from),
        "[0-9]{0,3}(KiB|MiB|ms|s|h|x)?".prop_map(Value::from),
    ]
}

fn collect(value: &Value, path: &str, paths: &mut Vec<String>) {
    let mut below = |key: &str, value: &Value| {
        let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
        paths.push(path.clone());
        collect(value, &path, paths);
    };
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(array) => array.iter().enumerate().for_each(|(index, value)| below(&index.to_string(), value)),
        _ => {}
    }
}

fn mutate(manifest: &mut Value, path: &str, value: Value, kind: u8) {
    let (parent, key) = path.rsplit_once('/').expect("paths begin with `/`");
    let key = key.replace("~1", "/").replace("~0", "~");
    match (kind, manifest.pointer_mut(parent)) {
        (0, Some(Value::Object(table))) => {
            table.remove(&key);
        }
        (1, Some(Value::Object(table))) => {
            table.insert(format!("{key}x"), value);
        }
        (2, Some(Value::Object(table))) => {
            let moved = table.remove(&key).unwrap_or_default();
            table.insert(key.to_uppercase(), moved);
        }
        _ => {
            if let Some(place) = manifest.pointer_mut(path) {
                *place = value;
            }
        }
    }
}

/// The codes of errors about texts with a grammar. The parser checks the grammar, the schema only a pattern.
const SHARPER: &[&str] = &[
    "bad-route",
    "bad-health",
    "bad-host",
    "bad-directory",
    "bad-version",
    "bad-quantity",
    "empty-source",
    "bad-name",
    "bad-cookie",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_and_quantities_have_one_rule(
        name in "[a-z0-9A-Z_-]{0,5}|[a-z0-9-]{1,4}|[a-z]{62,66}",
        size in "[1-9]?[0-9]{0,2}(B|KiB|MiB|GiB|kB|MB|GB|b|KB|Mib| |s)?",
        duration in "[1-9][0-9]{0,2}(ms|s|m|h|d|S| )?",
        key in "[A-Z_0-9-]{0,4}",
    ) {
        let component = |rest: Value| {
            let mut manifest = json!({ "app": { "name": "a", "version": "0.1.0" }, "components": { "c": { "wasm": "c" } } });
            let component = manifest["components"]["c"].as_object_mut().expect("it is a table");
            component.extend(rest.as_object().cloned().expect("it is a table"));
            manifest
        };
        for manifest in [
            component(json!({ "grants": { "kv": [name] } })),
            component(json!({ "limits": { "memory": size } })),
            component(json!({ "limits": { "request_deadline": duration } })),
            component(json!({ "grants": { "config": { key: "x" } } })),
        ] {
            let text = toml::to_string(&manifest).expect("it fits into TOML");
            let found = parse(&SourceFile::new("isomer.toml", text.as_str())).err().unwrap_or_default();
            let refused = found.iter().any(|error| error.code != Some("zero-limit"));
            prop_assert_eq!(VALIDATOR.is_valid(&manifest), !refused, "{}", text);
        }
    }

    #[test]
    fn the_schema_and_the_parser_agree_on_structure(manifest in mutated()) {
        let text = toml::to_string(&manifest).expect("a changed manifest is TOML");
        let found = parse(&SourceFile::new("isomer.toml", text.as_str())).err().unwrap_or_default();
        let errors: Vec<&Diagnostic> = found.iter().filter(|diagnostic| diagnostic.is_error()).collect();
        let fits = VALIDATOR.is_valid(&manifest);
        if fits {
            for error in errors {
                let code = error.code.expect("every error has a code");
                prop_assert!(BEYOND.contains(&code) || SHARPER.contains(&code), "only the parser refuses:\n{text}\n{error}");
            }
        } else {
            prop_assert!(!errors.is_empty(), "only the schema refuses:\n{text}");
        }
    }
}
