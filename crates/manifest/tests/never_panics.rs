//! Checks that parsing any file returns an app, or errors whose locations are in the file, and never panics.

use isomer_diagnostics::{Renderer, SourceFile};
use isomer_manifest::parse;
use proptest::prelude::*;

const FULL: &str = include_str!("full.toml");

fn check(text: &str) -> Result<(), TestCaseError> {
    let source = SourceFile::new("isomer.toml", text);
    let found = match parse(&source) {
        Ok(parsed) => parsed.warnings,
        Err(found) => {
            prop_assert!(found.iter().any(|diagnostic| diagnostic.is_error()));
            found
        }
    };
    for diagnostic in &found {
        prop_assert_ne!(diagnostic.code, Some("structure"), "the structural check has a gap: {}", diagnostic);
        let shown = Renderer::plain().diagnostic(diagnostic);
        prop_assert!(shown.contains(" --> isomer.toml"), "{}", shown);
        prop_assert!(shown.lines().all(|line| line.chars().all(|c| !c.is_control())), "{}", shown);
        prop_assert!(Renderer::new(true).diagnostic(diagnostic).contains("isomer.toml"));
        prop_assert!(diagnostic.to_json()["severity"].is_string());
    }
    Ok(())
}

/// Generates fragments of manifests.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("[app]\n".to_owned()),
        Just("[components.a]\n".to_owned()),
        Just("[[components.a.routes]]\n".to_owned()),
        Just("[secrets]\n".to_owned()),
        Just("wasm = ".to_owned()),
        Just("grants.http = [{ host = \"x\"".to_owned()),
        Just("} ] \" ' \"\"\" = . ,".to_owned()),
        Just("limits = { memory = \"1MiB\" }\n".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("0xFFFFFFFFFFFFFFFFFFFF".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("\r\n\t\u{0}\u{202e}é漢👩‍👩‍👧".to_owned()),
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn fragments_of_manifests(fragments in prop::collection::vec(fragment(), 0..12)) {
        check(&fragments.concat())?;
    }

    #[test]
    fn a_manifest_with_a_part_replaced(from in 0..FULL.len(), length in 0..40_usize, with in fragment()) {
        let boundary = |mut at: usize| { while !FULL.is_char_boundary(at) { at -= 1 } at };
        let (start, end) = (boundary(from), boundary((from + length).min(FULL.len())));
        check(&format!("{}{with}{}", &FULL[..start], &FULL[end..]))?;
    }

    #[test]
    fn a_manifest_with_lines_swapped_and_doubled(lines in prop::collection::vec(0..FULL.lines().count(), 0..60)) {
        let all: Vec<&str> = FULL.lines().collect();
        let text: Vec<&str> = lines.iter().map(|line| all[*line]).collect();
        check(&text.join("\n"))?;
    }
}
