//! The capabilities of one app: its open stores, its secrets, and its HTTP clients.
//!
//! All stores are opened and all secrets are read here, before the first request, so that a problem (a changed
//! migration, a missing secret, a data directory in use) prevents the start of the app instead of making a client's
//! request fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use isomer_manifest::{OutboundHost, SecretSource};
use isomer_runtime::folders::FolderStorage;
use isomer_runtime::guest::Outbound;
use isomer_runtime::{Denials, Provider};
use isomer_telemetry::metrics::{MethodClass, RequestMeter, RouteMetrics};
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};

use crate::app_files::AppFiles;
use crate::engines::Engines;
use crate::error::CapabilityError;
use crate::grants::{AppGrants, ComponentGrants};
use crate::host::{
    ConfigProvider, GrantTable, KeyValueProvider, LoggingProvider, OtelProvider, SecretsProvider, SqlProvider,
};
use crate::outbound::{AuthorityFiles, HostRule, OutboundClient, OutboundPolicy, Outgoing};
use crate::resources::AppResources;
use crate::schemas;
use crate::secrets::{Secret, SecretError, SecretOrigin, SecretValues, Secrets};
use crate::sql::SqlSettings;
use crate::watched_folders::WatchedFolders;

/// The capabilities of an app. The stores are closed in the background after this value and all groups that were linked
/// with it have been dropped. Opening one of these stores again waits until the store is closed.
pub struct Capabilities {
    providers: Vec<Arc<dyn Provider>>,
    outbound: BTreeMap<String, Arc<dyn Outbound>>,
    engines: Engines,
    resources: AppResources,
}

impl Capabilities {
    /// Opens everything that the components of an app were granted. Creates no thread, file or folder for an app
    /// without stores. If `resources` are those of a candidate ([`AppResources::for_candidate`]), writes do not reach
    /// the app's stores.
    ///
    /// # Errors
    /// The error of the first capability that cannot be opened or read.
    pub async fn open(app: &AppGrants, resources: &AppResources, engines: &Engines) -> Result<Self, CapabilityError> {
        let secrets = read_secrets(app, resources)?;
        let (kv, sql) = (engines.kv(resources), engines.sql(resources));
        count_data(resources, engines).await?;
        let candidate = resources.candidate.as_ref().map(|candidate| resources.within(&candidate.folder));
        let candidate = candidate.as_ref().map(|resources| (engines.kv(resources), engines.sql(resources)));
        let by = resources.granted_by;
        let (mut kv_grants, mut sql_grants) = (GrantTable::new(by), GrantTable::new(by));
        let (mut config_grants, mut secret_grants) = (GrantTable::new(by), GrantTable::new(by));
        let mut outbound: BTreeMap<String, Arc<dyn Outbound>> = BTreeMap::new();
        let mut authorities = AuthorityFiles::new(engines.network.authorities(), &resources.account);
        for (component, grants) in &app.components {
            let component = component.as_str();
            let mut stores = BTreeMap::new();
            for name in &grants.kv {
                let store = match &candidate {
                    None => kv.store(name.as_str()).await,
                    Some((candidate, _)) => kv.candidate_store(name.as_str(), candidate).await,
                };
                let store = store.map_err(|source| CapabilityError::Kv { store: name.clone(), source })?;
                stores.insert(name.to_string(), store);
            }
            kv_grants.insert(component, stores);
            let mut stores = BTreeMap::new();
            for name in &grants.sql {
                let settings = SqlSettings {
                    migrations: schemas::migrations(app, resources, name)?,
                    statement_time: app.statement_time(name, resources.statement_time_max),
                };
                let store = match &candidate {
                    None => sql.open(name.as_str(), settings).await,
                    Some((_, candidate)) => sql.open_candidate(name.as_str(), settings, candidate).await,
                };
                let store = store.map_err(|error| error.shown_in(&resources.files))?;
                stores.insert(name.to_string(), store);
            }
            sql_grants.insert(component, stores);
            config_grants.insert(component, grants.config.clone());
            let of_component =
                grants.secrets.iter().filter_map(|name| secrets.get(name).map(|secret| (name.clone(), secret.clone())));
            secret_grants.insert(component, of_component.collect());
            let client = client(component, grants, resources, engines, &mut authorities)?;
            let metrics = RouteMetrics::of_outbound(resources.series.clone(), component);
            outbound.insert(component.to_owned(), Arc::new(MeasuredClient { client, metrics }));
        }
        let providers: Vec<Arc<dyn Provider>> = vec![
            Arc::new(KeyValueProvider::new(kv_grants, resources.series.clone())),
            Arc::new(SqlProvider::new(sql_grants, resources.series.clone())),
            Arc::new(ConfigProvider::new(config_grants)),
            Arc::new(SecretsProvider::new(secret_grants)),
            Arc::new(LoggingProvider),
            Arc::new(OtelProvider::new(resources.series.clone())),
        ];
        Ok(Self { providers, outbound, engines: engines.clone(), resources: resources.clone() })
    }

