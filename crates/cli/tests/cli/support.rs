//! A folder to run the program in, its output as a snapshot, and a server to send requests to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;

/// The limit of every wait. Reaching it means that the test hangs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// A temporary folder to run the program in.
pub(crate) struct Workspace {
    dir: TempDir,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A folder with this manifest.
    pub(crate) fn with_manifest(manifest: &str) -> Self {
        let workspace = Self::new();
        workspace.write("isomer.toml", manifest);
        workspace
    }

    /// `ping` calls `pong`; both are built already.
    pub(crate) fn ping_pong(more: &str) -> Self {
        let workspace = Self::with_manifest(&format!(
            "[app]\nname = \"table-tennis\"\nversion = \"1.2.3\"\n\n\
             [components.ping]\nwasm = \"ping.wasm\"\nroutes = [\"/...\"]\n\n\
             [components.pong]\nwasm = \"pong.wasm\"\n{more}"
        ));
        workspace.guest("ping", "ping.wasm");
        workspace.guest("pong", "pong.wasm");
        workspace
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Creates a folder in the workspace that only this user may enter.
    pub(crate) fn private(&self, path: &str) {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().mode(0o700).create(self.path(path)).unwrap();
    }

    /// Creates a file in the workspace that only this user may read.
    pub(crate) fn private_file(&self, path: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Puts a test guest into the folder.
    pub(crate) fn guest(&self, name: &str, path: &str) {
        self.write(path, isomer_test_guests::bytes(name));
    }

    /// The program with the tests' environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_isomer"));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        if std::env::var_os("ISOMER_GUEST_TOOLCHAIN_DIR").is_none()
            && let Some(cache) = cache_dir()
        {
            command.env("ISOMER_GUEST_TOOLCHAIN_DIR", cache.join("isomer/guest-toolchain"));
        }
        command.env("XDG_CACHE_HOME", self.path(".cache"));
        command.env("XDG_DATA_HOME", self.path(".data"));
        for variable in [
            "ISOMER_LOG",
            "ISOMER_NODE",
            "ISOMER_TOKEN",
            "SSL_CERT_FILE",
            "COLUMNS",
            "CLICOLOR_FORCE",
            "NO_COLOR",
            "RUST_BACKTRACE",
        ] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs the program to its end; returns its exit code and output as text.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.run_with_input(arguments, "")
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // An error means that the program does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        format!(
            "exit code: {}\n----- stdout -----\n{}----- stderr -----\n{}",
            output.status.code().map_or("none".to_owned(), |code| code.to_string()),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        )
    }

    /// Starts a server: `arguments` with a free port and `--json`. Waits until it is ready.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        self.serve_with(arguments, &[])
    }

    /// As [`Workspace::serve`], with these environment variables.
    pub(crate) fn serve_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        let arguments = [arguments, &["--listen", "127.0.0.1:0", "--json"]].concat();
        let mut command = self.command(&arguments);
        command.envs(variables.iter().copied());
        self.started(command)
    }

    /// Starts a server at this address. Waits until it is ready.
    pub(crate) fn serve_at(&self, address: &str, arguments: &[&str]) -> Server {
        self.started(self.command(&[arguments, &["--listen", address, "--json"]].concat()))
    }

    /// Starts a server with an inherited socket, as a service manager does: `socket` is descriptor 3 under this name. Waits until it is ready.
    pub(crate) fn serve_on(&self, socket: &TcpListener, name: &str, arguments: &[&str]) -> Server {
        self.started(self.command_on(socket, name, &[arguments, &["--json"]].concat()))
    }

    /// Runs the program to its end in the same way; returns its standard error.
    pub(crate) fn run_on(&self, socket: &TcpListener, name: &str, arguments: &[&str]) -> String {
        String::from_utf8(self.command_on(socket, name, arguments).output().unwrap().stderr).unwrap()
    }

    fn command_on(&self, socket: &TcpListener, name: &str, arguments: &[&str]) -> Command {
        let isomer = self.command(arguments);
        let mut command = Command::new("sh");
        // The shell replaces itself by the program, so `$$` is the program's process id.
        command.args(["-c", "export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null"]);
        command.arg(isomer.get_program()).args(isomer.get_args()).current_dir(self.dir.path());
        for (variable, value) in isomer.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name);
        command.stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
        command
    }

    /// Starts a server and waits until it is ready.
    pub(crate) fn started(&self, command: Command) -> Server {
        let mut server = self.spawned(command);
        server.wait_until_ready();
        server
    }

    /// Starts a server.
    pub(crate) fn spawned(&self, mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let events = lines(child.stdout.take().unwrap());
        let log = lines(child.stderr.take().unwrap());
        Server { child, events, log, ready: serde_json::Value::Null }
    }

    /// Placeholders for output that differs from run to run.
    pub(crate) fn filters(&self) -> Vec<(String, &'static str)> {
        let dir = self.dir.path().canonicalize().unwrap();
        vec![
            (regex_escaped(&dir.display().to_string()), "[DIR]"),
            (r"127\.0\.0\.1:[1-9]\d*".to_owned(), "127.0.0.1:[PORT]"),
            (r"\b(\d+ ms|\d+\.\d s|\d+ min \d+ s)\b".to_owned(), "[TIME]"),
            (r"process \d+".to_owned(), "process [PID]"),
            (r"\d\d:\d\d:\d\d\.\d\d\d ".to_owned(), "[TIME] "),
            (r"-[0-9a-f]{16}\.wasm".to_owned(), "-[HASH].wasm"),
        ]
    }
}

