//! An app of this machine as a release: its manifest, its built components, and the files of its folder that it is granted or migrated with,
//! certificate authorities of its hosts among them.
//!
//! A folder that may be written is not sent: on a node it lies with the app's data, and is empty at first.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component as PathComponent, Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use isomer_admin::TOKEN_FILE;
use isomer_api::deploy::PARTS_MAX;
use isomer_api::{PartPath, Release, ReleasePart};
use isomer_console::CommandError;
use isomer_diagnostics::Diagnostic;
use isomer_ids::{Digest, HostPattern};
use isomer_project::{AppDir, ENV_FILE};
use isomer_seam::Components;
use sha2::Digest as _;

/// What is not sent from the app's folder. Values of this machine (`.env`, `.env.local`) are not either, from no folder.
const LEFT_OUT: [&str; 3] = [".isomer", ".git", "target"];

/// A release with the bytes that it is made of.
pub(crate) struct Packed {
    pub(crate) release: Release,
    pub(crate) bytes: BTreeMap<Digest, Bytes>,
}

impl Packed {
    pub(crate) fn new(
        app: &AppDir,
        components: Components,
        shape: &str,
        hosts: Option<Vec<HostPattern>>,
    ) -> Result<Self, CommandError> {
        let mut bytes = BTreeMap::new();
        let components =
            components.into_iter().map(|(name, wasm)| (name.to_string(), keep(&mut bytes, Bytes::from_owner(wasm))));
        let components = components.collect();
        let mut files = BTreeMap::new();
        let Paths { files: paths, empty } = paths(app)?;
        let folders = empty.iter().map(|path| part_path(path)).collect::<Result<BTreeSet<_>, _>>()?;
        for path in paths {
            let name = part_path(&path)?;
            let whole = app.dir.join(&path);
            let content = std::fs::read(&whole).with_context(|| format!("cannot read `{}`", whole.display()))?;
            files.insert(name, keep(&mut bytes, content.into()));
            if files.len() + folders.len() > PARTS_MAX {
                return Err(CommandError::failed(
                    format!("the folders that the app is granted hold more than {PARTS_MAX} files and empty folders"),
                    "grant the folders that are needed, not one above them",
                ));
            }
        }
        let manifest = app.manifest()?.text().to_owned();
        let shape = shape.to_owned();
        Ok(Self { release: Release { manifest, shape, components, files, folders, hosts, message: None }, bytes })
    }
}

