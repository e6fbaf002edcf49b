//! Compiling uploaded releases in child processes.
//!
//! Malicious components could make a program that reads them use all memory, run forever, or crash. So a child process
//! reads them. (The node itself reads only the text of a manifest, whose size is limited, for the folders and secrets
//! that are needed.) The child is the same program, with its own limits (see `child`), without the node's environment,
//! and with a single socket. It is killed when it takes too long or when no request waits for it any more. It also ends
//! when the node ends, because that closes the other end of the socket. (`PR_SET_PDEATHSIG` was rejected: it applies
//! when the thread that started the child ends, and an executor's threads start and end at any time.)
//!
//! The number of children that run at the same time is limited and shared fairly among the tenants ([`FairSemaphore`]).
//! A limited number of further requests wait.

mod child;
mod error;
pub(crate) mod jobs;
mod protocol;
pub mod sandbox;
mod session;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use isomer_apps::Package;
use isomer_apps::fair_semaphore::{FairPermit, FairSemaphore, FairSemaphoreLimits, PermitRequest};
use isomer_display::ProcessExit;
use isomer_ids::TenantName;
use isomer_runtime::code::Key;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::Instant;

use self::sandbox::Confinement;
use self::session::{
    ChildSession, Composition, SessionError, SessionOutput, SessionPurpose, blocking, read_error_output,
};
use crate::revisions::release::read_manifest;
pub use child::compile_child;
pub use error::CompileError;
use protocol::ChildTask;
pub use protocol::{ChildLimits, CompileOutput, CompilePhase, CompileRequest};

/// A version to increment when a change of the program compiles the same composition differently.
const COMPILED_AS: &[u8] = b"1";

/// One tenant may have at most the total number of waiting requests divided by this number.
const TENANTS_WAITING_MIN: usize = 4;

/// The options of the compiler: how child processes are started, and how many of them.
#[derive(Debug, Clone)]
pub struct CompilerOptions {
    /// The program, which calls [`compile_child`] with these `limits`.
    pub program: ChildProgram,
    /// The limits of each child.
    pub limits: ChildLimits,
    /// The maximum time for compiling one release.
    pub time_max: Duration,
    /// The maximum number of children that run at the same time.
    pub children_max: usize,
    /// The maximum number of further requests that wait.
    pub waiting_max: usize,
}

/// A program with its arguments and environment.
#[derive(Debug, Clone)]
pub struct ChildProgram {
    /// The program's file.
    pub path: PathBuf,
    /// The arguments.
    pub arguments: Vec<String>,
    /// The complete environment: nothing is inherited.
    pub environment: Vec<(String, String)>,
}

impl CompilerOptions {
    /// Returns options for this program's hidden subcommand `compile-child`. Half of the machine's processors compile;
    /// the other half serve requests.
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
            program: ChildProgram { path: this_program(), arguments: arguments.into(), environment: Vec::new() },
            limits,
            time_max: Duration::from_secs(300),
            children_max: (processors / 2).max(1),
            waiting_max: 64,
        }
    }
}

/// Returns the path of the running program, even if its file was replaced since the start: the output of a child must
/// be usable by this process, so the child must be the same program.
fn this_program() -> PathBuf {
    let running = Path::new("/proc/self/exe");
    if running.exists() { running.to_owned() } else { std::env::current_exe().unwrap_or_else(|_| running.to_owned()) }
}

/// The package and compositions that one child has planned and composed.
struct CompiledDraft {
    package: Package,
    warnings: Vec<String>,
}

/// Makes packages from uploaded releases.
#[derive(Debug)]
pub struct Compilers {
    options: CompilerOptions,
    permits: FairSemaphore,
    started: AtomicU64,
    compiled: AtomicU64,
    confinement_logged: Once,
}

impl Compilers {
    /// Creates a compiler. Children are started only when they are needed.
    #[must_use]
    pub fn new(options: CompilerOptions) -> Self {
        let permits = FairSemaphore::new(FairSemaphoreLimits {
            permits: options.children_max,
            of_tenant: options.children_max,
            waiting: options.waiting_max,
            waiting_of_tenant: options.waiting_max.div_ceil(TENANTS_WAITING_MIN),
            slow: 0,
        });
        Self {
            options,
            permits,
            started: AtomicU64::new(0),
            compiled: AtomicU64::new(0),
            confinement_logged: Once::new(),
        }
    }

