//! All data of a node, opened in one folder, and a list of the writes that were acknowledged to a test.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use isomer_admin::AUDIT_FILE;
use isomer_admin::audit::{AuditEntry, AuditLog, Credential, Phase, Requester};
use isomer_api::{TenantChange, TraceQuery};
use isomer_capabilities::kv::{Kv, KvLimits, KvStore};
use isomer_capabilities::sql::{Sql, SqlLimits, SqlSettings, SqlStore, Value};
use isomer_ids::{Digest, TenantName};
use isomer_observe::{AppLog, AppLogLimits, AppLogs, LogQuota};
use isomer_runtime::code::{CodeCache, Key};
use isomer_state::{Blobs, NodeState, Secret};
use isomer_telemetry::{
    Attribute, Event, EventSink as _, RequestId, Span, SpanKind, SpanStatus, StandardStream, TraceFragment, TraceId,
    TraceSink as _, unix_ns,
};
use isomer_traces::{TraceLimits, TraceStore, TraceStores};
use sha2::{Digest as _, Sha256};

/// The interval at which a test checks whether the data has recovered.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The names of all kinds of data of a node.
pub(crate) const ALL: [&str; 8] = ["state", "blobs", "audit", "kv", "sql", "code", "log", "traces"];

/// The kinds of data whose writes are not acknowledged.
pub(crate) const UNACKNOWLEDGED: [&str; 2] = ["log", "traces"];

/// All data of a node, opened in one folder.
pub(crate) struct NodeData {
    state: NodeState,
    tenant: TenantName,
    blobs: Blobs,
    audit: AuditLog,
    kv: KvStore,
    sql: SqlStore,
    code: CodeCache,
    pub(crate) log: AppLog,
    pub(crate) traces: TraceStore,
}

/// The numbers and sizes of the acknowledged writes, by kind of data, and the number of refused writes.
#[derive(Default)]
pub(crate) struct Acknowledged {
    pub(crate) of: BTreeMap<&'static str, Vec<(u64, usize)>>,
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

impl Acknowledged {
    /// Adds the outcome of a write.
    pub(crate) fn note(&mut self, what: &'static str, number: u64, bytes: usize, written: &Result<(), String>) {
        match written {
            Ok(()) => self.of.entry(what).or_default().push((number, bytes)),
            Err(_) => *self.refused.entry(what).or_default() += 1,
        }
    }
}

fn content(number: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![u8::try_from(number % 251).unwrap(); bytes.max(8)];
    content[..8].copy_from_slice(&number.to_le_bytes());
    content
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from(<[u8; 32]>::from(Sha256::digest(bytes)))
}

fn key(bytes: &[u8]) -> Key {
    Key::try_from(digest(bytes).as_str().to_owned()).unwrap()
}

impl NodeData {
    /// Opens the data in the same way as a node that starts.
    pub(crate) async fn open(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let state = NodeState::open(&dir.join("state.redb"))?;
        let tenant: TenantName = "t".parse()?;
        state.set_tenant(&tenant, TenantChange::default())?;
        let sql = Sql::new(&dir.join("sql"), SqlLimits::default()).open("s", SqlSettings::default()).await?;
        let create = "CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, half INTEGER, v BLOB)";
        sql.execute(create.to_owned(), vec![]).await?;
        Ok(Self {
            state,
            tenant,
            blobs: Blobs::open(&dir.join("blobs"))?,
            audit: AuditLog::open(dir)?,
            kv: Kv::new(&dir.join("kv"), KvLimits::default()).store("s").await?,
            sql,
            code: CodeCache::open_kept(&dir.join("code"))?,
            log: AppLogs::start(AppLogLimits::default())?.open(dir.join("log"), &LogQuota::new(u64::MAX)),
            traces: TraceStores::start(TraceLimits::NODE)?.open(&dir.join("traces"), &Arc::default()),
        })
    }

    pub(crate) async fn write(&self, what: &str, number: u64, bytes: usize) -> Result<(), String> {
        let content = content(number, bytes);
        let text = |error: &dyn Error| error.to_string();
        match what {
            "state" => {
                let secret = Secret::new(content);
                self.state.set_secret(&self.tenant, &number.to_string(), &secret).map_err(|error| text(&error))
            }
            "blobs" => {
                let mut upload = self.blobs.upload(&digest(&content)).map_err(|error| text(&error))?;
                upload.write(&content).map_err(|error| text(&error))?;
                upload.finish().map_err(|error| text(&error))
            }
            "audit" => self.audit.write(&entry(number, bytes)).await.map_err(|error| text(&error)),
            "kv" => self.kv.set(number.to_string(), content).await.map_err(|error| text(&error)),
            "sql" => self.write_rows(number, content).await.map_err(|error| text(&error)),
            "code" => {
                let write = || {
                    let mut code = self.code.write_code(&key(&content))?;
                    code.write_all(&content)?;
                    self.code.finish(code)
                };
                write().map_err(|error: std::io::Error| text(&error))
            }
            "log" => {
                let line = vec![b'x'; bytes.min(4000)];
                let stream = StandardStream::Stdout;
                self.log.emit(Event::OutputLine { component: "c", stream, request: None, trace: None, line: &line });
                // Wait until the log line is written. Log lines are not acknowledged: a line may be lost, and the log
                // then records the loss.
                let _ = self.log.last(1);
                Err("not acknowledged".to_owned())
            }
            "traces" => {
                self.traces.record(trace(number, bytes));
                // Wait until the trace is written. Like log lines, traces are not acknowledged.
                self.traces.flush();
                Err("not acknowledged".to_owned())
            }
            _ => unreachable!("{what}"),
        }
    }

