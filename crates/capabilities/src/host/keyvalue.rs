//! `wasi:keyvalue` (store, atomics, batch), in the two versions that guests use.
//!
//! `0.2.0-draft` has numeric cursors and an unsigned `increment`; `0.2.0-draft2` has textual cursors, a signed
//! `increment` and compare-and-swap. All functions are synchronous in WIT: a call suspends the fiber of the calling
//! instance, and blocks no thread.

use std::sync::Arc;

use isomer_runtime::{Guest, HostMemory, InterfaceOwner, Provider};
use isomer_telemetry::metrics::SeriesGroup;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource, ResourceType};

use super::spans::{Operation, OperationSpan, StoreSubject};
use super::{GrantTable, OwnerGrants, StoreGrant, StoreGrants, split};
use crate::kv::{Cas, Delta, KvError, KvStore, Swap};

const DRAFT: &str = "0.2.0-draft";
const DRAFT2: &str = "0.2.0-draft2";

static GET: OperationSpan = OperationSpan::new("kv get", "redb", "get");
static SET: OperationSpan = OperationSpan::new("kv set", "redb", "set");
static DELETE: OperationSpan = OperationSpan::new("kv delete", "redb", "delete");
static EXISTS: OperationSpan = OperationSpan::new("kv exists", "redb", "exists");
static LIST_KEYS: OperationSpan = OperationSpan::new("kv list-keys", "redb", "list-keys");
static INCREMENT: OperationSpan = OperationSpan::new("kv increment", "redb", "increment");
static COMPARE: OperationSpan = OperationSpan::new("kv compare", "redb", "compare");
static CURRENT: OperationSpan = OperationSpan::new("kv current", "redb", "current");
static SWAP: OperationSpan = OperationSpan::new("kv swap", "redb", "swap");
static GET_MANY: OperationSpan = OperationSpan::new("kv get-many", "redb", "get-many");
static SET_MANY: OperationSpan = OperationSpan::new("kv set-many", "redb", "set-many");
static DELETE_MANY: OperationSpan = OperationSpan::new("kv delete-many", "redb", "delete-many");

static OPERATIONS: [&OperationSpan; 12] = [
    &GET,
    &SET,
    &DELETE,
    &EXISTS,
    &LIST_KEYS,
    &INCREMENT,
    &COMPARE,
    &CURRENT,
    &SWAP,
    &GET_MANY,
    &SET_MANY,
    &DELETE_MANY,
];

/// Provides `wasi:keyvalue/{store,atomics,batch}`.
#[derive(Clone, Default)]
pub struct KeyValueProvider {
    grants: GrantTable<KvStore>,
    series: Arc<SeriesGroup>,
}

/// The host's value behind a guest's `bucket` handle.
struct Bucket {
    store: KvStore,
    /// Describes the store in spans and metrics.
    subject: Arc<StoreSubject>,
}

/// The host's value behind a guest's `cas` handle (compare-and-swap).
struct CasHandle {
    store: KvStore,
    subject: Arc<StoreSubject>,
    cas: Cas,
    _memory: HostMemory,
}

/// The number of bytes that are charged for a `cas` handle in addition to its key: the size of the [`CasHandle`] and of
/// its entry in the resource table.
const CAS_BYTES: usize = 256;

/// The WIT type `wasi:keyvalue/store.error`.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

/// The WIT type `wasi:keyvalue/store.key-response` of version `draft`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct NumberedKeys {
    keys: Vec<String>,
    cursor: Option<u64>,
}

/// The WIT type `wasi:keyvalue/store.key-response` of version `draft2`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Keys {
    keys: Vec<String>,
    cursor: Option<String>,
}

/// The WIT type `wasi:keyvalue/atomics.cas-error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    Store(Error),
    #[component(name = "cas-failed")]
    Failed(Resource<CasHandle>),
}

type Store<'a> = StoreContextMut<'a, Guest>;

impl KeyValueProvider {
    /// Creates the provider from each component's stores. Operations are measured in `series`.
    pub fn new(grants: GrantTable<KvStore>, series: Arc<SeriesGroup>) -> Self {
        Self { grants, series }
    }
}

impl From<KvError> for Error {
    fn from(error: KvError) -> Self {
        Self::Other(error.to_string())
    }
}