    /// Returns how many children were started so far.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Returns how many of the started children compiled a composition.
    #[must_use]
    pub fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    /// Starts a child that does nothing, to find out how well this system can confine it.
    ///
    /// # Errors
    /// When the child cannot be started or cannot confine itself.
    pub async fn confinement(&self) -> Result<Confinement, CompileError> {
        let answer = self.run_child(&ChildTask::Nothing, Vec::new(), SessionPurpose::Nothing, self.deadline()).await?;
        answer.confinement.ok_or(CompileError::InvalidOutput { phase: CompilePhase::Starting })
    }

    /// Plans and composes a release, and compiles the groups whose code is not in the cache. Dropping the future kills
    /// the child.
    ///
    /// # Errors
    /// When the release is invalid, or the child exceeds a limit.
    pub async fn make(&self, order: &CompileRequest) -> Result<CompileOutput, CompileError> {
        let permit = self.request_permit(&order.tenant)?.granted().await;
        self.make_with_cache(permit, order).await
    }

    /// Requests a permit for a tenant's release.
    pub(crate) fn request_permit(&self, tenant: &TenantName) -> Result<PermitRequest, CompileError> {
        self.permits.request(tenant).map_err(|full| CompileError::Overloaded { waiting_max: full.waiting })
    }

    /// Like [`Compilers::make`], with a permit that was already granted. The permit is released when this ends.
    pub(crate) async fn make_with_cache(
        &self,
        _place: FairPermit,
        order: &CompileRequest,
    ) -> Result<CompileOutput, CompileError> {
        let deadline = self.deadline();
        let (drafted, compositions) = self.compose(order, deadline).await?;
        let (mut keys, mut compiled) = (Vec::new(), false);
        for (index, composition) in compositions.into_iter().enumerate() {
            let key = order.maker.with([COMPILED_AS, composition.digest.as_slice()]);
            let (cache, wanted) = (order.cache.clone(), key.clone());
            if !blocking(move || Ok(cache.has(&wanted))).await? {
                let group = drafted.package.group_names().nth(index).unwrap_or_default();
                self.compile(order, group, composition, &key, deadline).await?;
                compiled = true;
            }
            keys.push(key);
        }
        let invalid_output = |phase| CompileError::InvalidOutput { phase };
        let manifest = read_manifest(&order.manifest).map_err(CompileError::Refused)?.0;
        let code = keys.iter().map(|key| key.as_str().to_owned()).collect();
        let package = drafted.package.checked(&manifest, &order.shape, keys).map_err(|mismatch| {
            tracing::warn!(tenant = %order.tenant, %mismatch, "the output of a compiler is refused");
            invalid_output(CompilePhase::Planning)
        })?;
        Ok(CompileOutput { package, code, compiled, warnings: drafted.warnings })
    }

    /// Starts a child that plans and composes a release.
    async fn compose(
        &self,
        order: &CompileRequest,
        deadline: Instant,
    ) -> Result<(CompiledDraft, Vec<Composition>), CompileError> {
        let mut inputs = Vec::new();
        let mut components = BTreeMap::new();
        for (name, path) in &order.components {
            let (path, name) = (path.clone(), name.clone());
            let (file, bytes) = blocking(move || {
                let file = File::open(path)?;
                let bytes = file.metadata()?.len();
                Ok((file, bytes))
            })
            .await?;
            components.insert(name, bytes);
            inputs.push((file, bytes));
        }
        let groups_max = components.len();
        let work = ChildTask::Compose { manifest: order.manifest.clone(), shape: order.shape.clone(), components };
        let purpose = SessionPurpose::Compose { cache: order.cache.clone(), groups_max };
        let answer = self.run_child(&work, inputs, purpose, deadline).await?;
        let drafted = answer.drafted.ok_or(CompileError::InvalidOutput { phase: CompilePhase::Planning })?;
        let package = Package::from_bytes(drafted.package.as_bytes());
        let package = package.map_err(|_| CompileError::InvalidOutput { phase: CompilePhase::Planning })?;
        Ok((CompiledDraft { package, warnings: drafted.warnings }, answer.compositions))
    }

