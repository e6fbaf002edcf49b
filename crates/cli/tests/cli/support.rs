//! Support for tests: a folder in which the program runs, snapshots of its output, and servers that receive requests.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;

use crate::compiled_code;

/// The maximum time of every wait. A test that waits longer fails, because the program is assumed to hang.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// A temporary folder in which the program runs.
pub(crate) struct Workspace {
    dir: TempDir,
    /// The folders of compiled code that [`compiled_code::warm`] has filled.
    warm: Mutex<Vec<PathBuf>>,
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.warm.get_mut().unwrap().iter().for_each(|cache| compiled_code::keep(cache));
        }
    }
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), warm: Mutex::default() }
    }

    /// Creates a workspace that contains this manifest.
    pub(crate) fn with_manifest(manifest: &str) -> Self {
        let workspace = Self::new();
        workspace.write("isomer.toml", manifest);
        workspace
    }

    /// Creates a workspace with an app of two built components, in which `ping` calls `pong`. `more` is added to the
    /// manifest.
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

    /// Makes a file in the workspace readable only by this user.
    pub(crate) fn private_file(&self, path: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Copies the component of a test guest to `path` in the workspace.
    pub(crate) fn guest(&self, name: &str, path: &str) {
        self.write(path, isomer_test_guests::bytes(name));
    }

    /// Returns a command that runs the program with the environment of the tests.
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

    /// Runs the program until it ends. Returns its exit code and output as text.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.run_with_input(arguments, "")
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Writing fails if the program ends without reading its input, which is not an error.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        format!(
            "exit code: {}\n----- stdout -----\n{}----- stderr -----\n{}",
            output.status.code().map_or("none".to_owned(), |code| code.to_string()),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        )
    }

    /// Gives an app that is about to start with `arguments` the code that other tests have compiled. A node gets none,
    /// because it reports whether a deployment compiled something.
    pub(crate) fn warm_for(&self, arguments: &[&str]) {
        let data = arguments.iter().position(|argument| *argument == "--data").and_then(|at| arguments.get(at + 1));
        let cache = match (arguments, data) {
            (["run" | "dev", ..], Some(data)) => format!("{data}/cache"),
            (["run", file, ..], None) if file.ends_with(".wasm") => ".cache/isomer/run".to_owned(),
            (["run" | "dev"] | ["ship", ..], None) => ".isomer/cache".to_owned(),
            (["run" | "dev", flag, ..], None) if flag.starts_with('-') => ".isomer/cache".to_owned(),
            _ => return,
        };
        let cache = self.path(&cache);
        compiled_code::warm(&cache);
        self.warm.lock().unwrap().push(cache);
    }

    /// Starts a server with `arguments`, a free port and `--json`, and waits until it is ready.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        self.serve_with(arguments, &[])
    }

    /// Starts a server as [`Workspace::serve`] does, with these environment variables.
    pub(crate) fn serve_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        self.warm_for(arguments);
        let arguments = [arguments, &["--listen", "127.0.0.1:0", "--json"]].concat();
        let mut command = self.command(&arguments);
        command.envs(variables.iter().copied());
        self.started(command)
    }

    /// Starts a server at this address, and waits until it is ready.
    pub(crate) fn serve_at(&self, address: &str, arguments: &[&str]) -> Server {
        self.warm_for(arguments);
        self.started(self.command(&[arguments, &["--listen", address, "--json"]].concat()))
    }

    /// Starts a server with an inherited socket, as a service manager does, and waits until it is ready. The socket is
    /// descriptor 3 and has the name `name`.
    pub(crate) fn serve_on(&self, socket: &TcpListener, name: &str, arguments: &[&str]) -> Server {
        self.started(self.command_on(socket, name, &[arguments, &["--json"]].concat()))
    }

    /// Runs the program with an inherited socket until it ends. Returns its standard error.
    pub(crate) fn run_on(&self, socket: &TcpListener, name: &str, arguments: &[&str]) -> String {
        String::from_utf8(self.command_on(socket, name, arguments).output().unwrap().stderr).unwrap()
    }

    fn command_on(&self, socket: &TcpListener, name: &str, arguments: &[&str]) -> Command {
        let isomer = self.command(arguments);
        let mut command = Command::new("sh");
        // `exec` replaces the shell with the program, so `$$` is the process id of the program.
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

    /// Starts the server of `command`, and waits until it is ready.
    pub(crate) fn started(&self, command: Command) -> Server {
        let mut server = self.spawned(command);
        server.wait_until_ready();
        server
    }

    /// Starts the server of `command`, without waiting until it is ready.
    pub(crate) fn spawned(&self, mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let events = lines(child.stdout.take().unwrap());
        let log = lines(child.stderr.take().unwrap());
        Server { child, events, log, ready: serde_json::Value::Null }
    }

    /// Returns regular expressions for output that differs in each run, with the placeholders that replace it in
    /// snapshots.
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

/// Compares the output of a run with the snapshot.
macro_rules! assert_run {
    ($workspace:expr, $output:expr) => {{
        let filters = $workspace.filters();
        insta::with_settings!({ filters => filters.iter().map(|(from, to)| (from.as_str(), *to)), omit_expression => true }, {
            insta::assert_snapshot!($output);
        });
    }};
}
pub(crate) use assert_run;

/// A process of the program that serves. Dropping it stops the process.
pub(crate) struct Server {
    child: Child,
    events: Receiver<String>,
    log: Receiver<String>,
    /// The line of JSON that the server printed when it was ready.
    ready: serde_json::Value,
}

impl Server {
    /// Waits until the server reports that it is ready.
    pub(crate) fn wait_until_ready(&mut self) {
        self.ready = self.event();
        assert_eq!(self.ready["event"], "ready", "{}", self.ready);
    }

    /// Returns the URL of the admin API.
    pub(crate) fn admin(&self) -> &str {
        self.ready["admin"].as_str().unwrap()
    }

    pub(crate) fn has_admin(&self) -> bool {
        !self.ready["admin"].is_null()
    }

    pub(crate) fn address(&self) -> &str {
        self.ready["url"].as_str().unwrap().strip_prefix("http://").unwrap()
    }

    /// Returns the address of the server's listener with this scheme.
    pub(crate) fn address_of(&self, scheme: &str) -> String {
        let urls = self.ready["urls"].as_array().unwrap().iter().map(|url| url.as_str().unwrap());
        let with_scheme = |url: &str| Some(url.strip_prefix(scheme)?.strip_prefix("://")?.to_owned());
        urls.filter_map(with_scheme).next().unwrap()
    }

    /// Returns the address at which the server's group accepts calls from other groups.
    pub(crate) fn link(&self) -> &str {
        self.ready["link"].as_str().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the process id that the group's member had when all members were ready.
    pub(crate) fn process_of(&self, group: &str) -> u32 {
        let processes = self.ready["processes"].as_array().unwrap();
        let process = processes.iter().find(|process| process["group"] == group).unwrap();
        process["pid"].as_u64().unwrap().try_into().unwrap()
    }

    pub(crate) fn processes(&self) -> Vec<u32> {
        let processes = self.ready["processes"].as_array().unwrap();
        processes.iter().map(|process| process["pid"].as_u64().unwrap().try_into().unwrap()).collect()
    }

    /// Waits for the next line on standard output, and returns it.
    pub(crate) fn event(&mut self) -> serde_json::Value {
        match self.events.recv_timeout(TIMEOUT) {
            Ok(line) => serde_json::from_str(&line).unwrap(),
            Err(_) => panic!("no event; its log: {:?}", self.log.try_iter().collect::<Vec<_>>()),
        }
    }

    /// Waits for a line on standard error that contains `text`, and returns it.
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

    /// Sends SIGTERM, and returns all lines of standard error that were not read yet.
    pub(crate) fn log_to_the_end(self) -> Vec<String> {
        signal("TERM", self.child.id());
        let next = || self.log.recv_timeout(TIMEOUT).ok();
        std::iter::from_fn(next).collect()
    }

    /// Returns the status and the body of the response to `GET path`.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(self.address(), path)
    }

    /// Sends SIGTERM, and returns the exit code of the server.
    pub(crate) fn stop(self) -> Option<i32> {
        signal("TERM", self.child.id());
        self.ended()
    }

    /// Waits until the server ends, and returns its exit code.
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

/// The folder for apps that `isomer new` makes and tests build. Cargo compiles their dependencies once for all of these
/// apps, even in several runs of the tests. Apps of different tests have files of the same name in the target folder,
/// so only one test uses the folder at a time.
pub(crate) struct TemplatesHome {
    pub(crate) path: PathBuf,
    _lock: File,
}

impl TemplatesHome {
    /// Waits until no other test uses the folder, in this process or in another.
    pub(crate) fn lock() -> Self {
        // Each guest toolchain has its own folder, so that the runs of this program with different toolchains do not
        // wait for each other.
        let toolchain = std::env::var("ISOMER_GUEST_TOOLCHAIN").unwrap_or_else(|_| "default".to_owned());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("templates-{toolchain}"));
        std::fs::create_dir_all(&path).unwrap();
        let lock = File::create(path.join("lock")).unwrap();
        lock.lock().unwrap();
        Self { path, _lock: lock }
    }

    /// Returns the path of an app, after removing the app that an earlier run made there.
    pub(crate) fn new_app(&self, name: &str) -> PathBuf {
        let app = self.path.join(name);
        if app.exists() {
            std::fs::remove_dir_all(&app).unwrap();
        }
        app
    }

    /// Returns the target folder of all apps.
    pub(crate) fn target(&self) -> PathBuf {
        self.path.join("target")
    }
}

pub(crate) fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// Waits until the process exits, even if its parent process has not reaped it.
pub(crate) fn wait_for_end_of(pid: u32) {
    let id = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    let process = match pidfd_open(id, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return,
        Err(error) => panic!("cannot watch process {pid}: {error}"),
    };
    let timeout = Timespec { tv_sec: TIMEOUT.as_secs().try_into().unwrap(), tv_nsec: 0 };
    // A pidfd becomes readable when its process exits.
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ended, 1, "process {pid} does not end");
}

/// Sends `GET path` over a new connection. Returns the status and the body of the response.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    read_response(begin(address, path))
}

/// Sends `GET path` over a new connection, and returns the connection.
pub(crate) fn begin(address: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    stream
}

/// Reads a response, and returns its status and body.
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

/// Returns a channel with the lines of a pipe. A thread reads the pipe, so the writer never waits.
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
