//! Servers that are measured: started, asked what they use, and stopped.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::project::show;

/// Ticks a second in `/proc/PID/stat`: a constant of Linux's interface with programs, whatever the kernel's own.
const TICKS_PER_S: f64 = 100.0;

/// Where a server says its address, in the first line with `http://` in it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Says {
    Stdout,
    Stderr,
}

/// How to start a server.
pub(super) struct Launch {
    pub name: &'static str,
    pub says: Says,
    pub command: Command,
}

/// A server that runs, until this is dropped.
pub(super) struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    /// The command as a person would type it.
    pub line: String,
    /// When its process was started.
    pub began: Instant,
    child: Child,
    /// Kept open: who writes into a closed pipe dies of it.
    _output: Box<dyn Read>,
}

impl Server {
    /// Starts a server and waits for its address. What it says besides goes to `NAME.log` in `logs`.
    pub(super) fn start(launch: &mut Launch, logs: &Path) -> Result<Self> {
        let Launch { name, says, command } = launch;
        let line = show(command);
        let log = logs.join(format!("{}.log", name.replace([' ', '/'], "-")));
        let other = File::create(&log).with_context(|| format!("`{}` cannot be written", log.display()))?;
        match says {
            Says::Stdout => command.stdout(Stdio::piped()).stderr(other),
            Says::Stderr => command.stderr(Stdio::piped()).stdout(other),
        };
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("`{line}` cannot be run"))?;
        let output: Option<Box<dyn Read>> = match says {
            Says::Stdout => child.stdout.take().map(|pipe| Box::new(pipe) as _),
            Says::Stderr => child.stderr.take().map(|pipe| Box::new(pipe) as _),
        };
        let mut output = BufReader::new(output.context("the pipe was just asked for")?);
        let mut said = String::new();
        loop {
            let start = said.len();
            if output.read_line(&mut said)? == 0 {
                let _gone = child.kill();
                let _reaped = child.wait();
                bail!("`{line}` ended without an address; it said:\n{said}(see {})", log.display());
            }
            if let Some(address) = address_in(&said[start..]) {
                return Ok(Self { name, address, line, began, child, _output: Box::new(output) });
            }
        }
    }

    /// Time on processors since the start, in its own code and the kernel's.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .with_context(|| format!("{} is gone", self.name))?;
        let ticks = cpu_ticks(&stat).context("`/proc/PID/stat` has another form")?;
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_S))
    }

    /// Resident memory, in mebibytes.
    pub(super) fn resident_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .with_context(|| format!("{} is gone", self.name))?;
        let kib = resident_kib(&status).context("`/proc/PID/status` has another form")?;
        Ok(kib as f64 / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The address of the first `http://` in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// `utime + stime` (fields 14 and 15), counted after the program's name, which may have spaces and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_what_servers_say() {
        let address = Some("127.0.0.1:8080".parse().unwrap());
        assert_eq!(address_in("Serving HTTP on http://127.0.0.1:8080/\n"), address);
        assert_eq!(address_in(r#"{"event":"ready","url":"http://127.0.0.1:8080","v":1}"#), address);
        assert_eq!(address_in("compiling\n"), None);
    }

    #[test]
    fn the_kernel_is_read_right() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 40 2 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(resident_kib("VmHWM:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2048));
    }
}
