//! Secrets that a script gives the app, instead of those that its manifest takes from the environment or from files.
//!
//! They go to the app's process as files of a private folder, never as arguments or variables that other programs could see.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use isomer_manifest::{App, SecretSource};

use crate::fail::Fail;

/// Writes a file for each secret into `folder`, which is made.
pub(super) fn write(folder: &Path, secrets: &BTreeMap<String, String>) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(folder).context("cannot make a folder for secrets")?;
    for (name, value) in secrets {
        // One final line ending is cut off where it is read.
        std::fs::write(folder.join(name), format!("{value}\n")).context("cannot write a secret")?;
    }
    Ok(())
}

/// Lets the app take secrets from the files of `folder` that are named like them.
pub(crate) fn take(app: &mut App, folder: Option<&Path>) -> Result<(), Fail> {
    let Some(folder) = folder else { return Ok(()) };
    for (name, source) in &mut app.secrets {
        let file = folder.join(name);
        if file.try_exists().context("cannot read the given secrets")? {
            *source = SecretSource::File(file);
        }
    }
    Ok(())
}