impl Provider for KeyValueProvider {
    fn provides(&self, interface: &str) -> bool {
        let (path, version) = split(interface);
        matches!(path, "wasi:keyvalue/store" | "wasi:keyvalue/atomics" | "wasi:keyvalue/batch")
            && matches!(version, DRAFT | DRAFT2)
    }

    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        interface: &str,
        owner: &InterfaceOwner,
    ) -> wasmtime::Result<()> {
        let (path, version) = split(interface);
        match path {
            "wasi:keyvalue/store" => link_store(instance, self.grants.of(owner)?, &self.series, version),
            "wasi:keyvalue/atomics" => link_atomics(instance, version),
            _ => link_batch(instance),
        }
    }
}

fn link_store(
    instance: &mut LinkerInstance<'_, Guest>,
    grants: OwnerGrants<KvStore>,
    series: &Arc<SeriesGroup>,
    version: &str,
) -> wasmtime::Result<()> {
    instance.resource("bucket", ResourceType::host::<Bucket>(), |mut store: Store<'_>, rep| {
        store.data_mut().table().delete(Resource::<Bucket>::new_own(rep))?;
        Ok(())
    })?;
    let grants = StoreGrants::new(grants, series, &OPERATIONS);
    instance.func_wrap("open", move |mut store: Store<'_>, (name,): (String,)| {
        Ok((match grants.get(store.data(), "kv", "key-value store", &name) {
            Ok(StoreGrant { store: kv, subject }) => {
                Ok(store.data_mut().table().push(Bucket { store: kv, subject })?)
            }
            Err(_) => Err(Error::AccessDenied),
        },))
    })?;
    instance.func_wrap_async(
        "[method]bucket.get",
        |mut store: Store<'_>, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let (kv, operation) = begin(&mut store, &bucket, &GET)?;
                Ok((operation.run(kv.get(key)).await.map_err(Error::from),))
            })
        },
    )?;
    instance.func_wrap_async(
        "[method]bucket.set",
        |mut store: Store<'_>, (bucket, key, value): (Resource<Bucket>, String, Vec<u8>)| {
            Box::new(async move {
                let (kv, operation) = begin(&mut store, &bucket, &SET)?;
                Ok((operation.run(kv.set(key, value)).await.map_err(Error::from),))
            })
        },
    )?;
    instance.func_wrap_async(
        "[method]bucket.delete",
        |mut store: Store<'_>, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let (kv, operation) = begin(&mut store, &bucket, &DELETE)?;
                Ok((operation.run(kv.delete(key)).await.map_err(Error::from),))
            })
        },
    )?;
    instance.func_wrap_async(
        "[method]bucket.exists",
        |mut store: Store<'_>, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let (kv, operation) = begin(&mut store, &bucket, &EXISTS)?;
                Ok((operation.run(kv.exists(key)).await.map_err(Error::from),))
            })
        },
    )?;
    const LIST: &str = "[method]bucket.list-keys";
    if version == DRAFT {
        instance.func_wrap_async(LIST, |mut store: Store<'_>, (bucket, cursor): (Resource<Bucket>, Option<u64>)| {
            Box::new(async move {
                let (kv, operation) = begin(&mut store, &bucket, &LIST_KEYS)?;
                let listed = operation.run(kv.list_keys_numbered(cursor)).await;
                Ok((listed.map(|(keys, cursor)| NumberedKeys { keys, cursor }).map_err(Error::from),))
            })
        })
    } else {
        instance.func_wrap_async(LIST, |mut store: Store<'_>, (bucket, cursor): (Resource<Bucket>, Option<String>)| {
            Box::new(async move {
                let (kv, operation) = begin(&mut store, &bucket, &LIST_KEYS)?;
                let listed = operation.run(kv.list_keys(cursor)).await;
                Ok((listed.map(|page| Keys { keys: page.keys, cursor: page.next }).map_err(Error::from),))
            })
        })
    }
}

