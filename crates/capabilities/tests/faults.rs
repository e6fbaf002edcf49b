//! Tests a key-value store whose storage fails at each operation, one after the other. Acknowledged writes must be
//! kept, and the store must work again when its storage works again.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use isomer_capabilities::kv::{Kv, KvError, KvLimits, KvStore};
use isomer_disk::faults::{Fault, Faults, FaultyStorage};

/// The maximum time of a wait, which only detects a hang.
const PATIENCE: Duration = Duration::from_secs(60);

async fn eventually<T>(at: &str, mut attempt: impl AsyncFnMut() -> Result<T, KvError>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < until, "{at}: {error}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn check(at: &str, store: &KvStore, acknowledged: &[(String, Vec<u8>)]) {
    for (key, value) in acknowledged {
        let found = eventually(at, async || store.get(key.clone()).await).await;
        assert_eq!(found.as_ref(), Some(value), "{at}: `{key}`");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_operation_loses_nothing() {
    for fault in Fault::ALL {
        let dir = tempfile::tempdir().unwrap();
        let (path, faults) = (dir.path().join("store.redb"), Faults::default());
        let kv = Kv::new(dir.path(), KvLimits::default());
        let storage = || FaultyStorage::new(path.clone(), faults.clone());
        let store = kv.store_over("store", storage()).await.unwrap();
        let (mut acknowledged, mut refused) = (Vec::new(), 0);
        for operation in 0..10 {
            let at = format!("{fault:?} at operation {operation}");
            faults.begin(fault, operation);
            for (number, bytes) in [10, 200_000, 3_000].into_iter().enumerate() {
                let (key, value) = (format!("{operation}-{number}"), vec![7; bytes]);
                match store.set(key.clone(), value.clone()).await {
                    Ok(()) => acknowledged.push((key, value)),
                    Err(KvError::Storage { .. }) => refused += 1,
                    Err(error) => panic!("{at}: {error}"),
                }
            }
            faults.end();
            let (key, value) = (format!("{operation}-after"), vec![1; 100]);
            eventually(&at, async || store.set(key.clone(), value.clone()).await).await;
            acknowledged.push((key, value));
            check(&at, &store, &acknowledged).await;
        }
        assert!(refused > 5, "{fault:?}: {refused} writes failed");
        drop((store, kv));
        let kv = Kv::new(dir.path(), KvLimits::default());
        check("after a restart", &kv.store("store").await.unwrap(), &acknowledged).await;
    }
}