    /// Writes rows in one transaction: two rows if `number` is odd, and one row if it is even.
    async fn write_rows(&self, number: u64, content: Vec<u8>) -> Result<(), isomer_capabilities::sql::SqlError> {
        let row = |half: u64, content| {
            let n = (2 * number + half).cast_signed();
            vec![Value::Integer(n), Value::Integer(half.cast_signed()), Value::Blob(content)]
        };
        let insert = "INSERT INTO t VALUES (?, ?, ?)".to_owned();
        if number.is_multiple_of(2) {
            return self.sql.execute(insert, row(0, content)).await.map(drop);
        }
        let transaction = self.sql.begin().await?;
        transaction.execute(insert.clone(), row(0, content)).await?;
        transaction.execute(insert, row(1, vec![1])).await?;
        transaction.commit().await
    }

    /// Checks that all acknowledged writes are kept, and that each write was made completely or not at all.
    pub(crate) async fn check(&self, at: &str, dir: &Path, acknowledged: &Acknowledged) {
        let audit = std::fs::read_to_string(dir.join(AUDIT_FILE)).unwrap();
        let secrets = self.state.secrets(&self.tenant).unwrap();
        for (what, writes) in &acknowledged.of {
            for (number, bytes) in writes {
                let content = content(*number, *bytes);
                let is_there = match *what {
                    "state" => secrets.get(&number.to_string()).is_some_and(|secret| secret.reveal() == content),
                    "blobs" => std::fs::read(self.blobs.path(&digest(&content))).is_ok_and(|found| found == content),
                    "audit" => {
                        audit.lines().any(|line| line == serde_json::to_string(&entry(*number, *bytes)).unwrap())
                    }
                    "kv" => self.kv.get(number.to_string()).await.unwrap() == Some(content),
                    "sql" => {
                        let values = vec![Value::Integer((2 * number).cast_signed())];
                        let rows = self.sql.query("SELECT v FROM t WHERE n = ?".to_owned(), values).await.unwrap().rows;
                        rows == [[Value::Blob(content)]]
                    }
                    "code" => self.code.has(&key(&content)),
                    _ => unreachable!("{what}"),
                };
                assert!(is_there, "{at}: {what} {number} of {bytes} bytes was acknowledged");
            }
        }
        let traces = self.traces.query(&TraceQuery::default());
        assert!(traces.is_ok(), "{at}: {traces:?}");
        let halves = "SELECT count(*) FROM t WHERE n / 2 % 2 = 1 AND n / 2 NOT IN (SELECT n / 2 FROM t WHERE half = 1)";
        let halves = self.sql.query(halves.to_owned(), vec![]).await.unwrap().rows;
        assert_eq!(halves, [[Value::Integer(0)]], "{at}: only a part of a transaction was stored");
        let damage = self.sql.query("PRAGMA integrity_check".to_owned(), vec![]).await.unwrap().rows;
        assert_eq!(damage, [[Value::Text("ok".to_owned())]], "{at}");
    }
}

/// Returns the fragment of a request, whose record has about `bytes` bytes. The id of the request is `number`, or 1 if
/// `number` is 0.
pub(crate) fn trace(number: u64, bytes: usize) -> TraceFragment {
    let request = RequestId::from_raw(number.max(1)).unwrap();
    let text = "x".repeat(bytes.min(20_000));
    let root = Span {
        id: request.into(),
        parent: None,
        name: "GET /".into(),
        kind: SpanKind::Server,
        component: None,
        start_ns: unix_ns(SystemTime::now()),
        duration_ns: 1,
        status: SpanStatus::Ok,
        attributes: vec![Attribute { key: "text".into(), value: text.into() }],
    };
    let trace_id = TraceId::random();
    TraceFragment { trace_id, request, app: None, is_sampled: true, spans: vec![root], spans_dropped: 0 }
}

fn entry(number: u64, bytes: usize) -> AuditEntry {
    AuditEntry {
        at_ms: 0,
        action_id: number,
        phase: Phase::Begin,
        who: Requester { token: Credential::Valid, ..Requester::default() },
        action: "test",
        tenant: None,
        app: None,
        object: Some("x".repeat(bytes.min(20_000))),
        details: serde_json::Value::Null,
        status: None,
        problem: None,
        revision: None,
        untold: None,
    }
}
