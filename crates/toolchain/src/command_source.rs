//! Components made by a command of the app's own.
//!
//! Nobody says what such a command reads. So anything in the app's folder counts as its input, but for what it makes itself,
//! and that is learned: a file that was not there before it ran, or that changed in two runs, is its own. A file that
//! changed during one run only may have been edited meanwhile; it stays in doubt, and the command runs once more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use isomer_display::Ended;
use isomer_manifest::ComponentName;

use crate::process::run_quietly;
use crate::record::{Inputs, Record, Stamp};
use crate::watch::walk;
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
    wasm: &Path,
    app_dir: &Path,
    last: Option<&Record>,
    report: Reporter<'_>,
) -> Result<Outcome, BuildError> {
    let before = snapshot(app_dir, wasm);
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
    Ok(outcome(&before, snapshot(app_dir, wasm), last))
}

/// All files that may count: the app's folder but for tools' own folders and the component itself.
pub(crate) fn snapshot(app_dir: &Path, wasm: &Path) -> Inputs {
    walk(app_dir).into_iter().filter(|path| path != wasm).map(|path| (path.clone(), Stamp::of(&path))).collect()
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

/// Has a file appeared since that the record does not know?
pub(crate) fn has_new_inputs(record: &Record, app_dir: &Path) -> bool {
    walk(app_dir)
        .iter()
        .any(|path| path != &record.output && !record.inputs.contains_key(path) && !record.made.contains(path))
}
