//! Secrets of a test, which replace the secrets that a manifest takes from the environment or from files.

use std::path::Path;

use anyhow::Context as _;
use isomer_console::CliError;
use isomer_manifest::{App, SecretSource};

/// Makes `app` read each secret from the file in `folder` that has the secret's name. A secret without such a file
/// keeps its source.
///
/// # Errors
/// If `folder` cannot be read.
pub fn apply_test_secrets(app: &mut App, folder: Option<&Path>) -> Result<(), CliError> {
    let Some(folder) = folder else { return Ok(()) };
    for (name, source) in &mut app.secrets {
        let file = folder.join(name);
        if file.try_exists().context("cannot read the secrets of the test")? {
            *source = SecretSource::File(file);
        }
    }
    Ok(())
}
