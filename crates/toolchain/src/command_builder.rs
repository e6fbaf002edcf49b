//! Builds components with commands of the app.
//!
//! If the manifest does not list a command's inputs, every file in the app's folder is an input (`inputs.rs`), except
//! the command's own products, which are detected. A file is a product if it appears during a run in a folder in which
//! new files count as products (`ProductFolders`), or if each of two successive runs changes it. For any other file
//! that appears or changes during one run, it is uncertain whether the command or the user changed it. Such a file is
//! *in doubt*, and the command runs once more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use isomer_display::ProcessExit;
use isomer_ids::ComponentName;
use isomer_manifest::ComponentSource;

use crate::builder::{BuildContext, BuildFacts, Builder, BuiltComponent, SourceComponent};
use crate::error::{BuildError, ToolchainError};
use crate::inputs::{CommandScope, Input};
use crate::process::{BuildProgress, ProgressReporter, run_quietly};
use crate::record::{Inputs, Record};
use crate::watch::{FILES_MAX, WatchSet};

/// Builds components with commands: `command = "…"`.
pub(crate) struct CommandBuilder;

impl Builder for CommandBuilder {
    fn builds(&self, source: &ComponentSource) -> bool {
        matches!(source, ComponentSource::Command { .. })
    }

    fn missing_source(&self, _context: &BuildContext<'_>, _component: SourceComponent<'_>) -> Option<BuildError> {
        None
    }

    fn build(
        &self,
        context: &BuildContext<'_>,
        components: &[SourceComponent<'_>],
        report: ProgressReporter<'_>,
    ) -> Result<Vec<BuiltComponent>, BuildError> {
        let dir = context.build_dir;
        let mut built = Vec::with_capacity(components.len());
        for component in components {
            let ComponentSource::Command { command, wasm, inputs } = component.source else { continue };
            let wasm = context.app_dir.join(wasm);
            let scope =
                CommandScope::of(component.name, inputs.as_deref(), &wasm, context.app, context.app_dir, |other| {
                    Record::load(dir, other)
                });
            // Each component is checked directly before its command runs, because the command of an earlier component
            // may have changed its inputs.
            let last = match Record::load(dir, component.name) {
                Some(record) if is_fresh(&record, component.source, &scope) => {
                    built.push(component.up_to_date(record));
                    continue;
                }
                last => last,
            };
            let began = Instant::now();
            let (files, done) = run(component.name, command, &scope, last.as_ref(), report)?;
            let CommandFiles { inputs, made, in_doubt } = files;
            let facts = BuildFacts { inputs, made, in_doubt, ..BuildFacts::default() };
            if let Err(error) = done {
                component.failed(dir, wasm, facts, last)?;
                return Err(error);
            }
            built.push(component.built(dir, wasm, facts, last, Some(began.elapsed()))?);
        }
        Ok(built)
    }

    fn watch(&self, context: &BuildContext<'_>, component: SourceComponent<'_>, set: &mut WatchSet) {
        let ComponentSource::Command { wasm, inputs, .. } = component.source else { return };
        match inputs {
            None => set.add_tree(context.app_dir.to_owned()),
            Some(inputs) => inputs.iter().for_each(|input| {
                set.add_tree(match Input::new(context.app_dir, input) {
                    Input::Path(path) => path,
                    Input::Pattern { base, .. } => base,
                });
            }),
        }
        set.add_product(context.app_dir.join(wasm));
        let record = Record::load(context.build_dir, component.name);
        record.into_iter().flat_map(|record| record.made).for_each(|product| set.add_product(product));
    }
}

fn is_fresh(record: &Record, source: &ComponentSource, scope: &CommandScope<'_>) -> bool {
    record.is_fresh(source, &scope.foreign) && !scope.has_new_files(record)
}

/// The files that a command read and wrote, as far as one run shows.
struct CommandFiles {
    inputs: Inputs,
    made: BTreeSet<PathBuf>,
    in_doubt: BTreeSet<PathBuf>,
}

/// Runs the command in the app's folder. The inner result is an error if the command fails. The files that it wrote are
/// returned even then, because they must not be treated as changes by the user: otherwise, a development server would
/// run the failing command again and again.
///
/// # Errors
/// If the command cannot be started, or has too many inputs.
fn run(
    component: &ComponentName,
    command: &str,
    scope: &CommandScope<'_>,
    last: Option<&Record>,
    report: ProgressReporter<'_>,
) -> Result<(CommandFiles, Result<(), BuildError>), BuildError> {
    let (app_dir, wasm) = (scope.app_dir, scope.wasm);
    if scope.has_too_many() {
        return Err(BuildError::TooManyFiles { component: component.clone(), most: FILES_MAX });
    }
    let before = scope.snapshot();
    report(BuildProgress::Step(&format!("$ {command}")));
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
        Some(status) => Err(failed(ProcessExit::of_shell(status).to_string(), output)),
        None => Err(failed("was stopped".to_owned(), output)),
    };
    Ok((command_files(&before, scope.snapshot(), last, &ProductFolders::new(scope, last)), done))
}

