//! What a build was made from: the record that says whether it must be done again.
//!
//! A record lies in `.isomer/build/NAME.json` in the app's folder. It holds the size and time of every file that went into the
//! component, so that asking whether a built app is up to date costs a `stat` for each of them and starts no program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use isomer_ids::ComponentName;
use isomer_manifest::ComponentSource;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::PathError;
use crate::files::{at, make_dir, replace};
use crate::origin::Origin;
use crate::profile::Profile;
use crate::variables::Variables;

/// Where an app's components and records lie, in its folder.
pub(crate) const BUILD_DIR: &str = ".isomer/build";

/// Where those lie that Cargo built for [`Profile::Dev`], in that folder.
pub(crate) const DEV_DIR: &str = "dev";

/// The kernel's clock for files may lag behind the one that programs read by a tick.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// Size and time of a file: when both are the same, so is the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    modified_ns: u64,
    bytes: u64,
}

impl Stamp {
    /// The stamp of now; `None` where there is no such file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { modified_ns: nanoseconds(metadata.modified().ok()?), bytes: metadata.len() })
    }

    /// Was the file changed at `time` or later, as far as can be told?
    fn is_since(self, time: SystemTime) -> bool {
        self.modified_ns >= nanoseconds(time - CLOCK_TICK)
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The files that went into a build, each with its stamp (`None`: it was not there, and must not appear).
pub(crate) type Inputs = BTreeMap<PathBuf, Option<Stamp>>;

/// The stamps of files that were read by a build which began at `began`. A file that was changed during the build gets a
/// stamp that fits nothing: nobody knows which text was read. The lock file is the exception, as the build itself writes it.
pub(crate) fn stamps(paths: impl IntoIterator<Item = PathBuf>, began: SystemTime) -> Inputs {
    const UNKNOWN: Stamp = Stamp { modified_ns: 0, bytes: u64::MAX };
    let stamp = |path: PathBuf| {
        let is_lock = path.file_name().is_some_and(|name| name == "Cargo.lock");
        let stamp = Stamp::of(&path).map(|stamp| if stamp.is_since(began) && !is_lock { UNKNOWN } else { stamp });
        (path, stamp)
    };
    paths.into_iter().map(stamp).collect()
}

/// One component's last build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The manifest's source that it was made from.
    pub source: String,
    /// The toolchain that Cargo used. `None` for other sources, and in records of versions that did not keep it.
    #[serde(default)]
    pub toolchain: Option<Origin>,
    /// What else chose the code that Cargo made: the profile and the environment. Empty for other sources.
    #[serde(default)]
    pub settings: String,
    /// The variables of the environment that Cargo's packages read. Empty for other sources.
    #[serde(default)]
    pub variables: Variables,
    /// What went into it.
    pub inputs: Inputs,
    /// Files that a command makes besides the component: their changes are its own.
    #[serde(default)]
    pub made: BTreeSet<PathBuf>,
    /// Files that were changed while a command ran, by it or by somebody else: its next run will tell.
    #[serde(default)]
    pub in_doubt: BTreeSet<PathBuf>,
    /// The component's file.
    pub output: PathBuf,
    /// The stamp of that file. `None` after a command has failed.
    pub output_stamp: Option<Stamp>,
    /// SHA-256 of its bytes; after a command has failed, of those that the last one has made that did not.
    pub digest: String,
}

impl Record {
    /// Is the component up to date? Files of `foreign` do not count.
    pub(crate) fn is_fresh(&self, source: &ComponentSource, foreign: &BTreeSet<PathBuf>) -> bool {
        self.source == source_text(source)
            && self.in_doubt.is_subset(foreign)
            && self.output_stamp.is_some()
            && Stamp::of(&self.output) == self.output_stamp
            && self.inputs.iter().all(|(path, stamp)| Stamp::of(path) == *stamp || foreign.contains(path))
    }

    /// The record of the last build, if there is one that can be read.
    pub(crate) fn load(build_dir: &Path, component: &ComponentName) -> Option<Self> {
        serde_json::from_slice(&fs::read(record_path(build_dir, component)).ok()?).ok()
    }

    /// Put the record in its place.
    pub(crate) fn store(&self, build_dir: &Path, component: &ComponentName) -> Result<(), PathError> {
        let path = record_path(build_dir, component);
        // Paths are kept as text, which not all of them are.
        let text = serde_json::to_vec_pretty(self).map_err(|error| at(&path, "written")(error.into()))?;
        replace(&path, &text)
    }
}

/// Where an app's components and records lie; made, with a note for git that all of it can be made again.
pub(crate) fn build_dir(app_dir: &Path) -> Result<PathBuf, PathError> {
    let dir = app_dir.join(BUILD_DIR);
    let ignore = dir.join(".gitignore");
    if !ignore.exists() {
        make_dir(&dir)?;
        replace(&ignore, b"*\n")?;
    }
    Ok(dir)
}

/// The folder of what Cargo built for `profile`: one of its own, so that neither of them ever stands for the other.
pub(crate) fn cargo_dir(build_dir: &Path, profile: Profile) -> PathBuf {
    match profile {
        Profile::Release => build_dir.to_owned(),
        Profile::Dev => build_dir.join(DEV_DIR),
    }
}

/// Removes the files in `dir` that builds of components have left there and that `is_wanted` (component, extension) does not name.
pub(crate) fn remove_leftovers(dir: &Path, is_wanted: impl Fn(&str, &str) -> bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((component, kind)) = name.to_str().and_then(|name| name.rsplit_once('.')) else { continue };
        if matches!(kind, "json" | "wasm") && !component.is_empty() && !is_wanted(component, kind) {
            // A file that cannot be removed costs its bytes and nothing else.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn record_path(build_dir: &Path, component: &ComponentName) -> PathBuf {
    build_dir.join(format!("{component}.json"))
}

/// The manifest's source as text: another source is another build.
pub(crate) fn source_text(source: &ComponentSource) -> String {
    format!("{source:?}")
}

/// SHA-256 of a file, as hexadecimal text.
pub(crate) fn digest(path: &Path) -> Result<String, PathError> {
    let bytes = fs::read(path).map_err(at(path, "read"))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}
