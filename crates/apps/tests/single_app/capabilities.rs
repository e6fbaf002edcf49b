//! Tests that a component has only the capabilities that its manifest grants.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::upstream::Upstream;
use crate::harness::{Setup, TestNode, one, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_value_store_outlives_instances_and_revisions() {
    for guest in ["kv-probe", "kv-probe-draft"] {
        let manifest = one(guest, "grants.kv = [\"default\", \"other\"]");
        let setup = Setup::new(&manifest).options(|options| options.requests_per_instance_max = Some(1));
        let node = setup.start().await;
        assert_eq!(node.post("/set?key=a", "one").await.ok(), "set\n");
        assert_eq!(node.get("/increment?key=n&delta=3").await.ok(), "3\n");
        assert_eq!(node.get("/get?key=a").await.ok(), "one");
        assert_eq!(node.get("/get?key=a&store=other").await.status, 404);
        let increments = (0..12).map(|_| node.get("/increment?key=n&delta=1"));
        futures::future::join_all(increments).await.iter().for_each(|response| assert_ne!(response.ok(), "3\n"));
        assert_eq!(node.get("/increment?key=n&delta=0").await.ok(), "15\n");
        assert_eq!(node.get("/list-all").await.ok(), "a\nn\n");
        assert_eq!(node.get("/get?key=a&store=third").await.status, 403);
        let node = node.restart(&manifest).await;
        assert_eq!(node.get("/get-many?keys=a,nothing").await.ok(), "a=one\nnothing\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sql_store_is_migrated_and_persists() {
    let manifest =
        format!("{}\n[sql.default]\nmigrations = \"migrations\"", one("sql-probe", "grants.sql = [\"default\"]"));
    let setup = Setup::new(&manifest);
    let migrations = setup.folder().join("migrations");
    fs::create_dir(&migrations).expect("a new folder");
    let create = "CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);";
    fs::write(migrations.join("001-goods.sql"), create).expect("a new file");
    let node = setup.start().await;
    assert_eq!(node.post("/execute?p=t:lamp", "INSERT INTO goods (name) VALUES (?)").await.ok(), "changed=1\n");
    let count = "SELECT count(*) AS n FROM goods";
    for (end, status, rows) in [("rollback", 200, 1), ("drop", 200, 1), ("trap", 500, 1), ("commit", 200, 2)] {
        let response = node.post(&format!("/transaction?end={end}"), "INSERT INTO goods (name) VALUES ('chair')").await;
        assert_eq!(response.status, status, "{end}: {}", response.text());
        assert_eq!(node.post("/query", count).await.ok(), format!("n\ni:{rows}\n"), "{end}");
    }
    fs::write(migrations.join("002-price.sql"), "ALTER TABLE goods ADD COLUMN price INTEGER DEFAULT 5;")
        .expect("a new file");
    let node = node.restart(&manifest).await;
    let all = "SELECT name, price FROM goods ORDER BY id";
    assert_eq!(node.post("/query", all).await.ok(), "name\tprice\nt:lamp\ti:5\nt:chair\ti:5\n");
    let refused = start(&one("sql-probe", "")).await.post("/query", "SELECT 1").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_see_the_manifests_configuration_only() {
    let node = start(&one("env-print", "grants.config = { COLOUR = \"red\", SIZE = \"9\" }")).await;
    let expected = "env=COLOUR=red\nenv=SIZE=9\nconfig=COLOUR=red\nconfig=SIZE=9\n";
    assert_eq!(node.get("/").await.ok(), expected);
    assert_eq!(node.get("/config?key=SIZE").await.ok(), "some=9\n");
    assert_eq!(node.get("/config?key=PATH").await.ok(), "none\n");
    node.event("output", |event| event["line"] == "config=SIZE=9" && event["stream"] == "stdout").await;
    node.event("output", |event| event["line"] == "stderr of env-print" && event["stream"] == "stderr").await;
    let node = start(&one("env-print", "")).await;
    assert_eq!(node.get("/").await.ok().trim(), "");
    assert_eq!(node.get("/config?key=COLOUR").await.ok(), "none\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_visible_to_grantees_only_and_never_logged() {
    let secrets = "[secrets]\nkey = { file = \"key.txt\" }\nother = { file = \"key.txt\" }";
    let setup = Setup::new(&format!("{}\n{secrets}", one("secret-probe", "grants.secrets = [\"key\"]")));
    fs::write(setup.folder().join("key.txt"), "opensesame\n").expect("a new file");
    let node = setup.start().await;
    assert_eq!(node.get("/?name=key").await.ok(), "opensesame");
    for name in ["other", "unknown", ""] {
        assert_eq!(node.get(&format!("/?name={name}")).await.status, 403, "{name}");
    }
    assert!(node.events().iter().all(|event| !event.to_string().contains("opensesame")));
}

#[tokio::test(flavor = "multi_thread")]
async fn outbound_requests_reach_granted_hosts_only() {
    for guest in ["fetch-probe", "fetch-probe-p2"] {
        let mut upstream = Upstream::start().await;
        let (address, port) = (upstream.address, upstream.address.port());
        let granted = start(&one(guest, &format!("grants.http = [\"{address}\"]"))).await;
        assert_eq!(granted.get(&format!("/?url=http://{address}/a?b")).await.ok(), "upstream\n");
        let seen = upstream.seen().await;
        assert_eq!((seen.method.as_str(), seen.uri.to_string().as_str()), ("GET", "/a?b"));
        assert_eq!(seen.headers["host"], address.to_string());
        if guest == "fetch-probe" {
            let response = granted.post(&format!("/?url=http://{address}/&method=POST"), "contents").await;
            assert_eq!((response.status.as_u16(), response.text()), (201, "contents"));
            upstream.seen().await;
        }
        let denied = [
            ("", format!("http://{address}/"), "HttpRequestDenied"),
            ("grants.http = [\"127.0.0.1:1\"]", format!("http://{address}/"), "HttpRequestDenied"),
            ("grants.http = [\"example.com\"]", format!("http://{address}/"), "HttpRequestDenied"),
            // The host name is not granted, although its address is.
            ("grants.http = [\"127.0.0.1\"]", format!("http://localhost:{port}/"), "HttpRequestDenied"),
            // A grant of all public addresses does not include private addresses.
            ("grants.http = [\"*\"]", format!("http://{address}/"), "DestinationIpProhibited"),
            ("grants.http = [\"*\"]", format!("http://localhost:{port}/"), "DestinationIpProhibited"),
            ("grants.http = [\"*\"]", format!("http://2130706433:{port}/"), "HttpRequestUriInvalid"),
        ];
        for (grants, url, error) in denied {
            let response = start(&one(guest, grants)).await.get(&format!("/?url={url}")).await;
            assert_eq!(response.status, 502, "{grants} {url}");
            // The message depends on the version of the interface: WASI 0.2 and 0.3 have different errors for a private
            // address.
            assert!(response.text().contains(error), "{grants} {url}: {}", response.text());
        }
        assert!(upstream.is_unseen(), "a denied request reached the server");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_are_logged_with_the_missing_grant() {
    let node = start(&one("fetch-probe", "grants.http = [\"*\"]")).await;
    node.hear_warnings();
    assert_eq!(node.get("/?url=http://127.0.0.1:9/").await.status, 502);
    let granted = "`grants.http = [\"127.0.0.1:9\"]` under `[components.fetch-probe]`";
    node.event("warning", |event| event["text"].as_str().is_some_and(|text| text.contains(granted))).await;
}

/// Starts a node whose guest sees the folder `shared/` as `/data`. The file `secret.txt` is next to `shared/`.
async fn with_directory(write: bool) -> TestNode {
    let grant = format!("grants.dirs = [{{ host = \"shared\", guest = \"/data\", write = {write} }}]");
    let setup = Setup::new(&one("dirs-probe", &grant));
    let shared = setup.folder().join("shared");
    fs::create_dir(&shared).expect("a new folder");
    fs::write(shared.join("file.txt"), "inside").expect("a new file");
    fs::write(setup.folder().join("secret.txt"), "outside").expect("a new file");
    symlink("../secret.txt", shared.join("up")).expect("a new link");
    symlink(setup.folder().join("secret.txt"), shared.join("away")).expect("a new link");
    symlink("..", shared.join("parent")).expect("a new link");
    symlink("file.txt", shared.join("link")).expect("a new link");
    setup.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_read_only_unless_granted_otherwise() {
    let node = with_directory(false).await;
    assert_eq!(node.get("/read?path=/data/file.txt").await.ok(), "inside");
    assert_eq!(node.get("/read?path=/data/link").await.ok(), "inside");
    assert_eq!(node.get("/list?path=/data").await.ok(), "away\nfile.txt\nlink\nparent\nup\n");
    for target in [
        "/write?path=/data/file.txt",
        "/write?path=/data/new.txt",
        "/append?path=/data/file.txt",
        "/remove?path=/data/file.txt",
        "/make-dir?path=/data/new",
        "/rename?path=/data/file.txt&to=/data/new.txt",
        "/link?path=/data/new&to=file.txt",
    ] {
        let response = node.post(target, "changed").await;
        assert!(response.status == 403 || response.status == 500, "{target}: {} {}", response.status, response.text());
        assert!(
            response.status == 403 || response.text().contains("ermi") || response.text().contains("ReadOnly"),
            "{target}: {}",
            response.text()
        );
    }
    let shared = node.folder().join("shared");
    assert_eq!(fs::read_dir(&shared).expect("a folder").count(), 5);
    assert_eq!(fs::read_to_string(shared.join("file.txt")).expect("a file"), "inside");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writable_directory_can_be_changed() {
    let node = with_directory(true).await;
    for (target, contents) in [
        ("/make-dir?path=/data/new", ""),
        ("/write?path=/data/new/a.txt", "first"),
        ("/append?path=/data/new/a.txt", " second"),
        ("/rename?path=/data/new/a.txt&to=/data/b.txt", ""),
        ("/link?path=/data/new/c&to=../b.txt", ""),
        ("/remove?path=/data/file.txt", ""),
    ] {
        assert_eq!(node.post(target, contents).await.ok(), "done\n", "{target}");
    }
    assert_eq!(node.get("/read?path=/data/new/c").await.ok(), "first second");
    let shared = node.folder().join("shared");
    assert_eq!(fs::read_to_string(shared.join("b.txt")).expect("a file"), "first second");
    assert!(!shared.join("file.txt").exists() && !shared.join("new/a.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_cannot_leave_a_directory() {
    for write in [false, true] {
        let node = with_directory(write).await;
        let outside = node.folder().join("secret.txt");
        for path in [
            "/data/../secret.txt",
            "/data/./../secret.txt",
            "/data/new/../../secret.txt",
            "/data/up",
            "/data/away",
            "/data/parent/secret.txt",
            "/data/parent/shared/../secret.txt",
            "/secret.txt",
            "/etc/passwd",
            "../secret.txt",
            "secret.txt",
            outside.to_str().expect("a plain path"),
        ] {
            for target in [format!("/read?path={path}"), format!("/write?path={path}"), format!("/remove?path={path}/")]
            {
                let response = node.post(&target, "changed").await;
                assert_ne!(response.status, 200, "{target}");
                assert!(!response.text().contains("outside"), "{target}: {}", response.text());
            }
        }
        for target in [
            "/list?path=/data/parent",
            "/list?path=/data/..",
            "/list?path=/",
            "/rename?path=/data/file.txt&to=/data/../moved.txt",
            "/rename?path=/data/../secret.txt&to=/data/mine.txt",
            "/rename?path=/data/parent/secret.txt&to=/data/mine.txt",
            "/make-dir?path=/data/parent/made",
        ] {
            assert_ne!(node.get(target).await.status, 200, "{target}");
        }
        // The guest cannot leave the folder through a symbolic link that it creates itself.
        let _ = node.get("/link?path=/data/own&to=../secret.txt").await;
        assert_ne!(node.get("/read?path=/data/own").await.status, 200);
        let _ = node.get("/link?path=/data/root&to=/etc").await;
        assert_ne!(node.get("/read?path=/data/root/passwd").await.status, 200);
        assert_eq!(fs::read_to_string(&outside).expect("a file"), "outside");
        let mut entries: Vec<_> =
            fs::read_dir(node.folder()).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
        entries.sort();
        assert_eq!(entries, [".isomer", "secret.txt", "shared"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_there_are_no_files() {
    let setup = Setup::new(&one("dirs-probe", ""));
    fs::write(setup.folder().join("file.txt"), "outside").expect("a new file");
    let path = setup.folder().join("file.txt");
    let node = setup.start().await;
    for path in [path.to_str().expect("a plain path"), "file.txt", "/", ".", "/proc/self/environ"] {
        for target in [format!("/read?path={path}"), format!("/list?path={path}"), format!("/write?path={path}")] {
            assert_ne!(node.get(&target).await.status, 200, "{target}");
        }
    }
}