/// The snapshot of a run.
macro_rules! assert_run {
    ($workspace:expr, $output:expr) => {{
        let filters = $workspace.filters();
        insta::with_settings!({ filters => filters.iter().map(|(from, to)| (from.as_str(), *to)), omit_expression => true }, {
            insta::assert_snapshot!($output);
        });
    }};
}
pub(crate) use assert_run;

/// A program that serves. It is stopped when dropped.
pub(crate) struct Server {
    child: Child,
    events: Receiver<String>,
    log: Receiver<String>,
    /// The event that it printed when it was ready.
    ready: serde_json::Value,
}

impl Server {
    /// Waits until it reports that it is ready.
    pub(crate) fn wait_until_ready(&mut self) {
        self.ready = self.event();
        assert_eq!(self.ready["event"], "ready", "{}", self.ready);
    }

    pub(crate) fn address(&self) -> &str {
        self.ready["url"].as_str().unwrap().strip_prefix("http://").unwrap()
    }

    /// The address of the listener with this scheme.
    pub(crate) fn address_of(&self, scheme: &str) -> String {
        let urls = self.ready["urls"].as_array().unwrap().iter().map(|url| url.as_str().unwrap());
        let with_scheme = |url: &str| Some(url.strip_prefix(scheme)?.strip_prefix("://")?.to_owned());
        urls.filter_map(with_scheme).next().unwrap()
    }

    /// The address of its link for calls from other groups.
    pub(crate) fn link(&self) -> &str {
        self.ready["link"].as_str().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process id of a group's member when all were ready.
    pub(crate) fn process_of(&self, group: &str) -> u32 {
        let processes = self.ready["processes"].as_array().unwrap();
        let process = processes.iter().find(|process| process["group"] == group).unwrap();
        process["pid"].as_u64().unwrap().try_into().unwrap()
    }

    pub(crate) fn processes(&self) -> Vec<u32> {
        let processes = self.ready["processes"].as_array().unwrap();
        processes.iter().map(|process| process["pid"].as_u64().unwrap().try_into().unwrap()).collect()
    }

    /// The next line on standard output.
    pub(crate) fn event(&mut self) -> serde_json::Value {
        match self.events.recv_timeout(TIMEOUT) {
            Ok(line) => serde_json::from_str(&line).unwrap(),
            Err(_) => panic!("no event; its log: {:?}", self.log.try_iter().collect::<Vec<_>>()),
        }
    }

    /// Waits for a line on standard error that contains `text`.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("no log line contains `{text}`"),
            }
        }
    }

    /// Sends SIGTERM; returns all lines of standard error that were not read yet.
    pub(crate) fn log_to_the_end(self) -> Vec<String> {
        signal("TERM", self.child.id());
        let next = || self.log.recv_timeout(TIMEOUT).ok();
        std::iter::from_fn(next).collect()
    }

    /// The status and the body of `GET path`.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(self.address(), path)
    }

    /// Sends SIGTERM; returns its exit code.
    pub(crate) fn stop(self) -> Option<i32> {
        signal("TERM", self.child.id());
        self.ended()
    }

    /// Waits for its end; returns its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        wait_for_end_of(self.child.id());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A lock for tests that build apps made by `isomer new`: these share a target folder, in which their files have the same names.
pub(crate) fn lock_templates() -> MutexGuard<'static, ()> {
    static TEMPLATES: Mutex<()> = Mutex::new(());
    TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// Waits until the process has ended, whether its parent has waited for it or not.
pub(crate) fn wait_for_end_of(pid: u32) {
    let id = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    let process = match pidfd_open(id, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return,
        Err(error) => panic!("cannot watch process {pid}: {error}"),
    };
    let timeout = Timespec { tv_sec: TIMEOUT.as_secs().try_into().unwrap(), tv_nsec: 0 };
    // A process's descriptor can be read once the process has ended.
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ended, 1, "process {pid} does not end");
}

/// The status and the body of `GET path`, over a connection of its own.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    read_response(begin(address, path))
}

/// Sends `GET path`, over a connection of its own.
pub(crate) fn begin(address: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    stream
}

/// Reads a response; returns its status and body.
pub(crate) fn read_response(mut stream: TcpStream) -> (u16, String) {
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {response:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status, if chunked { dechunked(body) } else { body.to_owned() })
}

fn dechunked(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&rest[..size]);
        chunks = rest[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    body
}

/// The lines of a pipe. A thread reads them, so the writer never waits.
fn lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
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

fn cache_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))
}

fn regex_escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_ascii_alphanumeric() || c == '/' { vec![c] } else { vec!['\\', c] }).collect()
}
