//! Checks ARCHITECTURE.md: each crate has a row, each source file that the page names exists, and each row of the table
//! "Entry points" names three functions or types that exist.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::project::Project;

const PAGE: &str = "ARCHITECTURE.md";
const HEADING: &str = "## Entry points";

/// The number of entry points in a row of the table.
const PER_ROW: usize = 3;

/// Keywords before the name of a Rust item in its definition.
const ITEMS: [&str; 6] = ["fn", "struct", "enum", "trait", "type", "mod"];

pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(project.root.join(PAGE)).with_context(|| format!("cannot read `{PAGE}`"))?;
    let mut problems = problems_of_files(&text, &|path| project.root.join(path).exists());
    problems.extend(problems_of_crates(&text, &folders(project)));
    problems.extend(problems_of_entry_points(&text, &|path| std::fs::read_to_string(project.root.join(path)).ok()));
    Ok(problems)
}

/// Returns the folder of every crate, relative to the root of the repository.
fn folders(project: &Project) -> Vec<String> {
    let manifests = project.packages().iter().filter_map(|package| package["manifest_path"].as_str());
    let folders = manifests.filter_map(|manifest| Path::new(manifest).parent()?.strip_prefix(&project.root).ok());
    folders.map(|folder| folder.to_string_lossy().into_owned()).collect()
}

/// Returns one problem for each crate without a row. The row of a crate starts with the crate's folder, without
/// `crates/`.
fn problems_of_crates(page: &str, folders: &[String]) -> Vec<String> {
    let has_row = |name: &str| page.lines().any(|line| line.starts_with(&format!("| `{name}`")));
    let names = folders.iter().map(|folder| folder.strip_prefix("crates/").unwrap_or(folder));
    names.filter(|name| !has_row(name)).map(|name| format!("{PAGE}: crate `{name}` has no row")).collect()
}

/// Returns one problem for each source file that the page names and that does not exist. The paths of the files are
/// relative to the root of the repository or to `crates/`.
fn problems_of_files(page: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let code = page.split('`').skip(1).step_by(2);
    let files = code.filter(|code| code.ends_with(".rs") && code.contains('/') && !code.contains("::"));
    files
        .filter(|file| !exists(file) && !exists(&format!("crates/{file}")))
        .map(|file| format!("{PAGE}: file `{file}` does not exist"))
        .collect()
}

fn problems_of_entry_points(page: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let Some((_, rest)) = page.split_once(HEADING) else {
        return vec![format!("{PAGE}: has no section `{HEADING}`")];
    };
    let section = rest.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let mut problems = Vec::new();
    for row in rows {
        let points: Vec<(&str, &str)> =
            row.split('`').skip(1).step_by(2).filter_map(|code| code.rsplit_once("::")).collect();
        if points.len() != PER_ROW {
            let count = points.len();
            problems.push(format!("{PAGE}: a row has {count} entry points instead of {PER_ROW}: {row}"));
        }
        for (path, name) in points {
            match read(path) {
                None => problems.push(format!("{PAGE}: entry point `{path}::{name}`: the file does not exist")),
                Some(source) if !defines(&source, name) => {
                    problems.push(format!("{PAGE}: entry point `{path}::{name}`: the file defines no such item"));
                }
                Some(_) => {}
            }
        }
    }
    problems
}

/// Returns whether a Rust source defines an item with the given name.
fn defines(source: &str, name: &str) -> bool {
    ITEMS.iter().any(|item| {
        let definition = format!("{item} {name}");
        source.match_indices(&definition).any(|(start, _)| {
            let next = source[start + definition.len()..].chars().next();
            next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_must_have_a_row() {
        let page = "| `plan` | decisions |\n| `bench/node` | load |\n";
        let found = |folder: &str| problems_of_crates(page, &[folder.to_owned()]).join("; ");
        assert_eq!(found("crates/plan"), "");
        assert_eq!(found("bench/node"), "");
        assert!(found("crates/seam").contains("crate `seam` has no row"));
    }

    #[test]
    fn named_files_must_exist() {
        let found = |page: &str| problems_of_files(page, &|path| path == "crates/a/src/b.rs").join("; ");
        assert_eq!(found("`a/src/b.rs`, `crates/a/src/b.rs`, `b.rs` and `x::y`"), "");
        assert!(found("`a/src/c.rs`").contains("`a/src/c.rs` does not exist"));
    }

    #[test]
    fn rows_must_name_three_items_that_exist() {
        let read = |path: &str| (path == "a.rs").then(|| "pub fn one() {}\nstruct Two;\nfn three<T>() {}\n".to_owned());
        let found = |row: &str| {
            let page =
                format!("# Map\n\n{HEADING}\n\n| for | start |\n| --- | --- |\n{row}\n\n## Next\n\n| `x.rs::y` |\n");
            problems_of_entry_points(&page, &read).join("; ")
        };
        assert_eq!(found("| all | `a.rs::one`, `a.rs::Two`, `a.rs::three` |"), "");
        assert!(found("| all | `a.rs::one`, `a.rs::Two` |").contains("2 entry points"));
        assert!(found("| all | `b.rs::one`, `a.rs::Two`, `a.rs::three` |").contains("does not exist"));
        assert!(found("| all | `a.rs::on`, `a.rs::Two`, `a.rs::three` |").contains("defines no such item"));
        assert!(problems_of_entry_points("# Map\n", &read).join("; ").contains("no section"));
    }
}
