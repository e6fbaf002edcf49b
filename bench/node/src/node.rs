//! The process of a node, which can be started, stopped and killed.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::admin::Admin;
use crate::usage::Usage;

/// The settings for starting a node.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The path of the `isomer` program.
    pub program: PathBuf,
    /// The path of the node's data directory.
    pub data: PathBuf,
    /// The path of the node file, or `None` to use the defaults.
    pub config: Option<PathBuf>,
    /// The path of the file that the node's log is written to.
    pub log: PathBuf,
}

/// A running node. Killed when dropped.
pub struct Node {
    child: Child,
    /// The address of the front door.
    pub front: SocketAddr,
    /// A client of the node's admin API.
    pub admin: Admin,
    /// The time at which the node's process was started.
    pub began: Instant,
    /// The time from the start of the process to the line with which the node reports that it is ready.
    pub ready_after: Duration,
}

impl Launch {
    /// Creates the settings for starting `program` with its data directory and its log in `dir`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, dir: &Path) -> Self {
        Self { program: program.into(), data: dir.join("data"), config: None, log: dir.join("node.log") }
    }

    /// Returns the command that starts the node.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["node", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--json", "--data"]).arg(&self.data);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command
    }

    /// Starts the node and waits until it is ready.
    ///
    /// # Errors
    /// If the node does not start. The message has the last lines of the node's log.
    pub fn start(&self) -> Result<Node> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write `{}`", self.log.display()))?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot run `{}`", self.program.display()))?;
        let mut output = BufReader::new(child.stdout.take().context("the node's process has no output pipe")?);
        let mut line = String::new();
        let ready = loop {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                let _gone = child.kill();
                let _reaped = child.wait();
                bail!("the node exited before it was ready; the last lines of its log:\n{}", last_lines(&self.log));
            }
            if let Some(ready) = read_ready(&line) {
                break ready;
            }
        };
        let ready_after = began.elapsed();
        // Reads the output to its end, because a process that writes into a full pipe blocks.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let (front, admin) = ready;
        let token_path = self.data.join("admin.token");
        let token =
            std::fs::read_to_string(&token_path).with_context(|| format!("cannot read `{}`", token_path.display()))?;
        Ok(Node { child, front, admin: Admin::new(admin, token.trim()), began, ready_after })
    }
}

impl Node {
    /// Returns the process ID of the node.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the node's resource usage.
    ///
    /// # Errors
    /// If the node has exited.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid())
    }

    /// Sends SIGTERM, so that the node drains, and waits until its process exits.
    ///
    /// # Errors
    /// If the node exits with a failure, or does not exit within `patience`.
    pub fn stop(mut self, patience: Duration) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("the node has no valid process ID")?;
        kill_process(pid, Signal::TERM).context("cannot send SIGTERM to the node")?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the node exited with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the node did not exit within {} s", patience.as_secs());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Parses the line with which a node reports that it is ready. Returns the addresses of the front door and of the admin
/// API.
fn read_ready(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let json: Value = serde_json::from_str(line).ok()?;
    (json["event"] == "ready").then_some(())?;
    Some((address(&json["url"])?, address(&json["admin"])?))
}

fn address(value: &Value) -> Option<SocketAddr> {
    let text = value.as_str()?;
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    text.trim_end_matches('/').parse().ok()
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_has_both_addresses() {
        let line = r#"{"event":"ready","url":"http://127.0.0.1:8080","admin":"http://127.0.0.1:9000","v":1}"#;
        assert_eq!(read_ready(line), Some(("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:9000".parse().unwrap())));
        assert_eq!(read_ready(r#"{"event":"note"}"#), None);
        assert_eq!(read_ready("text"), None);
    }

    #[test]
    fn a_program_that_exits_early_is_an_error() {
        let dir = std::env::temp_dir().join(format!("isomer-bench-node-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let error = Launch::new("true", &dir).start().map(drop).unwrap_err().to_string();
        assert!(error.contains("exited before it was ready"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
