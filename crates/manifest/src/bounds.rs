//! Limits of the contents of a file, so that checking it takes bounded time and memory.
//!
//! Each release contains a manifest, which a hostile tenant may have written. The admin API limits the size of the
//! file. But some checks compare each entry with all others, and messages quote names from the file, so a small file
//! could cause much work or long messages. The limits here keep both in proportion to the size of the file.

use toml::de::{DeTable, DeValue};

use isomer_diagnostics::{Diagnostic, SourceFile, Span};

/// The maximum number of keys and list entries in a file, at all depths.
pub(crate) const ENTRIES_MAX: usize = 4096;

/// The maximum length of a key in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 256;

/// The maximum number of problems that are reported for one file.
pub(crate) const FINDINGS_MAX: usize = 100;

/// Checks the number of entries and the length of keys in a file.
///
/// # Errors
/// Returns an error that points at the first key or list entry beyond a limit.
pub(crate) fn check(table: &DeTable<'_>) -> Result<(), Box<Diagnostic>> {
    Count { entries: 0 }.table(table)
}

struct Count {
    entries: usize,
}

impl Count {
    fn table(&mut self, table: &DeTable<'_>) -> Result<(), Box<Diagnostic>> {
        for (key, value) in table {
            let span = Span::from(key.span());
            if key.get_ref().len() > KEY_BYTES_MAX {
                let title = format!("this key has {} bytes, at most {KEY_BYTES_MAX} are allowed", key.get_ref().len());
                return Err(Box::new(Diagnostic::error(title).code("long-key").at(span, "")));
            }
            self.entry(span)?;
            self.value(value.get_ref())?;
        }
        Ok(())
    }

    fn value(&mut self, value: &DeValue<'_>) -> Result<(), Box<Diagnostic>> {
        match value {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(array) => array.iter().try_for_each(|item| {
                self.entry(item.span().into())?;
                self.value(item.get_ref())
            }),
            _ => Ok(()),
        }
    }

    fn entry(&mut self, span: Span) -> Result<(), Box<Diagnostic>> {
        self.entries += 1;
        if self.entries <= ENTRIES_MAX {
            return Ok(());
        }
        let title = format!("the file has more than {ENTRIES_MAX} keys and list entries");
        Err(Box::new(Diagnostic::error(title).code("too-many-entries").at(span, "the first one beyond the limit")))
    }
}

/// The problems that were found, up to [`FINDINGS_MAX`]. Further problems are counted and not stored.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    diagnostics: Vec<Diagnostic>,
    left_out: usize,
    is_error_left_out: bool,
}

impl Findings {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.is_full() {
            self.left_out += 1;
            self.is_error_left_out |= diagnostic.is_error();
        } else {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Returns whether the limit is reached. Further problems are only counted, so the caller can skip computing their
    /// hints.
    pub(crate) fn is_full(&self) -> bool {
        self.diagnostics.len() >= FINDINGS_MAX
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter()
    }

    /// Adds the problems that a later check found.
    pub(crate) fn append(&mut self, later: Self) {
        later.diagnostics.into_iter().for_each(|diagnostic| self.push(diagnostic));
        self.left_out += later.left_out;
        self.is_error_left_out |= later.is_error_left_out;
    }

    /// Returns the stored problems, ordered by their locations in `source`. If problems were left out, a final
    /// diagnostic states how many.
    pub(crate) fn finish(self, source: &SourceFile) -> Vec<Diagnostic> {
        let mut all = self.diagnostics.into_iter().map(|diagnostic| diagnostic.in_source(source)).collect::<Vec<_>>();
        all.sort_by_key(|diagnostic| diagnostic.label.as_ref().map(|label| label.span));
        if self.left_out > 0 {
            let title = format!("{} more problems are not shown", self.left_out);
            all.push(if self.is_error_left_out { Diagnostic::error(title) } else { Diagnostic::warning(title) });
        }
        all
    }
}

impl From<Vec<Diagnostic>> for Findings {
    fn from(all: Vec<Diagnostic>) -> Self {
        let mut findings = Self::default();
        all.into_iter().for_each(|diagnostic| findings.push(diagnostic));
        findings
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::parse;
    use isomer_diagnostics::Renderer;
    use isomer_display::excerpt::TEXT_BYTES_MAX;

    /// Returns the number of problems of the manifest `text`, and the rendered problems.
    fn answer(text: &str) -> (usize, String) {
        let found = parse(&SourceFile::new("isomer.toml", text)).expect_err("it is wrong");
        (found.len(), Renderer::plain().diagnostics(&found))
    }

    fn app(rest: &str) -> String {
        format!("[app]\nname = \"shop\"\nversion = \"0.1.0\"\n[components.web]\nwasm = \"web.wasm\"\n{rest}")
    }

    fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
        (0..count).fold(String::new(), |mut text, number| {
            let _ = writeln!(text, "{}", line(number));
            text
        })
    }

    #[test]
    fn messages_about_a_hostile_manifest_are_bounded() {
        let long = "x".repeat(120_000);
        let links = lines(2000, |number| format!("links.\"a:b/c{number}\" = \"{long:.250}{number}\""));
        let hosts = lines(1, |_| format!("grants.http = [{}]", "\"bad host\", ".repeat(3000)));
        let routes = lines(1, |_| format!("routes = [{}]", "\"no-slash\", ".repeat(3000)));
        let unknown = lines(3000, |number| format!("key{number} = 1"));
        let names = lines(2000, |number| format!("[components.n{number}]\nlinks.\"a:b/c\" = \"m{number}\""));
        let one_line = format!("[{}]", "\"=\", ".repeat(3000)).replace("\", \"", "\" = \"");
        for text in
            [app(&links), app(&hosts), app(&routes), app(&unknown), app(&names), app(&one_line), "=\n".repeat(100_000)]
        {
            let (count, answer) = answer(&text);
            assert!(count <= FINDINGS_MAX + 1, "{count} problems");
            assert!(answer.len() <= FINDINGS_MAX * (2 * TEXT_BYTES_MAX), "{} bytes", answer.len());
        }
    }

    #[test]
    fn too_many_entries_and_long_keys_are_reported() {
        let key = "k".repeat(KEY_BYTES_MAX + 1);
        assert!(answer(&app(&format!("{key} = 1"))).1.contains("this key has 257 bytes, at most 256 are allowed"));
        let hosts = format!("grants.http = [{}]", "\"a.example\", ".repeat(ENTRIES_MAX));
        assert!(answer(&app(&hosts)).1.contains("more than 4096 keys and list entries"));
        let nested = format!("[config]\n{}", lines(ENTRIES_MAX, |number| format!("a.b{number} = 1")));
        assert!(answer(&app(&nested)).1.contains("more than 4096 keys and list entries"));
    }

    #[test]
    fn problems_beyond_the_limit_are_counted_and_remain_errors() {
        let (count, answer) = answer(&app(&lines(150, |number| format!("key{number} = 1"))));
        assert_eq!(count, FINDINGS_MAX + 1);
        assert!(
            answer.trim_end().ends_with("error: 50 more problems are not shown"),
            "{}",
            &answer[answer.len() - 200..]
        );
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let (_, answer) = answer(&app(&format!("{}nonsense = 1", " ".repeat(100_000))));
        assert!(answer.contains("nonsense = 1") && answer.contains("…"), "{}", answer.len());
        assert!(answer.len() < 2000, "{}", answer.len());
    }
}