/// Remembers bytes under their digest.
pub(crate) fn keep(kept: &mut BTreeMap<Digest, Bytes>, bytes: Bytes) -> ReleasePart {
    let digest = Digest::from(<[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
    let part = ReleasePart { digest: digest.clone(), bytes: bytes.len() as u64 };
    kept.insert(digest, bytes);
    part
}

/// What is sent, relative to the app's folder.
#[derive(Default)]
struct Paths {
    files: BTreeSet<PathBuf>,
    /// Folders that hold nothing.
    empty: BTreeSet<PathBuf>,
}

fn paths(app: &AppDir) -> Result<Paths, CommandError> {
    let granted = app.app.components.values().flat_map(|component| &component.grants.dirs);
    let granted = granted.filter(|grant| !grant.value.write).map(|grant| &grant.value.host);
    let migrations = app.app.sql.values().filter_map(|store| store.migrations.as_ref());
    let folders: BTreeSet<&PathBuf> = granted.chain(migrations).collect();
    let mut paths = Paths::default();
    let root = app.dir.canonicalize().with_context(|| format!("cannot open `{}`", app.dir.display()))?;
    for folder in folders {
        let own = own(folder)?;
        if !root.join(&own).is_dir() {
            return Err(missing(app, folder));
        }
        walk(&root, &own, &mut paths)?;
    }
    let hosts = app.app.components.values().flat_map(|component| &component.grants.http);
    for authority in hosts.filter_map(|host| host.value.authority.as_ref()) {
        let path = own(authority)?;
        // What it leads to is read later, which says what is wrong with it.
        let is_link = std::fs::symlink_metadata(root.join(&path)).is_ok_and(|found| found.is_symlink());
        if !is_link || leads_to_file(&root, &path)? {
            paths.files.insert(path);
        }
    }
    Ok(paths)
}

/// Why a granted folder that is to be sent cannot be: it is not there. Those of migrations were looked for when the app was built.
fn missing(app: &AppDir, folder: &Path) -> CommandError {
    let grants = app.app.components.values().flat_map(|component| &component.grants.dirs);
    let at = grants.filter(|grant| !grant.value.write && grant.value.host == folder).map(|grant| grant.span).next();
    let finding = Diagnostic::error(format!("the granted folder `{}` is not there", folder.display()))
        .code("missing-folder")
        .at(at.unwrap_or_default(), "")
        .hint("make it, or correct `host`, which is relative to isomer.toml");
    CommandError::findings(vec![finding], &app.source)
}

/// A path that the manifest names, which must be one of the app's folder.
fn own(path: &Path) -> Result<PathBuf, CommandError> {
    inside(path).ok_or_else(|| {
        CommandError::failed(
            format!("`{}` is not in the app's folder", path.display()),
            "on a node an app has its own folder only: move it there, and write a relative path",
        )
    })
}

/// All files below a folder, and the folders that hold nothing. A link is followed if it leads to a file of the app's folder.
fn walk(root: &Path, folder: &Path, paths: &mut Paths) -> Result<(), CommandError> {
    let whole = root.join(folder);
    let mut is_empty = true;
    let entries = std::fs::read_dir(&whole).with_context(|| format!("cannot read the folder `{}`", whole.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read the folder `{}`", whole.display()))?;
        let path = folder.join(entry.file_name());
        // Where the app's folder itself was granted, and values of this machine wherever they are.
        let name = entry.file_name();
        if (folder.as_os_str().is_empty() && LEFT_OUT.iter().any(|left_out| name == *left_out)) || has_values(&name) {
            continue;
        }
        is_empty = false;
        let kind = entry.file_type().with_context(|| format!("cannot read `{}`", path.display()))?;
        if kind.is_dir() {
            walk(root, &path, paths)?;
        } else if kind.is_file() || leads_to_file(root, &path)? {
            paths.files.insert(path);
        }
        if paths.files.len() + paths.empty.len() > PARTS_MAX {
            // Counted again by the caller, who says so.
            return Ok(());
        }
    }
    // The app's folder itself is always there.
    if is_empty && !folder.as_os_str().is_empty() {
        paths.empty.insert(folder.to_owned());
    }
    Ok(())
}

/// Returns whether a file of this name has values of this machine: `.env`, `.env.local`, the token of a node whose data directory lies here.
fn has_values(name: &OsStr) -> bool {
    if name == TOKEN_FILE {
        return true;
    }
    let after = name.as_encoded_bytes().strip_prefix(ENV_FILE.as_bytes());
    after.is_some_and(|after| after.is_empty() || after.starts_with(b"."))
}

fn leads_to_file(root: &Path, path: &Path) -> Result<bool, CommandError> {
    let whole = root.join(path);
    let goal = whole.canonicalize().with_context(|| format!("cannot follow the link `{}`", whole.display()))?;
    if goal.starts_with(root) && goal.is_file() {
        return Ok(true);
    }
    Err(CommandError::failed(
        format!("`{}` is no file of the app's folder", path.display()),
        "links may lead to files of the app's folder; sockets, devices and links to folders cannot be sent",
    ))
}

/// A relative path that does not leave the folder it starts in, without `.`.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            PathComponent::Normal(name) => inside.push(name),
            PathComponent::CurDir => {}
            _ => return None,
        }
    }
    Some(inside)
}

fn part_path(path: &Path) -> Result<PartPath, CommandError> {
    let text = path.to_str().with_context(|| format!("the name of `{}` is not UTF-8", path.display()))?;
    text.parse().map_err(|error: isomer_ids::InvalidText| CommandError::from(error))
}
