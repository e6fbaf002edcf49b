//! The compiler's child process: it reads uploaded components, so that the node itself never parses them.
//!
//! The child sets its resource limits and enters its sandbox before it reads anything (see `sandbox`). It does not
//! trust its input: it accepts only plain components. It rejects core modules, and also precompiled code, which would
//! run without validation. It sends its results only to the node, over the socket that is its standard input.
//!
//! One child plans and composes a release. A composition that is not in the code cache is compiled by another child,
//! which reads only this composition. So the cached code of a composition depends on the bytes of this composition
//! only.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use isomer_api::{ApiProblem, ProblemKind};
use isomer_apps::{Package, PackageOptions, Progress, RevisionError, draft_probed_group};
use isomer_diagnostics::Renderer;
use isomer_ids::ComponentName;
use isomer_manifest::App;
use isomer_runtime::code;
use isomer_runtime::engine::Engine;
use isomer_seam::Components;
use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};

use super::protocol::{ChildLimits, ChildMessage, ChildTask, CompilePhase, PLAN_BYTES_MAX, PackageDraft};
use super::sandbox::{self, Layer};
use crate::problems::refusal;
use crate::revisions::release::read_manifest;

/// The maximum length in bytes of a task: the first line that the child reads.
const TASK_BYTES_MAX: u64 = 64 << 20;

/// The niceness of a child (nice(2)): the node's requests have priority.
const NICENESS: i32 = 10;

/// Runs one task of the node in this process, and returns the exit code of the process. Standard input must be the
/// socket to the node. The process must have one thread and must not have opened any files.
#[must_use]
pub fn compile_child(limits: ChildLimits) -> ExitCode {
    match run(limits) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The node logs the child's standard error.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(limits: ChildLimits) -> io::Result<()> {
    limit(limits)?;
    sandbox::close_descriptors()?;
    // Duplicate standard input now, once to read and once to write, because the sandbox forbids `dup`.
    let open = || io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let (input, channel) = (open()?, open()?);
    let confinement = sandbox::confine(&Layer::ALL)?;
    let node = NodeChannel(Mutex::new(&channel));
    node.send(&ChildMessage::Confined(confinement))?;
    run_task(BufReader::new(input), &node)
}

fn limit(limits: ChildLimits) -> io::Result<()> {
    let set = |resource, soft, hard| setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) });
    set(Resource::Core, 0, 0)?;
    set(Resource::As, limits.memory_bytes, limits.memory_bytes)?;
    // At the soft limit, the kernel sends SIGXCPU, which ends the process and tells the node the reason. At the hard
    // limit, the kernel kills a process that ignores SIGXCPU.
    set(Resource::Cpu, limits.cpu_s, limits.cpu_s + 5)?;
    // The child must not write files, so the maximum size of a file is 0.
    set(Resource::Fsize, 0, 0)?;
    set(Resource::Nofile, limits.files, limits.files)?;
    setpriority_process(None, NICENESS)?;
    // Make the kernel kill this process, and not the node, if the machine runs out of memory. Ignore errors, because
    // some systems do not permit this setting.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

fn run_task(mut input: BufReader<File>, node: &NodeChannel<'_>) -> io::Result<()> {
    let mut line = String::new();
    (&mut input).take(TASK_BYTES_MAX).read_line(&mut line)?;
    let task: ChildTask = serde_json::from_str(&line)?;
    let inputs = match &task {
        ChildTask::Nothing => return Ok(()),
        ChildTask::Compose { components, .. } => {
            let read = |(name, bytes): (&String, &u64)| {
                node.report(CompilePhase::Reading(name.clone()));
                read(&mut input, *bytes)
            };
            components.iter().map(read).collect::<io::Result<Vec<_>>>()?
        }
        ChildTask::Compile { bytes, .. } => vec![read(&mut input, *bytes)?],
    };
    // Exits the process if the node closes the channel. A separate thread reads the channel, because the main thread is
    // busy with the task.
    std::thread::Builder::new().name("isomer-channel".into()).spawn(move || {
        let mut sink = [0; 64];
        while input.read(&mut sink).is_ok_and(|read| read > 0) {}
        std::process::exit(1)
    })?;
    let outcome = catch_unwind(AssertUnwindSafe(|| match &task {
        ChildTask::Nothing => Ok(()),
        ChildTask::Compose { manifest, shape, components, probed_group } => {
            compose(manifest, shape, components.keys().zip(inputs), *probed_group, node)
        }
        ChildTask::Compile { group, .. } => compile(group, &inputs[0], node),
    }));
    match outcome {
        Ok(Err(ChildError::Refused(problem))) => node.send(&ChildMessage::Refused(problem)),
        Ok(Err(ChildError::NodeChannel(error))) => Err(error),
        Ok(Ok(())) => Ok(()),
        // The node refuses the revision, and does not report the text of the panic to the client.
        Err(_) => Err(io::Error::other("the compiler panicked")),
    }
}

fn read(input: &mut impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    input.take(bytes).read_to_end(&mut read)?;
    if read.len() as u64 == bytes { Ok(read) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The socket over which the child sends messages to the node.
struct NodeChannel<'a>(Mutex<&'a File>);

impl NodeChannel<'_> {
    fn send(&self, message: &ChildMessage) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// Sends a message, followed by the bytes that the message announces.
    fn send_with(&self, message: &ChildMessage, bytes: &[u8]) -> io::Result<()> {
        let mut line = serde_json::to_vec(message).expect("a message is plain data");
        line.push(b'\n');
        let mut channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channel.write_all(&line)?;
        channel.write_all(bytes)
    }

    /// Tells the node that a phase begins. Ignores errors: if the socket fails, the node has exited, and this process
    /// then exits as well.
    fn report(&self, phase: CompilePhase) {
        let _ = self.send(&ChildMessage::Phase(phase));
    }
}

