//! What a component was built from, for the provenance of an app.

use std::fs;
use std::path::{Path, PathBuf};

use isomer_ids::{ComponentName, Digest};
use sha2::{Digest as _, Sha256};

use crate::record::{BUILD_DIR, Record};

/// What a component was built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentSources {
    /// A hash of the contents of all files from which the component was built, and of their paths in the app's folder.
    pub digest: Digest,
    /// The number of these files.
    pub files: usize,
    /// The lock file of the component's Cargo package.
    pub lock_file: Option<PathBuf>,
}

/// Returns what a component was built from by its last build in the release profile. Returns `None` if the component was
/// not built here, or if a file cannot be read.
#[must_use]
pub fn component_sources(app_dir: &Path, component: &ComponentName) -> Option<ComponentSources> {
    let app_dir = app_dir.canonicalize().ok()?;
    let record = Record::load(&app_dir.join(BUILD_DIR), component)?;
    let mut files: Vec<(String, &Path)> = Vec::new();
    for path in record.inputs.keys().filter(|path| path.is_file()) {
        // A path outside of the app's folder is a path of this machine, of which only the file's name is used.
        let inside = path.strip_prefix(&app_dir).ok().and_then(Path::to_str);
        let name = inside.or_else(|| path.file_name()?.to_str()).unwrap_or_default();
        files.push((name.to_owned(), path));
    }
    if files.is_empty() {
        return None;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for (name, path) in &files {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(Sha256::digest(fs::read(path).ok()?));
    }
    let is_lock = |path: &&Path| path.file_name().is_some_and(|name| name == "Cargo.lock");
    let lock_file = files.iter().map(|(_, path)| *path).find(is_lock).map(Path::to_owned);
    Some(ComponentSources { digest: Digest::from(<[u8; 32]>::from(hasher.finalize())), files: files.len(), lock_file })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::SystemTime;

    use super::*;
    use crate::record::stamps;

    #[test]
    fn sources_are_named_without_paths_of_the_machine() {
        let sources = || {
            let folder = tempfile::tempdir().unwrap();
            let app = folder.path().canonicalize().unwrap().join("app");
            let files = [app.join("src/lib.rs"), app.join("Cargo.lock"), app.parent().unwrap().join("outside.rs")];
            for file in &files {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "content").unwrap();
            }
            let name = ComponentName::new("cart").unwrap();
            let record = Record {
                source: String::new(),
                toolchain: None,
                settings: String::new(),
                variables: BTreeMap::new(),
                inputs: stamps(files.iter().cloned().chain([app.join("missing")]), SystemTime::now()),
                made: BTreeSet::new(),
                in_doubt: BTreeSet::new(),
                output: app.join("cart.wasm"),
                output_stamp: None,
                digest: String::new(),
            };
            fs::create_dir_all(app.join(BUILD_DIR)).unwrap();
            assert_eq!(component_sources(&app, &name), None);
            record.store(&app.join(BUILD_DIR), &name).unwrap();
            let found = component_sources(&app, &name).unwrap();
            assert_eq!(found.lock_file, Some(app.join("Cargo.lock")));
            fs::write(&files[0], "changed").unwrap();
            assert_ne!(component_sources(&app, &name).unwrap().digest, found.digest);
            (found.digest, found.files)
        };
        let (first, second) = (sources(), sources());
        assert_eq!(first, second, "the folder of the app does not matter");
        assert_eq!(first.1, 3);
    }
}
