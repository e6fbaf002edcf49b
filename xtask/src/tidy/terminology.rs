//! Checks the terminology page: the types, crates and folders that it names must exist, and neither pages nor code may
//! use the words that it replaces.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::files;
use crate::project::Project;

const PAGE: &str = "docs/concepts/terminology.md";

/// The files that list the replaced words, and therefore may contain them.
const LISTS: [&str; 2] = [PAGE, "xtask/src/tidy/terminology.rs"];

/// The extensions of files that must not contain the replaced words.
const CHECKED: [&str; 5] = ["md", "rs", "snap", "toml", "wit"];

/// The index of the table column that names the owner of a term.
const OWNER_COLUMN: usize = 2;

/// The replaced words, which do not name the person or thing that they refer to.
const REPLACED: [&str; 9] =
    ["anew", "anybody", "begun", "everybody", "nobody", "somebody", "thereby", "whoever", "whosoever"];

pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    let page = std::fs::read_to_string(project.root.join(PAGE)).with_context(|| format!("cannot read `{PAGE}`"))?;
    let crates = project.root.join("crates");
    let sources = |name: &str| source_of(&crates.join(name).join("src"));
    let mut problems = problems_of_owners(&page, &|path| crates.join(path).exists(), &sources);
    for path in files::listed(project)?.iter().filter(|path| is_checked(path)) {
        // Git lists a removed file until its removal is staged.
        if let Ok(text) = std::fs::read_to_string(project.root.join(path)) {
            problems.extend(replaced_words(&text).iter().map(|problem| format!("{path}: {problem}")));
        }
    }
    Ok(problems)
}

fn is_checked(path: &str) -> bool {
    let extension = path.rsplit_once('.').map(|(_, extension)| extension).unwrap_or_default();
    CHECKED.contains(&extension) && !LISTS.contains(&path)
}

fn problems_of_owners(
    page: &str,
    exists: &dyn Fn(&str) -> bool,
    source: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let Some(cell) = row.trim_matches('|').split(" | ").nth(OWNER_COLUMN) else { continue };
        let spans: Vec<&str> = cell.split('`').collect();
        for (index, span) in spans.iter().enumerate().skip(1).step_by(2) {
            let is_type = span.starts_with(|first: char| first.is_ascii_uppercase());
            if span.contains('/') && !exists(span) {
                problems.push(format!("{PAGE}: `crates/{span}` does not exist"));
            } else if is_type && spans.get(index + 1).is_some_and(|text| text.trim() == "in") {
                let owner = spans.get(index + 2).copied().unwrap_or_default();
                if !source(owner).is_some_and(|source| has_word(&source, span)) {
                    problems.push(format!("{PAGE}: crate `{owner}` has no `{span}`"));
                }
            }
        }
    }
    problems
}

fn replaced_words(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.to_ascii_lowercase();
        if let Some(word) = REPLACED.iter().find(|word| has_word(&line, word)) {
            problems.push(format!("line {number} has the word `{word}`: name the subject ({PAGE})"));
        }
    }
    problems
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Returns the text of all Rust files in a folder, or `None` if the folder does not exist.
fn source_of(folder: &Path) -> Option<String> {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            text.push_str(&source_of(&path).unwrap_or_default());
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_of_terms_must_exist() {
        let source = |name: &str| (name == "plan").then(|| "pub struct Plan;".to_owned());
        let found = |owner: &str| {
            problems_of_owners(&format!("| term | It means this. | {owner} | |"), &|path| path == "a/src", &source)
                .join("; ")
        };
        assert_eq!(found("`Plan` in `plan`"), "");
        assert_eq!(found("`a/src`, `runtime`, `isomer deploy`"), "");
        assert!(found("`Pla` in `plan`").contains("crate `plan` has no `Pla`"));
        assert!(found("`Plan` in `gone`").contains("crate `gone` has no `Plan`"));
        assert!(found("`b/src`").contains("`crates/b/src` does not exist"));
    }

    #[test]
    fn replaced_words_are_found() {
        assert_eq!(replaced_words("A client, renewed."), Vec::<String>::new());
        assert!(replaced_words("one\nSomebody requests it.")[0].contains("line 2 has the word `somebody`"));
    }
}
