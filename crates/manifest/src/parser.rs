//! Parses a manifest into an [`App`] in three steps: TOML, structure, meaning.
//!
//! 1. The TOML parser reads the text. If there are syntax errors, they are reported and the next steps do not run.
//! 2. `structure.rs` checks keys and types against the schema, and removes invalid ones.
//! 3. `lowering` converts the rest to an [`App`] and makes every check that needs only the manifest.

use std::collections::BTreeMap;

use isomer_diagnostics::{Diagnostic, SourceFile, Span};
use serde::Deserialize;
use toml::de::DeTable;

use crate::bounds::{self, FINDINGS_MAX, Findings};
use crate::lowering::{Places, lower};
use crate::model::App;
use crate::raw::RawManifest;
use crate::schema::SCHEMA;
use crate::{structure, unclosed};

/// A parsed manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The app that the manifest describes.
    pub app: App,
    /// The warnings about the manifest, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// Reads and checks a manifest.
///
/// # Errors
/// Returns all errors that can be found in one run, and the warnings, in the order of the file.
pub fn parse(source: &SourceFile) -> Result<Parsed, Vec<Diagnostic>> {
    let (app, found) = read(source.text());
    let found = found.finish(source);
    match app {
        Some(app) if !found.iter().any(Diagnostic::is_error) => Ok(Parsed { app, warnings: found }),
        _ => Err(found),
    }
}

fn read(text: &str) -> (Option<App>, Findings) {
    let (mut table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return (None, syntax_errors(text, &errors));
    }
    if let Err(too_much) = bounds::check(table.get_ref()) {
        return (None, Findings::from(vec![*too_much]));
    }
    let places = places(table.get_ref());
    let mut found = structure::check(text, table.get_mut(), &SCHEMA, "the manifest");
    match RawManifest::deserialize(toml::de::Deserializer::from(table)) {
        Ok(raw) => {
            let (app, meaning) = lower(raw, &places);
            found.append(meaning);
            (Some(app), found)
        }
        Err(error) => {
            // The structural check should have reported this error. If it missed the error, the deserializer's message
            // is shown.
            let span = error.span().map(Span::from).unwrap_or_default();
            found.push(Diagnostic::error(error.message().trim()).code("structure").at(span, ""));
            (None, found)
        }
    }
}

/// The maximum number of syntax errors that are read. The limit exists because the line of each error is found by
/// counting line breaks from the beginning of the file.
const SYNTAX_ERRORS_MAX: usize = 4 * FINDINGS_MAX;

/// Returns the first syntax error of each line. Further errors on the same line are mostly consequences of the first.
pub(crate) fn syntax_errors(text: &str, errors: &[toml::de::Error]) -> Findings {
    let mut found: BTreeMap<usize, Diagnostic> = BTreeMap::new();
    // After a value that is not closed, the parser reports an error for almost every line. Only the cause is reported.
    let start_of = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    let unclosed = unclosed::find(text);
    let (errors, consequences): (Vec<_>, Vec<_>) =
        errors.iter().partition(|error| unclosed.is_none_or(|value| start_of(error) < value.at.start));
    for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
        let mut span = error.span().map(Span::from).unwrap_or_default();
        // The span of an error can be empty or at the end of the text. A span of at least one byte is needed to mark
        // the place in the message.
        span.start = span.start.min(text.len());
        span.end = span.end.clamp(span.start, text.len());
        if span.start == span.end {
            span.end += 1;
        }
        let line = text.as_bytes()[..span.start].iter().filter(|byte| **byte == b'\n').count();
        let message = error.message().lines().next().unwrap_or("it cannot be read");
        let message = message.strip_suffix(", expected nothing").unwrap_or(message);
        let hint = if message.contains("duplicate key") {
            Some("a key or table can be written only once: keep one of the two, or merge them")
        } else if [
            "string values must be quoted",
            "invalid float",
            "invalid integer",
            "invalid boolean",
            "invalid basic string",
        ]
        .iter()
        .any(|start| message.starts_with(start))
        {
            Some("put text in double quotes: `key = \"text\"`")
        } else {
            None
        };
        let diagnostic = Diagnostic::error(format!("not TOML: {message}"))
            .code("syntax")
            .at(span, "")
            .hint_if(hint.map(str::to_owned));
        found.entry(line).or_insert(diagnostic);
    }
    let mut found = Findings::from(found.into_values().collect::<Vec<_>>());
    for _ in errors.iter().skip(SYNTAX_ERRORS_MAX) {
        found.push(Diagnostic::error("further syntax errors"));
    }
    if let Some(value) = unclosed {
        let next = consequences.first().and_then(|error| error.span()).map(Span::from);
        found.push(value.diagnostic(next, text));
    }
    found
}

/// Returns the keys of the manifest and of its tables, up to three levels deep (`components.cart.wasm`), with their
/// locations.
fn places(manifest: &DeTable<'_>) -> Places {
    fn collect(table: &DeTable<'_>, path: &[&str], places: &mut Places) {
        for (key, value) in table {
            let path = [path, &[key.get_ref().as_ref()]].concat();
            if let Some(below) = value.get_ref().as_table().filter(|_| path.len() < 3) {
                collect(below, &path, places);
            }
            places.add(&path, key.span().into());
        }
    }
    let mut places = Places::default();
    collect(manifest, &[], &mut places);
    places
}
