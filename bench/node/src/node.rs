//! A node as a process: started, waited for, and stopped or killed.

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

/// Behaviour a node is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The `isomer` program.
    pub program: PathBuf,
    /// The node's data directory.
    pub data: PathBuf,
    /// The node's configuration file.
    pub config: Option<PathBuf>,
    /// The file for the node's log.
    pub log: PathBuf,
}

/// A running node, killed on drop.
pub struct Node {
    child: Child,
    /// The address of the front door.
    pub front: SocketAddr,
    /// A client of its admin API.
    pub admin: Admin,
    /// The time when its process was started.
    pub began: Instant,
    /// The time from its start to its ready line.
    pub ready_after: Duration,
}

impl Launch {
    /// Creates a launch of a program, with a folder for the data directory and the log.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, dir: &Path) -> Self {
        Self { program: program.into(), data: dir.join("data"), config: None, log: dir.join("node.log") }
    }

    /// Returns the command.
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
    /// When it does not start; the message has the end of its log.
    pub fn start(&self) -> Result<Node> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write `{}`", self.log.display()))?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot run `{}`", self.program.display()))?;
        let mut output = BufReader::new(child.stdout.take().context("the pipe was just requested")?);
        let mut line = String::new();
        let ready = loop {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                let _gone = child.kill();
                let _reaped = child.wait();
                bail!("the node ended before it was ready; its log ends with:\n{}", last_lines(&self.log));
            }
            if let Some(ready) = read_ready(&line) {
                break ready;
            }
        };
        let ready_after = began.elapsed();
        // Read to the end: a process that writes into a full pipe blocks.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let (front, admin) = ready;
        let token_path = self.data.join("admin.token");
        let token =
            std::fs::read_to_string(&token_path).with_context(|| format!("cannot read `{}`", token_path.display()))?;
        Ok(Node { child, front, admin: Admin::new(admin, token.trim()), began, ready_after })
    }
}

impl Node {
    /// Returns its process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the node's resource usage.
    ///
    /// # Errors
    /// When the node has exited.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid())
    }

    /// Lets the node drain and waits until it exits.
    ///
    /// # Errors
    /// When it fails, or does not exit within `patience`.
    pub fn stop(mut self, patience: Duration) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("the process has no valid number")?;
        kill_process(pid, Signal::TERM).context("the node has exited")?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the node ended with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the node does not end within {} s", patience.as_secs());
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

/// Returns the addresses of the front door and of the admin API in the line that says that a node is ready.
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
    fn a_program_that_ends_is_an_error() {
        let dir = std::env::temp_dir().join(format!("isomer-bench-node-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let error = Launch::new("true", &dir).start().map(drop).unwrap_err().to_string();
        assert!(error.contains("ended before it was ready"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
