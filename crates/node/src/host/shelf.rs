//! Where an app that is not in memory comes from: what the state keeps of its revision, and its own part of the node's directory.
//!
//! A package that another version of the program made, or whose code was lost, is made anew from the release that it came from, by a
//! child as at its deployment: so neither an upgrade nor an emptied cache needs anybody to deploy anything again.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use isomer_api::{AppName, Problem, Release, RevisionId, TenantName};
use isomer_capabilities::secrets::{Secret, SecretValues};
use isomer_capabilities::{AppFiles, NodeDir, Place};
use isomer_observe::{AppLog, AppLogs};
use isomer_runtime::Account;
use isomer_runtime::code::{CodeCache, Key};
use isomer_state::{Blobs, Contents, State};

use super::problems;
use super::resources::AllResources;
use crate::deploy::kept::{self, Kept};
use crate::deploy::{Compilers, Made, Order, release};
use crate::package::Package;
use crate::tenancy::{Shelf, Stock};

/// What lies on disk of a node's apps.
pub(crate) struct OnDisk {
    pub(super) dir: Arc<NodeDir>,
    pub(super) state: Arc<State>,
    pub(super) blobs: Blobs,
    pub(super) cache: CodeCache,
    pub(super) compilers: Arc<Compilers>,
    pub(super) resources: Arc<AllResources>,
    pub(super) logs: AppLogs,
    /// Names this program and its engine: see [`Kept::maker`].
    pub(super) maker: Key,
    pub(super) runtime: tokio::runtime::Handle,
}

impl OnDisk {
    /// What a package of the app is started from. Blocks.
    pub(crate) fn stock(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &RevisionId,
        package: Arc<Package>,
    ) -> Result<Stock, Problem> {
        let resources = self.resources.get(tenant).ok_or_else(|| Problem::not_found("tenant", tenant))?;
        resources.count(&self.dir.tenant(tenant.as_str()));
        let secrets = self.state.secrets(tenant).map_err(problems::of_state)?;
        let text = |value: &isomer_state::Secret| String::from_utf8_lossy(value.reveal()).into_owned();
        let secrets = secrets.iter().map(|(name, value)| (name.clone(), Secret::new(text(value))));
        let data = self.dir.app(tenant.as_str(), app.as_str());
        let place = Place {
            kv: data.join("kv"),
            sql: data.join("sql"),
            files: AppFiles::Own {
                files: release::files_of(&self.dir.revisions(), revision),
                writable: data.join("dirs"),
            },
            storage: resources.storage.clone(),
            account: Account::unlimited(),
            statement_time_max: Duration::MAX,
            outbound: None,
            secrets: SecretValues::Given(secrets.collect()),
        };
        Ok(Stock { package, place, log: Some(self.log_of(tenant, app)?) })
    }

    /// The app's own log.
    pub(super) fn log_of(&self, tenant: &TenantName, app: &AppName) -> Result<AppLog, Problem> {
        let resources = self.resources.get(tenant).ok_or_else(|| Problem::not_found("tenant", tenant))?;
        Ok(self.logs.open(self.dir.app(tenant.as_str(), app.as_str()).join("log"), &resources.log))
    }

    /// The logs of all of a tenant's apps that have one on disk, those that are no more too. Blocks.
    pub(super) fn logs_of(&self, tenant: &TenantName) -> Vec<AppLog> {
        let folders = std::fs::read_dir(self.dir.tenant(tenant.as_str()).join("apps"));
        let names = folders.into_iter().flatten().flatten().map(|folder| folder.file_name());
        let apps = names.filter_map(|name| name.to_str()?.parse::<AppName>().ok());
        apps.filter_map(|app| self.log_of(tenant, &app).ok()).collect()
    }

    /// The package, if this program can start it and its code is there. Blocks.
    pub(crate) fn usable(&self, bytes: &[u8]) -> Result<Option<Package>, Problem> {
        let kept = Kept::read(bytes)?;
        if kept.maker != self.maker.as_str().as_bytes() {
            return Ok(None);
        }
        let package = Package::from_bytes(kept.package).ok();
        Ok(package.filter(|package| package.code().all(|key| self.cache.has(key))))
    }

    /// Has a release compiled by a child.
    pub(crate) async fn compile(&self, release: &Release) -> Result<(Package, Contents, Made), Problem> {
        let components = release.components.iter();
        let order = Order {
            manifest: release.manifest.clone(),
            shape: release.shape.clone(),
            components: components.map(|(name, part)| (name.clone(), self.blobs.path(&part.digest))).collect(),
            cache: self.dir.cache(),
        };
        let made = self.compilers.make(&order).await.map_err(Problem::from)?;
        let package = Package::from_bytes(made.package.as_bytes()).map_err(|error| problems::failed(&error))?;
        let contents = kept::contents(&self.maker, release, &made);
        Ok((package, contents, made))
    }
}

impl Shelf for OnDisk {
    fn take(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &RevisionId,
    ) -> Result<Stock, Box<dyn Error + Send + Sync>> {
        let bytes = self.state.package(revision)?.ok_or_else(|| Problem::not_found("revision", revision))?;
        let package = match self.usable(&bytes)? {
            Some(package) => package,
            None => {
                tracing::info!(%tenant, %app, %revision, "an app's code is made anew");
                let (package, contents, _) = self.runtime.block_on(self.compile(&Kept::read(&bytes)?.release()?))?;
                self.state.renew(revision, &contents)?;
                package
            }
        };
        Ok(self.stock(tenant, app, revision, Arc::new(package))?)
    }
}