    /// Starts a child that compiles one composition, and puts the code into the cache.
    async fn compile(
        &self,
        order: &CompileRequest,
        group: &str,
        composition: Composition,
        key: &Key,
        deadline: Instant,
    ) -> Result<(), CompileError> {
        let work = ChildTask::Compile { group: group.to_owned(), bytes: composition.bytes };
        let (cache, wanted) = (order.cache.clone(), key.clone());
        let sealing = blocking(move || cache.write_code(&wanted)).await?;
        let inputs = vec![(composition.file, composition.bytes)];
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let answer = self.run_child(&work, inputs, SessionPurpose::Compile(Some(sealing)), deadline).await?;
        let phase = CompilePhase::Compiling(group.to_owned());
        let sealing = answer.code.ok_or(CompileError::InvalidOutput { phase })?;
        let cache = order.cache.clone();
        blocking(move || cache.finish(sealing)).await
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.time_max
    }

    /// Starts a child, sends it its task, and receives the result.
    async fn run_child(
        &self,
        work: &ChildTask,
        inputs: Vec<(File, u64)>,
        purpose: SessionPurpose,
        deadline: Instant,
    ) -> Result<SessionOutput, CompileError> {
        if !matches!(work, ChildTask::Nothing) {
            self.started.fetch_add(1, Ordering::Relaxed);
        }
        let start = |source| CompileError::Start { source };
        let (ours, theirs) = StdUnixStream::pair().map_err(start)?;
        ours.set_nonblocking(true).map_err(start)?;
        let ChildProgram { path, arguments, environment } = &self.options.program;
        let mut child = Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().cloned())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // The child gets its own process group, so that Ctrl-C in the terminal is sent to the node only.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let stderr = child.stderr.take();
        let channel = UnixStream::from_std(ours).map_err(start)?;
        let mut session =
            ChildSession { phase: CompilePhase::Starting, purpose, file_bytes: self.options.limits.file_bytes };
        let error_output = tokio::spawn(read_error_output(stderr));
        let run = tokio::time::timeout_at(deadline, async {
            let answer = session.run(channel, work, inputs).await;
            // The child has sent its result or closed the channel. Killing a child that is already ending does not
            // change its exit status.
            let _ = child.start_kill();
            (answer, error_output.await.unwrap_or_default(), child.wait().await)
        });
        let Ok((answer, error_output, status)) = run.await else {
            let _ = child.kill().await;
            return Err(CompileError::TimedOut { after: self.options.time_max, phase: session.phase });
        };
        match answer {
            Ok(answer) => {
                self.log_confinement(answer.confinement.as_ref());
                Ok(answer)
            }
            Err(SessionError::Refused(error)) => Err(error),
            Err(SessionError::Ended) => {
                let status = status.map_err(start)?;
                let phase = session.phase;
                tracing::warn!(ended = %ProcessExit::from(status), %phase, error_output, "a compiler ended without a result");
                Err(self.ended(status, phase, error_output))
            }
        }
    }

    /// Logs how children are confined, once.
    fn log_confinement(&self, confinement: Option<&Confinement>) {
        self.confinement_logged.call_once(|| match confinement {
            Some(confinement) if confinement.is_sufficient() => tracing::info!(%confinement, "compilers are confined"),
            Some(confinement) => {
                tracing::warn!(%confinement, "compiler processes are not fully sandboxed: see \"The compiler\" in docs/concepts/security.md");
            }
            None => tracing::warn!("a compiler did not report its confinement"),
        });
    }

    fn ended(&self, status: ExitStatus, phase: CompilePhase, error_output: String) -> CompileError {
        let limits = &self.options.limits;
        match status.signal() {
            Some(SIGXCPU) => CompileError::ProcessorTime { cpu_s: limits.cpu_s, phase },
            // The text that Rust's runtime writes before it aborts.
            Some(SIGABRT) if error_output.contains("memory allocation of") => {
                CompileError::OutOfMemory { memory_bytes: limits.memory_bytes, phase }
            }
            _ => CompileError::Crashed { status, phase, error_output },
        }
    }
}

const SIGABRT: i32 = 6;
const SIGXCPU: i32 = 24;
