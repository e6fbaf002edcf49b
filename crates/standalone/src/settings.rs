//! The settings that providers get: grants, configuration values, and migrations. Contains no secret.

use std::collections::BTreeMap;

use isomer_ids::{ComponentName, StoreName};
use isomer_manifest::{App, SecretSource, SqlStoreSettings};
use isomer_plan::StandalonePlan;
use isomer_seam::Providers;
use serde_json::{Value, json};

use crate::files::ProviderFiles;

/// The folder in the file system of the host in which stores are kept.
pub const DATA_FOLDER: &str = "/data";

/// The migrations of each SQL store: names and contents of files, in the order in which they are applied.
pub type Migrations = BTreeMap<StoreName, Vec<(String, String)>>;

pub(crate) fn providers(app: &App, plan: &StandalonePlan, migrations: &Migrations, files: ProviderFiles) -> Providers {
    let components = || plan.group.components.iter();
    Providers {
        stores: files.stores.map(|bytes| (bytes, to_bytes(&stores(app, migrations)))),
        platform: files.platform,
        platform_settings: components().map(|name| (name.clone(), to_bytes(&platform(app, name)))).collect(),
        environment: components().map(|name| (name.clone(), app.components[name].grants.config.clone())).collect(),
    }
}

fn stores(app: &App, migrations: &Migrations) -> Value {
    let names = |names: &[isomer_manifest::Spanned<StoreName>]| -> Vec<String> {
        names.iter().map(|name| name.value.to_string()).collect()
    };
    let components: BTreeMap<_, _> = app
        .components
        .iter()
        .map(|(name, component)| {
            (name.to_string(), json!({ "kv": names(&component.grants.kv), "sql": names(&component.grants.sql) }))
        })
        .collect();
    let sql: BTreeMap<_, _> =
        app.sql.iter().map(|(name, store)| (name.to_string(), sql(store, migrations.get(name)))).collect();
    json!({ "data": DATA_FOLDER, "components": components, "sql": sql })
}

fn sql(store: &SqlStoreSettings, files: Option<&Vec<(String, String)>>) -> Value {
    let files = files.into_iter().flatten().map(|(name, text)| json!({ "name": name, "text": text }));
    let statement_ms = store.statement_timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    json!({ "statement_ms": statement_ms, "migrations": files.collect::<Vec<_>>() })
}

fn platform(app: &App, component: &ComponentName) -> Value {
    let grants = &app.components[component].grants;
    let variables: BTreeMap<_, _> = grants
        .secrets
        .iter()
        .filter_map(|secret| match app.secrets.get(&secret.value) {
            Some(SecretSource::Env(variable)) => Some((secret.value.as_str(), variable.as_str())),
            // The plan refuses secrets from files.
            Some(SecretSource::File(_)) | None => None,
        })
        .collect();
    json!({ "component": component.as_str(), "config": grants.config, "secrets": variables })
}

fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("the settings are plain data")
}
