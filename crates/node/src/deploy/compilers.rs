//! Compiling what was uploaded, in processes that have little to lose.
//!
//! Whatever reads components can be made to take all memory, or for ever, or to crash. So it is done by a child (of what is uploaded,
//! this process itself reads a manifest's text alone, which is bounded: it names the folders and secrets that are asked for): this very program
//! once more, with limits of its own (see `child`), without this process's environment, and with nothing in its hands but one socket. It
//! is killed when it takes too long, when nobody waits for it any more, and when this process ends, since its end of the socket then
//! does. (`PR_SET_PDEATHSIG` was rejected: it follows the thread that made the child, and threads of an executor come and go.)
//!
//! A few children run at once; some more orders wait; the others are refused.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use isomer_api::{Problem, ProblemKind};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::order::{ChildLimits, Doing, Made, Order, Word};

/// The most bytes that a child may say.
const WORDS_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a child's standard error that are looked at.
const LAST_WORDS_BYTES_MAX: u64 = 8 << 10;

/// How children are made, and how many.
#[derive(Debug, Clone)]
pub struct CompilerOptions {
    /// The program, which calls [`compile_child`](super::compile_child) with these `limits`.
    pub program: Program,
    /// What each may use.
    pub limits: ChildLimits,
    /// How long one may take.
    pub time_max: Duration,
    /// How many run at once.
    pub children_max: usize,
    /// How many more orders may wait.
    pub waiting_max: usize,
}

/// A program with all that it is given.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment, all of it.
    pub environment: Vec<(String, String)>,
}

impl CompilerOptions {
    /// This program's own hidden subcommand `compile-child`, as many at once as half of the machine's processors: the others serve.
    #[must_use]
    pub fn new(limits: ChildLimits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let ChildLimits { memory_bytes, cpu_s, file_bytes, files } = limits;
        let arguments = [
            "compile-child".to_owned(),
            format!("--memory-bytes={memory_bytes}"),
            format!("--cpu-s={cpu_s}"),
            format!("--file-bytes={file_bytes}"),
            format!("--files={files}"),
        ];
        Self {
            program: Program { path: this_program(), arguments: arguments.into(), environment: Vec::new() },
            limits,
            time_max: Duration::from_secs(300),
            children_max: (processors / 2).max(1),
            waiting_max: 64,
        }
    }
}

/// This very program, also where its file was replaced meanwhile: what a child makes must be what this process understands.
fn this_program() -> PathBuf {
    let running = Path::new("/proc/self/exe");
    if running.exists() { running.to_owned() } else { std::env::current_exe().unwrap_or_else(|_| running.to_owned()) }
}

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The revision cannot be.
    #[error("{0}")]
    Refused(Problem),
    /// Too many wait already.
    #[error("{waiting_max} deployments wait for the compiler already")]
    Overloaded {
        /// How many may.
        waiting_max: usize,
    },
    /// It took too long.
    #[error("the compiler was stopped after {} s, while {doing}", after.as_secs())]
    TimedOut {
        /// The limit.
        after: Duration,
        /// What it was about.
        doing: Doing,
    },
    /// It took too much processor time.
    #[error("the compiler took more than {cpu_s} s of processor time, while {doing}")]
    ProcessorTime {
        /// The limit.
        cpu_s: u64,
        /// What it was about.
        doing: Doing,
    },
    /// It took too much memory.
    #[error("the compiler took more than {} MiB of memory, while {doing}", memory_bytes >> 20)]
    OutOfMemory {
        /// The limit.
        memory_bytes: u64,
        /// What it was about.
        doing: Doing,
    },
    /// It wrote too much.
    #[error("the compiler wrote a file of more than {} MiB, while {doing}", file_bytes >> 20)]
    FileTooLarge {
        /// The limit.
        file_bytes: u64,
        /// What it was about.
        doing: Doing,
    },
    /// It ended without an answer.
    #[error("the compiler ended with {status}, while {doing}")]
    Crashed {
        /// How.
        status: ExitStatus,
        /// What it was about.
        doing: Doing,
        /// The end of what it wrote to its standard error.
        last_words: String,
    },
    /// It cannot be started, or not be talked to.
    #[error("the compiler cannot be started")]
    Start {
        /// Why.
        source: io::Error,
    },
}

impl From<CompileError> for Problem {
    fn from(error: CompileError) -> Self {
        let title = error.to_string();
        match error {
            CompileError::Refused(problem) => problem,
            CompileError::Overloaded { .. } => Self::new(ProblemKind::Unavailable, title).hint("try again later"),
            CompileError::Start { source } => Self::new(ProblemKind::Failed, title).detail(source.to_string()),
            CompileError::Crashed { .. } => Self::new(ProblemKind::Refused, title)
                .hint("the node's log has what it said; the component may be made to break compilers, or have found a defect of this one"),
            CompileError::TimedOut { .. }
            | CompileError::ProcessorTime { .. }
            | CompileError::OutOfMemory { .. }
            | CompileError::FileTooLarge { .. } => Self::new(ProblemKind::Refused, title)
                .hint("make the component smaller, or split it into several"),
        }
    }
}

