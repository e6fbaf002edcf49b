//! The grants of an app's components, which are the input of all capabilities.
//!
//! Capabilities need nothing else from an app's manifest: they do not depend on how components are built, linked and
//! routed. So the grants can be stored with a revision, and loaded without the manifest.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use isomer_ids::{ComponentName, StoreName};
use isomer_manifest::{App, DirGrant, Grants as WrittenGrants, OutboundHost, SecretSource, Spanned, SqlStoreSettings};
use serde::{Deserialize, Serialize};

/// The grants of an app's components, and the settings of the secrets and SQL stores that are granted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppGrants {
    /// The grants of each component, by the component's name.
    pub components: BTreeMap<ComponentName, ComponentGrants>,
    /// The source of each secret, by the secret's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretSource>,
    /// The settings of SQL stores, by name. A store that is not listed has the default settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sql: BTreeMap<StoreName, SqlStoreSettings>,
}

/// The grants of one component. The default grants nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentGrants {
    /// The names of the granted key-value stores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv: Vec<StoreName>,
    /// The names of the granted SQL stores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sql: Vec<StoreName>,
    /// The hosts to which the component may send HTTP requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<OutboundHost>,
    /// The configuration values of the component, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// The names of the granted secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The folders that the component can reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dirs: Vec<DirGrant>,
}

/// The source of an app's grants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GrantedBy {
    /// The app's `isomer.toml`.
    #[default]
    Manifest,
    /// Flags of the command line. A component that is run from its file has no manifest.
    Flags,
}

impl AppGrants {
    /// Returns whether any component was granted the secret `name`.
    #[must_use]
    pub fn uses_secret(&self, name: &str) -> bool {
        self.components.values().any(|grants| grants.secrets.iter().any(|granted| granted == name))
    }

    /// Returns whether any component may write to a store or a folder.
    #[must_use]
    pub fn can_write(&self) -> bool {
        let can_write = |grants: &ComponentGrants| {
            !grants.kv.is_empty() || !grants.sql.is_empty() || grants.dirs.iter().any(|grant| grant.write)
        };
        self.components.values().any(can_write)
    }

    /// Returns the granted folders of all components. A folder that several components were granted is listed several
    /// times.
    pub fn dirs(&self) -> impl Iterator<Item = &DirGrant> {
        self.components.values().flat_map(|grants| &grants.dirs)
    }

    /// Returns the migrations folder of an SQL store, as written in the manifest; `None` if the store has no
    /// migrations.
    pub(crate) fn migrations(&self, store: &StoreName) -> Option<&PathBuf> {
        self.sql.get(store)?.migrations.as_ref()
    }

    /// Returns the time limit of an SQL store's statements, at most `max`; `None` if the default limit applies.
    #[must_use]
    pub fn statement_time(&self, store: &StoreName, max: Duration) -> Option<Duration> {
        let written = self.sql.get(store).and_then(|settings| settings.statement_timeout);
        let effective = written.unwrap_or(SqlStoreSettings::STATEMENT_TIMEOUT_DEFAULT);
        if max < effective { Some(max) } else { written }
    }
}

impl From<&App> for AppGrants {
    fn from(app: &App) -> Self {
        let components = app.components.iter().map(|(name, component)| (name.clone(), (&component.grants).into()));
        Self { components: components.collect(), secrets: app.secrets.clone(), sql: app.sql.clone() }
    }
}

impl From<&WrittenGrants> for ComponentGrants {
    fn from(grants: &WrittenGrants) -> Self {
        fn values<T: Clone>(spanned: &[Spanned<T>]) -> Vec<T> {
            spanned.iter().map(|it| it.value.clone()).collect()
        }
        Self {
            kv: values(&grants.kv),
            sql: values(&grants.sql),
            http: values(&grants.http),
            config: grants.config.clone(),
            secrets: values(&grants.secrets),
            dirs: values(&grants.dirs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(grants: ComponentGrants) -> AppGrants {
        let name = ComponentName::new("cart").unwrap();
        AppGrants { components: BTreeMap::from([(name, grants)]), ..AppGrants::default() }
    }

    #[test]
    fn read_only_grants_cannot_write() {
        let dir = |write| DirGrant { host: "notes".into(), guest: "/notes".to_owned(), write };
        let store = StoreName::new("carts").unwrap();
        assert!(!with(ComponentGrants::default()).can_write());
        assert!(!with(ComponentGrants { dirs: vec![dir(false)], ..ComponentGrants::default() }).can_write());
        assert!(with(ComponentGrants { dirs: vec![dir(false), dir(true)], ..ComponentGrants::default() }).can_write());
        assert!(with(ComponentGrants { kv: vec![store.clone()], ..ComponentGrants::default() }).can_write());
        assert!(with(ComponentGrants { sql: vec![store], ..ComponentGrants::default() }).can_write());
    }

    #[test]
    fn secrets_are_used_by_components_not_by_declarations() {
        let mut grants = with(ComponentGrants { secrets: vec!["key".to_owned()], ..ComponentGrants::default() });
        grants.secrets.insert("other".to_owned(), SecretSource::Env("OTHER".to_owned()));
        assert!(grants.uses_secret("key") && !grants.uses_secret("other"));
    }
}
