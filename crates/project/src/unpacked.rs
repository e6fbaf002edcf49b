//! An app from a registry or an archive, which runs without its sources: its files are written into a separate folder.
//!
//! The folder belongs to the app, not to the release. So data and the folders that the app may write to are kept when a
//! newer release is unpacked. A component may have created links in a folder that it may write to, so each path is
//! resolved inside the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use isomer_api::PartPath;
use isomer_console::CliError;
use isomer_diagnostics::SourceFile;
use isomer_ids::ComponentName;
use isomer_manifest::MANIFEST_FILE;
use isomer_parcel::Contents;
use isomer_seam::Components;

use crate::own_dir::UnpackedComponents;
use crate::release::has_values;
use crate::{AppDir, ValueSources};

/// The file, inside [`AppDir::OWN_DIR`], that lists the files of the release that is unpacked.
const LIST: &str = "unpacked.json";

/// The file, inside [`AppDir::OWN_DIR`], that is locked while the app is used.
const LOCK: &str = "unpacked.lock";

/// The temporary name, inside [`AppDir::OWN_DIR`], of a file that is not complete yet.
const UNFINISHED: &str = "unpacked.tmp";

/// The maximum size in bytes of the list of files.
const LIST_BYTES_MAX: u64 = 16 << 20;

/// Writes the files of a release into `folder`, and opens the app there. Removes the files of an earlier release that
/// are not part of this one. `name` is shown as the file name of the manifest.
///
/// # Errors
/// If the app is running from this folder, if a file of the release would replace a file that is not the release's, if
/// a file cannot be written, or if the manifest or a value is not valid.
pub fn unpack_app(contents: &Contents, folder: &Path, name: &str, values: &ValueSources) -> Result<AppDir, CliError> {
    let own = folder.join(AppDir::OWN_DIR);
    let cannot_write = || format!("cannot write into `{}`", folder.display());
    std::fs::create_dir_all(&own).with_context(cannot_write)?;
    let lock = File::create(own.join(LOCK)).with_context(cannot_write)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(CliError::failed(
                format!("`{name}` is already running from `{}`", folder.display()),
                "stop the running app first",
            ));
        }
        Err(TryLockError::Error(error)) => return Err(anyhow::Error::new(error).context(cannot_write()).into()),
    }
    check_paths(contents)?;
    let dir = Dir::open_ambient_dir(folder, ambient_authority()).with_context(cannot_write)?;
    write_files(contents, &dir, folder)?;
    let source = SourceFile::new(format!("{name}/{MANIFEST_FILE}"), contents.release.manifest.clone());
    let mut app = AppDir::of_manifest(folder.to_owned(), source, values)?;
    app.check_migrations()?;
    app.unpacked = Some(UnpackedComponents { components: components_of(contents, &app)?, _lock: Some(lock) });
    Ok(app)
}

/// Opens the app of a release to plan it, without writing its files. `name` is shown as the file name of the manifest.
///
/// # Errors
/// If the manifest or a value is not valid, or if the release does not have exactly the components of its manifest.
pub fn open_packed(contents: &Contents, name: &str, values: &ValueSources) -> Result<AppDir, CliError> {
    let source = SourceFile::new(format!("{name}/{MANIFEST_FILE}"), contents.release.manifest.clone());
    // The app has no folder on this machine, so there is no `.env` either.
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let mut app = AppDir::of_manifest(folder.path().to_owned(), source, values)?;
    app.unpacked = Some(UnpackedComponents { components: components_of(contents, &app)?, _lock: None });
    Ok(app)
}

/// Returns the bytes of the components of a release, which must be exactly those that its manifest describes.
fn components_of(contents: &Contents, app: &AppDir) -> Result<Components, CliError> {
    let release = &contents.release;
    let described: BTreeSet<&str> = app.app.components.keys().map(ComponentName::as_str).collect();
    let contained: BTreeSet<&str> = release.components.keys().map(String::as_str).collect();
    if let Some(name) = described.symmetric_difference(&contained).next() {
        let problem = if described.contains(name) { "is missing" } else { "is not in its manifest" };
        return Err(CliError::failed(
            format!("component `{name}` of the app {problem}"),
            "the app is damaged: build and push it again",
        ));
    }
    let bytes = app.app.components.keys().map(|name| {
        let part = release.components.get(name.as_str()).and_then(|part| contents.parts.get(&part.digest));
        let bytes = part.with_context(|| format!("the bytes of component `{name}` are missing"))?;
        Ok((name.clone(), bytes.as_ref().into()))
    });
    bytes.collect::<anyhow::Result<BTreeMap<_, _>>>().map_err(CliError::from)
}