/// Makes packages of what was uploaded.
#[derive(Debug)]
pub struct Compilers {
    options: CompilerOptions,
    running: Semaphore,
    waiting: AtomicUsize,
    started: AtomicU64,
}

impl Compilers {
    /// None is started before it is needed.
    #[must_use]
    pub fn new(options: CompilerOptions) -> Self {
        let running = Semaphore::new(options.children_max.max(1));
        Self { options, running, waiting: AtomicUsize::new(0), started: AtomicU64::new(0) }
    }

    /// How many children were started so far.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Plans, composes and compiles. Dropping the future kills the child.
    ///
    /// # Errors
    /// When the revision cannot be, or the child does not come to an end within its limits.
    pub async fn make(&self, order: &Order) -> Result<Made, CompileError> {
        let _running = {
            let _waiting = self.wait()?;
            self.running.acquire().await.expect("the semaphore is never closed")
        };
        self.started.fetch_add(1, Ordering::Relaxed);
        let start = |source| CompileError::Start { source };
        let (ours, theirs) = StdUnixStream::pair().map_err(start)?;
        ours.set_nonblocking(true).map_err(start)?;
        let Program { path, arguments, environment } = &self.options.program;
        let mut child = Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().cloned())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Not in the terminal's foreground group: its Ctrl-C is for this process.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let mut doing = Doing::Starting;
        let stderr = child.stderr.take();
        let channel = UnixStream::from_std(ours).map_err(start)?;
        let told = tokio::time::timeout(self.options.time_max, async {
            let last_words = async {
                let mut text = Vec::new();
                if let Some(mut stderr) = stderr {
                    let _ = (&mut stderr).take(LAST_WORDS_BYTES_MAX).read_to_end(&mut text).await;
                    // What is more than that is read, so that nobody waits for it, and forgotten.
                    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
                }
                String::from_utf8_lossy(&text).into_owned()
            };
            let (answer, last_words) = futures::join!(talk(channel, order, &mut doing), last_words);
            (answer, last_words, child.wait().await)
        });
        match told.await {
            Ok((Some(answer), ..)) => answer.map_err(CompileError::Refused),
            Ok((None, last_words, status)) => {
                let status = status.map_err(start)?;
                tracing::warn!(%status, %doing, last_words, "a compiler ended without an answer");
                Err(self.ended(status, doing, last_words))
            }
            Err(_) => {
                let _ = child.kill().await;
                Err(CompileError::TimedOut { after: self.options.time_max, doing })
            }
        }
    }

    fn wait(&self) -> Result<Waiting<'_>, CompileError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        let waiting_max = self.options.waiting_max;
        // Who gets a place at once does not wait.
        if before >= waiting_max && self.running.available_permits() == 0 {
            return Err(CompileError::Overloaded { waiting_max });
        }
        Ok(waiting)
    }

    fn ended(&self, status: ExitStatus, doing: Doing, last_words: String) -> CompileError {
        let limits = &self.options.limits;
        match status.signal() {
            Some(SIGXCPU) => CompileError::ProcessorTime { cpu_s: limits.cpu_s, doing },
            Some(SIGXFSZ) => CompileError::FileTooLarge { file_bytes: limits.file_bytes, doing },
            // What Rust's runtime says before it aborts.
            Some(SIGABRT) if last_words.contains("memory allocation of") => {
                CompileError::OutOfMemory { memory_bytes: limits.memory_bytes, doing }
            }
            _ => CompileError::Crashed { status, doing, last_words },
        }
    }
}

const SIGABRT: i32 = 6;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// One that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives the order and listens. `None` if the child ends without an answer.
async fn talk(channel: UnixStream, order: &Order, doing: &mut Doing) -> Option<Result<Made, Problem>> {
    let (said, mut to_say) = channel.into_split();
    let mut line = serde_json::to_vec(order).expect("an order is plain data");
    line.push(b'\n');
    to_say.write_all(&line).await.ok()?;
    let mut said = BufReader::new(said).take(WORDS_BYTES_MAX);
    let mut line = String::new();
    while let Ok(1..) = said.read_line(&mut line).await {
        match serde_json::from_str(&line).ok()? {
            Word::Doing(now) => *doing = now,
            Word::Made(made) => return Some(Ok(made)),
            Word::Refused(problem) => return Some(Err(problem)),
        }
        line.clear();
    }
    None
}
