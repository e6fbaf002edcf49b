//! The exported interfaces of `wasi:keyvalue@0.2.0-draft2`.

use std::cell::RefCell;
use std::rc::Rc;

use crate::Provider;
use crate::exports::wasi::keyvalue0_2_0_draft2::{atomics, batch, store};
use crate::kv_store::{Cas, KvStore, Swap};
use crate::settings::{Kind, settings};

use store::Error;

pub(crate) struct Bucket(Rc<KvStore>);

pub(crate) struct CasHandle {
    store: Rc<KvStore>,
    cas: RefCell<Cas>,
}

/// Returns the store that a component opens.
pub(crate) fn open<E>(identifier: &str, denied: E, other: impl Fn(String) -> E) -> Result<Rc<KvStore>, E> {
    let Ok(name) = settings().granted(Kind::Kv, identifier) else { return Err(denied) };
    KvStore::open(name).map_err(other)
}

impl store::Guest for Provider {
    type Bucket = Bucket;

    fn open(identifier: String) -> Result<store::Bucket, Error> {
        Ok(store::Bucket::new(Bucket(open(&identifier, Error::AccessDenied, Error::Other)?)))
    }
}

impl store::GuestBucket for Bucket {
    fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(&key).map_err(Error::Other)
    }

    fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        self.0.set_many(&[(key, value)]).map_err(Error::Other)
    }

    fn delete(&self, key: String) -> Result<(), Error> {
        self.0.delete_many(&[key]).map_err(Error::Other)
    }

    fn exists(&self, key: String) -> Result<bool, Error> {
        self.0.exists(&key).map_err(Error::Other)
    }

    fn list_keys(&self, cursor: Option<String>) -> Result<store::KeyResponse, Error> {
        let page = self.0.list_keys(cursor.as_deref()).map_err(Error::Other)?;
        Ok(store::KeyResponse { keys: page.keys, cursor: page.next })
    }
}

impl atomics::Guest for Provider {
    type Cas = CasHandle;

    fn increment(bucket: store::BucketBorrow<'_>, key: String, delta: i64) -> Result<i64, Error> {
        let add = |text: &str| text.parse::<i64>().ok().map(|old| old.checked_add(delta));
        bucket.get::<Bucket>().0.increment(&key, add).map_err(Error::Other)
    }

    fn swap(cas: atomics::Cas, value: Vec<u8>) -> Result<(), atomics::CasError> {
        let CasHandle { store, cas } = cas.into_inner();
        match store.swap(cas.into_inner(), &value) {
            Ok(Swap::Swapped) => Ok(()),
            Ok(Swap::Changed(cas)) => {
                Err(atomics::CasError::CasFailed(atomics::Cas::new(CasHandle { store, cas: RefCell::new(cas) })))
            }
            Err(message) => Err(atomics::CasError::StoreError(Error::Other(message))),
        }
    }
}

impl atomics::GuestCas for CasHandle {
    fn new(bucket: store::BucketBorrow<'_>, key: String) -> Result<atomics::Cas, Error> {
        let store = bucket.get::<Bucket>().0.clone();
        let cas = RefCell::new(store.compare(key).map_err(Error::Other)?);
        Ok(atomics::Cas::new(Self { store, cas }))
    }

    // Updates the version in the handle, so that the next swap succeeds if the value has not changed since this call.
    fn current(&self) -> Result<Option<Vec<u8>>, Error> {
        let before = self.cas.borrow().clone();
        let (cas, value) = self.store.current(&before).map_err(Error::Other)?;
        self.cas.replace(cas);
        Ok(value)
    }
}

impl batch::Guest for Provider {
    fn get_many(bucket: store::BucketBorrow<'_>, keys: Vec<String>) -> Result<Vec<Option<(String, Vec<u8>)>>, Error> {
        let values = bucket.get::<Bucket>().0.get_many(&keys).map_err(Error::Other)?;
        Ok(keys.into_iter().zip(values).map(|(key, value)| value.map(|value| (key, value))).collect())
    }

    fn set_many(bucket: store::BucketBorrow<'_>, key_values: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        bucket.get::<Bucket>().0.set_many(&key_values).map_err(Error::Other)
    }

    fn delete_many(bucket: store::BucketBorrow<'_>, keys: Vec<String>) -> Result<(), Error> {
        bucket.get::<Bucket>().0.delete_many(&keys).map_err(Error::Other)
    }
}
