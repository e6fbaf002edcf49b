//! The sources of a revision: the files to watch, and a snapshot that shows whether they have changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use isomer_manifest::{App, SecretSource};
use isomer_project::AppDir;
use isomer_seam::Components;
use isomer_toolchain::{BuildProfile, WatchSet, watch_paths};

/// Everything that a revision is created from. Equal snapshots produce equal revisions.
#[derive(PartialEq)]
pub(crate) struct SourceSnapshot {
    manifest: String,
    app: App,
    environment: BTreeMap<String, String>,
    components: Components,
    migrations: BTreeMap<PathBuf, Vec<u8>>,
    files: BTreeMap<PathBuf, Option<Stamp>>,
}

/// The modification time and the size of a file.
type Stamp = (Option<SystemTime>, u64);

impl SourceSnapshot {
    /// Reads the current sources of `app`. `components` are its built components.
    pub(crate) fn of(app: &AppDir, components: Components) -> Self {
        Self {
            manifest: app.source.text().to_owned(),
            app: app.app.clone(),
            environment: app.values.environment.clone(),
            migrations: migrations(&app.app, &app.dir),
            files: stamps(app),
            components,
        }
    }

    /// Returns the snapshot without the contents of migrations. If the app has migrations, the result differs from
    /// every later snapshot, so the next build starts a new revision.
    pub(crate) fn without_migrations(self) -> Self {
        Self { migrations: BTreeMap::new(), ..self }
    }
}

/// Returns the files to watch for an app. If the last build failed, or the revision that it made could not be started
/// (`has_failed`), includes the sources of all packages in the app's folder.
pub(crate) fn watch_set(app: &AppDir, profile: BuildProfile, has_failed: bool) -> WatchSet {
    let mut wanted = watch_paths(&app.app, &app.dir, profile);
    if has_failed {
        wanted.add_packages(&app.dir);
    }
    for file in app.values.files.iter().cloned().chain(files(app)) {
        wanted.add(file);
    }
    wanted
}

/// Returns the files that a revision reads when it starts, in addition to components and migrations: secrets, and the
/// certificate authorities of its granted hosts.
fn files(app: &AppDir) -> impl Iterator<Item = PathBuf> + '_ {
    let secrets = app.app.secrets.values().filter_map(|source| match source {
        SecretSource::File(path) => Some(path),
        SecretSource::Env(_) => None,
    });
    let hosts = app.app.components.values().flat_map(|component| &component.grants.http);
    let authorities = hosts.filter_map(|host| host.value.authority.as_ref());
    secrets.chain(authorities).map(|path| app.dir.join(path))
}

/// Returns the stamps of the files that a revision reads when it starts. Contents are not stored, because they may be
/// secret.
fn stamps(app: &AppDir) -> BTreeMap<PathBuf, Option<Stamp>> {
    let stamp = |path: &PathBuf| std::fs::metadata(path).ok().map(|found| (found.modified().ok(), found.len()));
    files(app).map(|path| (path.clone(), stamp(&path))).collect()
}

/// Returns the contents of all migration files. Skips files that cannot be read; they are reported when the migrations
/// are applied.
pub(crate) fn migrations(app: &App, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = app.sql.values().filter_map(|store| store.migrations.as_ref());
    let files = folders.flat_map(|folder| std::fs::read_dir(dir.join(folder)).into_iter().flatten().flatten());
    let is_migration = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sql")) && path.is_file()
    };
    let paths = files.map(|file| file.path()).filter(is_migration);
    paths.filter_map(|path| Some((path.clone(), std::fs::read(&path).ok()?))).collect()
}
