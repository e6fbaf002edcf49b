//! The compiler: makes packages from uploaded releases, in child processes.
//!
//! A malicious component could make the process that reads it use all memory, run forever, or crash. So only child
//! processes read components. (The node itself reads only the text of the manifest, whose size is limited, to find the
//! folders and secrets that the app needs.) A child runs the same program as the node, but with its own limits (see
//! `child`), without the node's environment variables, and with a single socket, to the node. The node kills the child
//! when the child's time limit expires, or when no request waits for the child's result any more. If the node exits,
//! its end of the socket is closed, and the child exits. (`PR_SET_PDEATHSIG` was rejected: the signal is sent when the
//! thread that started the child ends, and the threads of an async runtime start and end at any time.)
//!
//! The number of children that run at the same time is limited, and the permits to run a child are granted fairly among
//! tenants ([`FairSemaphore`]). The number of requests that wait for a child is limited as well.

mod child;
mod error;
pub(crate) mod jobs;
mod probed;
mod protocol;
pub mod sandbox;
mod session;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use isomer_apps::Package;
use isomer_apps::fair_semaphore::{FairSemaphore, FairSemaphoreLimits, PermitRequest, SemaphorePermit};
use isomer_display::ProcessExit;
use isomer_ids::TenantName;
use isomer_runtime::code::Key;
use serde_json::value::RawValue;
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
pub use protocol::{ChildLimits, CompileOutput, CompilePhase, CompileRequest};
use protocol::{ChildTask, PLAN_BYTES_MAX};

/// A part of the key of cached code. It must be incremented if a new version of the program compiles the same
/// composition to different code.
const COMPILED_AS: &[u8] = b"1";

/// The number of tenants that are necessary to fill the queue: one tenant may have at most `waiting_max` divided by
/// this number, rounded up, waiting requests.
const TENANTS_WAITING_MIN: usize = 4;

/// A part of the key of a browser group's files in the cache.
const FILES_STORED_AS: &[u8] = b"web files";

/// The options of the compiler: how its child processes are started, and how many run at the same time.
#[derive(Debug, Clone)]
pub struct CompilerOptions {
    /// The program of the child processes. It must call [`compile_child`] with these `limits`.
    pub program: ChildProgram,
    /// The resource limits of each child process.
    pub limits: ChildLimits,
    /// The maximum time that compiling one release may take, including all its child processes.
    pub time_max: Duration,
    /// The maximum number of child processes that run at the same time, of all tenants together.
    pub children_max: usize,
    /// The maximum number of requests that wait for a child process, of all tenants together.
    pub waiting_max: usize,
}

/// A program to run as a child process, with its arguments and environment.
#[derive(Debug, Clone)]
pub struct ChildProgram {
    /// The path of the executable file.
    pub path: PathBuf,
    /// The arguments, without the name of the program.
    pub arguments: Vec<String>,
    /// All environment variables of the child: the child inherits none from the node.
    pub environment: Vec<(String, String)>,
}

impl CompilerOptions {
    /// Returns options that run this program's hidden subcommand `compile-child`. At most half of the machine's
    /// processors run compilers, so that the other half can serve requests.
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

/// Returns a path that runs the same executable as this process, even if the file was replaced after this process
/// started. The child must be the same version of the program, because this process uses the child's output.
fn this_program() -> PathBuf {
    let running = Path::new("/proc/self/exe");
    if running.exists() { running.to_owned() } else { std::env::current_exe().unwrap_or_else(|_| running.to_owned()) }
}

/// Compiles uploaded releases to packages, in child processes.
#[derive(Debug)]
pub struct Compilers {
    options: CompilerOptions,
    permits: FairSemaphore,
    started: AtomicU64,
    compiled: AtomicU64,
    confinement_logged: Once,
}

impl Compilers {
    /// Creates a compiler. No child process is started before the first request.
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

    /// Returns how many child processes have been started to plan a release or to compile a composition.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Returns how many child processes have been started to compile a composition.
    #[must_use]
    pub fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    /// Starts a child process that compiles nothing and only reports which layers of the sandbox this system supports.
    ///
    /// # Errors
    /// If the child cannot be started or cannot enter its sandbox.
    pub async fn confinement(&self) -> Result<Confinement, CompileError> {
        let output = self.run_child(&ChildTask::Nothing, Vec::new(), SessionPurpose::Nothing, self.deadline()).await?;
        output.confinement.ok_or(CompileError::InvalidOutput { phase: CompilePhase::Starting })
    }

