//! SQL stores while their migrations are written.
//!
//! A migration that was applied is final on a node; here it is a draft. So before new migrations are applied to a store that has something in
//! it, the store as it was is kept (`drafts/STORE/N` in the data directory), and where a migration was edited, renamed or removed after it had
//! been applied, the store can be recreated from the latest copy that fits what the migrations say now, or empty. What was
//! written since then is lost by that, so it is done only after a confirmation or with a flag. The store that is replaced becomes a copy as well,
//! and is used again when the edit is reverted.
//!
//! Copies of before new migrations and copies of replaced stores are counted apart: a draft that is edited ten times makes ten of the latter, and
//! must not push out the one that all ten start from.
//!
//! What a killed process leaves half replaced is finished where the data directory is opened ([`DataDir::open`]), whichever command does that.
//!
//! Nothing of this keeps code from taking over: a store that cannot follow its migrations stays as it is, and is started without them.

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

/// Copies of each kind that are kept of each store. The oldest are removed first.
const KEPT_MAX: usize = 8;

/// Marks the folder of a copy that is a replaced store.
const REPLACED: &str = "replaced";

/// How long recreating a store may take. Its requests wait that long.
const TIME_MAX: Duration = Duration::from_secs(60);

/// What to do about stores whose migrations were edited.
pub(crate) struct DraftStores {
    /// Is every such store recreated without a question?
    recreate: bool,
    /// Stores for which the answer was yes, until it is done.
    agreed: BTreeSet<StoreName>,
    /// The migrations for which it was reported already that the store does not follow them.
    told: BTreeMap<StoreName, u64>,
}

/// Where the things of the app are.
pub(crate) struct StoreContext<'a> {
    pub(crate) engines: &'a Engines,
    pub(crate) place: &'a AppResources,
    pub(crate) data: &'a DataDir,
}

/// A store that did not follow its migrations, and why.
pub(crate) struct OutdatedStore {
    pub(crate) store: StoreName,
    /// Is there something to ask?
    pub(crate) can_be_recreated: bool,
}

impl DraftStores {
    /// With `recreate`, stores are recreated without a question.
    pub(crate) fn new(recreate: bool) -> Self {
        Self { recreate, agreed: BTreeSet::new(), told: BTreeMap::new() }
    }

    /// Lets the next [`DraftStores::settle`] recreate the store.
    pub(crate) fn agree(&mut self, store: StoreName) {
        self.told.remove(&store);
        self.agreed.insert(store);
    }

    /// Brings the stores of `app` to what their migrations say, as far as that can be done. Of those that stay behind, the migrations are taken
    /// out of `app`; given are the ones of which that was not said before.
    pub(crate) async fn settle(
        &mut self,
        app: &mut App,
        stores: &StoreContext<'_>,
        console: &Console,
    ) -> Vec<OutdatedStore> {
        let mut behind = Vec::new();
        let with_migrations = app.sql.iter().filter(|(_, settings)| settings.migrations.is_some());
        let names: Vec<StoreName> = with_migrations.map(|(name, _)| name.clone()).collect();
        for store in names {
            let only = only(app, &store);
            let file = stores.data.sql().join(snapshot_name(store.as_str()));
            let settled = self.settle_one(&only, &store, &file, stores, console).await;
            let Err(problem) = settled else {
                self.told.remove(&store);
                continue;
            };
            // A store that is not there yet has nothing that could be kept: its migrations have to work.
            if !file.exists() {
                continue;
            }
            let texts = texts(&only, stores.place);
            if self.told.insert(store.clone(), texts) != Some(texts) {
                console.message(&console.renderer().error(problem.as_ref()));
                console.message(&format!(
                    "the SQL store {store} is unchanged; the new revision starts without the store's migrations"
                ));
                behind.push(OutdatedStore { store: store.clone(), can_be_recreated: is_draft(&problem) });
            }
            app.sql.entry(store).and_modify(|settings| settings.migrations = None);
        }
        behind
    }

    async fn settle_one(
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
                if !is_draft(&error) || !(self.recreate || self.agreed.remove(store)) {
                    return Err(error);
                }
                let from = copies.recreate(only, stores).await?;
                let how = if from { "from the latest copy that fits them" } else { "empty" };
                console
                    .message(&format!("the migrations of the SQL store {store} have changed: it was recreated {how}"));
                return Ok(());
            }
        };
        self.agreed.remove(store);
        if schema.is_some_and(|schema| !schema.pending.is_empty()) && file.exists() {
            copies.migrate(only, stores).await?;
        }
        Ok(())
    }
}

/// The app with the grants of one store only.
fn only(app: &App, store: &StoreName) -> App {
    let mut app = app.clone();
    for component in app.components.values_mut() {
        component.grants.sql.retain(|granted| granted.value == *store);
    }
    app
}

/// Is it that applied migrations are not what they were?
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

/// The names and texts of an app's migrations, in short.
fn texts(app: &App, place: &AppResources) -> u64 {
    let isomer_capabilities::AppFiles::Anywhere(dir) = &place.files else { return 0 };
    let mut hasher = DefaultHasher::new();
    for (path, text) in crate::sources::migrations(app, dir) {
        (path, text).hash(&mut hasher);
    }
    hasher.finish()
}

/// The copies of a store that are kept, each in a folder of its own with a number for its name.
struct StoreCopies {
    store: StoreName,
    folder: PathBuf,
}

impl StoreCopies {
    fn of(data: &DataDir, store: &StoreName) -> Self {
        Self { store: store.clone(), folder: data.drafts().join(store.as_str()) }
    }

    /// Applies new migrations. The store as it was becomes a copy.
    async fn migrate(&self, app: &App, stores: &StoreContext<'_>) -> anyhow::Result<()> {
        self.replace(app, stores, None).await.map_err(anyhow::Error::new)
    }

    /// Recreates the store from the latest copy that fits its migrations. Returns false where there is none and the store is empty.
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
        // A database without a byte is an empty one.
        let empty = tempfile::tempdir().context("cannot make a folder for an empty store")?;
        fs::write(empty.path().join(snapshot_name(self.store.as_str())), "").context("cannot make an empty store")?;
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
            // What cannot be removed is overwritten next time.
            let _ = fs::remove_dir_all(&folder);
        }
        if is_kept && from.is_some() {
            // Without the mark the copy counts as one of the other kind, which costs nothing but an older copy.
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

    /// Removes the oldest copies of each kind above the most that are kept.
    fn sweep(&self) {
        let is_replaced = |number: &u64| self.at(*number).join(REPLACED).exists();
        let (replaced, before): (Vec<u64>, Vec<u64>) = self.numbers().into_iter().partition(is_replaced);
        for numbers in [replaced, before] {
            for number in &numbers[..numbers.len().saturating_sub(KEPT_MAX)] {
                // It is tried again with the next copy.
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
