//! Key-value stores through their public interface: results, limits, and concurrency.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use isomer_capabilities::kv::{Delta, Kv, KvError, KvLimits, KvStore, Swap};
use tempfile::TempDir;

async fn store(limits: KvLimits) -> (TempDir, Kv, KvStore) {
    let dir = tempfile::tempdir().unwrap();
    let kv = Kv::new(dir.path(), limits);
    let store = kv.store("test").await.unwrap();
    (dir, kv, store)
}

fn s(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
async fn values_are_read_and_survive_reopening() {
    let (dir, kv, store) = store(KvLimits::default()).await;
    assert_eq!(store.get(s("a")).await.unwrap(), None);
    store.set(s("a"), b"1".to_vec()).await.unwrap();
    store.set_many(vec![(s("b"), vec![]), (s("c"), vec![0, 255])]).await.unwrap();
    assert!(store.exists(s("b")).await.unwrap());
    store.delete(s("a")).await.unwrap();
    store.delete_many(vec![s("never"), s("b")]).await.unwrap();
    assert!(!store.exists(s("b")).await.unwrap());
    drop((store, kv));
    let kv = Kv::new(dir.path(), KvLimits::default());
    let store = kv.store("test").await.unwrap();
    let values = store.get_many(vec![s("c"), s("a"), s("c")]).await.unwrap();
    assert_eq!(values, [Some(vec![0, 255]), None, Some(vec![0, 255])]);
}

#[tokio::test]
async fn stores_are_separate_and_names_stay_in_the_directory() {
    let (_dir, kv, store) = store(KvLimits::default()).await;
    store.set(s("a"), b"1".to_vec()).await.unwrap();
    let other = kv.store("other").await.unwrap();
    assert_eq!(other.get(s("a")).await.unwrap(), None);
    assert!(matches!(kv.store("../test").await, Err(KvError::Name(_))));
    let again = kv.store("test").await.unwrap();
    assert_eq!(again.get(s("a")).await.unwrap(), Some(b"1".to_vec()));
}

#[tokio::test]
async fn a_file_is_opened_once_for_all_callers() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(Kv::new(dir.path(), KvLimits::default()));
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let kv = kv.clone();
            tokio::spawn(async move { kv.store("same").await.unwrap().set(format!("{n}"), vec![n]).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(kv.store("same").await.unwrap().list_keys(None).await.unwrap().keys.len(), 8);
}

#[tokio::test]
async fn listing_goes_page_by_page_also_while_deleting() {
    let limits = KvLimits { page_keys_max: 3, ..KvLimits::default() };
    let (_dir, _kv, store) = store(limits).await;
    let keys: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
    store.set_many(keys.iter().map(|key| (key.clone(), vec![])).collect()).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_keys(after).await.unwrap();
        assert!(page.keys.len() <= 3);
        seen.extend(page.keys);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, keys);
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let (page, next) = store.list_keys_numbered(cursor).await.unwrap();
        store.delete_many(page.clone()).await.unwrap();
        seen.extend(page);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, keys);
    assert_eq!(store.list_keys_numbered(Some(77)).await, Err(KvError::CursorExpired { cursor: 77 }));
}

#[tokio::test]
async fn a_page_ends_at_its_bytes() {
    let limits = KvLimits { page_bytes_max: 10, ..KvLimits::default() };
    let (_dir, _kv, store) = store(limits).await;
    store.set_many(vec![(s("aaaaaa"), vec![]), (s("bbbbbb"), vec![]), (s("cccccccccccccccc"), vec![])]).await.unwrap();
    let page = store.list_keys(None).await.unwrap();
    assert_eq!((page.keys, page.next), (vec![s("aaaaaa")], Some(s("aaaaaa"))));
    let page = store.list_keys(Some(s("bbbbbb"))).await.unwrap();
    assert_eq!((page.keys, page.next), (vec![s("cccccccccccccccc")], None));
}