    /// Makes a package: plans and composes a release, and compiles the groups whose code is not in the cache. Dropping
    /// the future kills the child process.
    ///
    /// # Errors
    /// If the release is invalid, if a child exceeds a limit, or if the disk fails.
    pub async fn make(&self, request: &CompileRequest) -> Result<CompileOutput, CompileError> {
        let permit = self.request_permit(&request.tenant)?.granted().await;
        self.make_with_cache(permit, request).await
    }

    /// Requests a permit to run a child process for `tenant`.
    pub(crate) fn request_permit(&self, tenant: &TenantName) -> Result<PermitRequest, CompileError> {
        self.permits.request(tenant).map_err(|full| CompileError::Overloaded { waiting_max: full.waiting })
    }

    /// Like [`Compilers::make`], but with a permit that was already granted. The permit is released at the end.
    pub(crate) async fn make_with_cache(
        &self,
        _permit: SemaphorePermit,
        request: &CompileRequest,
    ) -> Result<CompileOutput, CompileError> {
        let deadline = self.deadline();
        let output = self.compose(request, None, deadline).await?;
        let drafted = output.drafted.ok_or(CompileError::InvalidOutput { phase: CompilePhase::Planning })?;
        let package = Package::from_bytes(drafted.package.as_bytes());
        let package = package.map_err(|_| CompileError::InvalidOutput { phase: CompilePhase::Planning })?;
        // The child may be compromised. The node shows the plan to the tenant of the release, and uses it for nothing else.
        let is_invalid = drafted.plan.as_ref().is_some_and(|plan| plan.len() > PLAN_BYTES_MAX);
        let plan = drafted.plan.map(RawValue::from_string).transpose();
        let Some(plan) = plan.ok().filter(|_| !is_invalid) else {
            return Err(CompileError::InvalidOutput { phase: CompilePhase::Planning });
        };
        let (mut keys, mut compiled) = (Vec::new(), false);
        for (index, composition) in output.compositions.into_iter().enumerate() {
            let key = request.maker.with([COMPILED_AS, composition.digest.as_slice()]);
            let (cache, wanted) = (request.cache.clone(), key.clone());
            if !blocking(move || Ok(cache.has(&wanted))).await? {
                let group = package.group_names().nth(index).unwrap_or_default();
                self.compile(request, group, composition, &key, deadline).await?;
                compiled = true;
            }
            keys.push(key);
        }
        let files = match output.files {
            Some(files) => Some(store_files(request, files).await?),
            None => None,
        };
        let invalid_output = |phase| CompileError::InvalidOutput { phase };
        let manifest = read_manifest(&request.manifest).map_err(CompileError::Refused)?.0;
        let code = keys.iter().chain(&files).map(|key| key.as_str().to_owned()).collect();
        let package = package.checked(&manifest, &request.shape, keys, files).map_err(|mismatch| {
            tracing::warn!(tenant = %request.tenant, %mismatch, "refused a compiler's output, which contradicts the manifest");
            invalid_output(CompilePhase::Planning)
        })?;
        Ok(CompileOutput { package, code, compiled, plan, warnings: drafted.warnings })
    }

