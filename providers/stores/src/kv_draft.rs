//! The exported interfaces of `wasi:keyvalue@0.2.0-draft`.

use std::rc::Rc;

use crate::Provider;
use crate::exports::wasi::keyvalue0_2_0_draft::{atomics, batch, store};
use crate::kv;
use crate::kv_store::KvStore;

use store::Error;

pub(crate) struct Bucket(Rc<KvStore>);

impl store::Guest for Provider {
    type Bucket = Bucket;

    fn open(identifier: String) -> Result<store::Bucket, Error> {
        Ok(store::Bucket::new(Bucket(kv::open(&identifier, Error::AccessDenied, Error::Other)?)))
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

    fn list_keys(&self, cursor: Option<u64>) -> Result<store::KeyResponse, Error> {
        let (keys, cursor) = self.0.list_keys_numbered(cursor).map_err(Error::Other)?;
        Ok(store::KeyResponse { keys, cursor })
    }
}

impl atomics::Guest for Provider {
    fn increment(bucket: store::BucketBorrow<'_>, key: String, delta: u64) -> Result<u64, Error> {
        let add = |text: &str| text.parse::<u64>().ok().map(|old| old.checked_add(delta));
        bucket.get::<Bucket>().0.increment(&key, add).map_err(Error::Other)
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
