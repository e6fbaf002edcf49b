//! Snapshots of the rendered diagnostics of manifests: one for each file in `tests/bad` and `tests/good`.

use std::path::{Path, PathBuf};

use isomer_diagnostics::{Diagnostic, Renderer, SourceFile};
use isomer_manifest::{Parsed, parse};

fn manifests(folder: &str) -> Vec<(String, SourceFile)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut paths: Vec<PathBuf> =
        folder.read_dir().expect("the folder is there").map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let name = |path: &Path| path.file_stem().expect("files have names").to_string_lossy().into_owned();
    let text = |path: &Path| std::fs::read_to_string(path).expect("the file can be read");
    paths.iter().map(|path| (name(path), SourceFile::new("isomer.toml", text(path)))).collect()
}

#[test]
fn invalid_manifests_are_reported_with_places_and_hints() {
    for (name, source) in manifests("bad") {
        let found = parse(&source).expect_err(&name);
        assert!(found.iter().any(Diagnostic::is_error), "{name}");
        insta::assert_snapshot!(format!("bad-{name}"), Renderer::plain().diagnostics(&found));
        for diagnostic in &found {
            assert!(diagnostic.code.is_some() && diagnostic.label.is_some(), "{name}: {diagnostic}");
            // These messages need no hint, because a syntax error states what was expected, and a number out of bounds
            // states the bounds.
            let explains_itself = matches!(diagnostic.code, Some("syntax" | "out-of-bounds"));
            assert!(!diagnostic.hints.is_empty() || explains_itself, "{name}: {diagnostic}");
        }
    }
}

#[test]
fn valid_manifests_may_have_warnings() {
    for (name, source) in manifests("good") {
        let Parsed { warnings, .. } = parse(&source).unwrap_or_else(|found| panic!("{name}: {found:?}"));
        insta::assert_snapshot!(format!("good-{name}"), Renderer::plain().diagnostics(&warnings));
    }
}

#[test]
fn a_secret_written_into_the_manifest_is_never_shown() {
    let (_, source) = manifests("bad").into_iter().find(|(name, _)| name == "secret-value-written").expect("it exists");
    let found = parse(&source).expect_err("the value of a secret is not a source");
    for shown in [Renderer::plain().diagnostics(&found), Renderer::new(true).diagnostics(&found)] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let json: Vec<_> = found.iter().map(Diagnostic::to_json).collect();
    assert!(!serde_json::Value::from(json).to_string().contains("hunter2"));
}

#[test]
fn rendered_text_cannot_control_the_terminal() {
    for (name, source) in manifests("bad") {
        let shown = Renderer::plain().diagnostics(&parse(&source).expect_err(&name));
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{name}: {shown:?}");
    }
}

#[test]
fn a_diagnostic_has_the_same_contents_as_json() {
    let (_, source) = manifests("bad").into_iter().find(|(name, _)| name == "routes-duplicate").expect("it exists");
    let found = parse(&source).expect_err("the manifest contains a route twice");
    insta::assert_snapshot!(serde_json::to_string_pretty(&found[0].to_json()).expect("a diagnostic is JSON"));
}
