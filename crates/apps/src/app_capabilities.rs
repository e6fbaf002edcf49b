//! The capabilities of one app: the stores, secrets, directories and outbound hosts that the app's components were
//! granted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isomer_capabilities::{
    AppGrants, AppResources, Capabilities, CapabilityError, CapabilityLimits, ComponentGrants, DataDir, Engines,
};
use isomer_ids::ComponentName;
use isomer_observe::Log;
use isomer_runtime::Provider;
use isomer_runtime::guest::{Directory, OwnerSettings};
use isomer_telemetry::EventSink;

/// The reason why a granted capability could not be provided.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppCapabilityError {
    /// A store could not be opened or migrated, a secret or the certificate authorities for a granted host could not be
    /// read, or the sizes of the app's store files could not be measured.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// A granted directory could not be opened.
    #[error("component `{component}` was granted the directory `{}`, which cannot be opened", path.display())]
    Directory {
        /// The component that was granted the directory.
        component: ComponentName,
        /// The directory's path on the machine.
        path: PathBuf,
        /// The file system's error.
        source: std::io::Error,
    },
}

/// The open capabilities of an app, and the receiver of its guests' output.
pub struct AppCapabilities {
    sink: Arc<dyn EventSink>,
    capabilities: Capabilities,
}

impl AppCapabilities {
    /// Opens everything that was granted to `app`, in a process that serves only this app. Relative paths in the grants
    /// are resolved against `app_dir`. The stores are in `data`.
    ///
    /// # Errors
    /// The errors of [`AppCapabilities::open_at`].
    pub async fn open(app: &AppGrants, app_dir: &Path, data: &DataDir, log: Log) -> Result<Self, AppCapabilityError> {
        let engines = Engines::new(CapabilityLimits::default());
        Self::open_at(app, &AppResources::of_process(app_dir, data), &engines, Arc::new(log)).await
    }

    /// Opens everything that was granted to `app`. `place` contains the folders of the app. `engines` are the storage
    /// engines that all apps of the process share. The guests' output is written to `sink`.
    ///
    /// # Errors
    /// If a store cannot be opened or migrated, or a secret cannot be read.
    pub async fn open_at(
        app: &AppGrants,
        place: &AppResources,
        engines: &Engines,
        sink: Arc<dyn EventSink>,
    ) -> Result<Self, AppCapabilityError> {
        Ok(Self { sink, capabilities: Capabilities::open(app, place, engines).await? })
    }

    /// Opens everything that was granted to the app's next revision. Stores that are already open stay open, and both
    /// revisions share them.
    ///
    /// # Errors
    /// The errors of [`AppCapabilities::open_at`]. `self` does not change.
    pub async fn next(&self, app: &AppGrants, app_dir: &Path) -> Result<Self, AppCapabilityError> {
        Ok(Self { sink: self.sink.clone(), capabilities: self.capabilities.next(app, app_dir).await? })
    }

    /// Returns the receiver of the guests' output.
    pub fn sink(&self) -> Arc<dyn EventSink> {
        self.sink.clone()
    }

    /// Returns the implementations of the interfaces that wasmtime does not implement.
    pub fn providers(&self) -> &[Arc<dyn Provider>] {
        self.capabilities.providers()
    }

    /// Returns the settings of each component of a group: environment, directories, outbound requests.
    ///
    /// # Errors
    /// If a granted directory cannot be opened.
    pub fn owners(
        &self,
        app: &AppGrants,
        components: &[ComponentName],
    ) -> Result<Vec<OwnerSettings>, AppCapabilityError> {
        let known = components.iter().filter_map(|name| app.components.get_key_value(name));
        let owners = known.map(|(name, grants)| self.owner(name, grants));
        let mut owners = owners.collect::<Result<Vec<_>, _>>()?;
        // The bytes that components write to folders are charged to one account for all of them. The components of a
        // composition share one wasmtime store, so the platform cannot tell which of them writes.
        let folders = owners.iter().flat_map(|owner| &owner.directories).filter(|directory| directory.write);
        let folders: BTreeSet<_> = folders.map(|directory| directory.host.clone()).collect();
        let storage = self.capabilities.watch_folders(folders.into_iter().collect());
        for owner in &mut owners {
            owner.storage = storage.clone().filter(|_| owner.directories.iter().any(|directory| directory.write));
        }
        Ok(owners)
    }

    fn owner(&self, name: &ComponentName, grants: &ComponentGrants) -> Result<OwnerSettings, AppCapabilityError> {
        let config = grants.config.iter();
        let directories = self.directories(name, grants)?;
        Ok(OwnerSettings {
            component: name.as_str().into(),
            environment: config.map(|(key, value)| (key.clone(), value.clone())).collect(),
            arguments: Vec::new(),
            directories,
            outbound: self.capabilities.outbound(name.as_str()),
            storage: None,
        })
    }

    fn directories(
        &self,
        name: &ComponentName,
        grants: &ComponentGrants,
    ) -> Result<Vec<Directory>, AppCapabilityError> {
        let open = |grant: &isomer_manifest::DirGrant| {
            let opened = self.capabilities.resources().directory(grant);
            let (host, write) = opened.map_err(|source| AppCapabilityError::Directory {
                component: name.clone(),
                path: self.capabilities.resources().files.shown(&grant.host),
                source,
            })?;
            Ok(Directory { host, guest: grant.guest.clone(), write })
        };
        grants.dirs.iter().map(open).collect()
    }
}
