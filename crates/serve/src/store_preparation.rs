//! Preparing an app's stores before a revision starts.

use isomer_capabilities::{AppResources, DataDir, Engines};
use isomer_manifest::App;

/// Prepares an app's stores before a revision starts. `isomer dev` applies migrations that are still edited.
pub trait StorePreparation {
    /// Whether [`StorePreparation::prepare`] has an effect.
    const IS_NEEDED: bool = true;

    /// Prepares the stores of `app`. Changes `app` if it could not start otherwise. No other process has the stores
    /// open.
    fn prepare(&mut self, app: &mut App, stores: &StoreAccess<'_>) -> impl Future<Output = ()>;
}

/// Access to an app's stores.
pub struct StoreAccess<'a> {
    /// The storage engines.
    pub engines: &'a Engines,
    /// The locations of the app's files and stores.
    pub place: &'a AppResources,
    /// The data directory.
    pub data: &'a DataDir,
}

/// A [`StorePreparation`] that changes nothing.
pub struct UnchangedStores;

impl StorePreparation for UnchangedStores {
    const IS_NEEDED: bool = false;

    async fn prepare(&mut self, _: &mut App, _: &StoreAccess<'_>) {}
}
