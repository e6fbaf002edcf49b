//! The audit log: an append-only file with the actions of admins, one JSON object per line.
//!
//! An action that changes something has two lines: one before it begins, and one with its result. So every change has
//! at least one line, even if the node is killed during the action. If the first line cannot be written, the action
//! does not begin. An action that is refused has one line. For example, an action is refused if the token is missing or
//! wrong, if a browser sent the request, or if a name is not valid. No line contains secrets or tokens.
//!
//! One thread writes the file. It writes all waiting lines together and then syncs the file once.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use isomer_api::TokenInfo;
use isomer_ids::{AppName, ReleaseDigest, TenantName};
use serde::Serialize;
use tokio::sync::oneshot;

/// The name of the audit log's file in a node's data directory.
pub const AUDIT_FILE: &str = "audit.log";

/// The maximum number of lines that are written with one sync.
const BATCH_MAX: usize = 256;

tokio::task_local! {
    /// The number of the action that the current task performs.
    static ACTION: u64;
}

/// Returns the number, in the audit log, of the action that the current task performs for a client; `None` outside of
/// actions. Must be called before the action is continued in another task.
#[must_use]
pub fn current_action() -> Option<u64> {
    ACTION.try_with(|action| *action).ok()
}

/// Runs `work`, which performs the action with this number.
pub(crate) async fn as_action<T>(action: u64, work: impl Future<Output = T>) -> T {
    ACTION.scope(action, work).await
}

/// A line of the audit log.
#[derive(Debug, Clone, Serialize)]
pub struct AuditEntry {
    /// The Unix time in milliseconds.
    pub at_ms: u64,
    /// The number of the action since the node started. Both lines of an action have the same number.
    pub action_id: u64,
    /// The phase of the action that this line records.
    pub phase: Phase,
    /// The client that sent the request.
    #[serde(flatten)]
    pub who: Requester,
    /// The name of the operation in the OpenAPI document.
    pub action: &'static str,
    /// The tenant in the path of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The app in the path of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// The object that the path of the request names: the name of a secret or a token, or the digest of an uploaded
    /// part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Arguments of the operation from the query or the body.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
    /// The HTTP status of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The reason why the action was refused or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The revision that serves the app's requests after the action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<ReleaseDigest>,
    /// The number of requests that were refused after the previous line about a refused request, and that have no line
    /// of their own. The number of lines about refused requests is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untold: Option<u64>,
}

/// The phase of an action that a line of the audit log records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The action is about to begin.
    Begin,
    /// The action has ended, successfully or not.
    End,
    /// The action was refused and did not begin.
    Refused,
}

/// The client that sent a request: its address or process, and its token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Requester {
    /// The client's address, for a TCP connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<std::net::SocketAddr>,
    /// The user id of the client's process, for a connection over a Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The id of the client's process, for a connection over a Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The kind of token in the request.
    pub token: Credential,
    /// Information about the tenant's token in the request; `None` if the request has no valid token of a tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_token: Option<TokenInfo>,
}

/// The kind of token in a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credential {
    /// The request has no token.
    #[default]
    Missing,
    /// The request has a token that this node does not know, or that has expired.
    Wrong,
    /// The request has the node's token.
    Valid,
    /// The request has a valid token of a tenant.
    Tenant,
}

/// The error for an audit log that cannot be opened or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the audit log `{}`", path.display())]
pub struct AuditError {
    /// The path of the audit log.
    pub path: PathBuf,
    /// The operating system's error.
    pub source: io::Error,
}

/// A handle to a node's audit log. All clones write to the same file.
#[derive(Debug, Clone)]
pub struct AuditLog {
    requests: Sender<WriterRequest>,
    path: PathBuf,
}

#[derive(Debug)]
enum WriterRequest {
    Write(Vec<u8>, oneshot::Sender<io::Result<()>>),
    Reopen(oneshot::Sender<io::Result<()>>),
}

impl AuditLog {
    /// Opens the audit log in the data directory `data`. Creates the file if it does not exist.
    ///
    /// # Errors
    /// If the file cannot be opened for writing, or the writing thread cannot be started.
    pub fn open(data: &Path) -> Result<Self, AuditError> {
        let path = data.join(AUDIT_FILE);
        let failed = |source| AuditError { path: path.clone(), source };
        let file = open(&path).map_err(failed)?;
        let (requests, received) = channel();
        let writer = Writer { file, path: path.clone(), torn: false };
        let thread = std::thread::Builder::new().name("audit-log".to_owned());
        thread.spawn(move || writer.run(&received)).map_err(failed)?;
        Ok(Self { requests, path })
    }

    /// Appends a line, and waits until the line is synced to disk.
    ///
    /// # Errors
    /// If the line cannot be written or synced.
    pub async fn write(&self, entry: &AuditEntry) -> Result<(), AuditError> {
        let mut line = serde_json::to_vec(entry).expect("an entry is plain data");
        line.push(b'\n');
        self.request(|done| WriterRequest::Write(line, done)).await
    }

    /// Reopens the audit log by its path. If the file was renamed, for example by log rotation, creates a new file.
    ///
    /// # Errors
    /// If the file cannot be opened. In this case, the log continues in the old file.
    pub async fn reopen(&self) -> Result<(), AuditError> {
        self.request(WriterRequest::Reopen).await
    }

