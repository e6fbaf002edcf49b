//! Which files a development server watches.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use isomer_manifest::{App, MANIFEST_FILE, Source};

use crate::record::Record;

/// Folders of tools: nothing in them is a source.
const IGNORED_DIRS: [&str; 4] = [".isomer", ".git", "node_modules", "__pycache__"];

/// A file that marks a folder of things that can be made again, such as Cargo's `target`.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// Files that one command's app may have; more are not looked at.
const FILES_MAX: usize = 50_000;

/// What to watch, and which of the changes that are seen there count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSet {
    /// Folders to watch with all that is below them. None lies in another.
    pub roots: Vec<PathBuf>,
    /// Folders of single files: watched without what is below them.
    pub dirs: Vec<PathBuf>,
    files: BTreeSet<PathBuf>,
    made: BTreeSet<PathBuf>,
}

impl WatchSet {
    /// Does a change of `path` call for a build?
    pub fn contains(&self, path: &Path) -> bool {
        if self.files.contains(path) {
            return true;
        }
        let Some(root) = self.roots.iter().find(|root| path.starts_with(root)) else { return false };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Editors' own files: backups, swap files, locks.
        let is_passing = name.ends_with('~') || name.ends_with(".swp") || name.starts_with(".#") || name == "4913";
        let is_ignored = path.ancestors().take_while(|dir| *dir != root).any(is_tools_dir);
        !is_passing && !is_ignored && !self.made.contains(path)
    }
}

/// The watch set of an app: its manifest, its packages, the files outside of them that went into the last build, and the
/// whole folder where a command makes a component.
pub fn watch_paths(app: &App, app_dir: &Path) -> WatchSet {
    let mut files = BTreeSet::from([app_dir.join(MANIFEST_FILE)]);
    let mut trees = BTreeSet::new();
    let mut made = BTreeSet::new();
    for (name, component) in &app.components {
        let record = Record::load(&app_dir.join(".isomer/build"), name);
        match &component.source.value {
            Source::Wasm(wasm) => drop(files.insert(app_dir.join(wasm))),
            Source::Cargo(dir) => {
                trees.insert(app_dir.join(dir));
                files.extend(record.into_iter().flat_map(|record| record.inputs.into_keys()));
            }
            Source::Command { wasm, .. } => {
                trees.insert(app_dir.to_owned());
                made.insert(app_dir.join(wasm));
                made.extend(record.into_iter().flat_map(|record| record.made));
            }
        }
    }
    for store in app.sql.values() {
        trees.extend(store.migrations.as_ref().map(|dir| app_dir.join(dir)));
    }
    let roots: Vec<PathBuf> =
        trees.iter().filter(|tree| !tree.ancestors().skip(1).any(|above| trees.contains(above))).cloned().collect();
    files.retain(|file| !roots.iter().any(|root| file.starts_with(root)));
    let parents: BTreeSet<PathBuf> = files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
    WatchSet { roots, dirs: parents.into_iter().filter(|dir| dir.is_dir()).collect(), files, made }
}

/// A folder whose content belongs to a tool.
fn is_tools_dir(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default();
    IGNORED_DIRS.iter().any(|ignored| name == *ignored) || dir.join(CACHE_TAG).exists()
}

/// All files below `dir`, tools' folders left out. Links to folders are not followed.
pub(crate) fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_tools_dir(&path) => dirs.push(path),
                Ok(kind) if kind.is_dir() => {}
                Ok(_) if files.len() < FILES_MAX => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}
