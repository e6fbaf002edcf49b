//! Compiling what was uploaded, in processes that have little to lose.
//!
//! Whatever reads components can be made to take all memory, or for ever, or to crash. So it is done by a child (of what is uploaded,
//! this process itself reads a manifest's text alone, which is bounded: it names the folders and secrets that are asked for): this very program
//! once more, with limits of its own (see `child`), without this process's environment, and with nothing in its hands but one socket. It
//! is killed when it takes too long, when nobody waits for it any more, and when this process ends, since its end of the socket then
//! does. (`PR_SET_PDEATHSIG` was rejected: it follows the thread that made the child, and threads of an executor come and go.)
//!
//! A few children run at once, shared fairly among the tenants ([`FairSemaphore`]); some more orders wait; the others are refused.

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
use isomer_display::Ended;
use isomer_ids::TenantName;
use isomer_runtime::code::Key;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::Instant;

use self::sandbox::Confinement;
use self::session::{ChildSession, Composition, Purpose, SessionError, SessionOutput, blocking, last_words};
use crate::revisions::release::read_manifest;
pub use child::compile_child;
pub use error::CompileError;
use protocol::ChildTask;
pub use protocol::{ChildLimits, CompileOutput, CompilePhase, CompileRequest};

/// Counts up when the same composition is compiled differently than before.
const COMPILED_AS: &[u8] = b"1";

/// A tenant has no more than one in so many of the orders that wait.
const TENANTS_WAITING_MIN: usize = 4;

/// How children are made, and how many.
#[derive(Debug, Clone)]
pub struct CompilerOptions {
    /// The program, which calls [`compile_child`](compile_child) with these `limits`.
    pub program: ChildProgram,
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
pub struct ChildProgram {
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
            program: ChildProgram { path: this_program(), arguments: arguments.into(), environment: Vec::new() },
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

/// What one child has planned.
struct Draft {
    package: Package,
    warnings: Vec<String>,
}

/// Makes packages of what was uploaded.
#[derive(Debug)]
pub struct Compilers {
    options: CompilerOptions,
    permits: FairSemaphore,
    started: AtomicU64,
    compiled: AtomicU64,
    told: Once,
}

impl Compilers {
    /// None is started before it is needed.
    #[must_use]
    pub fn new(options: CompilerOptions) -> Self {
        let permits = FairSemaphore::new(FairSemaphoreLimits {
            permits: options.children_max,
            of_tenant: options.children_max,
            waiting: options.waiting_max,
            waiting_of_tenant: options.waiting_max.div_ceil(TENANTS_WAITING_MIN),
            slow: 0,
        });
        Self { options, permits, started: AtomicU64::new(0), compiled: AtomicU64::new(0), told: Once::new() }
    }

    /// How many children were started so far.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// How many of them compiled something.
    #[must_use]
    pub fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    /// Starts a child that does nothing, to see how well this system lets it be confined.
    ///
    /// # Errors
    /// When it cannot be started, or cannot confine itself.
    pub async fn confinement(&self) -> Result<Confinement, CompileError> {
        let answer = self.employ(&ChildTask::Nothing, Vec::new(), Purpose::Nothing, self.deadline()).await?;
        answer.confinement.ok_or(CompileError::Nonsense { doing: CompilePhase::GroupStarter })
    }

    /// Plans, composes and compiles what was not compiled before. Dropping the future kills the child.
    ///
    /// # Errors
    /// When the revision cannot be, or the child does not come to an end within its limits.
    pub async fn make(&self, order: &CompileRequest) -> Result<CompileOutput, CompileError> {
        let permit = self.request_permit(&order.tenant)?.granted().await;
        self.make_on(permit, order).await
    }

    /// Asks for a permit for a tenant's order.
    pub(crate) fn request_permit(&self, tenant: &TenantName) -> Result<PermitRequest, CompileError> {
        self.permits.request(tenant).map_err(|full| CompileError::Overloaded { waiting_max: full.waiting })
    }

