//! The app in one shape: a process of this program that serves it, with an empty data directory.
//!
//! It ends with its standard input, so it never outlives the process that started it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::secrets;
use super::stubs::StubServer;
use crate::fail::{FAILED, Fail};
use crate::values::ValueFlags;

/// Compiling a large app takes a while, but not longer.
const START_MAX: Duration = Duration::from_secs(600);

/// How long requests may go on when it is to stop, in seconds.
const GRACE_S: &str = "5";

/// How long it may take to stop; it is killed then.
const STOP_MAX: Duration = Duration::from_secs(30);

/// How long the log of a process that has ended is read on: somebody else may hold it.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// Lines that are kept of each end of the log.
const LINES_MAX: usize = 200;

/// What the app stores, in the folder that is removed with the process.
const DATA: &str = "data";

/// The secrets that it is given, in the same folder.
const SECRETS: &str = "secrets";

/// How often a process is asked whether it has ended.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// What is to be run.
pub(crate) struct Setup<'a> {
    pub(crate) app_dir: &'a Path,
    pub(crate) shape: &'a str,
    /// The folder of compiled code.
    pub(crate) code: &'a Path,
    /// Values beside the manifest's.
    pub(crate) values: &'a ValueFlags,
    /// Are the time of day and randomness given by request and component?
    pub(crate) given_clock_and_random: bool,
    /// Values of secrets, by name.
    pub(crate) secrets: &'a BTreeMap<String, String>,
    /// Hosts that are not those of the internet.
    pub(crate) stubs: Option<&'a StubServer>,
}

/// An app that serves.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Receiver<Vec<String>>,
    /// Removed when the process has ended.
    _data: tempfile::TempDir,
}

impl Running {
    /// Starts the app and waits until it answers.
    pub(crate) fn start(setup: &Setup<'_>) -> Result<Self, Fail> {
        let data =
            tempfile::Builder::new().prefix("isomer-test-").tempdir().context("cannot make a folder for data")?;
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let mut command = Command::new(program);
        command.arg("run").arg(setup.app_dir).args(["--shape", setup.shape, "--listen", "127.0.0.1:0"]);
        command.args(["--grace", GRACE_S]).arg("--data").arg(data.path().join(DATA)).arg("--rehearse").arg(setup.code);
        command.args(setup.values.arguments());
        if setup.given_clock_and_random {
            command.arg("--given-clock-and-random");
        }
        if !setup.secrets.is_empty() {
            let folder = data.path().join(SECRETS);
            secrets::write(&folder, setup.secrets)?;
            command.arg("--given-secrets").arg(folder);
        }
        for stub in setup.stubs.into_iter().flat_map(StubServer::flags) {
            command.args(["--stub", &stub]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start the app's process")?;
        let events = lines(child.stdout.take().context("the app's process has no output")?);
        let log = both_ends(child.stderr.take().context("the app's process has no log")?);
        let ready = events.recv_timeout(START_MAX);
        let url = ready.ok().and_then(|line| {
            let event: serde_json::Value = serde_json::from_str(&line).ok()?;
            event["url"].as_str()?.strip_prefix("http://")?.parse().ok()
        });
        let running =
            Self { child, address: url.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))), log, _data: data };
        match url {
            Some(_) => Ok(running),
            None => Err(running.failed()),
        }
    }

    /// Stops the app; what its log says.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.end();
        self.last_words()
    }

    /// It did not start: it has said why.
    fn failed(mut self) -> Fail {
        let code = self.end().unwrap_or(FAILED);
        let text: String = self.last_words().into_iter().map(|line| line + "\n").collect();
        Fail::Said { text, code: if code == 0 { FAILED } else { code } }
    }

    /// Its log, once it has ended.
    fn last_words(&self) -> Vec<String> {
        self.log.recv_timeout(LAST_WORDS_MAX).unwrap_or_default()
    }

    /// Its exit code, when it has ended of itself.
    fn end(&mut self) -> Option<u8> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.code().and_then(|code| code.try_into().ok()),
                Ok(None) => std::thread::sleep(ASK_EVERY),
                Err(_) => break,
            }
        }
        // What cannot be killed has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The lines of a pipe. Read on a thread so that who writes never waits.
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

/// The first and the last lines of a pipe, when it has ended.
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
            first.push(format!("… {lost} lines"));
        }
        first.extend(last);
        // Nobody may want them.
        let _ = sender.send(first);
    });
    receiver
}
