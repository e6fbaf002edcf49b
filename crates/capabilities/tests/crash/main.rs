//! Tests that acknowledged operations survive a crash after any file operation of a store.
//!
//! A workload runs over a storage layer that records each write, resize, sync and delete, and when each operation of
//! the workload was started and acknowledged. Then, for every position in the record, the test assumes that the machine
//! stopped there. It creates the files with contents that a disk may then have, and opens the store: once without any
//! write that was not synced, and once with a random part of these writes, torn at sectors. Every acknowledged
//! operation must be present, no operation that was not started may be present, and every operation must be present
//! completely or not at all.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod backend;
mod disk;
mod vfs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use disk::{Event, Random, Recorder};
use isomer_capabilities::kv::{Delta, Kv, KvLimits, KvStore};
use isomer_capabilities::sql::{Sql, SqlLimits, SqlSettings, SqlStore, Value};

const SEED: u64 = 0x15_0e_4a_11;
const ROUNDS: usize = 12;

/// The effects of the workload's operations, in the order in which they were started. Each is a list of keys with their
/// new values.
struct Effects(Vec<Vec<(String, Option<String>)>>);

impl Effects {
    /// Returns, for each key, the values that are allowed after a crash at the end of `events`.
    fn possible(&self, events: &[Event]) -> BTreeMap<&str, BTreeSet<Option<&str>>> {
        let mut possible: BTreeMap<&str, BTreeSet<Option<&str>>> = BTreeMap::new();
        for (key, _) in self.0.iter().flatten() {
            possible.insert(key, BTreeSet::from([None]));
        }
        for event in events {
            let (operation, done) = match event {
                Event::Started(operation) => (*operation, false),
                Event::Acknowledged(operation) => (*operation, true),
                _ => continue,
            };
            for (key, value) in &self.0[operation] {
                let values = possible.get_mut(key.as_str()).expect("every key has values");
                if done {
                    values.clear();
                }
                values.insert(value.as_deref());
            }
        }
        possible
    }
}

