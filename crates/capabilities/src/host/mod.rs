//! Host functions: the host side of the capabilities, which implements WIT interfaces with the engines of this crate
//! (stores, secrets, outbound HTTP).
//!
//! Each provider contains the grants of every component of the app. When an import is linked, the provider selects the
//! grants of the component that owns the import, so the linked functions can reach nothing else. If the owner has no
//! grant, the functions are linked with an empty set of grants: they return `access-denied`, and the log shows the line
//! to add to the manifest.
//!
//! While a function waits (an `async func` in WIT, or a blocking function on a fiber), it holds no lock and does not
//! borrow the wasmtime store.

mod config;
mod keyvalue;
mod logging;
mod otel;
mod records;
mod secrets;
mod spans;
mod sql;

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_display::excerpt;
use isomer_runtime::{Guest, InterfaceOwner};
use isomer_telemetry::metrics::SeriesGroup;
use isomer_telemetry::{SpanKind, SpanTemplate, semantics};

use self::spans::{OperationSpan, StoreSubject};
use crate::grants::GrantedBy;

pub use config::ConfigProvider;
pub use keyvalue::KeyValueProvider;
pub use logging::LoggingProvider;
pub use otel::OtelProvider;
pub use secrets::SecretsProvider;
pub use sql::SqlProvider;

/// The grants of all components for one capability, by the component's name.
#[derive(Debug, Clone)]
pub struct GrantTable<T> {
    components: BTreeMap<String, Granted<T>>,
    by: GrantedBy,
}

/// The grants of one component for one capability, by the name of the granted resource.
pub type Granted<T> = Arc<BTreeMap<String, T>>;

impl<T> Default for GrantTable<T> {
    fn default() -> Self {
        Self::new(GrantedBy::default())
    }
}

impl<T> GrantTable<T> {
    /// Creates an empty table. `by` is the source of the grants, for the messages about denials.
    pub fn new(by: GrantedBy) -> Self {
        Self { components: BTreeMap::new(), by }
    }

    /// Sets the grants of `component`.
    pub fn insert(&mut self, component: &str, granted: BTreeMap<String, T>) {
        self.components.insert(component.to_owned(), Arc::new(granted));
    }

    /// Returns the grants for an import of `owner`. Components that share an import must have the same grants, because
    /// each of them can use everything that the import reaches. If their grants differ, returns an error.
    fn of(&self, owner: &InterfaceOwner) -> wasmtime::Result<OwnerGrants<T>> {
        let of_one = |name: &str| self.components.get(name).cloned().unwrap_or_else(|| Arc::new(BTreeMap::new()));
        match owner {
            InterfaceOwner::Component(name) => Ok(OwnerGrants {
                component: name.to_string(),
                owner: Some(name.clone()),
                granted: of_one(name),
                by: self.by,
            }),
            InterfaceOwner::Shared(names) => {
                let granted = names.first().map(|name| of_one(name)).unwrap_or_else(|| Arc::new(BTreeMap::new()));
                for name in names {
                    if !of_one(name).keys().eq(granted.keys()) {
                        wasmtime::bail!("components that share an import have different grants: {names:?}");
                    }
                }
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                Ok(OwnerGrants { component: names.join("`, `"), owner: None, granted, by: self.by })
            }
        }
    }
}

/// The grants of the owner of one import.
struct OwnerGrants<T> {
    /// The component's name for messages. If several components share the import, the names of all of them.
    component: String,
    /// The component, unless several components share the import.
    owner: Option<Arc<str>>,
    granted: Granted<T>,
    by: GrantedBy,
}

impl<T> OwnerGrants<T> {
    /// Returns the template for the spans of the owner's operations.
    fn span(&self, name: &'static str) -> SpanTemplate {
        let template = SpanTemplate::new(name, SpanKind::Client);
        match &self.owner {
            Some(owner) => template.component(owner),
            None => template,
        }
    }

    /// Returns the granted resource `name`. If there is no such grant, logs the denial with the line to add to the
    /// manifest, and returns the error text for the guest.
    fn get(&self, guest: &Guest, key: &str, what: &str, name: &str) -> Result<&T, String> {
        self.granted.get(name).ok_or_else(|| {
            let (component, name) = (&self.component, excerpt::name(name));
            let instruction = match self.by {
                GrantedBy::Manifest => format!("write `grants.{key} = [\"{name}\"]` under `[components.{component}]`"),
                GrantedBy::Flags => {
                    format!("create an app with `isomer new`, and write `grants.{key} = [\"{name}\"]` in the isomer.toml of the app")
                }
            };
            guest.denials().report(component, &format!("the {what} `{name}` was denied; to grant it, {instruction}"));
            format!("the component `{component}` has no grant for the {what} `{name}`")
        })
    }
}

/// A granted store, and its description for the spans and metrics of operations on the store.
struct StoreGrant<T> {
    store: T,
    subject: Arc<StoreSubject>,
}

/// The stores that the owner of one import was granted.
struct StoreGrants<T> {
    grants: OwnerGrants<T>,
    subjects: BTreeMap<String, Arc<StoreSubject>>,
}

impl<T: Clone> StoreGrants<T> {
    /// Creates the granted stores of one owner. The durations and outcomes of `operations` on these stores are recorded
    /// in `series`.
    fn new(grants: OwnerGrants<T>, series: &Arc<SeriesGroup>, operations: &[&OperationSpan]) -> Self {
        let subject = |name: &String| {
            let span = grants.span("").with(semantics::DB_NAMESPACE, name.clone());
            (name.clone(), Arc::new(StoreSubject::new(span, name, series, operations)))
        };
        Self { subjects: grants.granted.keys().map(subject).collect(), grants }
    }

    /// Returns the granted store `name`: see [`OwnerGrants::get`].
    fn get(&self, guest: &Guest, key: &str, what: &str, name: &str) -> Result<StoreGrant<T>, String> {
        let store = self.grants.get(guest, key, what, name)?.clone();
        let unknown = || Arc::new(StoreSubject::new(self.grants.span(""), name, &Arc::default(), &[]));
        let subject = self.subjects.get(name).cloned().unwrap_or_else(unknown);
        Ok(StoreGrant { store, subject })
    }
}

/// Returns the name of the component that an import belongs to, or the names of the components that share it.
fn owner_name(owner: &InterfaceOwner) -> Arc<str> {
    match owner {
        InterfaceOwner::Component(name) => name.clone(),
        InterfaceOwner::Shared(names) => names.join(", ").into(),
    }
}

/// Splits `wasi:keyvalue/store@0.2.0-draft` into (`wasi:keyvalue/store`, `0.2.0-draft`).
fn split(interface: &str) -> (&str, &str) {
    interface.split_once('@').unwrap_or((interface, ""))
}
