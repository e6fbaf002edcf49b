//! The capabilities of one app: its stores opened, its secrets read, its grants handed out.
//!
//! Everything is opened here, before the first request, so that what is wrong (a changed migration, a missing secret, a data
//! directory in use) is found when the app starts and not by a user.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_manifest::{App, OutboundHost, SecretSource, StoreName};
use isomer_runtime::Provider;
use isomer_runtime::guest::Outbound;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};

use crate::data_dir::DataDir;
use crate::host::{ConfigProvider, GrantTable, KeyValueProvider, SecretsProvider, SqlProvider};
use crate::kv::{Kv, KvError, KvLimits};
use crate::outbound::{HostRule, OutboundClient, OutboundLimits, OutboundNetwork, OutboundPolicy, Outgoing};
use crate::secrets::{SecretError, SecretOrigin, Secrets};
use crate::sql::{Sql, SqlLimits, SqlOpenError, SqlSettings};

/// Limits of an app's capabilities.
#[derive(Debug, Clone, Default)]
pub struct CapabilityLimits {
    /// Of key-value stores.
    pub kv: KvLimits,
    /// Of SQL stores.
    pub sql: SqlLimits,
    /// Of outbound HTTP.
    pub outbound: OutboundLimits,
}

/// The capabilities of an app. Dropping it, and the groups that were linked with it, closes the stores.
pub struct Capabilities {
    providers: Vec<Arc<dyn Provider>>,
    outbound: BTreeMap<String, Arc<dyn Outbound>>,
    engines: Engines,
}

/// What the capabilities of an app's revisions share: a store can be open only once.
#[derive(Clone)]
struct Engines {
    kv: Arc<Kv>,
    sql: Arc<Sql>,
    network: OutboundNetwork,
}

/// The capabilities of an app can't be made ready.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// A key-value store can't be opened.
    #[error("the key-value store `{store}` can't be opened: {source}")]
    Kv {
        /// Its name.
        store: StoreName,
        /// Why.
        source: KvError,
    },
    /// The threads of the key-value stores can't be started.
    #[error("the threads of the key-value stores can't be started")]
    Threads(#[source] std::io::Error),
    /// A SQL store can't be opened or migrated.
    #[error(transparent)]
    Sql(#[from] SqlOpenError),
    /// A secret can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Capabilities {
    /// Open all that the components of `app` were granted. Paths of the manifest are relative to `app_dir`.
    ///
    /// # Errors
    /// The first thing that can't be opened or read.
    pub async fn open(
        app: &App,
        app_dir: &Path,
        data: &DataDir,
        limits: CapabilityLimits,
    ) -> Result<Self, CapabilityError> {
        let network = OutboundNetwork::new(limits.outbound.clone());
        Self::open_with_network(app, app_dir, data, limits, network).await
    }

    /// As [`Capabilities::open`], with a network of the caller's own.
    ///
    /// # Errors
    /// The first thing that can't be opened or read.
    pub async fn open_with_network(
        app: &App,
        app_dir: &Path,
        data: &DataDir,
        limits: CapabilityLimits,
        network: OutboundNetwork,
    ) -> Result<Self, CapabilityError> {
        let kv = Kv::new(&data.kv(), limits.kv).map_err(CapabilityError::Threads)?;
        let sql = Sql::new(&data.sql(), limits.sql);
        Self::open_with_engines(app, app_dir, Engines { kv: Arc::new(kv), sql: Arc::new(sql), network }).await
    }

    /// The capabilities of the next revision of the app: stores that are open stay open and are shared with this one, and
    /// brought up to date with new migrations.
    ///
    /// # Errors
    /// The first thing that can't be opened or read; this revision's capabilities are as they were.
    pub async fn next(&self, app: &App, app_dir: &Path) -> Result<Self, CapabilityError> {
        Self::open_with_engines(app, app_dir, self.engines.clone()).await
    }

    async fn open_with_engines(app: &App, app_dir: &Path, engines: Engines) -> Result<Self, CapabilityError> {
        let Engines { kv, sql, network } = &engines;
        // Only secrets that somebody was granted: an app must not fail for one that nobody uses.
        let granted =
            |name: &str| app.components.values().any(|it| it.grants.secrets.iter().any(|it| it.value == *name));
        let origins = app.secrets.iter().filter(|(name, _)| granted(name));
        let origins = origins.map(|(name, source)| (name.to_string(), SecretOrigin::from(source)));
        let secrets = Secrets::read(origins, app_dir, |name| std::env::var_os(name))?;
        let (mut kv_grants, mut sql_grants) = (GrantTable::new(), GrantTable::new());
        let (mut config_grants, mut secret_grants) = (GrantTable::new(), GrantTable::new());
        let mut outbound: BTreeMap<String, Arc<dyn Outbound>> = BTreeMap::new();
        for (component, it) in &app.components {
            let (component, grants) = (component.as_str(), &it.grants);
            let mut stores = BTreeMap::new();
            for name in &grants.kv {
                let store = kv.store(name.value.as_str()).await;
                let store = store.map_err(|source| CapabilityError::Kv { store: name.value.clone(), source })?;
                stores.insert(name.value.to_string(), store);
            }
            kv_grants.insert(component, stores);
            let mut stores = BTreeMap::new();
            for name in &grants.sql {
                let settings = app.sql.get(&name.value).cloned().unwrap_or_default();
                let settings = SqlSettings {
                    migrations: settings.migrations.map(|folder| app_dir.join(folder)),
                    statement_time: settings.statement_timeout,
                };
                stores.insert(name.value.to_string(), sql.open(name.value.as_str(), settings).await?);
            }
            sql_grants.insert(component, stores);
            config_grants.insert(component, grants.config.iter().map(|(k, v)| (k.clone(), v.to_string())).collect());
            let of_component = grants
                .secrets
                .iter()
                .filter_map(|name| secrets.get(&name.value).map(|secret| (name.value.to_string(), secret.clone())));
            secret_grants.insert(component, of_component.collect());
            let rules = grants.http.iter().map(|host| HostRule::from(&host.value)).collect();
            let client = OutboundClient::new(network.clone(), OutboundPolicy::new(component, rules));
            outbound.insert(component.to_owned(), Arc::new(client));
        }
        let providers: Vec<Arc<dyn Provider>> = vec![
            Arc::new(KeyValueProvider::new(kv_grants)),
            Arc::new(SqlProvider::new(sql_grants)),
            Arc::new(ConfigProvider::new(config_grants)),
            Arc::new(SecretsProvider::new(secret_grants)),
        ];
        Ok(Self { providers, outbound, engines })
    }

    /// The interfaces of these capabilities, for linking the app's groups.
    pub fn providers(&self) -> &[Arc<dyn Provider>] {
        &self.providers
    }

    /// The way out over HTTP of `component`, with its own grants. A component without any is denied every host, and the
    /// log says what it asked for.
    pub fn outbound(&self, component: &str) -> Option<Arc<dyn Outbound>> {
        self.outbound.get(component).cloned()
    }
}

impl Outbound for OutboundClient {
    fn send(
        &self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> BoxFuture<'static, Result<Outgoing, HttpError>> {
        let client = self.clone();
        Box::pin(async move { OutboundClient::send(&client, request, options).await })
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