    /// As [`Compilers::make`], on a permit that was granted. It is free as soon as this ends, however it does.
    pub(crate) async fn make_on(
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
        let nonsense = |doing| CompileError::Nonsense { doing };
        let manifest = read_manifest(&order.manifest).map_err(CompileError::Refused)?.0;
        let code = keys.iter().map(|key| key.as_str().to_owned()).collect();
        let package = drafted.package.checked(&manifest, &order.shape, keys).map_err(|mismatch| {
            tracing::warn!(tenant = %order.tenant, %mismatch, "a compiler's answer is not taken");
            nonsense(CompilePhase::Planning)
        })?;
        Ok(CompileOutput { package, code, compiled, warnings: drafted.warnings })
    }

    /// Has one child plan and compose a release.
    async fn compose(
        &self,
        order: &CompileRequest,
        deadline: Instant,
    ) -> Result<(Draft, Vec<Composition>), CompileError> {
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
        let purpose = Purpose::Compose { cache: order.cache.clone(), groups_max };
        let answer = self.employ(&work, inputs, purpose, deadline).await?;
        let drafted = answer.drafted.ok_or(CompileError::Nonsense { doing: CompilePhase::Planning })?;
        let package = Package::from_bytes(drafted.package.as_bytes());
        let package = package.map_err(|_| CompileError::Nonsense { doing: CompilePhase::Planning })?;
        Ok((Draft { package, warnings: drafted.warnings }, answer.compositions))
    }

    /// Has one child compile one composition, into the cache.
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
        let answer = self.employ(&work, inputs, Purpose::Compile(Some(sealing)), deadline).await?;
        let doing = CompilePhase::Compiling(group.to_owned());
        let sealing = answer.code.ok_or(CompileError::Nonsense { doing })?;
        let cache = order.cache.clone();
        blocking(move || cache.finish(sealing)).await
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.time_max
    }

    /// Starts a child, gives it its work, and takes what it answers.
    async fn employ(
        &self,
        work: &ChildTask,
        inputs: Vec<(File, u64)>,
        purpose: Purpose,
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
            // Not in the terminal's foreground group: its Ctrl-C is for this process.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let stderr = child.stderr.take();
        let channel = UnixStream::from_std(ours).map_err(start)?;
        let mut talk =
            ChildSession { doing: CompilePhase::GroupStarter, purpose, file_bytes: self.options.limits.file_bytes };
        let last_words = tokio::spawn(last_words(stderr));
        let told = tokio::time::timeout_at(deadline, async {
            let answer = talk.hold(channel, work, inputs).await;
            // What it does after its answer, or after it has closed the channel, is of no interest. One that ends already ends as it would.
            let _ = child.start_kill();
            (answer, last_words.await.unwrap_or_default(), child.wait().await)
        });
        let Ok((answer, last_words, status)) = told.await else {
            let _ = child.kill().await;
            return Err(CompileError::TimedOut { after: self.options.time_max, doing: talk.doing });
        };
        match answer {
            Ok(answer) => {
                self.tell(answer.confinement.as_ref());
                Ok(answer)
            }
            Err(SessionError::Refused(error)) => Err(error),
            Err(SessionError::Ended) => {
                let status = status.map_err(start)?;
                let doing = talk.doing;
                tracing::warn!(ended = %Ended::from(status), %doing, last_words, "a compiler ended without an answer");
                Err(self.ended(status, doing, last_words))
            }
        }
    }

    /// Says once, in the log, what keeps a child from the node's files, or does not.
    fn tell(&self, confinement: Option<&Confinement>) {
        self.told.call_once(|| match confinement {
            Some(confinement) if confinement.is_sufficient() => tracing::info!(%confinement, "compilers are confined"),
            Some(confinement) => {
                tracing::warn!(%confinement, "compilers are not confined as they should be: see docs/concepts/security.md, The compiler");
            }
            None => tracing::warn!("a compiler does not say how it is confined"),
        });
    }

    fn ended(&self, status: ExitStatus, doing: CompilePhase, last_words: String) -> CompileError {
        let limits = &self.options.limits;
        match status.signal() {
            Some(SIGXCPU) => CompileError::ProcessorTime { cpu_s: limits.cpu_s, doing },
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
