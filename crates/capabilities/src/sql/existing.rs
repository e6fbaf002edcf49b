//! Opening an SQL store only if it exists: for readers that must not create a store by looking at it.
//!
//! Whether the file exists is determined by opening it. A check before the opening would not be sufficient: the file may
//! be removed between the two.

use std::time::Duration;

use super::open_store::MissingFile;
use super::{Sql, SqlOpenError, SqlSettings, SqlStore};

impl Sql {
    /// Opens the store `name`. Returns `None` if it does not exist, and never creates it. Applies no migrations.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub async fn existing(
        &self,
        name: &str,
        statement_time: Option<Duration>,
    ) -> Result<Option<SqlStore>, SqlOpenError> {
        let path = self.path_of(name);
        let settings = SqlSettings { migrations: None, statement_time };
        match self.open_file(name, settings, MissingFile::Refuse).await {
            Ok((store, _)) => Ok(Some(SqlStore::new(store))),
            Err(SqlOpenError::Open { .. } | SqlOpenError::Io { .. })
                if path.try_exists().is_ok_and(|exists| !exists) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::sql::SqlLimits;

    #[tokio::test]
    async fn a_store_that_is_removed_while_it_is_opened_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let sql = Sql::new(dir.path(), SqlLimits::default());
        assert!(sql.existing("orders", None).await.unwrap().is_none());
        let store = sql.open("orders", SqlSettings::default()).await.unwrap();
        store.execute("CREATE TABLE t (c)".to_owned(), vec![]).await.unwrap();
        drop(store);
        let found = sql.existing("orders", None).await.unwrap().unwrap();
        found.query("SELECT c FROM t".to_owned(), vec![]).await.unwrap();
        drop(found);
        // The reader waits until the file may be opened. The file is removed meanwhile.
        let path = sql.path_of("orders");
        let held = sql.engine.files.hold(&path).await;
        let mut reader = Box::pin(sql.existing("orders", None));
        assert!(reader.as_mut().now_or_never().is_none());
        std::fs::remove_file(&path).unwrap();
        drop(held);
        assert!(reader.await.unwrap().is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_removed_folder_is_not_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sql");
        let sql = Sql::new(&folder, SqlLimits::default());
        assert!(sql.existing("orders", None).await.unwrap().is_none());
        assert!(!folder.exists());
    }
}