#[tokio::test]
async fn limits_are_errors_of_their_own() {
    let limits = KvLimits {
        key_bytes_max: 4,
        value_bytes_max: 8,
        batch_keys_max: 2,
        batch_bytes_max: 12,
        ..KvLimits::default()
    };
    let (_dir, _kv, store) = store(limits).await;
    let long_key = KvError::KeyTooLong { bytes: 5, bytes_max: 4 };
    assert_eq!(store.get(s("12345")).await, Err(long_key.clone()));
    assert_eq!(store.exists(s("12345")).await, Err(long_key.clone()));
    assert_eq!(store.set(s("12345"), vec![]).await, Err(long_key.clone()));
    assert_eq!(store.delete(s("12345")).await, Err(long_key.clone()));
    assert_eq!(store.increment(s("12345"), Delta::Signed(1)).await, Err(long_key.clone()));
    assert_eq!(store.compare(s("12345")).await, Err(long_key.clone()));
    assert_eq!(store.get_many(vec![s("12345")]).await, Err(long_key));
    let long_value = KvError::ValueTooLong { key: s("a"), bytes: 9, bytes_max: 8 };
    assert_eq!(store.set(s("a"), vec![0; 9]).await, Err(long_value.clone()));
    let cas = store.compare(s("a")).await.unwrap();
    assert_eq!(store.swap(cas, vec![0; 9]).await, Err(long_value));
    let long_batch = KvError::BatchTooLong { keys: 3, keys_max: 2 };
    assert_eq!(store.get_many(vec![s("a"); 3]).await, Err(long_batch.clone()));
    assert_eq!(store.delete_many(vec![s("a"); 3]).await, Err(long_batch));
    let large_batch = KvError::BatchTooLarge { bytes_max: 12 };
    let two = |n| vec![(s("a"), vec![0; n]), (s("b"), vec![0; n])];
    assert_eq!(store.set_many(two(6)).await, Err(large_batch.clone()));
    assert_eq!(store.get(s("a")).await, Ok(None), "a refused batch sets nothing");
    store.set_many(two(5)).await.unwrap();
    store.set(s("a"), vec![0; 8]).await.unwrap();
    assert_eq!(store.get_many(vec![s("a"), s("b")]).await, Err(large_batch));
}

#[tokio::test]
async fn increments_stay_in_the_range_of_their_type() {
    let (_dir, _kv, store) = store(KvLimits::default()).await;
    assert_eq!(store.increment(s("n"), Delta::Signed(-5)).await, Ok(-5));
    assert_eq!(store.get(s("n")).await.unwrap(), Some(b"-5".to_vec()));
    assert_eq!(store.increment(s("n"), Delta::Unsigned(1)).await, Err(KvError::NotANumber { key: s("n") }));
    assert_eq!(store.increment(s("n"), Delta::Signed(i64::MIN)).await, Err(KvError::Overflow { key: s("n") }));
    assert_eq!(store.increment(s("u"), Delta::Unsigned(u64::MAX)).await, Ok(i128::from(u64::MAX)));
    assert_eq!(store.increment(s("u"), Delta::Unsigned(1)).await, Err(KvError::Overflow { key: s("u") }));
    store.set(s("text"), b"many".to_vec()).await.unwrap();
    assert_eq!(store.increment(s("text"), Delta::Signed(1)).await, Err(KvError::NotANumber { key: s("text") }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_increments_lose_nothing() {
    let (_dir, _kv, store) = store(KvLimits::default()).await;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    store.increment(s("n"), Delta::Signed(1)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.get(s("n")).await.unwrap(), Some(b"320".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_swaps_lose_nothing() {
    let (_dir, _kv, store) = store(KvLimits::default()).await;
    let tasks: Vec<_> = (0..8_u8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..10_u8 {
                    let mut cas = store.compare(s("log")).await.unwrap();
                    loop {
                        let (now, log) = store.current(&cas).await.unwrap();
                        cas = now;
                        let mut log = log.unwrap_or_default();
                        log.extend([task, round]);
                        match store.swap(cas, log).await.unwrap() {
                            Swap::Swapped => break,
                            Swap::Changed(now) => cas = now,
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let log = store.get(s("log")).await.unwrap().unwrap();
    let mut entries: Vec<_> = log.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    entries.sort_unstable();
    let all: Vec<_> = (0..8).flat_map(|task| (0..10).map(move |round| (task, round))).collect();
    assert_eq!(entries, all);
}

#[tokio::test]
async fn a_swap_notices_a_change_back_to_the_old_value() {
    let (_dir, _kv, store) = store(KvLimits::default()).await;
    store.set(s("a"), b"1".to_vec()).await.unwrap();
    let cas = store.compare(s("a")).await.unwrap();
    store.set(s("a"), b"2".to_vec()).await.unwrap();
    store.set(s("a"), b"1".to_vec()).await.unwrap();
    let Swap::Changed(now) = store.swap(cas, b"3".to_vec()).await.unwrap() else { panic!("a changed key was swapped") };
    assert_eq!(store.current(&now).await.unwrap(), (now.clone(), Some(b"1".to_vec())));
    store.delete(s("a")).await.unwrap();
    store.set(s("a"), b"1".to_vec()).await.unwrap();
    assert!(
        matches!(store.swap(now, b"3".to_vec()).await.unwrap(), Swap::Changed(_)),
        "a key that was removed and set again has changed"
    );
    let (seen, _) = store.current(&store.compare(s("a")).await.unwrap()).await.unwrap();
    assert_eq!(store.swap(seen, b"3".to_vec()).await.unwrap(), Swap::Swapped, "the key had not changed since the read");
    let absent = store.compare(s("b")).await.unwrap();
    assert_eq!(store.swap(absent.clone(), b"1".to_vec()).await.unwrap(), Swap::Swapped);
    assert!(matches!(store.swap(absent, b"2".to_vec()).await.unwrap(), Swap::Changed(_)));
}
