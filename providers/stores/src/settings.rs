//! What `isomer ship wasm` has put into the app's file: the folder of the stores, the grants, and the migrations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::rules::excerpt;

#[derive(Deserialize)]
pub(crate) struct Settings {
    /// The folder of the stores, in the file system that the host gives to the app.
    data: PathBuf,
    /// The stores that each component was granted.
    components: BTreeMap<String, Granted>,
    #[serde(default)]
    sql: BTreeMap<String, SqlSettings>,
}

#[derive(Deserialize, Default)]
struct Granted {
    #[serde(default)]
    kv: Vec<String>,
    #[serde(default)]
    sql: Vec<String>,
}

/// The settings of one SQL store.
#[derive(Deserialize, Default)]
pub(crate) struct SqlSettings {
    /// The time limit of a statement, in milliseconds.
    pub(crate) statement_ms: Option<u64>,
    /// The migrations, in the order of their names.
    #[serde(default)]
    pub(crate) migrations: Vec<MigrationFile>,
}

#[derive(Deserialize)]
pub(crate) struct MigrationFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The two kinds of stores. The names of the kinds are those of the grants and of the folders.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kv,
    Sql,
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Sql => "sql",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Kv => "key-value store",
            Self::Sql => "SQL store",
        }
    }
}

pub(crate) fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        serde_json::from_slice(&crate::isomer::parcel::settings::get())
            .expect("`isomer ship wasm` writes valid settings")
    })
}

impl Settings {
    /// Returns the name of the store that a component wants to open, if the component was granted this store. `identifier`
    /// comes from the gate: the component's name, a line break, the store's name. Otherwise, logs the denial and returns
    /// the message for the component.
    pub(crate) fn granted<'a>(&self, kind: Kind, identifier: &'a str) -> Result<&'a str, String> {
        let (component, name) = identifier.split_once('\n').unwrap_or(("", identifier));
        let granted = self.components.get(component).is_some_and(|granted| {
            let names = if kind == Kind::Kv { &granted.kv } else { &granted.sql };
            names.iter().any(|granted| granted == name)
        });
        if granted {
            return Ok(name);
        }
        let (what, key, name) = (kind.noun(), kind.key(), excerpt::name(name));
        eprintln!(
            "warn     {component}: the {what} `{}` was denied; to grant it, write `grants.{key} = [\"{}\"]` under `[components.{component}]`",
            name.escape_debug(),
            name.escape_debug()
        );
        Err(format!("the component `{component}` has no grant for the {what} `{name}`"))
    }

    /// Returns the settings of an SQL store, if the app has any.
    pub(crate) fn sql(&self, store: &str) -> Option<&SqlSettings> {
        self.sql.get(store)
    }

    /// Creates the folder of a store, and returns its path.
    pub(crate) fn folder(&self, kind: Kind, store: &str) -> Result<PathBuf, String> {
        let path = self.data.join(kind.key()).join(store);
        std::fs::create_dir_all(&path).map_err(|error| missing(&self.data, &error))?;
        Ok(path)
    }
}

fn missing(data: &Path, error: &std::io::Error) -> String {
    let data = data.display();
    format!(
        "the folder `{data}` cannot be used ({error}): start the host with a folder at this path, for example `wasmtime serve --dir shop-data::{data}`"
    )
}