/// Checks that the found values are allowed, and that the two keys that are always written together have the same
/// value.
fn check(at: &str, events: &[Event], effects: &Effects, found: &BTreeMap<String, String>) {
    for (key, possible) in effects.possible(events) {
        let value = found.get(key).map(String::as_str);
        assert!(possible.contains(&value), "{at}: `{key}` is {value:?}, may be {possible:?}");
    }
    assert_eq!(found.get("left"), found.get("right"), "{at}: only a part of an operation is present");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_value_stores_keep_what_they_acknowledged() {
    let recorder = Arc::new(Recorder::default());
    let dir = tempfile::tempdir().unwrap();
    let kv = Kv::new(dir.path(), KvLimits::default());
    let store = kv.store_over("crash", backend::Memory::new(recorder.clone(), Vec::new())).await.unwrap();
    let opened = recorder.events().len();
    let mut random = Random::new(SEED);
    let mut effects = Effects(Vec::new());
    for round in 0..ROUNDS {
        let value = format!("{round}-{}", "x".repeat(random.below(6000)));
        let single = format!("single-{}", random.below(3));
        let delete = format!("single-{}", 3 + random.below(3));
        let operations: Vec<Vec<(String, Option<String>)>> = vec![
            vec![(single.clone(), Some(value.clone()))],
            vec![("left".to_owned(), Some(value.clone())), ("right".to_owned(), Some(value.clone()))],
            vec![("count".to_owned(), Some((round + 1).to_string()))],
            vec![(delete.clone(), if round % 2 == 0 { Some(value.clone()) } else { None })],
        ];
        let first = effects.0.len();
        effects.0.extend(operations);
        let text = value.as_bytes().to_vec();
        // Runs the operations in parallel, so that they share commits.
        tokio::join!(
            recorded(&recorder, first, store.set(single, text.clone())),
            recorded(
                &recorder,
                first + 1,
                store.set_many(vec![("left".to_owned(), text.clone()), ("right".to_owned(), text.clone())])
            ),
            recorded(&recorder, first + 2, async {
                store.increment("count".to_owned(), Delta::Signed(1)).await.map(|_| ())
            }),
            recorded(&recorder, first + 3, async {
                if round % 2 == 0 { store.set(delete, text.clone()).await } else { store.delete(delete).await }
            }),
        );
    }
    let events = recorder.events();
    drop((store, kv));
    let (mut steps, checker) = (0, Kv::new(dir.path(), KvLimits::default()));
    for end in opened..=events.len() {
        // Skips an event that only marks the start of an operation, because it does not change the disk.
        if end < events.len() && matches!(events[end], Event::Started(_)) {
            continue;
        }
        for torn in [false, true] {
            let at = format!("seed {SEED:#x}, step {end} of {}, torn {torn}", events.len());
            let mut random = Random::new(SEED ^ end as u64);
            let files = disk::after_crash(&events[..end], torn.then_some(&mut random));
            let image = files.into_values().next().unwrap_or_default();
            let memory = backend::Memory::new(Arc::default(), image);
            let store = checker.store_over("check", memory).await.unwrap_or_else(|error| panic!("{at}: {error}"));
            check(&at, &events[..end], &effects, &contents(&store).await);
            steps += 1;
        }
    }
    assert!(steps > 100, "the workload did too little: {steps} steps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_stores_keep_what_they_acknowledged() {
    let recorder = vfs::install();
    let dir = tempfile::tempdir().unwrap();
    let limits = SqlLimits { log_pages_max: 12, ..SqlLimits::default() };
    let sql = Sql::new(dir.path(), limits);
    let store = sql.open("crash", SqlSettings::default()).await.unwrap();
    let create = "CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT NOT NULL)".to_owned();
    store.execute(create, vec![]).await.unwrap();
    let opened = recorder.events().len();
    let mut random = Random::new(SEED);
    let mut effects = Effects(Vec::new());
    for round in 0..ROUNDS {
        let value = format!("{round}-{}", "x".repeat(random.below(6000)));
        let single = format!("single-{}", random.below(3));
        effects.0.push(vec![(single.clone(), Some(value.clone()))]);
        recorded(&recorder, effects.0.len() - 1, put(&store, &single, &value)).await;
        effects.0.push(vec![("left".to_owned(), Some(value.clone())), ("right".to_owned(), Some(value.clone()))]);
        recorded(&recorder, effects.0.len() - 1, async {
            let transaction = store.begin().await?;
            for key in ["left", "right"] {
                transaction.execute(PUT.to_owned(), vec![text(key), text(&value)]).await?;
            }
            transaction.commit().await
        })
        .await;
        // The values of this transaction must never appear, because it is rolled back. So it has no effects.
        let transaction = store.begin().await.unwrap();
        transaction.execute(PUT.to_owned(), vec![text("left"), text("never")]).await.unwrap();
        drop(transaction);
    }
    let events = recorder.events();
    let folded = events.iter().filter(|event| matches!(event, Event::Sync { file } if file == "crash.sqlite")).count();
    assert!(folded > 1, "the log was never copied into the file");
    drop((store, sql));
    let check_dir = tempfile::tempdir().unwrap();
    for end in opened..=events.len() {
        if end < events.len() && matches!(events[end], Event::Started(_)) {
            continue;
        }
        for torn in [false, true] {
            let at = format!("seed {SEED:#x}, step {end} of {}, torn {torn}", events.len());
            let mut random = Random::new(SEED ^ end as u64);
            let files = disk::after_crash(&events[..end], torn.then_some(&mut random));
            let found = vfs::contents(check_dir.path(), &files).unwrap_or_else(|error| panic!("{at}: {error}"));
            check(&at, &events[..end], &effects, &found);
        }
    }
}

const PUT: &str = "INSERT INTO entries VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

async fn put(store: &SqlStore, key: &str, value: &str) -> Result<(), isomer_capabilities::sql::SqlError> {
    store.execute(PUT.to_owned(), vec![text(key), text(value)]).await.map(|_| ())
}

/// Runs an operation, and records when it was started and acknowledged.
async fn recorded<E: std::fmt::Debug>(recorder: &Recorder, operation: usize, run: impl Future<Output = Result<(), E>>) {
    recorder.push(Event::Started(operation));
    run.await.unwrap();
    recorder.push(Event::Acknowledged(operation));
}

async fn contents(store: &KvStore) -> BTreeMap<String, String> {
    let keys = store.list_keys(None).await.unwrap().keys;
    let values = store.get_many(keys.clone()).await.unwrap();
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
    keys.into_iter().zip(values.into_iter().map(text)).collect()
}
