//! `cargo xtask book`: builds the documentation in `docs/` as a book, with mdBook.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::project::{self, Project};

const MDBOOK_VERSION: &str = "0.5.4";

/// Returns the path of the program that builds the book.
fn mdbook(project: &Project) -> PathBuf {
    folder(project).join("bin/mdbook")
}

fn folder(project: &Project) -> PathBuf {
    project.cache.join(format!("mdbook-{MDBOOK_VERSION}"))
}

/// Installs mdBook if it is missing.
///
/// mdBook is compiled without optimisation, which takes a minute on two cores; it then builds the book in a second and
/// a half. mdBook as a dependency of this workspace was rejected: it enables additional features of crates that the
/// engine also uses, so the engine would be compiled again.
pub(crate) fn install(project: &Project) -> Result<()> {
    if mdbook(project).is_file() {
        return Ok(());
    }
    let package = format!("mdbook@{MDBOOK_VERSION}");
    let mut command = Command::new("cargo");
    command.args([
        "install",
        "--locked",
        "--debug",
        "--no-default-features",
        "--features",
        "search",
        &package,
        "--root",
    ]);
    project::run(command.arg(folder(project)))
}

/// Builds the book. Links are checked by `cargo xtask tidy`.
pub(crate) fn build(project: &Project) -> Result<()> {
    let book = project.target.join("book");
    project::run(project.command(mdbook(project)).args(["build", "docs", "--dest-dir"]).arg(&book))?;
    println!("the book is in {}", book.join("index.html").display());
    Ok(())
}