/// Checks that no file of the release has the name of a file that belongs to the folder or its user.
fn check_paths(contents: &Contents) -> Result<(), CliError> {
    let release = &contents.release;
    for path in release.files.keys().chain(&release.folders) {
        let mut names = path.as_str().split('/');
        let first = names.clone().next().unwrap_or_default();
        if first == AppDir::OWN_DIR || path.as_str() == MANIFEST_FILE || names.any(|name| has_values(name.as_ref())) {
            return Err(CliError::failed(
                format!("the app contains a file `{path}`, which would replace settings of this machine"),
                "do not use this app",
            ));
        }
    }
    Ok(())
}

fn write_files(contents: &Contents, dir: &Dir, folder: &Path) -> Result<(), CliError> {
    let release = &contents.release;
    let list = Path::new(AppDir::OWN_DIR).join(LIST);
    let named = |path: &str| folder.join(path).display().to_string();
    let mut files = BTreeMap::new();
    for (path, part) in &release.files {
        let bytes = contents.parts.get(&part.digest).with_context(|| format!("the bytes of `{path}` are missing"))?;
        files.insert(path.as_str(), bytes.as_ref());
    }
    files.insert(MANIFEST_FILE, release.manifest.as_bytes());
    // The list is written before the files, and contains the earlier ones too, so an interrupted command leaves no file
    // that is not listed.
    let earlier = read_list(dir, &list);
    let earlier: BTreeSet<&str> = earlier.iter().map(PartPath::as_str).collect();
    let all: BTreeSet<&str> = earlier.iter().copied().chain(files.keys().copied()).collect();
    write(dir, &list, &json(&all)).with_context(|| format!("cannot write `{}`", named(LIST)))?;
    for path in earlier.iter().filter(|path| !files.contains_key(*path)) {
        // If the path cannot be resolved inside the folder, the file does not exist, or a link on its path leads out of
        // the folder.
        if dir.symlink_metadata(path).is_ok() {
            dir.remove_file(path).with_context(|| format!("cannot remove `{}`", named(path)))?;
        }
        // Removes a folder if it is empty now, because the new release may have a file with this name.
        let mut above = Path::new(path).parent();
        while let Some(parent) = above.filter(|parent| dir.remove_dir(parent).is_ok()) {
            above = parent.parent();
        }
    }
    for (path, bytes) in &files {
        let path = Path::new(path);
        let is_current = || dir.read(path).is_ok_and(|found| found == *bytes);
        if !is_current() {
            write(dir, path, bytes).with_context(|| format!("cannot write `{}`", folder.join(path).display()))?;
        }
    }
    for path in &release.folders {
        dir.create_dir_all(path.as_str()).with_context(|| format!("cannot create `{}`", named(path.as_str())))?;
    }
    let current: BTreeSet<&str> = files.keys().copied().collect();
    write(dir, &list, &json(&current)).with_context(|| format!("cannot write `{}`", named(LIST)))?;
    Ok(())
}

/// Writes a file under a temporary name and renames it. So the file is always complete, and a link with its name is
/// replaced and not followed.
fn write(dir: &Dir, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = PathBuf::from(AppDir::OWN_DIR).join(UNFINISHED);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        dir.create_dir_all(parent)?;
    }
    dir.write(&unfinished, bytes)?;
    dir.rename(&unfinished, dir, path)
}