    /// Opens the capabilities of the app's next revision, whose files are in `files`. The two revisions share their
    /// open stores, and the new migrations are applied to these stores.
    ///
    /// # Errors
    /// The error of the first capability that cannot be opened or read. The capabilities of the current revision are
    /// then unchanged.
    pub async fn next(&self, app: &AppGrants, files: &Path) -> Result<Self, CapabilityError> {
        Self::open(app, &self.resources.with_files(files), &self.engines).await
    }

    /// Returns an object that checks guests' writes to `folders` against the tenant's storage account; `None` if the
    /// app belongs to no tenant or `folders` is empty.
    pub fn watch_folders(&self, folders: Vec<PathBuf>) -> Option<Arc<dyn FolderStorage>> {
        if folders.is_empty() || !matches!(self.resources.files, AppFiles::Own { .. }) {
            return None;
        }
        let job_queue = self.engines.kv.job_queue(&self.resources.storage, &self.resources.account);
        Some(Arc::new(WatchedFolders::new(folders, self.resources.storage.clone(), job_queue)))
    }

    /// Returns the folders, accounts and secrets that these capabilities use.
    pub fn resources(&self) -> &AppResources {
        &self.resources
    }

    /// Returns the providers of the host functions, for linking the app's groups.
    pub fn providers(&self) -> &[Arc<dyn Provider>] {
        &self.providers
    }

    /// Returns the HTTP client of `component`, which uses only this component's grants. The client of a component
    /// without grants refuses every host, and logs the name of the refused host.
    pub fn outbound(&self, component: &str) -> Option<Arc<dyn Outbound>> {
        self.outbound.get(component).cloned()
    }
}

/// Measures the app's data on disk, if that has not been done in this process. If the writable folders cannot be
/// measured, the tenant's storage is treated as full. The app is opened nevertheless, because it may be able to repair
/// the folders.
async fn count_data(resources: &AppResources, engines: &Engines) -> Result<(), CapabilityError> {
    let AppFiles::Own { writable, .. } = &resources.files else { return Ok(()) };
    let (account, stores, writable) =
        (resources.storage.clone(), [resources.kv.clone(), resources.sql.clone()], writable.clone());
    let job_queue = engines.kv.job_queue(&account, &resources.account);
    let counted = job_queue.run(move || {
        stores.iter().try_for_each(|folder| account.scan_once(folder))?;
        if let Err(error) = account.scan_folders_once(&writable) {
            tracing::warn!(folder = %writable.display(), %error, "cannot measure the app's writable folders, so the tenant's storage quota is treated as exhausted");
        }
        Ok(())
    });
    counted.await.map_err(std::io::Error::other).flatten().map_err(CapabilityError::Count)
}