    async fn request(
        &self,
        request: impl FnOnce(oneshot::Sender<io::Result<()>>) -> WriterRequest,
    ) -> Result<(), AuditError> {
        let (done, result) = oneshot::channel();
        let gone = || io::Error::other("the thread that writes the audit log has ended");
        let sent = self.requests.send(request(done)).map_err(|_| gone());
        let result = match sent {
            Ok(()) => result.await.unwrap_or_else(|_| Err(gone())),
            Err(error) => Err(error),
        };
        result.map_err(|source| AuditError { path: self.path.clone(), source })
    }
}

/// Returns the Unix time in milliseconds, as in [`AuditEntry::at_ms`].
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    // If a power failure has left an incomplete last line, end that line, so that the next entry begins a new line.
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(io::SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

struct Writer {
    file: File,
    path: PathBuf,
    /// Whether the last write has failed, so that the file may end in the middle of a line.
    torn: bool,
}

impl Writer {
    /// Writes lines until the last handle of the log is dropped.
    fn run(mut self, requests: &Receiver<WriterRequest>) {
        while let Ok(first) = requests.recv() {
            let mut next = Some(first);
            let (mut lines, mut waiting) = (Vec::new(), Vec::new());
            while let Some(request) = next.take() {
                match request {
                    WriterRequest::Write(line, done) => {
                        lines.extend_from_slice(&line);
                        waiting.push(done);
                        if waiting.len() < BATCH_MAX {
                            next = requests.try_recv().ok();
                        }
                    }
                    WriterRequest::Reopen(done) => {
                        self.finish(&mut lines, &mut waiting);
                        let opened = open(&self.path).map(|file| self.file = file);
                        let _ = done.send(opened);
                    }
                }
            }
            self.finish(&mut lines, &mut waiting);
        }
    }

    fn finish(&mut self, lines: &mut Vec<u8>, waiting: &mut Vec<oneshot::Sender<io::Result<()>>>) {
        if lines.is_empty() {
            return;
        }
        if self.torn {
            lines.insert(0, b'\n');
        }
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        self.torn = written.is_err();
        lines.clear();
        for done in waiting.drain(..) {
            // An error means that the caller no longer waits for the result, so it is ignored.
            let _ =
                done.send(written.as_ref().copied().map_err(|error| io::Error::new(error.kind(), error.to_string())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn entry(action_id: u64) -> AuditEntry {
        AuditEntry {
            at_ms: now_ms(),
            action_id,
            phase: Phase::Begin,
            who: Requester { uid: Some(7), token: Credential::Valid, ..Requester::default() },
            action: "deploy",
            tenant: Some("acme".parse().unwrap()),
            app: None,
            object: None,
            details: serde_json::Value::Null,
            status: None,
            problem: None,
            revision: None,
            untold: None,
        }
    }

    fn lines(data: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(data.join(AUDIT_FILE)).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[tokio::test]
    async fn lines_are_added_and_none_is_lost() {
        let data = tempfile::tempdir().unwrap();
        let log = AuditLog::open(data.path()).unwrap();
        let entries: Vec<AuditEntry> = (0..1000).map(entry).collect();
        let written = futures::future::join_all(entries.iter().map(|entry| log.write(entry))).await;
        assert!(written.iter().all(Result::is_ok));
        let ids = |lines: Vec<String>| -> Vec<u64> {
            let json = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            json.map(|line| line["action_id"].as_u64().unwrap()).collect()
        };
        assert_eq!(ids(lines(data.path())), (0..1000).collect::<Vec<_>>());
        assert_eq!(std::fs::metadata(data.path().join(AUDIT_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        drop(log);
        AuditLog::open(data.path()).unwrap().write(&entry(1000)).await.unwrap();
        assert_eq!(lines(data.path()).len(), 1001);
    }

    #[tokio::test]
    async fn an_unfinished_line_does_not_swallow_the_next() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join(AUDIT_FILE), "{\"at_ms\":1").unwrap();
        AuditLog::open(data.path()).unwrap().write(&entry(1)).await.unwrap();
        let lines = lines(data.path());
        assert_eq!(lines[0], "{\"at_ms\":1");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&lines[1]).unwrap()["uid"], 7);
    }

    #[tokio::test]
    async fn it_goes_on_in_a_new_file_after_the_old_one_was_moved() {
        let data = tempfile::tempdir().unwrap();
        let log = AuditLog::open(data.path()).unwrap();
        log.write(&entry(1)).await.unwrap();
        std::fs::rename(data.path().join(AUDIT_FILE), data.path().join("audit.old")).unwrap();
        log.reopen().await.unwrap();
        log.write(&entry(2)).await.unwrap();
        assert_eq!(lines(data.path()).len(), 1);
        assert_eq!(std::fs::read_to_string(data.path().join("audit.old")).unwrap().lines().count(), 1);
    }

    #[tokio::test]
    async fn a_failed_write_is_reported() {
        let data = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", data.path().join(AUDIT_FILE)).unwrap();
        assert!(AuditLog::open(data.path()).is_err(), "a link is not followed");
        let writer = Writer {
            file: OpenOptions::new().append(true).open("/dev/full").unwrap(),
            path: "full".into(),
            torn: false,
        };
        let (requests, received) = channel();
        let thread = std::thread::spawn(move || writer.run(&received));
        let log = AuditLog { requests, path: "full".into() };
        assert!(log.write(&entry(1)).await.is_err());
        drop(log);
        thread.join().unwrap();
    }
}
