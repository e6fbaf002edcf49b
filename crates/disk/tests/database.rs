//! Tests of a database whose storage fails at its first operation, at its second operation, and so on. The database
//! never loses an acknowledged change, and works again after the storage works again.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use isomer_disk::faults::{Fault, Faults, FaultyStorage};
use isomer_disk::{Database, FileStorage};
use redb::{ReadableDatabase as _, TableDefinition};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("table");
const CACHE_BYTES: usize = 64 << 10;

/// The time limit of waits, which only detects a hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn put(database: &Database, key: u64, bytes: usize) -> Result<(), redb::Error> {
    database.write(|database| {
        let change = database.begin_write()?;
        change.open_table(TABLE)?.insert(key, vec![u8::try_from(key % 251).unwrap(); bytes].as_slice())?;
        Ok(change.commit()?)
    })
}

fn get(database: &Database, key: u64) -> Result<Option<Vec<u8>>, redb::Error> {
    database.read(|database| {
        let table = database.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    })
}

/// Repeats `attempt` until it succeeds.
fn eventually<T>(at: &str, mut attempt: impl FnMut() -> Result<T, redb::Error>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < until, "{at}: {error}"),
        }
        std::thread::yield_now();
    }
}

fn check(at: &str, path: &Path, acknowledged: &[(u64, usize)], database: &Database) {
    for (key, bytes) in acknowledged {
        let found = eventually(at, || get(database, *key));
        assert_eq!(found.as_deref(), Some(&vec![u8::try_from(key % 251).unwrap(); *bytes][..]), "{at}: {path:?}");
    }
}

#[test]
fn a_fault_at_any_operation_loses_nothing() {
    for fault in Fault::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("database.redb");
        let faults = Faults::default();
        let database = Database::open(FaultyStorage::new(path.clone(), faults.clone()), CACHE_BYTES).unwrap();
        let mut acknowledged = Vec::new();
        let mut key = 0;
        let mut met = 0;
        for operation in 0..14 {
            let at = format!("{fault:?} at operation {operation}");
            faults.begin(fault, operation);
            for bytes in [10, 100_000, 1_000] {
                key += 1;
                if put(&database, key, bytes).is_ok() {
                    acknowledged.push((key, bytes));
                }
                let _ = get(&database, key);
            }
            met += u64::from(faults.end());
            key += 1;
            eventually(&at, || put(&database, key, 50));
            acknowledged.push((key, 50));
            check(&at, &path, &acknowledged, &database);
        }
        assert!(met > 8, "{fault:?} was met {met} times");
        drop(database);
        let database = Database::open(FileStorage::new(&path), CACHE_BYTES).unwrap();
        check("after a restart", &path, &acknowledged, &database);
    }
}
