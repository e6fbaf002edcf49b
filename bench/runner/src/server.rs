//! Starts and stops the servers that are measured, and reads their resource usage.
//!
//! The resource usage of a server includes that of all its descendant processes, so an app in several processes counts
//! as one server.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::files::file_name;
use xtask::project::show;

/// Clock ticks per second in `/proc/PID/stat`. This constant of Linux's interface to programs does not depend on the
/// kernel's own tick rate.
const TICKS_PER_S: f64 = 100.0;

/// The output stream on which a server prints its address, in the first line that contains an address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AddressOutput {
    Stdout,
    Stderr,
}

/// The settings for starting a server.
pub(crate) struct Launch {
    pub name: &'static str,
    pub address_output: AddressOutput,
    pub command: Command,
}

/// A running server. Killed when dropped.
pub(crate) struct Server {
    pub name: &'static str,
    /// The address of the server's HTTP port, or of the port for its own protocol.
    pub address: SocketAddr,
    /// The command line that started the server.
    pub line: String,
    /// The time at which the server's process was started.
    pub began: Instant,
    child: Child,
    /// The pipe is kept open, because a process that writes into a closed pipe is killed.
    _output: Box<dyn Read>,
}

impl Server {
    /// Starts a server, and waits until it prints its address on stdout or stderr, as `launch` specifies. The other one
    /// of these streams is appended to `NAME.log` in the folder `logs`.
    pub(crate) fn start(launch: &mut Launch, logs: &Path) -> Result<Self> {
        let Launch { name, address_output, command } = launch;
        let line = show(command);
        let log = logs.join(format!("{}.log", file_name(name)));
        let other = File::options().create(true).append(true).open(&log);
        let other = other.with_context(|| format!("cannot write `{}`", log.display()))?;
        match address_output {
            AddressOutput::Stdout => command.stdout(Stdio::piped()).stderr(other),
            AddressOutput::Stderr => command.stderr(Stdio::piped()).stdout(other),
        };
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot run `{line}`"))?;
        let output: Option<Box<dyn Read>> = match address_output {
            AddressOutput::Stdout => child.stdout.take().map(|pipe| Box::new(pipe) as _),
            AddressOutput::Stderr => child.stderr.take().map(|pipe| Box::new(pipe) as _),
        };
        let mut output = BufReader::new(output.context("the server's process has no output pipe")?);
        let mut printed = String::new();
        loop {
            let start = printed.len();
            if output.read_line(&mut printed)? == 0 {
                let _killed = child.kill();
                let _waited = child.wait();
                bail!("`{line}` exited without printing an address; its output:\n{printed}(see {})", log.display());
            }
            if let Some(address) = address_in(&printed[start..]) {
                return Ok(Self { name, address, line, began, child, _output: Box::new(output) });
            }
        }
    }

    /// Returns the ID of the server's first process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the processor time of the server since its start, in user and kernel mode.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut ticks = 0;
        for process in self.processes()? {
            ticks += cpu_ticks(&process.stat).context("`/proc/PID/stat` has an unknown format")?;
        }
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_S))
    }

    /// Returns the server's resident memory in mebibytes. Memory that several processes share is counted for each of
    /// them.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        let mut kib = 0;
        for process in self.processes()? {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.id))
                .with_context(|| format!("a process of {} has exited", self.name))?;
            kib += resident_kib(&status).context("`/proc/PID/status` has an unknown format")?;
        }
        Ok(kib as f64 / 1024.0)
    }

    /// Returns the server's first process and all its descendants.
    fn processes(&self) -> Result<Vec<Process>> {
        let everything = std::fs::read_dir("/proc").context("cannot read `/proc`")?.flatten();
        let all = everything.filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            // A process that has exited since `/proc` was listed is skipped.
            Process::new(id, std::fs::read_to_string(entry.path().join("stat")).ok()?)
        });
        let family = family(self.child.id(), all.collect());
        ensure!(!family.is_empty(), "{} has exited", self.name);
        Ok(family)
    }
}

/// A process, as listed in `/proc`.
struct Process {
    id: u32,
    parent: u32,
    stat: String,
}

impl Process {
    fn new(id: u32, stat: String) -> Option<Self> {
        // The parent's ID is field 4. Fields are counted from the end of the program's name, as in `cpu_ticks`.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self { id, parent, stat })
    }
}

/// Returns the process `root` and all its descendants, out of `all` processes.
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
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// The text before an address in the line with which a server reports that it is ready. The first text that the line
/// contains counts: the line of `isomer run` also has the address of the admin API.
const PREFIXES: [&str; 4] = ["\"url\":\"http://", "\"link\":\"", "http://", "https://"];
const SOCKET: &str = "unix://";

/// Returns the address in a line, if the line contains one. For a Unix socket, returns the unspecified address, because
/// the caller already knows the socket's path.
fn address_in(line: &str) -> Option<SocketAddr> {
    if line.contains(SOCKET) {
        return Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    }
    let rest = PREFIXES.iter().find_map(|prefix| Some(line.split_once(prefix)?.1))?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Returns `utime + stime` (fields 14 and 15 of `/proc/PID/stat`). Fields are counted from the end of the program's
/// name, because the name may contain spaces and brackets.
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
    fn addresses_are_found_in_the_output_of_servers() {
        let address = Some("127.0.0.1:8080".parse().unwrap());
        assert_eq!(address_in("Serving HTTP on http://127.0.0.1:8080/\n"), address);
        assert_eq!(address_in(r#"{"event":"ready","url":"http://127.0.0.1:8080","v":1}"#), address);
        assert_eq!(address_in(r#"{"event":"ready","link":"127.0.0.1:8080","url":null}"#), address);
        let with_admin = r#"{"admin":"http://127.0.0.1:7171","event":"ready","url":"http://127.0.0.1:8080"}"#;
        assert_eq!(address_in(with_admin), address);
        assert_eq!(address_in("unix:///run/callee.sock\n"), Some("0.0.0.0:0".parse().unwrap()));
        assert_eq!(address_in("compiling\n"), None);
    }

    #[test]
    fn all_descendants_are_counted() {
        let process = |id, parent| Process::new(id, format!("{id} (a) b) S {parent} 1")).unwrap();
        // In the list of processes, a descendant may precede its parent.
        let all = vec![process(1, 0), process(5, 4), process(3, 1), process(4, 3), process(2, 1)];
        let mut ids: Vec<u32> = family(3, all).iter().map(|process| process.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [3, 4, 5]);
    }

    #[test]
    fn files_of_proc_are_parsed() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 40 2 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(resident_kib("VmHWM:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2048));
    }
}
