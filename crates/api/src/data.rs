//! Reading and changing the key-value and SQL stores of an app.
//!
//! Values and blobs are written as hexadecimal digits. Integers that a JavaScript number cannot represent, long texts
//! and blobs are objects: see [`SqlRows::rows`](crate::SqlRows::rows).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number of keys in a page if the query has no limit.
pub const KEYS_DEFAULT: u32 = 100;

/// The maximum number of keys in a page.
pub const KEYS_MAX: u32 = 500;

/// The maximum number of bytes of a value that one response contains.
pub const VALUE_BYTES_MAX: usize = 256 << 10;

/// The maximum size in bytes of a value that [`KvSetRequest`] sets.
pub const SET_VALUE_BYTES_MAX: usize = 64 << 10;

/// The maximum length in bytes of a statement.
pub const STATEMENT_BYTES_MAX: usize = 32 << 10;

/// The maximum number of bytes of a text or blob in a result. Longer ones are cut.
pub const CELL_BYTES_MAX: usize = 4 << 10;

/// A store of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreInfo {
    /// The kind of store.
    pub kind: StoreKind,
    /// The store's name.
    pub name: String,
    /// The size of the store's files in bytes; 0 if the store has not been written yet.
    pub bytes: u64,
    /// The components that are granted the store. Empty if the store is left from an earlier revision.
    pub components: Vec<String>,
    /// The group in whose process the store is open; absent if this process can read the store itself. Only this
    /// process can read the store while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether the operations that change stores are permitted, as under `isomer dev`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub writable: bool,
}

/// The kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// A key-value store.
    Kv,
    /// An SQL store.
    Sql,
}

impl StoreKind {
    /// Returns the kind's name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Sql => "sql",
        }
    }
}

/// A query for keys of a key-value store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KvKeysQuery {
    /// Only keys that begin with this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Continue after the page whose `next` was this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The maximum number of keys to return; 100 if absent, at most 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Some keys of a key-value store, ordered by their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvKeyPage {
    /// The keys.
    pub keys: Vec<KvKey>,
    /// The text for `after` in the query of the next page; absent if there are no more keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A key of a key-value store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvKey {
    /// The key.
    pub key: String,
    /// The size of its value in bytes.
    pub bytes: u64,
}

/// A query for the value of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KvValueQuery {
    /// The key.
    pub key: String,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvValue {
    /// The key.
    pub key: String,
    /// The size of the value in bytes.
    pub bytes: u64,
    /// The first 256 KiB of the value, as hexadecimal digits.
    pub hex: String,
    /// Whether the value has more bytes than `hex`.
    pub truncated: bool,
}

/// The request to set the value of a key. Only permitted under `isomer dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KvSetRequest {
    /// The key.
    pub key: String,
    /// The value, as hexadecimal digits. At most 64 KiB.
    pub hex: String,
}

/// The request to delete a key. Only permitted under `isomer dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KvDeleteRequest {
    /// The key.
    pub key: String,
}

/// The schema of an SQL store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SqlSchema {
    /// The tables, views, indexes and triggers, sorted by kind and name. At most 500.
    pub objects: Vec<SqlObject>,
}

/// A table, view, index or trigger of an SQL store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SqlObject {
    /// `table`, `view`, `index` or `trigger`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The table that an index or a trigger belongs to; the name itself for tables and views.
    pub table: String,
    /// The statement that creates the object; absent for indexes that SQLite creates itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// The columns of a table or view.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<SqlColumn>,
}

/// A column of a table or view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SqlColumn {
    /// The name.
    pub name: String,
    /// The declared type; empty if there is none.
    pub r#type: String,
    /// Whether the column is declared `NOT NULL`.
    pub not_null: bool,
    /// Whether the column is a part of the primary key.
    pub primary_key: bool,
}

/// The request to run one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlStatement {
    /// The statement, at most 32 KiB, without parameters.
    pub statement: String,
}

/// The result of a statement that changes a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SqlChanges {
    /// The number of changed rows.
    pub changed: u64,
}

fn is_false(value: &bool) -> bool {
    !value
}
