//! Runs the app in one shape. The app runs in a separate process of the `isomer` program, with an empty data directory.
//!
//! The process ends when its standard input is closed, so it never outlives the process that started it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Context as _;
use isomer_console::{CliError, FAILED};
use isomer_display::count;
use isomer_project::ValueSources;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::secrets;
use crate::stubs::StubServer;

/// The maximum time that an app may take to start. Compiling a large app takes minutes.
const START_MAX: Duration = Duration::from_secs(600);

/// The maximum time that requests in progress may take to finish when the process is stopped, in seconds.
const GRACE_S: &str = "5";

/// The time after which a process that does not stop is killed.
const STOP_MAX: Duration = Duration::from_secs(30);

/// The maximum time for which the log is read after the app's process has ended. The time is limited because a child
/// process of the app's process may keep the pipe open.
const LOG_WAIT_MAX: Duration = Duration::from_secs(2);

/// The log is kept up to this number of lines from its beginning and the same number of lines from its end.
const LINES_MAX: usize = 200;

/// The name of the data directory in the temporary folder.
const DATA: &str = "data";

/// The name of the folder of secrets in the temporary folder.
const SECRETS: &str = "secrets";

/// Options for starting an app's process.
pub struct AppProcessSetup<'a> {
    /// The app's folder, or the file of a single component.
    pub app_dir: &'a Path,
    /// The name of the shape in which the app runs.
    pub shape: &'a str,
    /// The folder that caches compiled code.
    pub code: &'a Path,
    /// The config values and environment variables that do not come from the manifest.
    pub values: &'a ValueSources,
    /// Whether guests get a clock and random numbers that are derived from the request and the component.
    pub deterministic: bool,
    /// The values of the app's secrets, by name.
    pub secrets: &'a BTreeMap<String, String>,
    /// The server that responds in place of external hosts, if the script has stubs.
    pub stubs: Option<&'a StubServer>,
}

/// A process that serves the app. Dropping it stops the process.
pub struct AppProcess {
    child: Child,
    address: SocketAddr,
    log: Receiver<Vec<String>>,
    /// The temporary folder. It is removed after the process has ended.
    _data: tempfile::TempDir,
}

impl AppProcess {
    /// Starts the app and waits until it accepts requests.
    ///
    /// # Errors
    /// If the app does not start. The error contains the output of the process.
    pub fn start(setup: &AppProcessSetup<'_>) -> Result<Self, CliError> {
        let data =
            tempfile::Builder::new().prefix("isomer-test-").tempdir().context("cannot create a folder for data")?;
        let program = std::env::current_exe().context("cannot determine the path of this program")?;
        let mut command = Command::new(program);
        command.arg("run").arg(setup.app_dir).args(["--shape", setup.shape, "--listen", "127.0.0.1:0"]);
        command.args(["--grace", GRACE_S]).arg("--data").arg(data.path().join(DATA)).arg("--test-mode").arg(setup.code);
        command.args(setup.values.arguments());
        if setup.deterministic {
            command.arg("--deterministic");
        }
        if !setup.secrets.is_empty() {
            let folder = data.path().join(SECRETS);
            secrets::write(&folder, setup.secrets)?;
            command.arg("--test-secrets").arg(folder);
        }
        for stub in setup.stubs.into_iter().flat_map(StubServer::flags) {
            command.args(["--stub", &stub]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start the app's process")?;
        let events = lines(child.stdout.take().context("the app's process has no output")?);
        let log = both_ends(child.stderr.take().context("the app's process has no log")?);
        let ready = events.recv_timeout(START_MAX);
        let address = ready.ok().and_then(|line| {
            let event: serde_json::Value = serde_json::from_str(&line).ok()?;
            event["url"].as_str()?.strip_prefix("http://")?.parse().ok()
        });
        let process =
            Self { child, address: address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))), log, _data: data };
        match address {
            Some(_) => Ok(process),
            None => Err(process.start_error()),
        }
    }

    /// Returns the address of the front door.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the process and returns the lines of its log.
    pub fn stop(mut self) -> Vec<String> {
        self.end();
        self.log_lines()
    }

    /// Returns the error for an app that did not start, with the output of the process.
    fn start_error(mut self) -> CliError {
        let code = self.end().unwrap_or(FAILED);
        let text: String = self.log_lines().into_iter().map(|line| line + "\n").collect();
        CliError::Rendered { text, code: if code == 0 { FAILED } else { code } }
    }

    /// Returns the lines of the log. Called after the process has ended.
    fn log_lines(&self) -> Vec<String> {
        self.log.recv_timeout(LOG_WAIT_MAX).unwrap_or_default()
    }

    /// Stops the process. Returns its exit code, or `None` if it had to be killed.
    fn end(&mut self) -> Option<u8> {
        drop(self.child.stdin.take());
        if ends_within(&self.child, STOP_MAX).unwrap_or(false)
            && let Ok(status) = self.child.wait()
        {
            return status.code().and_then(|code| code.try_into().ok());
        }
        // Killing fails only if the process has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
}

/// Waits at most `timeout` until the process ends, without polling. Returns whether it has ended.
fn ends_within(child: &Child, timeout: Duration) -> rustix::io::Result<bool> {
    // A pidfd becomes readable when its process exits.
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let timeout = Timespec { tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout))? > 0)
}

impl Drop for AppProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns a channel with the lines of a pipe. A thread reads the pipe, so the writer never waits.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Returns a channel that receives one message when the pipe is closed. The message contains the first and the last
/// lines that were read from the pipe.
fn both_ends(pipe: impl Read + Send + 'static) -> Receiver<Vec<String>> {
    let (sender, receiver) = channel();
    let lines = lines(pipe);
    std::thread::spawn(move || {
        let mut first: Vec<String> = Vec::new();
        let (mut last, mut lost) = (VecDeque::new(), 0);
        for line in lines {
            if first.len() < LINES_MAX {
                first.push(line);
                continue;
            }
            if last.len() == LINES_MAX {
                last.pop_front();
                lost += 1;
            }
            last.push_back(line);
        }
        if lost > 0 {
            first.push(format!("… {}", count(lost, "line")));
        }
        first.extend(last);
        // The receiver is dropped if the log is not needed. Then sending fails, which is ignored.
        let _ = sender.send(first);
    });
    receiver
}
