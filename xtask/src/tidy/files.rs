//! Checks the rules for single files: a header, a maximum length, and no marks of unfinished work.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::project::Project;

/// A file with more lines than this must state the reason for its length in its header, after the words
/// [`LONG_BECAUSE`].
const LINES_EXPLAINED: usize = 500;
/// The maximum number of lines of a file.
const LINES_MAX: usize = 800;
const LONG_BECAUSE: &str = "long because";

/// The maximum number of lines of ARCHITECTURE.md, which is meant to be read completely.
const ARCHITECTURE_LINES_MAX: usize = 500;

/// Marks of unfinished work. They are split, so that this file does not contain them.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("for", " now,")];

/// The prefixes of the paths of third-party texts, which are not checked.
const NOT_OURS: &[&str] = &["crates/wit/wit/wasi-", "LICENSE"];

const TEXT: &[&str] = &["rs", "md", "toml", "wit", "cjs", "sh", "yml"];

/// Returns the paths of all files that git does not ignore, relative to the root of the repository.
pub(super) fn listed(project: &Project) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&project.root)
        .output()
        .context("cannot run `git`")?;
    ensure!(output.status.success(), "`git ls-files` failed: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8_lossy(&output.stdout);
    Ok(paths.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for path in listed(project)? {
        let extension = Path::new(&path).extension().unwrap_or_default().to_string_lossy().into_owned();
        if !TEXT.contains(&&*extension) || NOT_OURS.iter().any(|other| path.starts_with(other)) {
            continue;
        }
        // Git lists a removed file until its removal is staged.
        let Ok(text) = std::fs::read_to_string(project.root.join(&path)) else { continue };
        problems.extend(problems_of(&path, &extension, &text).iter().map(|problem| format!("{path}: {problem}")));
    }
    Ok(problems)
}

fn problems_of(path: &str, extension: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if extension == "rs" {
        let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if header.is_empty() {
            problems.push("the first line is not a `//!` header that states what the file owns".to_owned());
        }
        if lines > LINES_MAX {
            problems.push(format!("{lines} lines are too many: the limit is {LINES_MAX}"));
        } else if lines > LINES_EXPLAINED && !header.contains(LONG_BECAUSE) {
            problems.push(format!("{lines} lines, and the header does not say `{LONG_BECAUSE} …`"));
        }
    }
    if path == "ARCHITECTURE.md" && lines > ARCHITECTURE_LINES_MAX {
        problems.push(format!("{lines} lines are too many: the limit is {ARCHITECTURE_LINES_MAX}"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
            problems.push(format!("line {number} has the mark of unfinished work `{word}`"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> String {
        let extension = path.rsplit('.').next().unwrap_or_default();
        problems_of(path, extension, text).join("; ")
    }

    #[test]
    fn each_breach_of_a_rule_is_found() {
        assert_eq!(found("a.rs", "//! A file.\n\nfn a() {}\n"), "");
        assert!(found("a.rs", "fn a() {}\n").contains("header"));
        assert!(found("a.rs", &format!("//! A file.\n{}", "\n".repeat(900))).contains("too many"));
        assert!(found("a.rs", &format!("//! A file.\n{}", "\n".repeat(600))).contains("does not say"));
        assert_eq!(found("a.rs", &format!("//! A file, {LONG_BECAUSE} of tables.\n{}", "\n".repeat(600))), "");
        assert!(found("a.rs", &format!("//! A file.\n// {}: more\n", UNFINISHED[0])).contains("line 2"));
        assert!(found("ARCHITECTURE.md", &"\n".repeat(501)).contains("too many"));
    }
}
