//! Finds the files and folders that a development server watches.
//!
//! A [`WatchSet`] contains the *wanted* paths as the manifest and Cargo write them. A wanted path may not exist yet,
//! may be removed and created again, and may contain symbolic links. But only existing folders can be *watched*. So
//! [`WatchFolders`] contains, for every wanted path, each folder in which a change can affect what the path resolves
//! to: folders in which a missing segment would appear, folders that contain a symbolic link, and folders to which a
//! symbolic link points. If one of these changes, the [`WatchFolders`] must be computed again.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The names of folders that belong to tools and contain no sources.
const IGNORED_DIRS: [&str; 4] = [".isomer", ".git", "node_modules", "__pycache__"];

/// The name of the file that marks a folder of generated files, such as Cargo's `target`.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// The maximum number of files in a folder that are listed. A command with this number of input files or more is
/// refused (`BuildError::TooManyFiles`), because files may be missing from the list.
pub(crate) const FILES_MAX: usize = if cfg!(test) { 100 } else { 50_000 };

/// The maximum number of watched folders below the wanted folders. Changes in further folders are not noticed.
const DIRS_MAX: usize = 50_000;

/// The maximum number of symbolic links that are followed in one path, as in Linux.
const LINKS_MAX: usize = 40;

/// A folder on the way to a wanted path is always watched if it has more segments than this: `/` has one, `/home` two.
/// Any other folder is watched only if the next segment of the path is missing, is a symbolic link, or is the last one.
const DEPTH_MIN: usize = 2;

/// The paths to watch. They do not have to exist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchSet {
    trees: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    products: BTreeSet<PathBuf>,
}

/// The folders to watch for changes of the paths in a [`WatchSet`], and which changes in these folders require a build.
/// The folders must be determined again after a change of a folder or symbolic link that leads to one of the paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchFolders {
    /// The folders to watch, each without its subfolders. All exist, and no path contains a symbolic link.
    pub dirs: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    /// The folders and symbolic links that lead to the paths in the [`WatchSet`], including those that do not exist
    /// yet.
    steps: BTreeSet<PathBuf>,
    trees: BTreeSet<PathBuf>,
    products: BTreeSet<PathBuf>,
}

impl WatchSet {
    /// Adds a file to watch.
    pub fn add(&mut self, file: PathBuf) {
        self.files.insert(file);
    }

    /// Adds a folder and everything in it.
    pub(crate) fn add_tree(&mut self, folder: PathBuf) {
        self.trees.insert(folder);
    }

    /// Adds a file that builds make. Changes to it are ignored.
    pub(crate) fn add_product(&mut self, file: PathBuf) {
        self.products.insert(file);
    }

    /// Adds the sources of all Cargo packages below `dir`. Used after a failed build, because it is unknown which of
    /// them the build read.
    pub fn add_packages(&mut self, dir: &Path) {
        for manifest in walk(dir).into_iter().filter(|path| path.file_name().is_some_and(|name| name == "Cargo.toml")) {
            let Some(package) = manifest.parent() else { continue };
            self.trees.insert(package.join("src"));
            self.files.insert(package.join("build.rs"));
            self.files.insert(manifest);
        }
    }

    /// Returns the folders to watch now. Reads folders and symbolic links.
    pub fn folders(&self) -> WatchFolders {
        let mut folders = WatchFolders::default();
        for file in &self.files {
            if let Some(found) = folders.trace(file) {
                folders.files.insert(found);
            }
        }
        for tree in &self.trees {
            match folders.trace(tree) {
                Some(found) if found.is_dir() => folders.tree(&found),
                Some(found) => drop(folders.files.insert(found)),
                None => {}
            }
        }
        let products = self.products.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
        folders.products = products.collect();
        folders
    }
}

impl WatchFolders {
    /// Returns whether a change to `path` requires a build. `appeared` is true if the file or folder was created,
    /// removed or renamed, and false if its contents changed.
    pub fn counts(&self, path: &Path, appeared: bool) -> bool {
        if self.files.contains(path) || (appeared && self.steps.contains(path)) {
            return true;
        }
        // A folder that is ignored as a part of one wanted folder may itself contain another wanted folder, which is
        // not ignored.
        let is_in = |root: &PathBuf| {
            path.starts_with(root) && !path.ancestors().take_while(|dir| dir != root).any(is_tools_dir)
        };
        !is_temporary(path) && !self.products.contains(path) && self.trees.iter().any(is_in)
    }

