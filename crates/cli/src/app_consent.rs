//! Asks before an app from a registry or an archive reaches something of its user for the first time.
//!
//! The manifest of such an app grants itself hosts and secrets, and the user has not read it. So they are shown,
//! and the user must accept them. What was accepted is kept in the app's folder: a newer release is asked about only if it
//! wants more. Folders and stores need no question, because they are the app's own.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use isomer_console::{CliError, Console, FAILED};
use isomer_display::escaped;
use isomer_manifest::{App, SecretSource};

/// The file in the app's folder that lists what was accepted.
const ACCEPTED: &str = "accepted.json";

/// The maximum size of the file in bytes. A larger file counts as empty.
const ACCEPTED_BYTES_MAX: u64 = 4 << 20;

/// Asks the user to accept what the app reaches outside its own folder, unless it was accepted before, or `yes` is set.
///
/// # Errors
/// If the user does not accept, or if there is no terminal to ask.
pub(crate) fn confirm(app: &App, folder: &Path, name: &str, yes: bool, console: &Console) -> Result<(), CliError> {
    let wanted = requests(app);
    let file = folder.join(ACCEPTED);
    let accepted = accepted(&file)?;
    let new: Vec<&String> = wanted.difference(&accepted).collect();
    if new.is_empty() {
        return Ok(());
    }
    let list: String = new.iter().map(|line| format!("  {line}\n")).collect();
    if yes {
        console.message(&format!("accepted with `--yes` for {}:\n{list}", escaped(name)));
    } else if console.is_interactive() {
        console.message(&format!("{} wants to reach more than its own files:\n{list}", escaped(name)));
        if console.confirm("Accept this?") != Some(true) {
            return Err(CliError::ExitCode(FAILED));
        }
    } else {
        return Err(CliError::usage(
            format!("cannot ask whether `{}` may do this, because there is no terminal:\n{list}", escaped(name)),
            "if you trust the app with this, run it once with `--yes`",
        ));
    }
    let all: BTreeSet<&String> = wanted.iter().chain(&accepted).collect();
    let text = serde_json::to_vec(&all).expect("texts can be written as JSON");
    // Written under another name and renamed, so that the file is never incomplete.
    let unfinished = folder.join("accepted.tmp");
    let written = std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, &file));
    written.with_context(|| format!("cannot write `{}`", file.display()))?;
    Ok(())
}

/// Returns what the app reaches outside its own folder, one line for each, without control characters.
pub(crate) fn requests(app: &App) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (component, settings) in &app.components {
        for host in &settings.grants.http {
            let host = &host.value;
            let port = host.port.map(|port| format!(":{port}")).unwrap_or_default();
            let private = if host.private { ", also in private networks and on this machine" } else { "" };
            lines.insert(format!("component {component} sends requests to {}{port}{private}", escaped(&host.host)));
        }
        for secret in &settings.grants.secrets {
            let name = escaped(secret.value.as_str());
            let source = match app.secrets.get(secret.value.as_str()) {
                Some(SecretSource::Env(variable)) => format!(" (variable {} of `--env-file`)", escaped(variable)),
                _ => String::new(),
            };
            lines.insert(format!("component {component} reads the secret {name}{source}"));
        }
    }
    lines
}

fn accepted(file: &Path) -> Result<BTreeSet<String>, CliError> {
    let size = match std::fs::metadata(file) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot read `{}`", file.display())).into());
        }
    };
    if size > ACCEPTED_BYTES_MAX {
        return Ok(BTreeSet::new());
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    // If the file is damaged, the user is asked again.
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}
