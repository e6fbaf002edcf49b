//! SQL stores whose migrations are still being edited.
//!
//! On a node, an applied migration is final. Under `isomer dev`, a migration is a draft. Before new migrations are
//! applied to a store that is not empty, a copy of the store is saved (`drafts/STORE/N` in the data directory). If a
//! migration is edited, renamed or removed after it was applied, the store can be recreated: from the latest copy that
//! fits the current migrations, or empty if no copy fits. Data that was written after that copy is lost, so the store
//! is recreated only after a confirmation or with a flag. The replaced store is also saved as a copy, which is used
//! again if the edit is reverted.
//!
//! Copies that were saved before new migrations and copies of replaced stores are limited separately. Otherwise ten
//! edits of a draft, which make ten copies of replaced stores, would displace the copy that all ten edits start from.
//!
//! If a process is killed while it replaces a store, the next command that opens the data directory completes the
//! replacement ([`DataDir::open`]).
//!
//! An existing store whose migrations cannot be applied never prevents a new revision from starting: the store stays
//! unchanged, and the revision starts without the store's migrations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_capabilities::sql::{SqlOpenError, snapshot_name};
use isomer_capabilities::{AppResources, CapabilityError, DataDir, Engines, schemas};
use isomer_console::Console;
use isomer_ids::StoreName;
use isomer_manifest::App;

/// The maximum number of copies per store and kind. The oldest copies are removed first.
const KEPT_MAX: usize = 8;

/// The name of a file in the folder of a copy. It marks the copy as made when the store was replaced, and not before a
/// migration.
const REPLACED: &str = "replaced";

/// The maximum time to recreate a store. Requests to the store wait during this time.
const TIME_MAX: Duration = Duration::from_secs(60);

/// The stores whose applied migrations were edited: which of them may be recreated, and which of them were reported to
/// the user as outdated.
pub(crate) struct DraftStores {
    /// Whether stores whose applied migrations were edited are recreated without confirmation.
    recreate: bool,
    /// The stores that may be recreated because the user has confirmed.
    may_recreate: BTreeSet<StoreName>,
    /// The stores that were reported as outdated, each with a hash of the migrations that could not be applied.
    reported: BTreeMap<StoreName, u64>,
}

/// The locations of the app's stores, and the engines that open them.
pub(crate) struct StoreContext<'a> {
    pub(crate) engines: &'a Engines,
    pub(crate) place: &'a AppResources,
    pub(crate) data: &'a DataDir,
}

/// A store whose migrations could not be applied.
pub(crate) struct OutdatedStore {
    pub(crate) store: StoreName,
    /// Whether recreating the store can help: migrations that were already applied have been edited, renamed or
    /// removed.
    pub(crate) can_be_recreated: bool,
}

impl DraftStores {
    /// Creates the initial state. With `recreate`, stores are recreated without confirmation.
    pub(crate) fn new(recreate: bool) -> Self {
        Self { recreate, may_recreate: BTreeSet::new(), reported: BTreeMap::new() }
    }

    /// Allows the next [`DraftStores::apply_migrations`] to recreate the store.
    pub(crate) fn allow_recreation(&mut self, store: StoreName) {
        self.reported.remove(&store);
        self.may_recreate.insert(store);
    }

    /// Applies the migrations of `app` to its stores. If they cannot be applied to an existing store, that store is
    /// outdated: its migrations are removed from `app`. Returns the outdated stores, except those that an earlier call
    /// has already returned because of the same migrations.
    pub(crate) async fn apply_migrations(
        &mut self,
        app: &mut App,
        stores: &StoreContext<'_>,
        console: &Console,
    ) -> Vec<OutdatedStore> {
        let mut outdated = Vec::new();
        let with_migrations = app.sql.iter().filter(|(_, settings)| settings.migrations.is_some());
        let names: Vec<StoreName> = with_migrations.map(|(name, _)| name.clone()).collect();
        for store in names {
            let only = with_store_only(app, &store);
            let file = stores.data.sql().join(snapshot_name(store.as_str()));
            let applied = self.apply_store_migrations(&only, &store, &file, stores, console).await;
            let Err(problem) = applied else {
                self.reported.remove(&store);
                continue;
            };
            // If the store does not exist yet, its migrations stay in `app`: the start of the revision applies them,
            // and reports the error.
            if !file.exists() {
                continue;
            }
            let hash = migrations_hash(&only, stores.place);
            if self.reported.insert(store.clone(), hash) != Some(hash) {
                console.message(&console.renderer().error(problem.as_ref()));
                console.message(&format!(
                    "the SQL store {store} is unchanged; the new revision starts without the store's migrations"
                ));
                outdated.push(OutdatedStore { store: store.clone(), can_be_recreated: is_draft(&problem) });
            }
            app.sql.entry(store).and_modify(|settings| settings.migrations = None);
        }
        outdated
    }

    async fn apply_store_migrations(
        &mut self,
        only: &App,
        store: &StoreName,
        file: &Path,
        stores: &StoreContext<'_>,
        console: &Console,
    ) -> anyhow::Result<()> {
        let copies = StoreCopies::of(stores.data, store);
        let schema = match schemas::schemas(&only.into(), stores.place, stores.engines).await {
            Ok(mut found) => found.remove(store),
            Err(error) => {
                let error = anyhow::Error::new(error);
                if !is_draft(&error) || !(self.recreate || self.may_recreate.remove(store)) {
                    return Err(error);
                }
                let from = copies.recreate(only, stores).await?;
                let how = if from { "from the latest copy that fits them" } else { "empty" };
                console.message(&format!(
                    "the migrations of the SQL store {store} have changed: the store was recreated {how}"
                ));
                return Ok(());
            }
        };
        self.may_recreate.remove(store);
        if schema.is_some_and(|schema| !schema.pending.is_empty()) && file.exists() {
            copies.migrate(only, stores).await?;
        }
        Ok(())
    }
}