    /// Resolves `path` through all folders and symbolic links, and adds each of them. Returns the resolved path, or
    /// `None` if it does not exist.
    fn trace(&mut self, path: &Path) -> Option<PathBuf> {
        let mut left: VecDeque<OsString> = parts(path).collect();
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&part);
            let found = fs::symlink_metadata(&next);
            let is_link = found.as_ref().is_ok_and(fs::Metadata::is_symlink);
            if found.is_err() || is_link || left.is_empty() || here.components().count() > DEPTH_MIN {
                self.dirs.insert(here.clone());
                self.steps.insert(next.clone());
            }
            if found.is_err() {
                return None;
            }
            if is_link {
                links += 1;
                let goal = fs::read_link(&next).ok().filter(|_| links <= LINKS_MAX)?;
                if goal.is_absolute() {
                    here = PathBuf::from("/");
                }
                for part in parts(&goal).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(part);
                }
                continue;
            }
            here = next;
        }
        Some(here)
    }

    /// Adds a folder with everything in it, and the files outside of the folder to which its symbolic links point.
    fn tree(&mut self, root: &Path) {
        self.trees.insert(root.to_owned());
        let mut dirs = vec![root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let (path, kind) = (entry.path(), entry.file_type());
                if kind.as_ref().is_ok_and(fs::FileType::is_dir) && !is_tools_dir(&path) {
                    dirs.push(path);
                } else if kind.is_ok_and(|kind| kind.is_symlink()) && path.is_file() {
                    let found = self.trace(&path);
                    self.files.extend(found.filter(|found| !found.starts_with(root)));
                }
            }
            if self.dirs.len() >= DIRS_MAX {
                return;
            }
            self.dirs.insert(dir);
        }
    }
}

/// Returns the segments of a path, with `..` for the parent folder.
fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Returns whether the file is a temporary file of an editor: a backup, a swap file, a lock.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with('~') || name.ends_with(".swp") || name.starts_with(".#") || name == "4913"
}

/// Returns whether the folder belongs to a tool and contains no sources.
fn is_tools_dir(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default();
    IGNORED_DIRS.iter().any(|ignored| name == *ignored) || dir.join(CACHE_TAG).exists()
}

/// Returns all files below `dir`. Folders of tools, temporary files of editors, and files whose names are not UTF-8
/// (which a record cannot contain) are left out. Symbolic links to folders are not followed.
pub(crate) fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_tools_dir(&path) => dirs.push(path),
                Ok(kind) if kind.is_dir() => {}
                Ok(_) if files.len() < FILES_MAX && !is_temporary(&path) && path.to_str().is_some() => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().canonicalize().expect("it exists");
        (dir, path)
    }

    fn watching(file: &Path) -> WatchFolders {
        let mut set = WatchSet::default();
        set.add(file.to_owned());
        set.folders()
    }

    #[test]
    fn a_missing_path_is_watched_where_it_would_appear() {
        let (_kept, dir) = folder();
        let wanted = dir.join("dist/deep/k.wasm");
        let folders = watching(&wanted);
        assert!(folders.dirs.contains(&dir) && folders.counts(&dir.join("dist"), true));
        assert!(!folders.counts(&dir.join("other"), true));
        fs::create_dir(dir.join("dist")).expect("made");
        let folders = watching(&wanted);
        assert!(folders.dirs.contains(&dir.join("dist")) && folders.counts(&dir.join("dist/deep"), true));
        // Renaming or removing a folder above the wanted path changes what the path resolves to.
        assert!(folders.dirs.contains(&dir) && folders.counts(&dir.join("dist"), true));
        assert!(!folders.counts(&dir.join("dist"), false), "a change in the folder is not a change to its name");
    }

    #[test]
    fn a_link_and_its_target_are_watched() {
        let (_kept, dir) = folder();
        for made in ["app", "built/1", "built/2"] {
            fs::create_dir_all(dir.join(made)).expect("made");
        }
        fs::write(dir.join("built/1/k.wasm"), "1").expect("written");
        // The wanted path is a symbolic link whose target contains a symbolic link to a folder.
        symlink("../built/current/k.wasm", dir.join("app/k.wasm")).expect("linked");
        symlink("1", dir.join("built/current")).expect("linked");
        let folders = watching(&dir.join("app/k.wasm"));
        assert!(folders.counts(&dir.join("built/1/k.wasm"), false), "{folders:?}");
        for step in ["app/k.wasm", "built/current"] {
            assert!(folders.counts(&dir.join(step), true), "{step}: {folders:?}");
            assert!(folders.dirs.contains(dir.join(step).parent().expect("a folder")), "{step}");
        }
        symlink("loop", dir.join("loop")).expect("linked");
        assert!(watching(&dir.join("loop/x")).dirs.contains(&dir), "a loop is a link that leads nowhere");
    }

    #[test]
    fn a_tree_includes_targets_of_links_and_excludes_folders_of_tools() {
        let (_kept, dir) = folder();
        for made in ["app/src/deep", "app/target/x", "app/.git", "else"] {
            fs::create_dir_all(dir.join(made)).expect("made");
        }
        fs::write(dir.join("app/target").join(CACHE_TAG), "").expect("written");
        fs::write(dir.join("else/shared"), "").expect("written");
        symlink(dir.join("else/shared"), dir.join("app/src/shared")).expect("linked");
        let set = WatchSet { trees: BTreeSet::from([dir.join("app")]), ..WatchSet::default() };
        let folders = set.folders();
        assert!(folders.counts(&dir.join("app/src/deep/new"), true) && folders.counts(&dir.join("else/shared"), false));
        assert!(folders.dirs.contains(&dir.join("app/src/deep")));
        for tools in ["app/target/x", "app/.git"] {
            assert!(!folders.dirs.contains(&dir.join(tools)) && !folders.counts(&dir.join(tools).join("f"), true));
        }
        assert!(!folders.counts(&dir.join("app/src/.#main.rs"), true));
    }
}
