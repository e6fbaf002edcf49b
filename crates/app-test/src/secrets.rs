//! The secrets that a script defines for the app.
//!
//! They are passed to the app's process as files in a private folder. Arguments and environment variables are not used,
//! because other programs could read them.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Creates `folder` and writes a file into it for each secret.
pub(crate) fn write(folder: &Path, secrets: &BTreeMap<String, String>) -> anyhow::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(folder).context("cannot create a folder for secrets")?;
    for (name, value) in secrets {
        // A newline is added, because a final newline is removed when the file is read.
        std::fs::write(folder.join(name), format!("{value}\n")).context("cannot write a secret")?;
    }
    Ok(())
}