/// Returns the files of the release that was unpacked before. A damaged list counts as empty: its files then stay.
fn read_list(dir: &Dir, list: &Path) -> BTreeSet<PartPath> {
    let is_small = dir.metadata(list).is_ok_and(|metadata| metadata.len() <= LIST_BYTES_MAX);
    let bytes = is_small.then(|| dir.read(list).ok()).flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn json(paths: &BTreeSet<&str>) -> Vec<u8> {
    serde_json::to_vec(paths).expect("texts can be written as JSON")
}

#[cfg(test)]
mod tests {
    use isomer_api::Release;
    use isomer_parcel::add_part;

    use super::*;

    const MANIFEST: &str =
        "[app]\nname = \"shop\"\nversion = \"1.0.0\"\n\n[components.web]\nwasm = \"web.wasm\"\nroutes = [\"/...\"]\n";

    fn contents(files: &[(&str, &str)]) -> Contents {
        let mut parts = BTreeMap::new();
        let components = [("web".to_owned(), add_part(&mut parts, "wasm".into()))].into();
        let files =
            files.iter().map(|(path, text)| (path.parse().unwrap(), add_part(&mut parts, (*text).to_owned().into())));
        let files = files.collect();
        let release = Release {
            manifest: MANIFEST.to_owned(),
            shape: "monolith".to_owned(),
            components,
            files,
            folders: ["empty".parse().unwrap()].into(),
            hosts: None,
            message: None,
            signatures: Vec::new(),
        };
        Contents { release, parts }
    }

    fn unpack(contents: &Contents, folder: &Path) -> Result<AppDir, String> {
        unpack_app(contents, folder, "r.example/shop", &ValueSources::default())
            .map_err(|error| error.render(&isomer_diagnostics::Renderer::new(false)).0)
    }

    #[test]
    fn a_newer_release_replaces_the_files_of_the_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("shop");
        let read = |path: &str| std::fs::read_to_string(folder.join(path)).ok();
        let first = unpack(&contents(&[("static/a", "1"), ("static/b", "1")]), &folder).unwrap();
        assert_eq!((first.app.name.as_str(), first.unpacked.as_ref().unwrap().components.len()), ("shop", 1));
        assert!(folder.join("empty").is_dir());
        let running = unpack(&contents(&[]), &folder).err().unwrap();
        assert!(running.contains("already running"), "{running}");
        drop(first);
        std::fs::write(folder.join("own"), "kept").unwrap();
        std::fs::write(folder.join("static/b"), "altered").unwrap();
        drop(unpack(&contents(&[("static/b", "1"), ("static/c", "2")]), &folder).unwrap());
        assert_eq!(
            ["static/a", "static/b", "static/c", "own"].map(read),
            [None, Some("1".to_owned()), Some("2".to_owned()), Some("kept".to_owned())]
        );
        drop(unpack(&contents(&[("static", "a file now")]), &folder).unwrap());
        assert_eq!(read("static").unwrap(), "a file now");
    }

    #[test]
    fn files_stay_in_the_folder_of_the_app() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("shop");
        drop(unpack(&contents(&[]), &folder).unwrap());
        std::os::unix::fs::symlink("..", folder.join("link")).unwrap();
        std::os::unix::fs::symlink("../victim", folder.join("file")).unwrap();
        std::fs::write(outside.path().join("victim"), "unchanged").unwrap();
        let error = unpack(&contents(&[("link/new", "x")]), &folder).err().unwrap();
        assert!(error.contains("cannot write") && !outside.path().join("new").exists(), "{error}");
        drop(unpack(&contents(&[("file", "x")]), &folder).unwrap());
        assert_eq!(std::fs::read_to_string(outside.path().join("victim")).unwrap(), "unchanged");
        for path in [".isomer/lock", ".env", "static/.env.local", "isomer.toml", "admin.token"] {
            let error = unpack(&contents(&[(path, "x")]), &folder).err().unwrap();
            assert!(error.contains("would replace settings"), "{error}");
        }
    }

    #[test]
    fn the_components_are_those_of_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let mut other = contents(&[]);
        let part = other.release.components.remove("web").unwrap();
        let error = unpack(&other, folder.path()).err().unwrap();
        assert!(error.contains("`web` of the app is missing"), "{error}");
        other.release.components = [("web".to_owned(), part.clone()), ("x".to_owned(), part)].into();
        let error = unpack(&other, folder.path()).err().unwrap();
        assert!(error.contains("`x` of the app is not in its manifest"), "{error}");
    }
}