    /// Runs a child process that plans a release, and composes all groups, or the group at `probed_group` with probes.
    async fn compose(
        &self,
        request: &CompileRequest,
        probed_group: Option<usize>,
        deadline: Instant,
    ) -> Result<SessionOutput, CompileError> {
        let mut inputs = Vec::new();
        let mut components = BTreeMap::new();
        for (name, path) in &request.components {
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
        let groups_max = if probed_group.is_some() { 1 } else { components.len() };
        let (manifest, shape) = (request.manifest.clone(), request.shape.clone());
        let task = ChildTask::Compose { manifest, shape, components, probed_group };
        let purpose = SessionPurpose::Compose { cache: request.cache.clone(), groups_max };
        self.run_child(&task, inputs, purpose, deadline).await
    }

    /// Runs a child process that compiles one composition, and stores the code in the cache.
    async fn compile(
        &self,
        request: &CompileRequest,
        group: &str,
        composition: Composition,
        key: &Key,
        deadline: Instant,
    ) -> Result<(), CompileError> {
        let task = ChildTask::Compile { group: group.to_owned(), bytes: composition.bytes };
        let (cache, wanted) = (request.cache.clone(), key.clone());
        let sealing = blocking(move || cache.write_code(&wanted)).await?;
        let inputs = vec![(composition.file, composition.bytes)];
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let output = self.run_child(&task, inputs, SessionPurpose::Compile(Some(sealing)), deadline).await?;
        let phase = CompilePhase::Compiling(group.to_owned());
        let sealing = output.code.ok_or(CompileError::InvalidOutput { phase })?;
        let cache = request.cache.clone();
        blocking(move || cache.finish(sealing)).await
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.time_max
    }

    /// Starts a child process, sends `task` and `inputs` to the child, and returns the child's output.
    async fn run_child(
        &self,
        task: &ChildTask,
        inputs: Vec<(File, u64)>,
        purpose: SessionPurpose,
        deadline: Instant,
    ) -> Result<SessionOutput, CompileError> {
        if !matches!(task, ChildTask::Nothing) {
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
            // Put the child into its own process group, so that Ctrl-C in the terminal reaches only the node.
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
            let output = session.run(channel, task, inputs).await;
            // The child is no longer needed: it has sent its result or closed the channel, or the session has failed.
            // If it is already exiting, killing it does not change its exit status.
            let _ = child.start_kill();
            (output, error_output.await.unwrap_or_default(), child.wait().await)
        });
        let Ok((output, error_output, status)) = run.await else {
            let _ = child.kill().await;
            return Err(CompileError::TimedOut { after: self.options.time_max, phase: session.phase });
        };
        match output {
            Ok(output) => {
                self.log_confinement(output.confinement.as_ref());
                Ok(output)
            }
            Err(SessionError::Failed(error)) => Err(error),
            Err(SessionError::Ended) => {
                let status = status.map_err(start)?;
                let phase = session.phase;
                tracing::warn!(ended = %ProcessExit::from(status), %phase, error_output, "a compiler process exited without a result");
                Err(self.ended(status, phase, error_output))
            }
        }
    }

    /// Logs the sandbox of the child processes, at the first call only.
    fn log_confinement(&self, confinement: Option<&Confinement>) {
        self.confinement_logged.call_once(|| match confinement {
            Some(confinement) if confinement.is_sufficient() => tracing::info!(%confinement, "compiler processes are sandboxed"),
            Some(confinement) => {
                tracing::warn!(%confinement, "compiler processes are not fully sandboxed: see \"The compiler\" in docs/concepts/security.md");
            }
            None => tracing::warn!("a compiler process did not report which sandbox layers are active"),
        });
    }

    fn ended(&self, status: ExitStatus, phase: CompilePhase, error_output: String) -> CompileError {
        let limits = &self.options.limits;
        match status.signal() {
            Some(SIGXCPU) => CompileError::ProcessorTime { cpu_s: limits.cpu_s, phase },
            // Rust's runtime writes this text before it aborts because of a failed allocation.
            Some(SIGABRT) if error_output.contains("memory allocation of") => {
                CompileError::OutOfMemory { memory_bytes: limits.memory_bytes, phase }
            }
            _ => CompileError::Crashed { status, phase, error_output },
        }
    }
}

const SIGABRT: i32 = 6;
const SIGXCPU: i32 = 24;

/// Stores the files of a browser group in the cache, and returns their key. The content decides the key, so a child process
/// cannot replace the files of another release.
async fn store_files(request: &CompileRequest, files: Composition) -> Result<Key, CompileError> {
    let Composition { mut file, bytes, digest } = files;
    let key = request.maker.with([FILES_STORED_AS, digest.as_slice()]);
    let (cache, stored) = (request.cache.clone(), key.clone());
    blocking(move || {
        let mut note = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        file.read_to_end(&mut note)?;
        cache.write_note(&stored, &note)
    })
    .await?;
    Ok(key)
}
