//! Packs an app on this machine as a release: its manifest, its built components, and the files in the app's folder to
//! which the manifest refers (granted folders, migrations, certificates of authorities).
//!
//! Folders that the app may write to are not packed. On a node, they belong to the app's data and are empty at first.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component as PathComponent, Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use isomer_api::deploy::PARTS_MAX;
use isomer_api::{PartPath, Release, TOKEN_FILE};
use isomer_console::CliError;
use isomer_diagnostics::Diagnostic;
use isomer_ids::HostPattern;
use isomer_manifest::SecretSource;
use isomer_parcel::{Contents, add_part};
use isomer_seam::Components;

use crate::{AppDir, ENV_FILE};

/// Files and folders that are not packed if they are directly in the app's folder. Files that [`has_values`] recognises
/// are left out of all folders.
const LEFT_OUT: [&str; 3] = [".isomer", ".git", "target"];

/// Packs the app and its built components as a release that runs in `shape`.
///
/// # Errors
/// If the manifest names a file or folder that does not exist, that is outside of the app's folder, or that cannot be
/// read; if there are more than [`PARTS_MAX`] files and empty folders.
pub fn pack_release(
    app: &AppDir,
    components: Components,
    shape: &str,
    hosts: Option<Vec<HostPattern>>,
) -> Result<Contents, CliError> {
    let mut parts = BTreeMap::new();
    let components =
        components.into_iter().map(|(name, wasm)| (name.to_string(), add_part(&mut parts, Bytes::from_owner(wasm))));
    let components = components.collect();
    let mut files = BTreeMap::new();
    let ReleasePaths { files: paths, empty } = release_paths(app)?;
    let folders = empty.iter().map(|path| part_path(path)).collect::<Result<BTreeSet<_>, _>>()?;
    for path in paths {
        let name = part_path(&path)?;
        let whole = app.dir.join(&path);
        let content = std::fs::read(&whole).with_context(|| format!("cannot read `{}`", whole.display()))?;
        files.insert(name, add_part(&mut parts, content.into()));
        if files.len() + folders.len() > PARTS_MAX {
            return Err(CliError::failed(
                format!("the granted folders contain more than {PARTS_MAX} files and empty folders"),
                "grant only the folders that are needed",
            ));
        }
    }
    let manifest = app.manifest()?.text().to_owned();
    let shape = shape.to_owned();
    let (message, signatures) = (None, Vec::new());
    let release = Release { manifest, shape, components, files, folders, hosts, message, signatures };
    Ok(Contents { release, parts })
}

/// Refuses a release that contains the file of a secret. A node may have it, because the app's owner chooses the node; a program
/// or a registry passes it on to all users of the app.
///
/// # Errors
/// If a file of the release is the file of a secret, or a link to it.
pub fn check_no_secrets(app: &AppDir, release: &Release) -> Result<(), CliError> {
    for (name, source) in &app.app.secrets {
        let SecretSource::File(path) = source else { continue };
        let plain = relative_inside(path);
        let target = app.dir.join(path).canonicalize().ok();
        let is_secret = |sent: &&PartPath| {
            let sent = Path::new(sent.as_str());
            plain.as_deref() == Some(sent) || (target.is_some() && app.dir.join(sent).canonicalize().ok() == target)
        };
        if let Some(sent) = release.files.keys().find(is_secret) {
            return Err(CliError::failed(
                format!(
                    "the file `{sent}` of the secret `{name}` is in a granted folder, so all users of the app could read it"
                ),
                "move the file out of the granted folder, or use a variable: { env = \"NAME\" }",
            ));
        }
    }
    Ok(())
}

/// The paths that a release contains, relative to the app's folder.
#[derive(Default)]
struct ReleasePaths {
    files: BTreeSet<PathBuf>,
    /// The empty folders.
    empty: BTreeSet<PathBuf>,
}

