//! An app from a registry or an archive, which runs without its sources, in a folder of its own.
//!
//! The user has not written the app's manifest, so its data and the files of the release are kept apart:
//!
//! | path | content |
//! | --- | --- |
//! | `release/DIGEST/` | the files of the release that runs; components can only read them |
//! | `data/` | the data directory, with the folders to which components may write (`dirs/`) |
//! | `.env` | variables for the app's secrets and config, written by the user |
//!
//! Paths in the manifest lead only below `release/DIGEST/` and `data/dirs/`. So a component can neither read nor replace
//! the compiled code, the keys and the stores in `data/`, and links that it creates in `dirs/` are never part of the path
//! of a file of a release.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::CliError;
use isomer_diagnostics::SourceFile;
use isomer_ids::ComponentName;
use isomer_manifest::MANIFEST_FILE;
use isomer_parcel::Contents;
use isomer_parcel::artifact::AppArtifact;
use isomer_seam::Components;

use crate::own_dir::UnpackedComponents;
use crate::release::has_values;
use crate::{AppDir, ValueSources};

/// The folder that contains a folder with the files of the release.
const RELEASES: &str = "release";

/// The name of the folder of a release that is not complete yet. It is not a digest.
const UNFINISHED: &str = "unfinished";

/// The data directory.
const DATA: &str = "data";

/// The file that is locked while the app is used.
const LOCK: &str = "LOCK";