/// Returns a copy of the app in which no SQL store except `store` is granted.
fn with_store_only(app: &App, store: &StoreName) -> App {
    let mut app = app.clone();
    for component in app.components.values_mut() {
        component.grants.sql.retain(|granted| granted.value == *store);
    }
    app
}

/// Returns whether the error is that applied migrations were edited, renamed or removed.
fn is_draft(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<CapabilityError>(),
        Some(CapabilityError::Sql(
            SqlOpenError::MigrationChanged { .. }
                | SqlOpenError::MigrationMissing { .. }
                | SqlOpenError::MigrationOutOfOrder { .. }
        ))
    )
}

/// Returns a hash of the paths and contents of an app's migrations.
fn migrations_hash(app: &App, place: &AppResources) -> u64 {
    let isomer_capabilities::AppFiles::Anywhere(dir) = &place.files else { return 0 };
    let mut hasher = DefaultHasher::new();
    for (path, text) in crate::sources::migrations(app, dir) {
        (path, text).hash(&mut hasher);
    }
    hasher.finish()
}

/// The saved copies of a store, each in a numbered folder.
struct StoreCopies {
    store: StoreName,
    folder: PathBuf,
}

impl StoreCopies {
    fn of(data: &DataDir, store: &StoreName) -> Self {
        Self { store: store.clone(), folder: data.drafts().join(store.as_str()) }
    }

    /// Applies new migrations, after saving a copy of the store.
    async fn migrate(&self, app: &App, stores: &StoreContext<'_>) -> anyhow::Result<()> {
        self.replace(app, stores, None).await.map_err(anyhow::Error::new)
    }

    /// Recreates the store from the latest copy that fits the app's migrations. If no copy fits, creates an empty store
    /// and returns `false`.
    async fn recreate(&self, app: &App, stores: &StoreContext<'_>) -> anyhow::Result<bool> {
        for number in self.numbers().into_iter().rev() {
            let folder = self.at(number);
            if !folder.join(snapshot_name(self.store.as_str())).exists() {
                continue;
            }
            match self.replace(app, stores, Some(&folder)).await.map_err(anyhow::Error::new) {
                Ok(()) => return Ok(true),
                Err(error) if is_draft(&error) => {}
                Err(error) => return Err(error),
            }
        }
        // A database file of zero bytes is an empty database.
        let empty = tempfile::tempdir().context("cannot create a folder for an empty store")?;
        fs::write(empty.path().join(snapshot_name(self.store.as_str())), "").context("cannot create an empty store")?;
        self.replace(app, stores, Some(empty.path())).await.map_err(anyhow::Error::new)?;
        Ok(false)
    }

    async fn replace(&self, app: &App, stores: &StoreContext<'_>, from: Option<&Path>) -> Result<(), CapabilityError> {
        let folder = self.at(self.numbers().last().map_or(1, |last| last + 1));
        let deadline = Instant::now() + TIME_MAX;
        let replaced = schemas::replace(&app.into(), stores.place, stores.engines, from, &folder, deadline).await;
        let switched = replaced.and_then(|mut replacing| {
            let failed = |source| SqlOpenError::Io { path: folder.clone(), source };
            replacing.iter_mut().try_for_each(|store| store.switch().map_err(failed)).map_err(CapabilityError::Sql)
        });
        let is_kept = folder.join(snapshot_name(self.store.as_str())).exists();
        if switched.is_err() && !is_kept {
            // If the folder cannot be removed, the next copy overwrites it.
            let _ = fs::remove_dir_all(&folder);
        }
        if is_kept && from.is_some() {
            // If this write fails, the copy counts as one that was saved before a migration. At worst, it then
            // displaces an older copy of that kind.
            let _ = fs::write(folder.join(REPLACED), "");
        }
        self.sweep();
        switched
    }

    fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut numbers: Vec<u64> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    fn at(&self, number: u64) -> PathBuf {
        self.folder.join(number.to_string())
    }

    /// Removes the oldest copies until at most [`KEPT_MAX`] copies of stores that were replaced, and at most
    /// [`KEPT_MAX`] other copies, are left.
    fn sweep(&self) {
        let is_replaced = |number: &u64| self.at(*number).join(REPLACED).exists();
        let (replaced, before): (Vec<u64>, Vec<u64>) = self.numbers().into_iter().partition(is_replaced);
        for numbers in [replaced, before] {
            for number in &numbers[..numbers.len().saturating_sub(KEPT_MAX)] {
                // If a copy cannot be removed, the next call tries again.
                let _ = fs::remove_dir_all(self.at(*number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_stores_do_not_push_out_the_copy_that_they_were_made_from() {
        let dir = tempfile::tempdir().expect("a folder");
        let copies = StoreCopies { store: StoreName::new("notes").expect("a name"), folder: dir.path().to_owned() };
        let copy = |number: u64, replaced: bool| {
            fs::create_dir_all(copies.at(number)).expect("made");
            if replaced {
                fs::write(copies.at(number).join(REPLACED), "").expect("written");
            }
            copies.sweep();
        };
        copy(1, false);
        for number in 2..30 {
            copy(number, true);
        }
        assert_eq!(copies.numbers(), [1, 22, 23, 24, 25, 26, 27, 28, 29]);
        for number in 30..40 {
            copy(number, false);
        }
        assert_eq!(copies.numbers().first(), Some(&22));
        assert_eq!(copies.numbers().len(), 2 * KEPT_MAX);
    }
}
