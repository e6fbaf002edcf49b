//! Components made by a command of the app's own.
//!
//! Where the manifest does not say what such a command reads, anything in the app's folder counts as its input (`inputs.rs`), but for
//! what it makes itself, and that is learned: a file that appeared in a folder of its products while it ran, or that changed in two runs, is its
//! own. Another file that appeared or changed during one run may have been edited meanwhile; it stays in doubt, and the command runs once more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use isomer_display::Ended;
use isomer_manifest::ComponentName;

use crate::inputs::Scope;
use crate::process::run_quietly;
use crate::record::{Inputs, Record};
use crate::watch::FILES_MAX;
use crate::{BuildError, Progress, Reporter, ToolchainError};

/// What is known after a run.
pub(crate) struct Outcome {
    pub inputs: Inputs,
    pub made: BTreeSet<PathBuf>,
    pub in_doubt: BTreeSet<PathBuf>,
}

/// Runs the command in the app's folder. What is known afterwards is known after a failure, too: what it has written then must not count as a
/// change either, or a development server would run it again and again.
///
/// # Errors
/// When it cannot be run at all.
pub(crate) fn build(
    component: &ComponentName,
    command: &str,
    scope: &Scope<'_>,
    last: Option<&Record>,
    report: Reporter<'_>,
) -> Result<(Outcome, Result<(), BuildError>), BuildError> {
    let (app_dir, wasm) = (scope.app_dir, scope.wasm);
    if scope.has_too_many() {
        return Err(BuildError::TooManyFiles { component: component.clone(), most: FILES_MAX });
    }
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
    let done = match status {
        Some(status) if status.success() && wasm.is_file() => Ok(()),
        Some(status) if status.success() => Err(BuildError::NoFile {
            component: component.clone(),
            path: wasm.to_owned(),
            made_by: Some(command.to_owned()),
        }),
        Some(status) => Err(failed(Ended::of_shell(status).to_string(), output)),
        None => Err(failed("was stopped".to_owned(), output)),
    };
    Ok((outcome(&before, scope.snapshot(), last, &ProductFolders::new(scope, last)), done))
}

/// Where new files are taken for the command's own: the folder of the component, and those of files that it is known to make.
struct ProductFolders<'a> {
    app_dir: &'a Path,
    folders: BTreeSet<&'a Path>,
}

impl<'a> ProductFolders<'a> {
    fn new(scope: &Scope<'a>, last: Option<&'a Record>) -> Self {
        let made = last.into_iter().flat_map(|last| &last.made).map(PathBuf::as_path);
        let folders = made.chain([scope.wasm]).filter_map(Path::parent).collect();
        Self { app_dir: scope.app_dir, folders }
    }

    /// Is the file in one of them, or below it? What lies below the app's folder is not a product for that.
    fn have(&self, path: &Path) -> bool {
        let is_direct = path.parent().is_some_and(|folder| self.folders.contains(folder));
        let mut above = path.ancestors().skip(1).take_while(|folder| *folder != self.app_dir);
        is_direct || above.any(|folder| self.folders.contains(folder))
    }
}

fn outcome(before: &Inputs, after: Inputs, last: Option<&Record>, products: &ProductFolders<'_>) -> Outcome {
    let mut outcome = Outcome { inputs: Inputs::new(), made: BTreeSet::new(), in_doubt: BTreeSet::new() };
    // Names may be new in each run: such files are in doubt every other time, and a development server does not run for ever.
    let was_in_doubt = last.is_some_and(|last| !last.in_doubt.is_empty());
    for (path, stamp) in after {
        let known = last.is_some_and(|last| last.made.contains(&path));
        let again = last.is_some_and(|last| last.in_doubt.contains(&path));
        match before.get(&path) {
            Some(old) if *old == stamp && !known => drop(outcome.inputs.insert(path, stamp)),
            Some(_) if known || again => drop(outcome.made.insert(path)),
            None if known || was_in_doubt || products.have(&path) => drop(outcome.made.insert(path)),
            Some(_) | None => drop(outcome.in_doubt.insert(path)),
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_a_product_where_products_are() {
        let (app_dir, wasm) = (Path::new("/app"), Path::new("/app/dist/a.wasm"));
        let (before, after) = (Inputs::new(), ["/app/dist/x", "/app/dist/deep/y", "/app/src/new", "/app/log"]);
        let after: Inputs = after.into_iter().map(|path| (path.into(), None)).collect();
        let named = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        let found = |folders: &[&'static str]| {
            let folders = folders.iter().map(Path::new).collect();
            let found = outcome(&before, after.clone(), None, &ProductFolders { app_dir, folders });
            (found.made, found.in_doubt)
        };
        let dist = wasm.parent().and_then(Path::to_str).expect("a folder");
        let (made, doubt) = (named(&["/app/dist/x", "/app/dist/deep/y"]), named(&["/app/src/new", "/app/log"]));
        assert_eq!(found(&[dist]), (made, doubt));
        // A component beside the manifest says nothing of the folders there.
        let (made, doubt) = (named(&["/app/log"]), named(&["/app/dist/x", "/app/dist/deep/y", "/app/src/new"]));
        assert_eq!(found(&["/app"]), (made, doubt));
    }
}
