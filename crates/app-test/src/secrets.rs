//! Secrets that a script gives the app.
//!
//! They are passed to the app's process as files of a private folder, never as arguments or variables, which other
//! programs could read.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Creates `folder` and writes a file for each secret into it.
pub(crate) fn write(folder: &Path, secrets: &BTreeMap<String, String>) -> anyhow::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(folder).context("cannot create a folder for secrets")?;
    for (name, value) in secrets {
        // A line ending is added, since the reader removes one.
        std::fs::write(folder.join(name), format!("{value}\n")).context("cannot write a secret")?;
    }
    Ok(())
}
