//! The stores that an app has on disk.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::check_store_name;
use crate::resources::AppResources;

/// The maximum number of directory entries that are read in one folder.
const ENTRIES_MAX: usize = 10_000;

/// The suffixes of the files of an SQL store: the store, and SQLite's log and index of the log.
const SQL_SUFFIXES: [&str; 3] = [".sqlite", ".sqlite-wal", ".sqlite-shm"];

/// The suffix of the file of a key-value store.
const KV_SUFFIXES: [&str; 1] = [".redb"];

/// The names of the stores that an app has on disk, each with the size of its files in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredFiles {
    /// The key-value stores.
    pub kv: BTreeMap<String, u64>,
    /// The SQL stores.
    pub sql: BTreeMap<String, u64>,
}

impl AppResources {
    /// Returns the stores that the app has on disk. Opens no store. Blocks.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn stored_files(&self) -> io::Result<StoredFiles> {
        Ok(StoredFiles { kv: stores_in(&self.kv, &KV_SUFFIXES)?, sql: stores_in(&self.sql, &SQL_SUFFIXES)? })
    }
}

/// Returns the stores in `folder` whose files have one of these suffixes. The first suffix is that of the store itself.
fn stores_in(folder: &Path, suffixes: &[&str]) -> io::Result<BTreeMap<String, u64>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let (mut bytes, mut is_store) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, bool>::new());
    for entry in entries.take(ENTRIES_MAX) {
        let entry = entry?;
        let file = entry.file_name();
        let Some((name, suffix)) = file.to_str().and_then(|file| file.split_once('.')) else { continue };
        let Some(index) = suffixes.iter().position(|known| known.strip_prefix('.') == Some(suffix)) else { continue };
        // A file that was removed meanwhile has no size.
        let size = entry.metadata().map_or(0, |metadata| metadata.len());
        if check_store_name(name).is_ok() {
            *bytes.entry(name.to_owned()).or_default() += size;
            *is_store.entry(name.to_owned()).or_default() |= index == 0;
        }
    }
    bytes.retain(|name, _| is_store.get(name).copied().unwrap_or_default());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_listed_with_all_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: usize| std::fs::write(dir.path().join(name), vec![0; bytes]).unwrap();
        file("orders.sqlite", 10);
        file("orders.sqlite-wal", 5);
        file("gone.sqlite-wal", 5);
        file("carts.redb", 7);
        file("Bad Name.sqlite", 1);
        let found = stores_in(dir.path(), &SQL_SUFFIXES).unwrap();
        assert_eq!(found, BTreeMap::from([("orders".to_owned(), 15)]));
        assert_eq!(stores_in(dir.path(), &KV_SUFFIXES).unwrap(), BTreeMap::from([("carts".to_owned(), 7)]));
        assert!(stores_in(&dir.path().join("missing"), &KV_SUFFIXES).unwrap().is_empty());
    }
}
