//! Guests of one tenant attack another tenant with names, paths, links, addresses and secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isomer_capabilities::outbound::TenantHosts;
use isomer_capabilities::secrets::Secret;
use isomer_capabilities::{AppResources, CapabilityLimits, Engines, StorageAccount};
use isomer_runtime::Account;
use tempfile::TempDir;

use super::Probe;

/// A text that belongs to the attacked tenant and that no guest of another tenant may see.
pub(crate) const CANARY: &str = "canary-of-the-other-tenant";

/// The engines of a node, and the folder of its tenants.
pub(crate) struct Node {
    pub(crate) engines: Engines,
    pub(crate) dir: TempDir,
}

/// A tenant, with its own folder and accounts.
pub(crate) struct Tenant {
    pub(crate) dir: PathBuf,
    pub(crate) storage: Arc<StorageAccount>,
    pub(crate) account: Arc<Account>,
    pub(crate) hosts: Arc<TenantHosts>,
    pub(crate) secrets: BTreeMap<String, Secret>,
}

impl Node {
    pub(crate) fn new(limits: CapabilityLimits) -> Self {
        Self { engines: Engines::new(limits), dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn tenant(&self, name: &str, storage_bytes: u64) -> Tenant {
        let dir = self.dir.path().join("tenants").join(name);
        std::fs::create_dir_all(dir.join("files/templates")).unwrap();
        std::fs::write(dir.join("files/templates/own.txt"), format!("of {name}")).unwrap();
        let storage = Arc::new(StorageAccount::new(storage_bytes));
        let (hosts, account) = (Arc::new(TenantHosts::new(None).unwrap()), Account::unlimited());
        Tenant { dir, storage, account, hosts, secrets: BTreeMap::new() }
    }

    pub(crate) async fn start(&self, guest: &str, grants: &str, tenant: &Tenant) -> Probe {
        Probe::at(guest, grants, &tenant.resources(), &self.engines).await.unwrap()
    }
}

impl Tenant {
    pub(crate) fn resources(&self) -> AppResources {
        let (storage, hosts) = (self.storage.clone(), self.hosts.clone());
        let (data, files) = (self.dir.join("apps/a"), self.dir.join("files"));
        let resources = AppResources::of_tenant(&data, &files, storage, hosts, self.secrets.clone());
        AppResources { account: self.account.clone(), ..resources }
    }
}

/// Returns all files and folders below `dir`, with their content.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                let content = std::fs::read(&path).unwrap_or_default();
                found.insert(path, content);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_of_the_same_name_are_separate() {
    let node = Node::new(CapabilityLimits::default());
    let (a, b) = (node.tenant("a", 1 << 30), node.tenant("b", 1 << 30));
    let grants = "grants.kv = [\"default\"]";
    let (victim, attacker) = (node.start("kv-probe", grants, &a).await, node.start("kv-probe", grants, &b).await);
    victim.expect("/set?key=secret", CANARY, 200, "set\n").await;
    attacker.expect("/get?key=secret", "", 404, "none\n").await;
    attacker.expect("/list-all", "", 200, "").await;
    let names = [
        "..%2f..%2fa%2fapps%2fa%2fkv%2fdefault",
        "%2ftmp%2fdefault",
        "..%5cdefault",
        "default.redb",
        "default%00",
        "default%2f",
        ".%2fdefault",
        "DEFAULT",
        "Default",
        "d%D0%B5fault",
        "default%CC%81",
        "%EF%BD%84efault",
        "default%20",
        "a%2fdefault",
        "tenants%2fa%2fdefault",
        "%2e%2e",
        "*",
    ];
    for name in names {
        for path in ["/get?key=secret", "/list-all?", "/set?key=x"] {
            attacker.expect(&format!("{path}&store={name}"), "x", 403, "access-denied\n").await;
        }
    }
    let grants = "grants.sql = [\"default\"]";
    let (victim, attacker) = (node.start("sql-probe", grants, &a).await, node.start("sql-probe", grants, &b).await);
    victim.expect("/execute", "CREATE TABLE t (v TEXT)", 200, "changed=0\n").await;
    victim.expect(&format!("/execute?p=t:{CANARY}"), "INSERT INTO t VALUES (?)", 200, "changed=1\n").await;
    for name in names {
        let (status, text) = attacker.ask(&format!("/query?store={name}"), "SELECT * FROM t").await;
        assert!(status == 403 && !text.contains(CANARY), "{name}: {status} {text}");
    }
    let other = a.dir.join("apps/a/sql/default.sqlite");
    let other = other.to_str().unwrap();
    let escapes = [
        format!("ATTACH '{other}' AS other"),
        format!("ATTACH 'file:{other}?mode=ro&immutable=1' AS other"),
        format!("VACUUM INTO '{}/stolen.sqlite'", b.dir.display()),
        "VACUUM".to_owned(),
        format!("SELECT load_extension('{other}')"),
        format!("SELECT readfile('{other}')"),
        format!("SELECT writefile('{other}', x'00')"),
        format!("SELECT * FROM fsdir('{}')", a.dir.display()),
        format!("CREATE VIRTUAL TABLE v USING csv(filename='{other}')"),
        format!("CREATE VIRTUAL TABLE v USING fts3tokenize('{other}')"),
        "SELECT * FROM sqlite_dbpage".to_owned(),
        "SELECT file FROM pragma_database_list".to_owned(),
        "PRAGMA database_list".to_owned(),
        "PRAGMA writable_schema = ON".to_owned(),
        format!("PRAGMA temp_store_directory = '{}'", a.dir.display()),
        format!("PRAGMA data_store_directory = '{}'", a.dir.display()),
        "PRAGMA journal_mode = DELETE".to_owned(),
        "PRAGMA locking_mode = EXCLUSIVE".to_owned(),
        "PRAGMA synchronous = OFF".to_owned(),
        "PRAGMA max_page_count = 4294967294".to_owned(),
        "PRAGMA hard_heap_limit = 1".to_owned(),
        "PRAGMA soft_heap_limit = 1".to_owned(),
        "PRAGMA mmap_size = 1000000000".to_owned(),
        "PRAGMA wal_autocheckpoint = 0".to_owned(),
        "CREATE TEMP TABLE t (v)".to_owned(),
        "BEGIN EXCLUSIVE".to_owned(),
        "SAVEPOINT s".to_owned(),
        "UPDATE sqlite_schema SET sql = ''".to_owned(),
        "SELECT json_patch('{}', '{}')".to_owned(),
    ];
    let before: Vec<_> = tree(&b.dir).into_keys().collect();
    for statement in escapes {
        for path in ["/query", "/execute"] {
            let (status, text) = attacker.ask(path, &statement).await;
            assert!(status == 400 && !text.contains(CANARY), "{statement}: {status} {text}");
        }
    }
    // The refused statements have created no file.
    let after: Vec<_> = tree(&b.dir).into_keys().collect();
    assert_eq!(before, after, "a file was left behind");
    attacker.expect("/query", "SELECT count(*) AS n FROM sqlite_schema", 200, "n\ni:0\n").await;
    victim.expect("/query", "SELECT v FROM t", 200, &format!("v\nt:{CANARY}\n")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_and_links_stay_in_the_tenants_folders() {
    let node = Node::new(CapabilityLimits::default());
    let (a, b) = (node.tenant("a", 1 << 30), node.tenant("b", 1 << 30));
    let grants = "grants.dirs = [{ host = \"data\", guest = \"/data\", write = true }, \
                  { host = \"data/inner\", guest = \"/inner\", write = true }, { host = \"templates\", guest = \"/templates\" }]";
    let victim = node.start("dirs-probe", grants, &a).await;
    victim.expect("/write?path=/data/secret", CANARY, 200, "done\n").await;
    let attacker = node.start("dirs-probe", grants, &b).await;
    attacker.expect("/read?path=/templates/own.txt", "", 200, "of b").await;
    let other = a.dir.join("apps/a/dirs/data/secret");
    let up = "../".repeat(20);
    let absolute = other.to_str().unwrap();
    let paths = [
        absolute.to_owned(),
        format!("/data/{up}{absolute}"),
        "/data/../../../../a/apps/a/dirs/data/secret".to_owned(),
        "/templates/../../../a/files/templates/own.txt".to_owned(),
        "/data/../data/secret".to_owned(),
        "/inner/../data/secret".to_owned(),
        "/proc/self/environ".to_owned(),
        "/data//../../../../../../../../etc/passwd".to_owned(),
    ];
    for path in &paths {
        for ask in ["/read", "/write", "/append", "/remove", "/list", "/make-dir"] {
            let (status, text) = attacker.ask(&format!("{ask}?path={path}"), "overwritten").await;
            assert!(status != 200 || !ask.starts_with("/read"), "{ask} {path}: {text}");
            assert!(!text.contains(CANARY) && !text.contains("root:"), "{ask} {path}: {text}");
        }
    }
    for (number, target) in paths.iter().chain([&format!("{up}{}", &absolute[1..])]).enumerate() {
        let link = format!("/data/link{number}");
        attacker.ask(&format!("/link?path={link}&to={target}"), "").await;
        attacker.ask(&format!("/link?path={link}&to={}", target.trim_start_matches('/')), "").await;
        for ask in ["/read", "/write", "/append", "/list"] {
            let (_, text) = attacker.ask(&format!("{ask}?path={link}"), "overwritten").await;
            assert!(!text.contains(CANARY) && !text.contains("root:"), "{ask} {target}: {text}");
        }
    }
    for (path, body) in [("/templates/own.txt", "changed"), ("/templates/new", "new")] {
        assert_eq!(attacker.ask(&format!("/write?path={path}"), body).await.0, 403, "the folder is read-only");
    }
    victim.expect("/read?path=/data/secret", "", 200, CANARY).await;
    let outside = tree(&a.dir);
    assert!(outside.values().all(|content| content != b"overwritten"), "{outside:?}");
    // The manifest grants a folder whose path is inside another granted folder. On disk, the two folders are at the
    // same level.
    attacker.ask("/link?path=/data/inner&to=../../../../a", "").await;
    drop(attacker);
    let attacker = node.start("dirs-probe", grants, &b).await;
    attacker.expect("/list?path=/inner", "", 200, "").await;
}

/// One request repeatedly replaces a folder with a symbolic link, while other requests read and write through this
/// folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapping_links_while_reading_reaches_no_other_folder() {
    let node = Node::new(CapabilityLimits::default());
    let (a, b) = (node.tenant("a", 1 << 30), node.tenant("b", 1 << 30));
    let grants = "grants.dirs = [{ host = \"data\", guest = \"/data\", write = true }]";
    let victim = node.start("dirs-probe", grants, &a).await;
    victim.expect("/write?path=/data/f", CANARY, 200, "done\n").await;
    let attacker = Arc::new(node.start("dirs-probe", grants, &b).await);
    attacker.expect("/make-dir?path=/data/d", "", 200, "done\n").await;
    attacker.expect("/write?path=/data/d/f", "own", 200, "done\n").await;
    attacker.ask("/link?path=/data/l&to=../../../../a/apps/a/dirs/data", "").await;
    let swapping = tokio::spawn({
        let attacker = attacker.clone();
        async move {
            for _ in 0..100 {
                for (from, to) in [("d", "x"), ("l", "d"), ("d", "l"), ("x", "d")] {
                    attacker.ask(&format!("/rename?path=/data/{from}&to=/data/{to}"), "").await;
                }
            }
        }
    });
    let mut read = 0;
    while !swapping.is_finished() {
        let (status, text) = attacker.ask("/read?path=/data/d/f", "").await;
        assert_ne!(text, CANARY, "read another tenant's file");
        read += u32::from(status == 200);
        attacker.ask("/append?path=/data/d/f", "!").await;
    }
    swapping.await.unwrap();
    assert!(read > 0, "the folder existed some of the time");
    victim.expect("/read?path=/data/f", "", 200, CANARY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_cannot_open_the_nodes_network() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
    });
    let node = Node::new(CapabilityLimits::default());
    let tenant = node.tenant("b", 1 << 30);
    let grants = format!(
        "grants.http = [\"*\", \"127.0.0.1:{port}\", \"localhost\", {{ host = \"localhost\", private = true }}, \"[::1]\", \
         \"10.0.0.1\", \"169.254.169.254\"]"
    );
    for guest in ["fetch-probe", "fetch-probe-p2"] {
        let probe = node.start(guest, &grants, &tenant).await;
        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "0.0.0.0"]
        {
            let before = tenant.hosts.refused();
            let (status, text) = probe.ask(&format!("/?url=http://{host}:{port}/"), "").await;
            assert!(
                status == 502 && (text.contains("Denied") || text.contains("Prohibited")),
                "{host}: {status} {text}"
            );
            let by_manifest = matches!(host, "[::ffff:127.0.0.1]" | "0.0.0.0");
            assert!(by_manifest || tenant.hosts.refused() == before + 1, "{host} is counted");
        }
    }
    // After the operator of the node has listed the address, the manifest's grant applies.
    tenant.hosts.set(Some(&[format!("127.0.0.1:{port}")])).unwrap();
    let ungranted = node.start("fetch-probe", "grants.http = [\"a.example\"]", &tenant).await;
    let (status, text) = ungranted.ask(&format!("/?url=http://127.0.0.1:{port}/"), "").await;
    assert!(status == 502 && text.contains("HttpRequestDenied"), "{status} {text}");
    let probe = node.start("fetch-probe", &grants, &tenant).await;
    probe.expect(&format!("/?url=http://127.0.0.1:{port}/"), "", 200, "ok").await;
    served.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_the_tenants_and_never_the_machines() {
    let node = Node::new(CapabilityLimits::default());
    let mut tenant = node.tenant("b", 1 << 30);
    let secret = |source: &str| format!("grants.secrets = [\"key\"]\n[secrets]\nkey = {source}");
    let outside = node.dir.path().join("secret.txt");
    std::fs::write(&outside, CANARY).unwrap();
    for source in [
        "{ env = \"PATH\" }".to_owned(),
        format!("{{ file = \"{}\" }}", outside.display()),
        "{ file = \"../../../secret.txt\" }".to_owned(),
        "{ file = \"/proc/self/environ\" }".to_owned(),
    ] {
        let refused = Probe::at("secret-probe", &secret(&source), &tenant.resources(), &node.engines).await;
        let refused = refused.err().unwrap_or_else(|| panic!("{source} was read")).to_string();
        assert!(refused.contains("`key`") && !refused.contains(CANARY), "{source}: {refused}");
    }
    std::fs::write(tenant.dir.join("files/key"), "a file of the app").unwrap();
    let probe = node.start("secret-probe", &secret("{ file = \"key\" }"), &tenant).await;
    probe.expect("/?name=key", "", 200, "a file of the app").await;
    tenant.secrets.insert("key".to_owned(), Secret::new("given".to_owned()));
    let probe = node.start("secret-probe", &secret("{ env = \"PATH\" }"), &tenant).await;
    probe.expect("/?name=key", "", 200, "given").await;
}
