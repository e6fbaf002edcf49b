//! Checks Markdown pages: each link leads to an existing file and heading, pages of the book link only to files of the
//! book, and the book's summary lists every page once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use anyhow::Result;

use super::files;
use crate::project::Project;

/// The folder of the book. Links from the book to files outside the folder would be broken in the built book.
const BOOK: &str = "docs/";
const SUMMARY: &str = "docs/SUMMARY.md";

/// The text of every page, by its path relative to the root of the repository.
type Pages = BTreeMap<String, String>;

pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    let listed = files::listed(project)?;
    let pages: Pages = listed
        .into_iter()
        .filter(|path| path.ends_with(".md"))
        // Git lists a removed file until its removal is staged.
        .filter_map(|path| std::fs::read_to_string(project.root.join(&path)).ok().map(|text| (path, text)))
        .collect();
    Ok(problems(&pages, &|path| project.root.join(path).exists()))
}

fn problems(pages: &Pages, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (page, text) in pages {
        for link in links(text) {
            if let Some(problem) = problem_of_link(page, &link, pages, exists) {
                problems.push(format!("{page}: link `{link}` {problem}"));
            }
        }
    }
    if let Some(summary) = pages.get(SUMMARY) {
        problems.extend(problems_of_summary(summary, pages));
    }
    problems
}

fn problem_of_link(page: &str, link: &str, pages: &Pages, exists: &dyn Fn(&str) -> bool) -> Option<&'static str> {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { Some(page.to_owned()) } else { resolve(page, file) };
    let Some(target) = target.filter(|target| exists(target)) else { return Some("leads to no file") };
    if page.starts_with(BOOK) && !target.starts_with(BOOK) {
        return Some("leaves the book: name the file as code");
    }
    let headings = pages.get(&target).map(|text| headings(text));
    let is_missing = |headings: BTreeSet<String>| !heading.is_empty() && !headings.contains(heading);
    headings.is_some_and(is_missing).then_some("leads to no heading")
}

fn problems_of_summary(summary: &str, pages: &Pages) -> Vec<String> {
    let listed = links(summary);
    let mut problems = Vec::new();
    for page in pages.keys().filter_map(|page| page.strip_prefix(BOOK)).filter(|page| *page != "SUMMARY.md") {
        match listed.iter().filter(|link| *link == page).count() {
            0 => problems.push(format!("{SUMMARY}: does not list `{page}`")),
            1 => {}
            _ => problems.push(format!("{SUMMARY}: lists `{page}` more than once")),
        }
    }
    problems
}

/// Returns the path of a link's file relative to the root of the repository. Returns `None` if the link leads out of
/// the repository.
fn resolve(page: &str, file: &str) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for component in Path::new(page).parent()?.join(file).components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::CurDir => {}
            Component::ParentDir => drop(names.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(names.join("/"))
}

/// Returns the targets of a page's links, except for URLs.
fn links(text: &str) -> Vec<String> {
    let text: String = lines_outside_of_code(text).map(|line| format!("{line}\n")).collect();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let is_local = |target: &&str| {
        !target.is_empty()
            && !target.contains("://")
            && !target.starts_with(['<', ' '])
            && !target.starts_with("mailto:")
    };
    targets.filter(is_local).filter(|target| !target.contains(' ')).map(str::to_owned).collect()
}

/// Returns the anchors of a page's headings, in the format that mdBook and Git hosts use.
fn headings(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in lines_outside_of_code(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let anchor: String = title
            .trim()
            .chars()
            .filter_map(|character| match character {
                ' ' => Some('-'),
                '-' | '_' => Some(character),
                _ if character.is_alphanumeric() => Some(character.to_ascii_lowercase()),
                _ => None,
            })
            .collect();
        // If a heading occurs several times, the later anchors end with a number.
        let repeated = (1..).map(|number| format!("{anchor}-{number}")).find(|numbered| !found.contains(numbered));
        if !found.insert(anchor) {
            found.extend(repeated);
        }
    }
    found
}

fn lines_outside_of_code(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the problems of a book in which the page `docs/guides/a.md` has the given text. `docs/b.md` and
    /// `README.md` also exist.
    fn found(text: &str) -> String {
        let summary = "- [A](guides/a.md)\n- [B](b.md)\n";
        let other = "# B\n\n## Two words\n\n## Two words\n\n```sh\n# code\n```\n";
        let pages = [(SUMMARY, summary), ("docs/guides/a.md", text), ("docs/b.md", other), ("README.md", "")];
        let pages: Pages = pages.iter().map(|(page, text)| ((*page).to_owned(), (*text).to_owned())).collect();
        problems(&pages, &|path| pages.contains_key(path)).join("; ")
    }

    #[test]
    fn links_must_lead_to_files_and_headings_of_the_book() {
        assert_eq!(
            found("[b](../b.md) [two](../b.md#two-words) [again](../b.md#two-words-1) [x](https://x.example)"),
            ""
        );
        assert_eq!(found("# Here\n[here](#here)\n```text\n[code](gone.md)\n```\n"), "");
        assert!(found("[gone](../gone.md)").contains("leads to no file"));
        assert!(found("[out](../../../etc/passwd)").contains("leads to no file"));
        assert!(found("[out](../../README.md)").contains("leaves the book"));
        assert!(found("[part](../b.md#code)").contains("leads to no heading"));
    }

    #[test]
    fn the_summary_must_list_each_page_once() {
        let pages = |summary: &str| {
            let pages = [(SUMMARY, summary), ("docs/b.md", "")];
            let pages: Pages = pages.iter().map(|(page, text)| ((*page).to_owned(), (*text).to_owned())).collect();
            problems(&pages, &|path| pages.contains_key(path)).join("; ")
        };
        assert_eq!(pages("[B](b.md)"), "");
        assert!(pages("").contains("does not list `b.md`"));
        assert!(pages("[B](b.md) [B](b.md)").contains("more than once"));
    }
}
