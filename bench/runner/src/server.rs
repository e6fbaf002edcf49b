//! Servers that are measured: started, asked what they use, and stopped.
//!
//! What a server uses is what its process and all processes below it use: an app in several processes is one server.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::files::file_name;
use xtask::project::show;

/// Ticks a second in `/proc/PID/stat`: a constant of Linux's interface with programs, whatever the kernel's own.
const TICKS_PER_S: f64 = 100.0;

/// Where a server says its place, in the first line that has one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Says {
    Stdout,
    Stderr,
}

/// How to start a server.
pub(crate) struct Launch {
    pub name: &'static str,
    pub says: Says,
    pub command: Command,
}

/// A server that runs, until this is dropped.
pub(crate) struct Server {
    pub name: &'static str,
    /// Where it is reached by HTTP, or by whatever it speaks.
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
    /// Starts a server and waits until it says its place. What it says besides is added to `NAME.log` in `logs`.
    pub(crate) fn start(launch: &mut Launch, logs: &Path) -> Result<Self> {
        let Launch { name, says, command } = launch;
        let line = show(command);
        let log = logs.join(format!("{}.log", file_name(name)));
        let other = File::options().create(true).append(true).open(&log);
        let other = other.with_context(|| format!("`{}` cannot be written", log.display()))?;
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
            if let Some(address) = place_in(&said[start..]) {
                return Ok(Self { name, address, line, began, child, _output: Box::new(output) });
            }
        }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Time on processors since the start, in its own code and the kernel's.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut ticks = 0;
        for process in self.processes()? {
            ticks += cpu_ticks(&process.stat).context("`/proc/PID/stat` has another form")?;
        }
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_S))
    }

    /// Resident memory, in mebibytes. What processes share counts in each of them.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        let mut kib = 0;
        for process in self.processes()? {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.id))
                .with_context(|| format!("a process of {} is gone", self.name))?;
            kib += resident_kib(&status).context("`/proc/PID/status` has another form")?;
        }
        Ok(kib as f64 / 1024.0)
    }

    /// Its process and those below it.
    fn processes(&self) -> Result<Vec<Process>> {
        let everything = std::fs::read_dir("/proc").context("`/proc` cannot be read")?.flatten();
        let all = everything.filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            // Gone between the two looks: then it is nobody's.
            Process::new(id, std::fs::read_to_string(entry.path().join("stat")).ok()?)
        });
        let family = family(self.child.id(), all.collect());
        ensure!(!family.is_empty(), "{} is gone", self.name);
        Ok(family)
    }
}

/// A process as `/proc` shows it.
struct Process {
    id: u32,
    parent: u32,
    stat: String,
}

impl Process {
    fn new(id: u32, stat: String) -> Option<Self> {
        // The state, then the parent (field 4), counted as in `cpu_ticks`.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self { id, parent, stat })
    }
}

/// The process `root` and those below it.
fn family(root: u32, mut all: Vec<Process>) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    loop {
        let (more, rest): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|process| process.id == root || found.iter().any(|member| member.id == process.parent));
        if more.is_empty() {
            return found;
        }
        found.extend(more);
        all = rest;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What stands before an address in the line in which a server says that it is ready. A socket of the file system is where it
/// was put, and has no address.
const PLACES: [&str; 3] = ["http://", "https://", "\"link\":\""];
const SOCKET: &str = "unix://";

/// The address in a line, if it has one.
fn place_in(line: &str) -> Option<SocketAddr> {
    if line.contains(SOCKET) {
        return Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    }
    let rest = PLACES.iter().find_map(|place| Some(line.split_once(place)?.1))?;
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
        assert_eq!(place_in("Serving HTTP on http://127.0.0.1:8080/\n"), address);
        assert_eq!(place_in(r#"{"event":"ready","url":"http://127.0.0.1:8080","v":1}"#), address);
        assert_eq!(place_in(r#"{"event":"ready","link":"127.0.0.1:8080","url":null}"#), address);
        assert_eq!(place_in("unix:///run/callee.sock\n"), Some("0.0.0.0:0".parse().unwrap()));
        assert_eq!(place_in("compiling\n"), None);
    }

    #[test]
    fn all_processes_below_count() {
        let process = |id, parent| Process::new(id, format!("{id} (a) b) S {parent} 1")).unwrap();
        // Grandchildren may stand before their parents.
        let all = vec![process(1, 0), process(5, 4), process(3, 1), process(4, 3), process(2, 1)];
        let mut ids: Vec<u32> = family(3, all).iter().map(|process| process.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [3, 4, 5]);
    }

    #[test]
    fn the_kernel_is_read_right() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 40 2 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(resident_kib("VmHWM:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2048));
    }
}
