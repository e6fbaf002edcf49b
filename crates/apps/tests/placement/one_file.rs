//! An app as one Wasm file (`isomer ship wasm`) responds like the app on a node.
//!
//! Isomer itself is the host of the file here: it runs the file as an app with one component, which has no grant except a
//! folder at `/data`. So the file works with standard imports only, which the test also checks, and the clock is that of
//! test mode. Random numbers differ from those of the monolith, because they depend on the component that calls, and the
//! file is one component. So responses are compared without the random parts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use isomer_capabilities::sql::migration_files;
use isomer_standalone::{Migrations, ProviderFiles, ship};
use isomer_toolchain::BuildProgress;
use tempfile::TempDir;

use crate::fleet::{Fleet, Running, Subject, Transport};
use crate::harness::body::whole;
use crate::harness::client::Connection;
use crate::seed;
use crate::shop::{boutique, difference, play, steps};

/// The settings of a shipped app's component, in the manifest of the app that hosts it.
struct Hosted {
    subject: Subject,
    /// The interfaces that the file imports.
    imports: Vec<String>,
    _folder: TempDir,
}

/// Ships an app as one Wasm file, and returns an app that has this file as its only component. `settings` are further
/// lines of the component's table.
fn hosted(subject: &Subject, settings: &str) -> Hosted {
    let plan = match isomer_plan::standalone(&subject.app, &subject.plan("monolith")) {
        Ok(plan) => plan,
        Err(findings) => panic!("the app cannot be one file: {findings:#?}"),
    };
    let cache = isomer_test_guests::target_dir().join("providers");
    let files = ProviderFiles::find_in(&plan, None, &cache, &mut |_: BuildProgress<'_>| {});
    let files = files.unwrap_or_else(|error| panic!("{}", isomer_diagnostics::chain(&error)));
    let migrations: Migrations = subject
        .app
        .sql
        .iter()
        .filter_map(|(name, store)| {
            let folder = subject.dir.join(store.migrations.as_ref()?);
            Some((name.clone(), migration_files(&folder).expect("the migrations can be read")))
        })
        .collect();
    let file = ship(&subject.app, &plan, &subject.components, &migrations, files);
    let file = file.unwrap_or_else(|error| panic!("{}", isomer_diagnostics::chain(&error)));
    for import in &file.imports {
        let package = import.split('/').next().unwrap_or_default();
        let standard = ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:http", "wasi:io", "wasi:random"];
        assert!(standard.contains(&package), "`{import}` is not provided by every host");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("data")).expect("a folder of its own");
    let manifest = format!(
        "[app]\nname = \"one-file\"\nversion = \"0.1.0\"\n\
         [components.one-file]\nwasm = \"one-file.wasm\"\nroutes = [\"/...\"]\n{settings}\n\
         [components.one-file.grants]\ndirs = [{{ host = \"data\", guest = \"/data\", write = true }}]\n\
         config = {{ SHIPPED_KEY = \"from the host\" }}\n"
    );
    let app = Subject::app(&manifest);
    let name = app.components.keys().next().expect("the manifest has a component").clone();
    let components = BTreeMap::from([(name, Arc::from(file.bytes))]);
    let subject = Subject { app, dir: folder.path().to_owned(), components };
    Hosted { subject, imports: file.imports, _folder: folder }
}

fn running(fresh: bool) -> Running<'static> {
    Running { shape: "monolith", transport: Transport::Unix, fresh, is_probed: false, without: &[] }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_in_one_file_responds_like_the_monolith() {
    let seed = seed::shown();
    let steps = steps(seed);
    let subject = boutique();
    let plain = |responses: Vec<_>| responses.into_iter().map(crate::shop::without_random).collect::<Vec<_>>();
    let monolith = plain(play(&subject, running(false), &steps, seed).await);
    for fresh in [false, true] {
        let file = hosted(&subject, "limits = { request_deadline = \"10s\", body = \"64KiB\" }");
        let responses = plain(play(&file.subject, running(fresh), &steps, seed).await);
        if let Some(difference) = difference(&steps, &monolith, &responses) {
            panic!("the shop as one file responds differently:\n{difference}{}", seed::again(seed));
        }
    }
}

/// Returns an app whose only component is a test guest.
fn probe(guest: &str, tables: &str) -> Subject {
    let manifest = format!(
        "[app]\nname = \"probe\"\nversion = \"0.1.0\"\n[components.probe]\nwasm = \"probe.wasm\"\nroutes = [\"/...\"]\n{tables}"
    );
    let app = Subject::app(&manifest);
    let name = app.components.keys().next().expect("the manifest has a component").clone();
    let components = BTreeMap::from([(name, Arc::from(isomer_test_guests::bytes(guest)))]);
    Subject { app, dir: Path::new(env!("CARGO_MANIFEST_DIR")).to_owned(), components }
}

/// Sends requests to an app, one after another, and returns the status and the body of each response.
async fn responses(subject: &Subject, requests: &[(&str, &str)]) -> Vec<(String, u16, String)> {
    let fleet = Fleet::start(subject, running(false)).await;
    let mut responses = Vec::new();
    for (target, body) in requests {
        let mut connection = Connection::http1(fleet.front).await;
        let request = connection.request(Method::POST, target).body(whole(Bytes::from(body.to_string())));
        let response = connection.exchange(request.expect("the request is valid")).await;
        responses.push((format!("{target} {body}"), response.status.as_u16(), response.text().to_owned()));
    }
    fleet.stop().await;
    responses
}

async fn assert_equal(subject: &Subject, requests: &[(&str, &str)]) {
    let on_node = responses(subject, requests).await;
    let in_file = responses(&hosted(subject, "").subject, requests).await;
    let statuses: BTreeSet<u16> = on_node.iter().map(|(_, status, _)| *status).collect();
    assert!(statuses.contains(&200), "no request succeeds: {on_node:?}");
    let different: Vec<_> = on_node.iter().zip(&in_file).filter(|(on_node, in_file)| on_node != in_file).collect();
    assert!(different.is_empty(), "{different:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_stores_in_the_file_respond_like_those_of_a_node() {
    let subject = probe("sql-probe", "grants = { sql = [\"default\"] }");
    assert_equal(
        &subject,
        &[
            ("/execute", "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)"),
            ("/execute?p=t:a", "INSERT INTO t (name) VALUES (?)"),
            ("/execute?p=t:a", "INSERT INTO t (name) VALUES (?)"),
            ("/execute", "INSERT INTO t (name) VALUES (?)"),
            ("/execute", "INSERT INTO t (name) VALUES (NULL)"),
            ("/query?p=n:|i:5|r:1.5|t:text|b:0aff", "SELECT ?, ?, ?, ?, ?"),
            ("/query", "SELECT 9223372036854775807, -0.5, 1e300, '', x''"),
            ("/query", "SELECT id, name FROM t"),
            ("/execute", "SELECT 1"),
            ("/query", "INSERT INTO t (name) VALUES ('r') RETURNING id"),
            ("/query", "SELECT 1; SELECT 2"),
            ("/query", "SELEC 1"),
            ("/query", ""),
            ("/execute", "ATTACH 'x' AS y"),
            ("/execute", "VACUUM"),
            ("/execute", "PRAGMA journal_mode = DELETE"),
            ("/query", "PRAGMA table_info(t)"),
            ("/execute", "CREATE TEMP TABLE x (a)"),
            ("/execute", "BEGIN"),
            ("/query", "SELECT replace('aXbX', 'X', 'y'), instr('süß', 'ß'), trim('  a '), concat(1, 'a')"),
            ("/transaction?end=commit", "INSERT INTO t (name) VALUES ('b')\n?SELECT count(*) FROM t"),
            ("/transaction?end=rollback", "INSERT INTO t (name) VALUES ('c')\n?SELECT count(*) FROM t"),
            ("/transaction?end=drop", "INSERT INTO t (name) VALUES ('d')\n?SELECT count(*) FROM t"),
            ("/transaction?end=commit", "INSERT INTO t (name) VALUES ('e')\nINSERT INTO t (name) VALUES ('a')"),
            ("/query", "SELECT name FROM t ORDER BY id"),
            ("/execute", "CREATE VIRTUAL TABLE words USING fts5(text)"),
            ("/execute", "INSERT INTO words VALUES ('one two'), ('two three')"),
            ("/query", "SELECT count(*) FROM words WHERE words MATCH 'two'"),
            ("/query", "SELECT hex(zeroblob(5000000))"),
            ("/query", "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r"),
            ("/query?store=other", "SELECT 1"),
            ("/execute", "DROP TABLE t"),
            ("/query", "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 't'"),
            ("/query", "PRAGMA integrity_check"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_value_stores_in_the_file_respond_like_those_of_a_node() {
    let long = format!("/get?key={}", "k".repeat(1025));
    let requests = [
        ("/get?key=a", ""),
        ("/set?key=a", "hello"),
        ("/get?key=a", ""),
        ("/exists?key=a", ""),
        ("/increment?key=n&delta=5", ""),
        ("/increment?key=n&delta=2", ""),
        ("/increment?key=a&delta=1", ""),
        ("/set?key=m", "9223372036854775807"),
        ("/increment?key=m&delta=1", ""),
        ("/set-many", "x=1\ny=2"),
        ("/get-many?keys=x,y,z", ""),
        ("/list-all", ""),
        ("/delete?key=a", ""),
        ("/delete?key=a", ""),
        ("/delete-many?keys=x,z", ""),
        ("/list-all", ""),
        ("/get?store=other&key=a", ""),
        (long.as_str(), ""),
    ];
    let subject = probe("kv-probe", "grants = { kv = [\"default\"] }");
    let of_draft2 = [
        ("/swap?key=s&times=2", "x"),
        ("/swap?key=s", "y"),
        ("/stale-swap?key=s", "z"),
        ("/increment?key=n&delta=-9", ""),
    ];
    assert_equal(&subject, &[&requests[..], &of_draft2].concat()).await;
    assert_equal(&probe("kv-probe-draft", "grants = { kv = [\"default\"] }"), &requests).await;
}

/// Instances that overlap lose no change and see every change, also across many segments and generations of the store.
#[tokio::test(flavor = "multi_thread")]
async fn overlapping_requests_lose_no_change() {
    const CLIENTS: usize = 6;
    const REQUESTS: usize = 60;
    let file = hosted(&probe("kv-probe", "grants = { kv = [\"default\"] }"), "");
    for fresh in [true, false] {
        let fleet = Fleet::start(&file.subject, running(fresh)).await;
        let front = fleet.front;
        let key = format!("n{fresh}");
        let clients = (0..CLIENTS).map(|_| {
            let target = format!("/increment?key={key}&delta=1");
            tokio::spawn(async move {
                for _ in 0..REQUESTS {
                    let response = Connection::http1(front).await.post(&target, "").await;
                    assert_eq!(response.status, 200, "{}", response.text());
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("every request succeeds");
        }
        let sum = Connection::http1(front).await.get(&format!("/get?key={key}")).await;
        assert_eq!(sum.text().trim(), (CLIENTS * REQUESTS).to_string());
        fleet.stop().await;
    }
}

/// A host of one file cannot tell its components apart, so requests of a component without a grant are refused in the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_without_a_grant_sends_no_requests() {
    const REQUEST: &str = "/?url=http://127.0.0.1:1/";
    for guest in ["fetch-probe", "fetch-probe-p2"] {
        let sends =
            |import: &String| import.starts_with("wasi:http/client") || import.starts_with("wasi:http/outgoing");
        let denied = probe(guest, "");
        let file = hosted(&denied, "");
        assert!(!file.imports.iter().any(sends), "{guest}: {:?}", file.imports);
        let granted = hosted(&probe(guest, "grants = { http = [\"127.0.0.1\"] }"), "");
        assert!(granted.imports.iter().any(sends), "{guest}: {:?}", granted.imports);
        // Many requests, because each handle that was not dropped would stay in the file's instance.
        let requests = [(REQUEST, ""); 20];
        let on_node = responses(&denied, &requests).await;
        assert!(on_node[0].2.contains("HttpRequestDenied"), "{on_node:?}");
        assert_eq!(responses(&file.subject, &requests).await, on_node);
    }
}

/// The changes of a transaction are in the memory of the file until they are committed, so their size is limited.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_too_large_changes_nothing() {
    const FILL: &str = "INSERT INTO t WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r WHERE x < 45)
        SELECT zeroblob(7000000) FROM r";
    let file = hosted(
        &probe("sql-probe", "grants = { sql = [\"default\"] }"),
        "limits = { memory = \"1GiB\", request_deadline = \"60s\" }",
    );
    let in_transaction = format!("INSERT INTO t VALUES ('first')\n{}", FILL.replace('\n', " "));
    let requests = [
        ("/execute", "CREATE TABLE t (v)"),
        ("/execute", "INSERT INTO t VALUES ('before')"),
        ("/execute", FILL),
        ("/transaction?end=commit", &in_transaction),
        ("/execute", "INSERT INTO t VALUES ('after')"),
        ("/query", "SELECT v FROM t"),
        ("/query", "PRAGMA integrity_check"),
    ];
    let found = responses(&file.subject, &requests).await;
    let statuses: Vec<_> = found.iter().map(|(_, status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 413, 413, 200, 200, 200], "{found:#?}");
    assert!(found[2].2.contains("the transaction changes more than 256 MiB of the store"), "{found:#?}");
    assert!(
        found[5].2.contains("before") && found[5].2.contains("after") && !found[5].2.contains("first"),
        "{found:#?}"
    );
    assert!(found[6].2.contains("ok"), "{found:#?}");
}

/// A statement may run longer than the time after which a lock expires.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_statement_keeps_the_lock_of_its_store() {
    let file =
        hosted(&probe("sql-probe", "grants = { sql = [\"default\"] }"), "limits = { request_deadline = \"60s\" }");
    let fleet = Fleet::start(&file.subject, running(false)).await;
    let front = fleet.front;
    let created = Connection::http1(front).await.post("/execute", "CREATE TABLE t (v)").await;
    assert_eq!(created.status, 200, "{}", created.text());
    let endless = "INSERT INTO t SELECT count(*) FROM \
        (WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r)";
    let running = tokio::spawn(async move { Connection::http1(front).await.post("/execute", endless).await.status });
    let mut contents = BTreeSet::new();
    while !running.is_finished() {
        let locks = files_named(&file.subject.dir, "lock").into_iter();
        contents.extend(locks.filter_map(|lock| std::fs::read_to_string(lock).ok()).filter(|text| !text.is_empty()));
        tokio::task::yield_now().await;
    }
    // The statement ends after five seconds, and its lock was extended several times until then.
    assert_eq!(running.await.expect("a response"), 504);
    assert!(contents.len() > 2, "{contents:?}");
    fleet.stop().await;
}

fn files_named(folder: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let below = |path: std::path::PathBuf| match path.is_dir() {
        true => files_named(&path, name),
        false => vec![path],
    };
    entries.flat_map(below).filter(|path| path.file_name().is_some_and(|found| found == name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_read_from_the_environment_of_the_host() {
    let subject =
        probe("secret-probe", "grants = { secrets = [\"key\"] }\n[secrets]\nkey = { env = \"SHIPPED_KEY\" }\n");
    let file = hosted(&subject, "");
    let found = responses(&file.subject, &[("/?name=key", ""), ("/?name=other", "")]).await;
    assert!(found[0].2.contains("from the host"), "{found:?}");
    assert!(!found[1].2.contains("from the host"), "{found:?}");
    let bytes = file.subject.components.values().next().expect("one component");
    let contains = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(contains("SHIPPED_KEY") && !contains("from the host"));
}
