//! An app as far as starting it needs it: what its components are given. Where something was written in the manifest, how components are
//! linked and built is not here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use isomer_manifest::{
    App, Component, ComponentName, DirGrant, Grants, OutboundHost, SecretSource, Source, Spanned, SqlStore, StoreName,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PackedApp {
    pub(super) name: String,
    #[serde(with = "as_text")]
    pub(super) version: semver::Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<String>,
    components: BTreeMap<ComponentName, PackedGrants>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    secrets: BTreeMap<String, SecretSource>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sql: BTreeMap<StoreName, SqlStore>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct PackedGrants {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kv: Vec<StoreName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sql: Vec<StoreName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    http: Vec<OutboundHost>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    config: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dirs: Vec<DirGrant>,
}

impl PackedApp {
    pub(super) fn new(app: &App) -> Self {
        let components = app.components.iter().map(|(name, it)| (name.clone(), PackedGrants::new(&it.grants)));
        Self {
            name: app.name.clone(),
            version: app.version.clone(),
            health: app.health.as_ref().map(|path| path.value.clone()),
            components: components.collect(),
            secrets: app.secrets.clone(),
            sql: app.sql.clone(),
        }
    }

    pub(super) fn app(&self) -> App {
        let components = self.components.iter().map(|(name, grants)| (name.clone(), grants.component()));
        App {
            name: self.name.clone(),
            version: self.version.clone(),
            health: self.health.clone().map(Spanned::unwritten),
            components: components.collect(),
            shapes: BTreeMap::new(),
            secrets: self.secrets.clone(),
            sql: self.sql.clone(),
        }
    }
}

impl PackedGrants {
    fn new(grants: &Grants) -> Self {
        fn plain<T: Clone>(spanned: &[Spanned<T>]) -> Vec<T> {
            spanned.iter().map(|it| it.value.clone()).collect()
        }
        Self {
            kv: plain(&grants.kv),
            sql: plain(&grants.sql),
            http: plain(&grants.http),
            config: grants.config.clone(),
            secrets: plain(&grants.secrets),
            dirs: plain(&grants.dirs),
        }
    }

    fn component(&self) -> Component {
        fn spanned<T: Clone>(plain: &[T]) -> Vec<Spanned<T>> {
            plain.iter().cloned().map(Spanned::unwritten).collect()
        }
        let grants = Grants {
            kv: spanned(&self.kv),
            sql: spanned(&self.sql),
            http: spanned(&self.http),
            config: self.config.clone(),
            secrets: spanned(&self.secrets),
            dirs: spanned(&self.dirs),
            at: Spanned::default(),
        };
        Component {
            source: Spanned::unwritten(Source::Wasm(PathBuf::new())),
            routes: vec![],
            grants,
            limits: isomer_manifest::Limits::default(),
            links: BTreeMap::new(),
            isolate: false,
            idempotent: vec![],
            concurrency: 1,
            reuse: None,
            compress: false,
            at: Spanned::default(),
        }
    }
}

mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(version: &semver::Version, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(version)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<semver::Version, D::Error> {
        semver::Version::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