fn link_atomics(instance: &mut LinkerInstance<'_, Guest>, version: &str) -> wasmtime::Result<()> {
    if version == DRAFT {
        return instance.func_wrap_async(
            "increment",
            |mut store: Store<'_>, (bucket, key, delta): (Resource<Bucket>, String, u64)| {
                Box::new(async move {
                    let (kv, operation) = begin(&mut store, &bucket, &INCREMENT)?;
                    let sum = operation.run(kv.increment(key, Delta::Unsigned(delta))).await;
                    Ok((in_range::<u64>(sum),))
                })
            },
        );
    }
    instance.func_wrap_async(
        "increment",
        |mut store: Store<'_>, (bucket, key, delta): (Resource<Bucket>, String, i64)| {
            Box::new(async move {
                let (kv, operation) = begin(&mut store, &bucket, &INCREMENT)?;
                let sum = operation.run(kv.increment(key, Delta::Signed(delta))).await;
                Ok((in_range::<i64>(sum),))
            })
        },
    )?;
    instance.resource("cas", ResourceType::host::<CasHandle>(), |mut store: Store<'_>, rep| {
        store.data_mut().table().delete(Resource::<CasHandle>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap_async(
        "[static]cas.new",
        |mut store: Store<'_>, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let (kv, operation) = begin(&mut store, &bucket, &COMPARE)?;
                let subject = store.data_mut().table().get(&bucket)?.subject.clone();
                let memory = match store.data().account().charge_host_memory(CAS_BYTES + key.len()) {
                    Ok(memory) => memory,
                    Err(full) => return Ok((Err(Error::from(KvError::from(full))),)),
                };
                Ok((match operation.run(kv.compare(key)).await {
                    Ok(cas) => {
                        let handle = CasHandle { store: kv, subject, cas, _memory: memory };
                        Ok(store.data_mut().table().push(handle)?)
                    }
                    Err(error) => Err(Error::from(error)),
                },))
            })
        },
    )?;
    // `current` updates the version in the handle, so that the next swap succeeds if the value has not changed since
    // this call.
    instance.func_wrap_async("[method]cas.current", |mut store: Store<'_>, (handle,): (Resource<CasHandle>,)| {
        Box::new(async move {
            let CasHandle { store: kv, subject, cas, .. } = store.data_mut().table().get(&handle)?;
            let (kv, subject, cas) = (kv.clone(), subject.clone(), cas.clone());
            let operation = Operation::begin(&mut store, &CURRENT, &subject);
            Ok((match operation.run(kv.current(&cas)).await {
                Ok((cas, value)) => {
                    store.data_mut().table().get_mut(&handle)?.cas = cas;
                    Ok(value)
                }
                Err(error) => Err(Error::from(error)),
            },))
        })
    })?;
    instance.func_wrap_async("swap", |mut store: Store<'_>, (cas, value): (Resource<CasHandle>, Vec<u8>)| {
        Box::new(async move {
            let CasHandle { store: kv, subject, cas, _memory } = store.data_mut().table().delete(cas)?;
            let operation = Operation::begin(&mut store, &SWAP, &subject);
            Ok((match operation.run(kv.swap(cas, value)).await {
                Ok(Swap::Swapped) => Ok(()),
                Ok(Swap::Changed(cas)) => {
                    let handle = CasHandle { store: kv, subject, cas, _memory };
                    Err(CasError::Failed(store.data_mut().table().push(handle)?))
                }
                Err(error) => Err(CasError::Store(error.into())),
            },))
        })
    })
}

fn link_batch(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    instance.func_wrap_async("get-many", |mut store: Store<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
        Box::new(async move {
            let (kv, operation) = begin(&mut store, &bucket, &GET_MANY)?;
            let values = operation.run(kv.get_many(keys.clone())).await;
            let pairs = values.map(|values| {
                let pairs = keys.into_iter().zip(values);
                pairs.map(|(key, value)| value.map(|value| (key, value))).collect::<Vec<_>>()
            });
            Ok((pairs.map_err(Error::from),))
        })
    })?;
    instance.func_wrap_async(
        "set-many",
        |mut store: Store<'_>, (bucket, pairs): (Resource<Bucket>, Vec<(String, Vec<u8>)>)| {
            Box::new(async move {
                let (kv, operation) = begin(&mut store, &bucket, &SET_MANY)?;
                Ok((operation.run(kv.set_many(pairs)).await.map_err(Error::from),))
            })
        },
    )?;
    instance.func_wrap_async("delete-many", |mut store: Store<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
        Box::new(async move {
            let (kv, operation) = begin(&mut store, &bucket, &DELETE_MANY)?;
            Ok((operation.run(kv.delete_many(keys)).await.map_err(Error::from),))
        })
    })
}

/// Starts an operation on the store of a `bucket` handle. Clones the store, so that the guest's state is not borrowed
/// during the operation.
fn begin(
    store: &mut Store<'_>,
    bucket: &Resource<Bucket>,
    span: &OperationSpan,
) -> wasmtime::Result<(KvStore, Operation)> {
    let Bucket { store: kv, subject } = store.data_mut().table().get(bucket)?;
    let (kv, subject) = (kv.clone(), subject.clone());
    Ok((kv, Operation::begin(store, span, &subject)))
}

fn in_range<T: TryFrom<i128>>(sum: Result<i128, KvError>) -> Result<T, Error> {
    T::try_from(sum?).map_err(|_| Error::Other("the sum is out of range".to_owned()))
}
