//! The record of a component's last build. It decides whether the component must be built again.
//!
//! A record is the file `.isomer/build/NAME.json` in the app's folder. It contains the size and time of every file from
//! which the component was built, so checking an app that is up to date needs one `stat` per file and starts no
//! program.

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
use crate::origin::ToolchainOrigin;
use crate::profile::BuildProfile;
use crate::variables::Variables;

/// The folder of components and records, relative to the app's folder.
pub(crate) const BUILD_DIR: &str = ".isomer/build";

/// The folder in [`BUILD_DIR`] for components that Cargo built with [`BuildProfile::Dev`].
pub(crate) const DEV_DIR: &str = "dev";

/// The maximum time by which the kernel's clock for file times can lag behind the clock that programs read: one tick.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// The size and modification time of a file. If both are the same as before, the file has not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    modified_ns: u64,
    bytes: u64,
}

impl Stamp {
    /// Returns the file's stamp, or `None` if the file does not exist.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { modified_ns: nanoseconds(metadata.modified().ok()?), bytes: metadata.len() })
    }

    /// Returns whether the file may have been changed at `time` or later.
    fn is_since(self, time: SystemTime) -> bool {
        self.modified_ns >= nanoseconds(time - CLOCK_TICK)
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The files from which a component was made, each with its stamp. `None` means that the file did not exist. Creating
/// it makes the component out of date.
pub(crate) type Inputs = BTreeMap<PathBuf, Option<Stamp>>;

/// Returns the stamps of files that were read by a build that started at `began`. If a file was changed during the
/// build, it is unknown which contents the build read, so the file gets a stamp that never matches. `Cargo.lock` is the
/// exception, because the build itself writes it.
pub(crate) fn stamps(paths: impl IntoIterator<Item = PathBuf>, began: SystemTime) -> Inputs {
    const UNKNOWN: Stamp = Stamp { modified_ns: 0, bytes: u64::MAX };
    let stamp = |path: PathBuf| {
        let is_lock = path.file_name().is_some_and(|name| name == "Cargo.lock");
        let stamp = Stamp::of(&path).map(|stamp| if stamp.is_since(began) && !is_lock { UNKNOWN } else { stamp });
        (path, stamp)
    };
    paths.into_iter().map(stamp).collect()
}

/// The record of a component's last build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The component's source in the manifest, as text.
    pub source: String,
    /// The origin of the toolchain that Cargo used. `None` if the source is not a Cargo package, and in records of
    /// older versions of `isomer`.
    #[serde(default)]
    pub toolchain: Option<ToolchainOrigin>,
    /// The settings, other than the toolchain, that affect the code that Cargo makes: the profile and the environment.
    /// Empty if the source is not a Cargo package.
    #[serde(default)]
    pub settings: String,
    /// The environment variables that were read when Cargo built the packages. Empty if the source is not a Cargo
    /// package.
    #[serde(default)]
    pub variables: Variables,
    /// The files from which the component was made.
    pub inputs: Inputs,
    /// The files that the command makes in addition to the component. Changes to these files are ignored.
    #[serde(default)]
    pub made: BTreeSet<PathBuf>,
    /// The files that appeared or changed while the command ran. The next run shows whether the command or the user
    /// wrote them.
    #[serde(default)]
    pub in_doubt: BTreeSet<PathBuf>,
    /// The component's file.
    pub output: PathBuf,
    /// The stamp of the component's file, or `None` if the build failed.
    pub output_stamp: Option<Stamp>,
    /// The SHA-256 of the component's bytes. After a failed build, it is the hash of the last successful build.
    pub digest: String,
}

impl Record {
    /// Returns whether the component is up to date. Changes to files in `foreign` are ignored.
    pub(crate) fn is_fresh(&self, source: &ComponentSource, foreign: &BTreeSet<PathBuf>) -> bool {
        self.source == source_text(source)
            && self.in_doubt.is_subset(foreign)
            && self.output_stamp.is_some()
            && Stamp::of(&self.output) == self.output_stamp
            && self.inputs.iter().all(|(path, stamp)| Stamp::of(path) == *stamp || foreign.contains(path))
    }

    /// Reads the record of a component's last build. Returns `None` if it does not exist or cannot be read.
    pub(crate) fn load(build_dir: &Path, component: &ComponentName) -> Option<Self> {
        serde_json::from_slice(&fs::read(record_path(build_dir, component)).ok()?).ok()
    }

    /// Writes the record to its file in `build_dir`.
    pub(crate) fn store(&self, build_dir: &Path, component: &ComponentName) -> Result<(), PathError> {
        let path = record_path(build_dir, component);
        // Serialization fails for paths that are not UTF-8.
        let text = serde_json::to_vec_pretty(self).map_err(|error| at(&path, "written")(error.into()))?;
        replace(&path, &text)
    }
}

/// Creates the folder of an app's components and records, and returns its path. A `.gitignore` in it excludes
/// everything, because all of it can be built again.
pub(crate) fn build_dir(app_dir: &Path) -> Result<PathBuf, PathError> {
    let dir = app_dir.join(BUILD_DIR);
    let ignore = dir.join(".gitignore");
    if !ignore.exists() {
        make_dir(&dir)?;
        replace(&ignore, b"*\n")?;
    }
    Ok(dir)
}

/// Returns the folder of components that Cargo built with `profile`. Each profile has its own folder, so that a
/// component that was built with one profile is never used for the other.
pub(crate) fn cargo_dir(build_dir: &Path, profile: BuildProfile) -> PathBuf {
    match profile {
        BuildProfile::Release => build_dir.to_owned(),
        BuildProfile::Dev => build_dir.join(DEV_DIR),
    }
}

/// Removes files of earlier builds from `dir`, except those for which `is_wanted` returns true. The arguments of
/// `is_wanted` are the name of the component and the extension of the file.
pub(crate) fn remove_leftovers(dir: &Path, is_wanted: impl Fn(&str, &str) -> bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((component, kind)) = name.to_str().and_then(|name| name.rsplit_once('.')) else { continue };
        if matches!(kind, "json" | "wasm") && !component.is_empty() && !is_wanted(component, kind) {
            // A failure is ignored, because a leftover file only takes up space.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn record_path(build_dir: &Path, component: &ComponentName) -> PathBuf {
    build_dir.join(format!("{component}.json"))
}

/// Returns the source in the manifest as text. If the text changes, the component is out of date.
pub(crate) fn source_text(source: &ComponentSource) -> String {
    format!("{source:?}")
}

/// Returns the SHA-256 of a file in hexadecimal.
pub(crate) fn digest(path: &Path) -> Result<String, PathError> {
    let bytes = fs::read(path).map_err(at(path, "read"))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}
