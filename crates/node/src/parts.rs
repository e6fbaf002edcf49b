//! What the platform gives an app: stores, secrets, directories and ways out, by its grants and by nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use isomer_manifest::{App, Component, ComponentName};
use isomer_observe::Log;
use isomer_runtime::Provider;
use isomer_runtime::guest::{Directory, OwnerSettings};
use isomer_runtime::output::OutputSink;

/// Why a grant could not be made good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartsError {
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
pub struct Parts {
    app_dir: PathBuf,
    log: Log,
}

impl Parts {
    /// Parts for an app whose relative paths start at `app_dir`.
    pub fn new(app_dir: &Path, log: Log) -> Self {
        Self { app_dir: app_dir.to_owned(), log }
    }

    /// Where guests' output goes.
    pub fn sink(&self) -> Arc<dyn OutputSink> {
        Arc::new(self.log.clone())
    }

    /// What implements the interfaces that wasmtime does not.
    pub fn providers(&self, _app: &App) -> Vec<Arc<dyn Provider>> {
        Vec::new()
    }

    /// What each component of a group has of its own.
    ///
    /// # Errors
    /// When a granted directory is not there.
    pub fn owners(&self, app: &App, components: &[ComponentName]) -> Result<Vec<OwnerSettings>, PartsError> {
        let known = components.iter().filter_map(|name| app.components.get_key_value(name));
        known.map(|(name, component)| self.owner(name, component)).collect()
    }

    fn owner(&self, name: &ComponentName, component: &Component) -> Result<OwnerSettings, PartsError> {
        let config = component.grants.config.iter();
        Ok(OwnerSettings {
            component: name.as_str().into(),
            environment: config.map(|(key, value)| (key.clone(), value.clone())).collect(),
            arguments: Vec::new(),
            directories: self.directories(name, component)?,
            outbound: None,
        })
    }

    fn directories(&self, name: &ComponentName, component: &Component) -> Result<Vec<Directory>, PartsError> {
        let open = |grant: &isomer_manifest::DirGrant| {
            let path = self.app_dir.join(&grant.host);
            let failed = |source| PartsError::Directory { component: name.clone(), path: path.clone(), source };
            let host = path.canonicalize().map_err(failed)?;
            std::fs::read_dir(&host).map_err(failed)?;
            Ok(Directory { host, guest: grant.guest.clone(), write: grant.write })
        };
        component.grants.dirs.iter().map(|grant| open(&grant.value)).collect()
    }
}