fn release_paths(app: &AppDir) -> Result<ReleasePaths, CliError> {
    let granted = app.app.components.values().flat_map(|component| &component.grants.dirs);
    let granted = granted.filter(|grant| !grant.value.write).map(|grant| &grant.value.host);
    let migrations = app.app.sql.values().filter_map(|store| store.migrations.as_ref());
    let folders: BTreeSet<&PathBuf> = granted.chain(migrations).collect();
    let mut paths = ReleasePaths::default();
    let root = app.dir.canonicalize().with_context(|| format!("cannot open `{}`", app.dir.display()))?;
    for folder in folders {
        let own = in_app_dir(folder)?;
        if !root.join(&own).is_dir() {
            return Err(missing_folder(app, folder));
        }
        walk(&root, &own, &mut paths)?;
    }
    let hosts = app.app.components.values().flat_map(|component| &component.grants.http);
    for authority in hosts.filter_map(|host| host.value.authority.as_ref()) {
        let path = in_app_dir(authority)?;
        // Only symbolic links are checked here. A file that does not exist is reported when it is read.
        let is_link = std::fs::symlink_metadata(root.join(&path)).is_ok_and(|found| found.is_symlink());
        if !is_link || leads_to_file(&root, &path)? {
            paths.files.insert(path);
        }
    }
    Ok(paths)
}

/// Returns the error for a granted folder that does not exist. Folders of migrations are not considered, because the
/// build has already checked that they exist.
fn missing_folder(app: &AppDir, folder: &Path) -> CliError {
    let grants = app.app.components.values().flat_map(|component| &component.grants.dirs);
    let at = grants.filter(|grant| !grant.value.write && grant.value.host == folder).map(|grant| grant.span).next();
    let finding = Diagnostic::error(format!("the granted folder `{}` does not exist", folder.display()))
        .code("missing-folder")
        .at(at.unwrap_or_default(), "")
        .hint("create the folder, or correct `host`, which is relative to isomer.toml");
    CliError::findings(vec![finding], &app.source)
}

/// Returns a path that the manifest names, relative to the app's folder. It is an error if the path is outside of the
/// folder.
fn in_app_dir(path: &Path) -> Result<PathBuf, CliError> {
    relative_inside(path).ok_or_else(|| {
        CliError::failed(
            format!("`{}` is not in the app's folder", path.display()),
            "a node has only the app's own folder: move the file there, and write a relative path",
        )
    })
}

/// Adds all files and empty folders below `folder` to `paths`. A symbolic link is followed if it points to a file in
/// the app's folder. It is an error if it points elsewhere.
fn walk(root: &Path, folder: &Path, paths: &mut ReleasePaths) -> Result<(), CliError> {
    let whole = root.join(folder);
    let mut is_empty = true;
    let entries = std::fs::read_dir(&whole).with_context(|| format!("cannot read the folder `{}`", whole.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read the folder `{}`", whole.display()))?;
        let path = folder.join(entry.file_name());
        // `LEFT_OUT` applies only to the app's folder itself; files that `has_values` recognises are left out of all
        // folders.
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
            // Stops collecting paths: the release has too many. [`pack_release`] also counts them, and returns the
            // error.
            return Ok(());
        }
    }
    // An empty folder is added, except the app's folder itself (an empty relative path), which always exists on the node.
    if is_empty && !folder.as_os_str().is_empty() {
        paths.empty.insert(folder.to_owned());
    }
    Ok(())
}

/// Returns whether a file with this name contains secrets or settings of this machine, which must not be uploaded. Such
/// files are `.env`, `.env.local` and similar ones, and the token file of a node whose data directory is in the app's
/// folder.
pub(crate) fn has_values(name: &OsStr) -> bool {
    if name == TOKEN_FILE {
        return true;
    }
    let after = name.as_encoded_bytes().strip_prefix(ENV_FILE.as_bytes());
    after.is_some_and(|after| after.is_empty() || after.starts_with(b"."))
}

fn leads_to_file(root: &Path, path: &Path) -> Result<bool, CliError> {
    let whole = root.join(path);
    let goal =
        whole.canonicalize().with_context(|| format!("cannot follow the symbolic link `{}`", whole.display()))?;
    if goal.starts_with(root) && goal.is_file() {
        return Ok(true);
    }
    Err(CliError::failed(
        format!("`{}` is not a file in the app's folder", path.display()),
        "symbolic links may point to files in the app's folder; sockets, devices and symbolic links to folders cannot be deployed",
    ))
}

/// Returns a relative path without `.` segments, or `None` if the path is absolute or contains `..`.
fn relative_inside(path: &Path) -> Option<PathBuf> {
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

fn part_path(path: &Path) -> Result<PartPath, CliError> {
    let text = path.to_str().with_context(|| format!("the name of `{}` is not UTF-8", path.display()))?;
    text.parse().map_err(|error: isomer_ids::InvalidText| CliError::from(error))
}