/// The folders whose new files count as products of the component's build command: the folder of the component, and the
/// folders that contain known products.
struct ProductFolders<'a> {
    app_dir: &'a Path,
    folders: BTreeSet<&'a Path>,
}

impl<'a> ProductFolders<'a> {
    fn new(scope: &CommandScope<'a>, last: Option<&'a Record>) -> Self {
        let made = last.into_iter().flat_map(|last| &last.made).map(PathBuf::as_path);
        let folders = made.chain([scope.wasm]).filter_map(Path::parent).collect();
        Self { app_dir: scope.app_dir, folders }
    }

    /// Returns whether the file is in one of the folders, or in a subfolder of one. If the app's folder is one of them,
    /// its subfolders do not count.
    fn contain(&self, path: &Path) -> bool {
        let is_direct = path.parent().is_some_and(|folder| self.folders.contains(folder));
        let mut above = path.ancestors().skip(1).take_while(|folder| *folder != self.app_dir);
        is_direct || above.any(|folder| self.folders.contains(folder))
    }
}

fn command_files(before: &Inputs, after: Inputs, last: Option<&Record>, products: &ProductFolders<'_>) -> CommandFiles {
    let mut files = CommandFiles { inputs: Inputs::new(), made: BTreeSet::new(), in_doubt: BTreeSet::new() };
    // Files that are in doubt make the command run again. A command may create files with new names in each run, so if
    // new files were always in doubt, a development server would run the command forever. So new files are in doubt
    // only if no file was in doubt after the previous run.
    let was_in_doubt = last.is_some_and(|last| !last.in_doubt.is_empty());
    for (path, stamp) in after {
        let known = last.is_some_and(|last| last.made.contains(&path));
        let again = last.is_some_and(|last| last.in_doubt.contains(&path));
        match before.get(&path) {
            Some(old) if *old == stamp && !known => drop(files.inputs.insert(path, stamp)),
            Some(_) if known || again => drop(files.made.insert(path)),
            None if known || was_in_doubt || products.contain(&path) => drop(files.made.insert(path)),
            Some(_) | None => drop(files.in_doubt.insert(path)),
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_in_a_folder_of_products_is_a_product() {
        let (app_dir, wasm) = (Path::new("/app"), Path::new("/app/dist/a.wasm"));
        let (before, after) = (Inputs::new(), ["/app/dist/x", "/app/dist/deep/y", "/app/src/new", "/app/log"]);
        let after: Inputs = after.into_iter().map(|path| (path.into(), None)).collect();
        let named = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        let found = |folders: &[&'static str]| {
            let folders = folders.iter().map(Path::new).collect();
            let found = command_files(&before, after.clone(), None, &ProductFolders { app_dir, folders });
            (found.made, found.in_doubt)
        };
        let dist = wasm.parent().and_then(Path::to_str).expect("a folder");
        let (made, doubt) = (named(&["/app/dist/x", "/app/dist/deep/y"]), named(&["/app/src/new", "/app/log"]));
        assert_eq!(found(&[dist]), (made, doubt));
        // If the component's file is directly in the app's folder, new files in subfolders are not taken for products
        // of the build command.
        let (made, doubt) = (named(&["/app/log"]), named(&["/app/dist/x", "/app/dist/deep/y", "/app/src/new"]));
        assert_eq!(found(&["/app"]), (made, doubt));
    }
}