/// Creates the HTTP client of a component, with its grants and certificate authorities.
fn client(
    component: &str,
    grants: &ComponentGrants,
    resources: &AppResources,
    engines: &Engines,
    authorities: &mut AuthorityFiles<'_>,
) -> Result<OutboundClient, CapabilityError> {
    let rules = grants.http.iter().map(HostRule::from).collect();
    let mut trusted = Vec::new();
    for host in &grants.http {
        let Some(file) = &host.authority else { continue };
        let path = resources.files.read_only(file).map_err(|source| CapabilityError::AuthorityOutside { source })?;
        trusted.push((HostRule::from(host), authorities.get(path, &resources.files.shown(file))?));
    }
    let (network, policy) =
        (engines.network.clone(), OutboundPolicy::new(component, rules).granted_by(resources.granted_by));
    let client = match &resources.outbound {
        Some(tenant) => OutboundClient::of_tenant(network, policy, tenant.clone()),
        None => OutboundClient::new(network, policy),
    };
    Ok(client.trusting(trusted).charging(resources.account.clone()))
}

/// Reads the secrets that the components of `app` were granted.
///
/// # Errors
/// If a secret has no value, or if its value cannot be read or is invalid.
pub fn read_secrets(app: &AppGrants, resources: &AppResources) -> Result<Secrets, SecretError> {
    // Reads only secrets that a component was granted, so that the app does not fail because of an unused secret.
    let origins = app.secrets.iter().filter(|(name, _)| app.uses_secret(name));
    let origins = origins.map(|(name, source)| (name.to_string(), SecretOrigin::from(source)));
    match (&resources.secrets, &resources.files) {
        (SecretValues::Given(given), files) => Secrets::of_tenant(origins, given, |path| files.read_only(path).ok()),
        (SecretValues::FromManifest, AppFiles::Anywhere(base)) => {
            let more = |name: &str| resources.environment.get(name).map(Into::into);
            Secrets::read(origins, base, |name| std::env::var_os(name).or_else(|| more(name)))
        }
        // The user has not chosen what the manifest of an unpacked app names. So its variables are only those
        // of files that the user names, and its files only those of the release.
        (SecretValues::FromManifest, AppFiles::Shipped { outside: false, .. }) => {
            let named = app.secrets.iter().filter_map(|(name, source)| match source {
                SecretSource::Env(variable) => {
                    let value = resources.environment.get(variable)?;
                    Some((name.to_string(), Secret::new(value.clone())))
                }
                SecretSource::File(_) => None,
            });
            Secrets::of_tenant(origins, &named.collect(), |path| resources.files.read_only(path).ok())
        }
        // A shipped program contains no secrets. Their files are relative to the working directory.
        (SecretValues::FromManifest, AppFiles::Shipped { outside: true, .. }) => {
            let more = |name: &str| resources.environment.get(name).map(Into::into);
            Secrets::read(origins, Path::new(""), |name| std::env::var_os(name).or_else(|| more(name)))
        }
        // A tenant's app must not read the environment and the files of the machine.
        (SecretValues::FromManifest, files) => {
            Secrets::of_tenant(origins, &BTreeMap::new(), |path| files.read_only(path).ok())
        }
    }
}

/// An HTTP client that records metrics of the requests that one component sends.
struct MeasuredClient {
    client: OutboundClient,
    metrics: Arc<RouteMetrics>,
}

impl Outbound for MeasuredClient {
    fn send(
        &self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        denials: Option<&Arc<Denials>>,
    ) -> BoxFuture<'static, Result<Outgoing, HttpError>> {
        let client = self.client.clone().reporting_to(denials.cloned());
        let mut meter = RequestMeter::begin(MethodClass::of(request.method().as_str()), Instant::now());
        meter.set_metrics(&self.metrics);
        Box::pin(async move {
            let sent = client.send(request, options).await;
            if let Ok((response, _)) = &sent {
                meter.set_status(response.status().as_u16());
            }
            sent
        })
    }
}

impl From<&OutboundHost> for HostRule {
    fn from(granted: &OutboundHost) -> Self {
        Self { host: granted.host.clone(), port: granted.port, private: granted.private }
    }
}

impl From<&SecretSource> for SecretOrigin {
    fn from(source: &SecretSource) -> Self {
        match source {
            SecretSource::Env(name) => Self::Env(name.clone()),
            SecretSource::File(path) => Self::File(path.clone()),
        }
    }
}
