//! Finds the files that a command may read: the `inputs` in the manifest, or every file in the app's folder if the
//! manifest has none.
//!
//! Commands run in the order of their components' names. The products of a later command are not inputs of an earlier
//! one, because two commands with each other's products as inputs would make each other run forever. The products of an
//! earlier command are inputs of later commands, which may use them.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use isomer_ids::ComponentName;
use isomer_manifest::{App, ComponentSource};

use crate::record::{Inputs, Record, Stamp};
use crate::watch::{FILES_MAX, walk};

/// The files that a build command may read, and those of them that do not count as inputs.
pub(crate) struct CommandScope<'a> {
    pub(crate) app_dir: &'a Path,
    /// The file of the component that the command makes.
    pub(crate) wasm: &'a Path,
    inputs: Option<&'a [PathBuf]>,
    /// The files that the commands of later components produce. Commands run in the order of their components' names,
    /// and these files do not count as inputs.
    pub(crate) foreign: BTreeSet<PathBuf>,
}

impl<'a> CommandScope<'a> {
    /// Returns the files that the command that makes component `name` in the file `wasm` may read, and those of them
    /// that do not count as its inputs. `record` returns the record of another component's last build.
    pub(crate) fn of(
        name: &ComponentName,
        inputs: Option<&'a [PathBuf]>,
        wasm: &'a Path,
        app: &App,
        app_dir: &'a Path,
        record: impl Fn(&ComponentName) -> Option<Record>,
    ) -> Self {
        let mut foreign = BTreeSet::new();
        // The products of later commands are ignored, unless the manifest lists the inputs.
        if inputs.is_none() {
            for (other, component) in app.components.iter().filter(|(other, _)| *other > name) {
                if let ComponentSource::Command { wasm, .. } = &component.source.value {
                    foreign.insert(app_dir.join(wasm));
                    foreign.extend(record(other).into_iter().flat_map(|record| record.made));
                }
            }
        }
        Self { app_dir, wasm, inputs, foreign }
    }

    /// Returns the input files with their stamps. A listed file that does not exist is included, because creating it is
    /// a change.
    pub(crate) fn snapshot(&self) -> Inputs {
        let counts = |path: &PathBuf| path != self.wasm && !self.foreign.contains(path);
        self.files().into_iter().filter(counts).map(|path| (path.clone(), Stamp::of(&path))).collect()
    }

    /// Returns whether there are too many input files to check.
    pub(crate) fn has_too_many(&self) -> bool {
        self.files().len() >= FILES_MAX
    }

    /// Returns whether there is an input file that is not in the record.
    pub(crate) fn has_new_files(&self, record: &Record) -> bool {
        self.files().iter().any(|path| {
            path != self.wasm
                && !self.foreign.contains(path)
                && !record.inputs.contains_key(path)
                && !record.made.contains(path)
        })
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        let Some(inputs) = self.inputs else { return walk(self.app_dir).into_iter().collect() };
        let mut files = BTreeSet::new();
        for input in inputs {
            match Input::new(self.app_dir, input) {
                Input::Path(path) if path.is_dir() => files.extend(walk(&path)),
                Input::Path(path) => drop(files.insert(path)),
                Input::Pattern { base, rest } => {
                    let matches = |path: &PathBuf| path.strip_prefix(&base).is_ok_and(|path| matches(&rest, path));
                    files.extend(walk(&base).into_iter().filter(matches));
                }
            }
        }
        files
    }
}

/// An entry of a component's `inputs`.
pub(crate) enum Input {
    /// A file, or a folder with everything in it.
    Path(PathBuf),
    /// The files below a folder that match a pattern.
    Pattern {
        /// The folder: the segments before the first segment that contains a wildcard.
        base: PathBuf,
        /// The pattern: the first segment that contains a wildcard, and all segments after it.
        rest: Vec<String>,
    },
}

impl Input {
    pub(crate) fn new(app_dir: &Path, written: &Path) -> Self {
        let mut base = app_dir.to_owned();
        let mut parts = written.components().peekable();
        while let Some(part) = parts.next_if(|part| !is_wild(part)) {
            match part {
                Component::CurDir => {}
                part => base.push(part),
            }
        }
        let rest: Vec<String> = parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        if rest.is_empty() { Self::Path(base) } else { Self::Pattern { base, rest } }
    }
}

fn is_wild(part: &Component<'_>) -> bool {
    part.as_os_str().to_string_lossy().contains(['*', '?'])
}

/// Returns whether `path` matches the pattern. `**` matches any number of folders, `*` any text within a name, `?` one
/// character.
fn matches(pattern: &[String], path: &Path) -> bool {
    let names: Vec<String> = path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    matches_names(pattern, &names)
}

fn matches_names(pattern: &[String], names: &[String]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            matches_names(rest, names) || names.split_first().is_some_and(|(_, names)| matches_names(pattern, names))
        }
        (Some((first, rest)), Some((name, names))) => {
            let (first, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            matches_name(&first, &name) && matches_names(rest, names)
        }
        _ => false,
    }
}

fn matches_name(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => {
            matches_name(rest, name) || name.split_first().is_some_and(|(_, name)| matches_name(pattern, name))
        }
        (Some(('?', rest)), Some((_, name))) => matches_name(rest, name),
        (Some((c, rest)), Some((other, name))) => c == other && matches_name(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_files_are_detected() {
        let dir = tempfile::tempdir().expect("a folder");
        let scope =
            |inputs| CommandScope { app_dir: dir.path(), wasm: Path::new("a.wasm"), inputs, foreign: BTreeSet::new() };
        for number in 0..FILES_MAX {
            assert!(!scope(None).has_too_many());
            std::fs::write(dir.path().join(format!("{number}.txt")), "").expect("written");
        }
        assert!(scope(None).has_too_many());
        assert!(!scope(Some(&["1.txt".into()])).has_too_many());
    }

    #[test]
    fn patterns_match_names_and_folders() {
        for (pattern, yes, no) in [
            ("js/*.json", &["js/a.json", "js/.json"][..], &["js/a.js", "js/deep/a.json", "a.json"][..]),
            ("**/*.png", &["a.png", "x/y/a.png"], &["a.pn", "png"]),
            (
                "assets/**/icon-?.svg",
                &["assets/icon-a.svg", "assets/x/y/icon-b.svg"],
                &["assets/icon-ab.svg", "icon-a.svg"],
            ),
            ("src/**", &["src/a", "src/b/c"], &["other/a"]),
        ] {
            let Input::Pattern { base, rest } = Input::new(Path::new("/app"), Path::new(pattern)) else {
                panic!("`{pattern}` is a pattern")
            };
            let hit =
                |path: &&&str| Path::new("/app").join(path).strip_prefix(&base).is_ok_and(|path| matches(&rest, path));
            assert_eq!(yes.iter().filter(hit).count(), yes.len(), "{pattern}");
            assert_eq!(no.iter().filter(hit).count(), 0, "{pattern}");
        }
        assert!(
            matches!(Input::new(Path::new("/app"), Path::new("./src/x")), Input::Path(path) if path == Path::new("/app/src/x"))
        );
        assert!(
            matches!(Input::new(Path::new("/app"), Path::new(".")), Input::Path(path) if path == Path::new("/app"))
        );
    }
}
