//! Components made by a command of the app's own.
//!
//! Where the manifest does not say what such a command reads, anything in the app's folder counts as its input (`inputs.rs`), but for
//! what it makes itself, and that is learned: a file that was not there before it ran, or that changed in two runs, is its own. A file
//! that changed during one run only may have been edited meanwhile; it stays in doubt, and the command runs once more.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use isomer_display::Ended;
use isomer_manifest::ComponentName;

use crate::inputs::Scope;
use crate::process::run_quietly;
use crate::record::{Inputs, Record};
use crate::{BuildError, Progress, Reporter, ToolchainError};

/// What is known after a run.
pub(crate) struct Outcome {
    pub inputs: Inputs,
    pub made: BTreeSet<PathBuf>,
    pub in_doubt: BTreeSet<PathBuf>,
}

/// Run the command in the app's folder.
pub(crate) fn build(
    component: &ComponentName,
    command: &str,
    scope: &Scope<'_>,
    last: Option<&Record>,
    report: Reporter<'_>,
) -> Result<Outcome, BuildError> {
    let (app_dir, wasm) = (scope.app_dir, scope.wasm);
    let before = scope.snapshot();
    report(Progress::Step(&format!("$ {command}")));
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    shell.arg(if cfg!(windows) { "/C" } else { "-c" }).arg(command).current_dir(app_dir);
    let failed = |status: String, output| BuildError::Command {
        component: component.clone(),
        command: command.to_owned(),
        status,
        output,
    };
    let (status, output) = run_quietly(&mut shell, None, report)
        .map_err(|source| ToolchainError::CannotRun { command: command.to_owned(), source })?;
    match status {
        Some(status) if status.success() => {}
        Some(status) => return Err(failed(Ended::of_shell(status).to_string(), output)),
        None => return Err(failed("was stopped".to_owned(), output)),
    }
    if !wasm.is_file() {
        return Err(BuildError::NoFile {
            component: component.clone(),
            path: wasm.to_owned(),
            made_by: Some(command.to_owned()),
        });
    }
    Ok(outcome(&before, scope.snapshot(), last))
}

fn outcome(before: &Inputs, after: Inputs, last: Option<&Record>) -> Outcome {
    let mut outcome = Outcome { inputs: Inputs::new(), made: BTreeSet::new(), in_doubt: BTreeSet::new() };
    for (path, stamp) in after {
        let known = last.is_some_and(|last| last.made.contains(&path));
        let again = last.is_some_and(|last| last.in_doubt.contains(&path));
        match before.get(&path) {
            Some(old) if *old == stamp && !known => drop(outcome.inputs.insert(path, stamp)),
            Some(_) if known || again => drop(outcome.made.insert(path)),
            Some(_) => drop(outcome.in_doubt.insert(path)),
            None => drop(outcome.made.insert(path)),
        }
    }
    outcome
}
