//! Opening a key-value store only if it exists: for readers that must not create a store by looking at it.
//!
//! Whether the file exists is determined by opening it. A check before the opening would not be sufficient: the file may
//! be removed between the two.

use std::path::Path;

use isomer_disk::{Database, FileStorage};

use super::open_store::OpenFile;
use super::{Kv, KvError, KvStore, entry};
use crate::check_store_name;

/// The reason why an existing store could not be opened.
enum NotOpened {
    Absent,
    Failed(KvError),
}

impl From<KvError> for NotOpened {
    fn from(error: KvError) -> Self {
        Self::Failed(error)
    }
}

impl Kv {
    /// Opens the store `name`. Returns `None` if it does not exist, and never creates it.
    ///
    /// # Errors
    /// The errors of [`Kv::store`].
    pub async fn existing(&self, name: &str) -> Result<Option<KvStore>, KvError> {
        check_store_name(name)?;
        let path = self.path_of(name);
        let open = async |permit, _| {
            let (file, cache) = (path.clone(), self.engine.cache.share());
            let opened = self.job_queue.run(move || {
                let database = open_existing(&file, cache.bytes())?;
                Ok::<_, NotOpened>(OpenFile { database, path: Some(file), _cache: cache, _permit: permit })
            });
            Ok::<_, NotOpened>(self.start(name, opened.await.map_err(KvError::from)??))
        };
        match self.engine.files.get(&path, open).await {
            Ok((store, _)) => Ok(Some(KvStore::new(store))),
            Err(NotOpened::Absent) => Ok(None),
            Err(NotOpened::Failed(error)) => Err(error),
        }
    }
}

fn open_existing(path: &Path, cache_bytes: usize) -> Result<Database, NotOpened> {
    // A file is empty until its database has been created.
    if std::fs::metadata(path).map_or(0, |metadata| metadata.len()) == 0 {
        return Err(NotOpened::Absent);
    }
    match Database::open(FileStorage::existing(path), cache_bytes) {
        Ok(database) => {
            database.write(entry::prepare)?;
            Ok(database)
        }
        Err(_) if path.try_exists().is_ok_and(|exists| !exists) => Err(NotOpened::Absent),
        Err(error) => {
            let name = path.file_name().unwrap_or_default().display();
            Err(KvError::storage(format!("`{name}`: {error}")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::kv::KvLimits;

    #[tokio::test]
    async fn a_store_that_is_removed_while_it_is_opened_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let kv = Kv::new(dir.path(), KvLimits::default());
        assert!(kv.existing("carts").await.unwrap().is_none());
        kv.store("carts").await.unwrap().set("a".to_owned(), vec![1]).await.unwrap();
        let found = kv.existing("carts").await.unwrap().unwrap();
        assert_eq!(found.get("a".to_owned()).await.unwrap(), Some(vec![1]));
        drop(found);
        // The reader waits until the file may be opened. The file is removed meanwhile.
        let path = kv.path_of("carts");
        let held = kv.engine.files.hold(&path).await;
        let mut reader = Box::pin(kv.existing("carts"));
        assert!(reader.as_mut().now_or_never().is_none());
        std::fs::remove_file(&path).unwrap();
        drop(held);
        assert!(reader.await.unwrap().is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        // A store that is created afterwards is a new one.
        assert_eq!(kv.store("carts").await.unwrap().get("a".to_owned()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_removed_folder_is_not_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("kv");
        let kv = Kv::new(&folder, KvLimits::default());
        assert!(kv.existing("carts").await.unwrap().is_none());
        assert!(!folder.exists());
        assert!(matches!(kv.existing("../carts").await, Err(KvError::Name(_))));
    }
}
