//! The folders that benchmarks write to, and the names of files in them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xtask::project::Project;

/// Returns the folder that contains all files that benchmarks write.
pub(crate) fn bench_dir(project: &Project) -> PathBuf {
    project.target.join("bench")
}

/// Creates a folder and its parents.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))
}

/// Creates an empty folder. If the folder exists, removes it with its contents first.
pub(crate) fn make_empty_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot empty `{}`", dir.display()))?;
    }
    make_dir(dir)
}

/// Converts the name of a measured program to a valid part of a file name.
pub(crate) fn file_name(name: &str) -> String {
    name.replace([' ', '/', ','], "-")
}
