//! What the platform gives an app: stores, secrets, directories and ways out, by its grants and by nothing else.

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

/// Why a grant could not be made good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppCapabilityError {
    /// A store, a secret or a way out is not to be had.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// A granted directory is not there.
    #[error("component `{component}` is granted the directory `{}`, which cannot be opened", path.display())]
    Directory {
        /// Who.
        component: ComponentName,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The platform's side of an app.
pub struct AppCapabilities {
    sink: Arc<dyn EventSink>,
    capabilities: Capabilities,
}

impl AppCapabilities {
    /// Opens what the components of the one app of a process were granted. Relative paths start at `app_dir`, data lies in `data`.
    ///
    /// # Errors
    /// As [`AppCapabilities::open_at`].
    pub async fn open(app: &AppGrants, app_dir: &Path, data: &DataDir, log: Log) -> Result<Self, AppCapabilityError> {
        let engines = Engines::new(CapabilityLimits::default());
        Self::open_at(app, &AppResources::of_process(app_dir, data), &engines, Arc::new(log)).await
    }

    /// Opens what the components of `app` were granted at `place`, with the engines that all apps of the process share. The guests'
    /// output goes to `sink`.
    ///
    /// # Errors
    /// When a store cannot be opened or migrated, or a secret cannot be read.
    pub async fn open_at(
        app: &AppGrants,
        place: &AppResources,
        engines: &Engines,
        sink: Arc<dyn EventSink>,
    ) -> Result<Self, AppCapabilityError> {
        Ok(Self { sink, capabilities: Capabilities::open(app, place, engines).await? })
    }

    /// AppCapabilities for the next revision of the app. Stores that are open stay open and are shared with this one.
    ///
    /// # Errors
    /// As [`AppCapabilities::open_at`]; these parts are as they were.
    pub async fn next(&self, app: &AppGrants, app_dir: &Path) -> Result<Self, AppCapabilityError> {
        Ok(Self { sink: self.sink.clone(), capabilities: self.capabilities.next(app, app_dir).await? })
    }

    /// Where guests' output goes.
    pub fn sink(&self) -> Arc<dyn EventSink> {
        self.sink.clone()
    }

    /// What implements the interfaces that wasmtime does not.
    pub fn providers(&self) -> &[Arc<dyn Provider>] {
        self.capabilities.providers()
    }

    /// What each component of a group has of its own.
    ///
    /// # Errors
    /// When a granted directory is not there.
    pub fn owners(
        &self,
        app: &AppGrants,
        components: &[ComponentName],
    ) -> Result<Vec<OwnerSettings>, AppCapabilityError> {
        let known = components.iter().filter_map(|name| app.components.get_key_value(name));
        let owners = known.map(|(name, grants)| self.owner(name, grants));
        let mut owners = owners.collect::<Result<Vec<_>, _>>()?;
        // One storage for all: who writes is not told apart in a store that several share.
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
