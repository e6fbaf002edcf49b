//! Compares the schemas of an app's SQL stores with the migrations of a revision, and prepares the files that replace
//! the stores when the next revision takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use isomer_ids::StoreName;

use crate::engines::Engines;
use crate::error::CapabilityError;
use crate::grants::AppGrants;
use crate::resources::AppResources;
use crate::sql::{Replacement, Replacing, Schema, SqlOpenError, snapshot_name};

/// Compares the schemas of the SQL stores of `app` with the app's migrations. Omits stores without migrations. Changes
/// nothing.
///
/// # Errors
/// If a store cannot be opened, if the app's migrations cannot be read, if an applied migration was changed or is
/// missing, or if a new migration comes before an applied one.
pub async fn schemas(
    app: &AppGrants,
    resources: &AppResources,
    engines: &Engines,
) -> Result<BTreeMap<StoreName, Schema>, CapabilityError> {
    let sql = engines.sql(resources);
    let mut found = BTreeMap::new();
    for name in stores(app) {
        if let Some(folder) = migrations(app, resources, name)? {
            let schema = sql.schema(name.as_str(), folder).await.map_err(|error| error.shown_in(&resources.files))?;
            found.insert(name.clone(), schema);
        }
    }
    Ok(found)
}

/// Prepares files in `folder` that replace the files of `app`'s SQL stores, and pauses these stores until the result is
/// dropped. A store with a file in `snapshot` (a folder that an earlier replacement has left) is replaced by that file.
/// Each other store with pending migrations is replaced by a migrated copy.
///
/// # Errors
/// The error of the first store that cannot be prepared. The stores then continue unchanged, and the caller removes the
/// files in `folder`.
pub async fn replace(
    app: &AppGrants,
    resources: &AppResources,
    engines: &Engines,
    snapshot: Option<&Path>,
    folder: &Path,
    deadline: Instant,
) -> Result<Vec<Replacing>, CapabilityError> {
    let sql = engines.sql(resources);
    let mut replacing = Vec::new();
    let shown = |error: SqlOpenError| error.shown_in(&resources.files);
    for name in stores(app) {
        let migrations = migrations(app, resources, name)?;
        let saved = snapshot.map(|snapshot| snapshot.join(snapshot_name(name.as_str()))).filter(|file| file.exists());
        let by = match (saved, migrations) {
            (Some(file), folder) => Replacement::Restored(file, folder),
            (None, Some(folder)) => {
                let schema = sql.schema(name.as_str(), folder.clone()).await.map_err(shown)?;
                if schema.pending.is_empty() {
                    continue;
                }
                Replacement::Migrated(folder)
            }
            (None, None) => continue,
        };
        replacing.push(sql.replace(name.as_str(), by, folder, deadline).await.map_err(shown)?);
    }
    Ok(replacing)
}

/// Returns the SQL stores that at least one component was granted, each once.
fn stores(app: &AppGrants) -> BTreeSet<&StoreName> {
    app.components.values().flat_map(|grants| &grants.sql).collect()
}

/// Returns the path of a store's migrations folder; `None` if the store has no migrations.
pub(crate) fn migrations(
    app: &AppGrants,
    resources: &AppResources,
    name: &StoreName,
) -> Result<Option<PathBuf>, CapabilityError> {
    let folder = app.migrations(name).map(|folder| resources.files.read_only(folder)).transpose();
    folder.map_err(|source| CapabilityError::Migrations { store: name.clone(), source })
}