/// The reason why a task has no result.
enum ChildError {
    Refused(ApiProblem),
    /// The child cannot write to the socket.
    NodeChannel(io::Error),
}

impl From<ApiProblem> for ChildError {
    fn from(problem: ApiProblem) -> Self {
        Self::Refused(problem)
    }
}

impl From<RevisionError> for ChildError {
    fn from(error: RevisionError) -> Self {
        Self::Refused(refusal(&error))
    }
}

fn compose<'a>(
    manifest: &str,
    shape: &str,
    sent: impl Iterator<Item = (&'a String, Vec<u8>)>,
    probed_group: Option<usize>,
    node: &NodeChannel<'_>,
) -> Result<(), ChildError> {
    let (app, mut warnings) = read_manifest(manifest)?;
    let components = components(&app, sent)?;
    let progress = |step: Progress<'_>| match step {
        Progress::Plan => node.report(CompilePhase::Planning),
        Progress::Compose(group) => node.report(CompilePhase::Composing(group.to_owned())),
        Progress::Compile(_) | Progress::Start(_) => {}
    };
    let options = PackageOptions { shape: shape.to_owned(), ..PackageOptions::default() };
    let mut composed = |bytes: &[u8]| {
        node.send_with(&ChildMessage::Composed(bytes.len() as u64), bytes).map_err(ChildError::NodeChannel)
    };
    if let Some(index) = probed_group {
        let metadata = draft_probed_group(&app, &components, &options, index, &mut composed)?;
        return node.send(&ChildMessage::Probed(metadata)).map_err(ChildError::NodeChannel);
    }
    let mut files = |bytes: &[u8]| {
        node.send_with(&ChildMessage::WebFiles(bytes.len() as u64), bytes).map_err(ChildError::NodeChannel)
    };
    let (package, plan) = Package::draft(&app, &components, &options, &progress, &mut composed, &mut files)?;
    warnings.extend(plan.warnings.iter().map(|warning| Renderer::plain().diagnostic(warning)));
    let package = String::from_utf8(package.to_bytes()).expect("a package is JSON");
    let plain = || serde_json::to_string(&plan).expect("a plan is plain data");
    // A large plan is stored without its text.
    let plan = std::iter::once(plan.to_json().to_string())
        .chain(std::iter::once_with(plain))
        .find(|plan| plan.len() <= PLAN_BYTES_MAX);
    node.send(&ChildMessage::Drafted(PackageDraft { package, plan, warnings })).map_err(ChildError::NodeChannel)
}

fn compile(group: &str, composition: &[u8], node: &NodeChannel<'_>) -> Result<(), ChildError> {
    node.report(CompilePhase::Compiling(group.to_owned()));
    let engine = Engine::on_demand().map_err(|error| RevisionError::Engine { source: error.into() })?;
    let code = code::precompile(&engine, composition).map_err(RevisionError::from)?;
    node.send_with(&ChildMessage::Compiled(code.len() as u64), &code).map_err(ChildError::NodeChannel)
}

/// Returns the received components by their names in the manifest.
///
/// # Errors
/// If the manifest has a component that was not received, or lacks a component that was received.
fn components<'a>(app: &App, sent: impl Iterator<Item = (&'a String, Vec<u8>)>) -> Result<Components, ApiProblem> {
    let refused = |title: String| Err(ApiProblem::new(ProblemKind::Refused, title));
    let mut components = Components::new();
    for (name, bytes) in sent {
        let Some(known) = app.components.keys().find(|known| known.as_str() == name) else {
            return refused(format!("the release has a component `{name}`, which is not in the manifest"));
        };
        check_kind(known, &bytes)?;
        components.insert(known.clone(), bytes.into());
    }
    match app.components.keys().find(|name| !components.contains_key(*name)) {
        Some(name) => refused(format!("the release lacks the bytes of component `{name}`")),
        None => Ok(components),
    }
}

/// Checks that the bytes are a plain component. The first 8 bytes of a WebAssembly binary state its kind (Component
/// Model, `Binary.md`, "Component Definitions").
fn check_kind(name: &ComponentName, bytes: &[u8]) -> Result<(), ApiProblem> {
    let (what, hint) = match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => return Ok(()),
        Some([0x7f, b'E', b'L', b'F', ..]) => (
            "compiled code",
            "upload the component from which the code was compiled: the node compiles components itself",
        ),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            ("a core module", "convert it to a component, for example with `wasm-tools component new`")
        }
        Some([0, b'a', b's', b'm', ..]) => ("a component of a version that this node does not know", "build it again"),
        _ => ("a file of an unknown format", "upload the file that `isomer build` makes"),
    };
    Err(ApiProblem::new(
        ProblemKind::Refused,
        format!("the bytes of component `{name}` are not a component, but {what}"),
    )
    .hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_components_are_accepted() {
        let name = ComponentName::new("cart").unwrap();
        let result = |bytes: &[u8]| check_kind(&name, bytes).map_err(|problem| problem.title);
        assert_eq!(result(b"\0asm\x0d\0\x01\0rest"), Ok(()));
        for (bytes, what) in [
            (&b"\x7fELF\x02\x01\x01\0"[..], "compiled code"),
            (b"\0asm\x01\0\0\0", "a core module"),
            (b"\0asm\x0e\0\x01\0", "a component of a version"),
            (b"(component)", "a file of an unknown format"),
            (b"", "a file of an unknown format"),
        ] {
            let title = result(bytes).unwrap_err();
            assert!(
                title.contains(&format!("the bytes of component `cart` are not a component, but {what}")),
                "{title}"
            );
        }
    }
}