/// Writes the files of a release into `folder`, and opens the app there. Removes the files of an earlier release. `name` is
/// shown as the file name of the manifest.
///
/// # Errors
/// If the app is running from this folder, if a file of the release has the name of settings of the user, if a file cannot
/// be written, or if the manifest or a value is not valid.
pub fn unpack_app(contents: &Contents, folder: &Path, name: &str, values: &ValueSources) -> Result<AppDir, CliError> {
    let cannot_write = || format!("cannot write into `{}`", folder.display());
    make_folder(folder)?;
    let lock = File::create(folder.join(LOCK)).with_context(cannot_write)?;
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
    let source = SourceFile::new(format!("{name}/{MANIFEST_FILE}"), contents.release.manifest.clone());
    let mut app = AppDir::of_manifest(folder.to_owned(), source, values)?;
    let components = components_of(contents, &app)?;
    app.dir = write_release(contents, &folder.join(RELEASES))?;
    app.unpacked = Some(UnpackedComponents { components, data: Some(folder.join(DATA)), _lock: Some(lock) });
    app.check_migrations()?;
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
    app.unpacked = Some(UnpackedComponents { components: components_of(contents, &app)?, data: None, _lock: None });
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

/// Writes the files of a release into `releases`, unless they are there and unchanged, and removes the other releases.
/// Returns the folder of the files. The caller has locked the app's folder.
fn write_release(contents: &Contents, releases: &Path) -> Result<PathBuf, CliError> {
    let digest = AppArtifact::of(&contents.release).context("the app is damaged")?.digest;
    let mut files = vec![(Path::new(MANIFEST_FILE), contents.release.manifest.as_bytes())];
    for (path, part) in &contents.release.files {
        let bytes = contents.parts.get(&part.digest).with_context(|| format!("the bytes of `{path}` are missing"))?;
        files.push((Path::new(path.as_str()), bytes.as_ref()));
    }
    let folders: Vec<_> = contents.release.folders.iter().map(|path| Path::new(path.as_str())).collect();
    let folder = releases.join(digest.as_str());
    if !is_complete(&folder, &files, &folders) {
        let unfinished = releases.join(UNFINISHED);
        remove(&unfinished)?;
        remove(&folder)?;
        make_folder(&unfinished)?;
        folders.iter().try_for_each(|path| make_folder(&unfinished.join(path)))?;
        for (path, bytes) in &files {
            let path = unfinished.join(path);
            make_folder(path.parent().unwrap_or(&unfinished))?;
            write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        fs::rename(&unfinished, &folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    }
    for entry in fs::read_dir(releases).into_iter().flatten().flatten() {
        // The files of earlier releases take only space, so an error is ignored.
        if entry.file_name() != digest.as_str() {
            let _ = remove(&entry.path());
        }
    }
    Ok(folder)
}

/// Returns whether `folder` contains all files and folders of the release, unchanged.
fn is_complete(folder: &Path, files: &[(&Path, &[u8])], folders: &[&Path]) -> bool {
    let has_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    // The size is compared first, so that a file of any size is not read.
    let has_file = |(path, bytes): &(&Path, &[u8])| {
        let path = folder.join(path);
        let found = fs::symlink_metadata(&path);
        found.is_ok_and(|found| found.is_file() && found.len() == bytes.len() as u64)
            && fs::read(&path).is_ok_and(|found| found == *bytes)
    };
    has_folder(folder) && folders.iter().all(|path| has_folder(&folder.join(path))) && files.iter().all(has_file)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot create `{}`", path.display()))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
        let first = unpack(&contents(&[("static/a", "1"), ("static/b", "1")]), &folder).unwrap();
        assert_eq!((first.app.name.as_str(), first.unpacked.as_ref().unwrap().components.len()), ("shop", 1));
        assert!(first.dir.join("empty").is_dir());
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let running = unpack(&contents(&[]), &folder).err().unwrap();
        assert!(running.contains("already running"), "{running}");
        let (files, data) = (first.dir.clone(), first.data_dir());
        assert_eq!(data, folder.join("data"));
        drop(first);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("own"), "kept").unwrap();
        let second = contents(&[("static", "a file now"), ("empty2", "")]);
        let dir = unpack(&second, &folder).unwrap().dir;
        assert_eq!(fs::read_to_string(dir.join("static")).unwrap(), "a file now");
        assert!(!files.exists() && fs::read_to_string(data.join("own")).unwrap() == "kept");
        // Altered files are written again: a file of another size, a folder in place of a file, a link.
        fs::write(dir.join("static"), "altered").unwrap();
        fs::remove_file(dir.join("empty2")).unwrap();
        fs::create_dir(dir.join("empty2")).unwrap();
        assert_eq!(unpack(&second, &folder).unwrap().dir, dir);
        assert_eq!(fs::read_to_string(dir.join("static")).unwrap(), "a file now");
        fs::remove_file(dir.join("static")).unwrap();
        fs::write(folder.join("victim"), "a file now").unwrap();
        std::os::unix::fs::symlink("../../victim", dir.join("static")).unwrap();
        drop(unpack(&second, &folder).unwrap());
        assert!(fs::symlink_metadata(dir.join("static")).unwrap().is_file());
    }

    #[test]
    fn links_that_a_component_has_created_are_not_part_of_a_path() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("shop");
        drop(unpack(&contents(&[]), &folder).unwrap());
        let written = folder.join("data/dirs/w");
        fs::create_dir_all(&written).unwrap();
        std::os::unix::fs::symlink("../..", written.join("x")).unwrap();
        fs::write(folder.join("data/cache.key"), "unchanged").unwrap();
        let app = unpack(&contents(&[("w/x/cache.key", "of the attacker")]), &folder).unwrap();
        assert_eq!(fs::read_to_string(folder.join("data/cache.key")).unwrap(), "unchanged");
        assert!(app.dir.join("w/x/cache.key").is_file());
        // The compiled code, the keys and the stores are not below the folder to which the manifest refers.
        assert!(!app.data_dir().starts_with(&app.dir) && !app.dir.starts_with(app.data_dir()));
        drop(app);
        for path in [".isomer/lock", ".env", "static/.env.local", "isomer.toml", "admin.token"] {
            let error = unpack(&contents(&[(path, "x")]), &folder).err().unwrap();
            assert!(error.contains("would replace settings"), "{error}");
        }
    }

    #[test]
    fn secrets_do_not_come_from_the_environment_of_the_user() {
        let manifest = MANIFEST.replace("routes", "grants.secrets = [\"path\", \"key\"]\nroutes")
            + "[secrets]\npath = { env = \"PATH\" }\nkey = { file = \"../../x\" }\n";
        let folder = tempfile::tempdir().unwrap();
        let mut release = contents(&[]);
        release.release.manifest = manifest;
        fs::create_dir(folder.path().join("release")).unwrap();
        fs::write(folder.path().join("x"), "a file outside the release").unwrap();
        let missing = |values: &ValueSources| {
            let app = unpack_app(&release, folder.path(), "r.example/shop", values).ok().unwrap();
            let missing = app.missing_secrets(|_| true).unwrap();
            (missing.findings.iter().map(|it| it.message.clone()).collect::<Vec<_>>(), missing.variables)
        };
        let (messages, variables) = missing(&ValueSources::default());
        assert_eq!(variables, ["PATH"], "the variable is set, but the app does not get it");
        assert!(
            messages.iter().any(|it| it.contains("`../../x`, which is not one of the app's own files")),
            "{messages:?}"
        );
        fs::write(folder.path().join("values"), "PATH=of the file\n").unwrap();
        let named = ValueSources { env_files: vec![folder.path().join("values")], ..ValueSources::default() };
        assert_eq!(missing(&named).0.len(), 1);
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
