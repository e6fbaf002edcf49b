//! A compiling child: reads what was uploaded, so that nobody else has to.
//!
//! It limits itself before it reads anything, and trusts nothing that it reads: only plain components are taken. Compiled code, which
//! would be run as it is, and core modules are refused. What it makes goes into the node's folder of compiled code, under a name that
//! is a hash over all that it was made from; what it answers is a package (see `package`), which only says how to start that code.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use isomer_api::{Problem, ProblemKind};
use isomer_manifest::{App, ComponentName, Parsed, Renderer, SourceFile};
use isomer_runtime::code::CodeCache;
use isomer_runtime::engine::Engine;
use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};

use super::order::{ChildLimits, Doing, Made, Order, Word};
use crate::package::{MakeOptions, Package};
use crate::revision::{Components, RevisionError, Step};

/// The most bytes of an order.
const ORDER_BYTES_MAX: u64 = 64 << 20;

/// How much less important than a node's requests compiling is (nice(2)).
const NICENESS: i32 = 10;

/// The whole life of a child. Standard input is the socket to the node.
#[must_use]
pub fn compile_child(limits: ChildLimits) -> ExitCode {
    let done = limit(limits).and_then(|()| {
        let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        obey(&channel)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Who could be told is not there.
        Err(_) => ExitCode::FAILURE,
    }
}

fn limit(limits: ChildLimits) -> io::Result<()> {
    let set = |resource, soft, hard| setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) });
    set(Resource::Core, 0, 0)?;
    set(Resource::As, limits.memory_bytes, limits.memory_bytes)?;
    // At the first limit the signal says why; the second one is for who does not hear it.
    set(Resource::Cpu, limits.cpu_s, limits.cpu_s + 5)?;
    set(Resource::Fsize, limits.file_bytes, limits.file_bytes)?;
    set(Resource::Nofile, limits.files, limits.files)?;
    setpriority_process(None, NICENESS)?;
    // Where the machine itself runs out of memory, this process is to end and not the node. It may not say so everywhere.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

fn obey(channel: &UnixStream) -> io::Result<()> {
    let mut lines = BufReader::new(channel.try_clone()?);
    let mut line = String::new();
    (&mut lines).take(ORDER_BYTES_MAX).read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    // A thread and not a task: it must see the end of the channel whatever else is being done.
    std::thread::Builder::new().name("isomer-channel".into()).spawn(move || {
        let _ = io::copy(&mut lines, &mut io::sink());
        std::process::exit(1)
    })?;
    let node = Node(Mutex::new(channel));
    // A panic is the end of this revision, and not worth a riddle.
    let word = match catch_unwind(AssertUnwindSafe(|| make(&order, &node))) {
        Ok(Ok(made)) => Word::Made(made),
        Ok(Err(problem)) => Word::Refused(problem),
        Err(_) => return Err(io::Error::other("it panicked")),
    };
    node.say(&word)
}

/// The node's end of the channel.
struct Node<'a>(Mutex<&'a UnixStream>);

impl Node<'_> {
    fn say(&self, word: &Word) -> io::Result<()> {
        let mut line = serde_json::to_vec(word).expect("a word is plain data");
        line.push(b'\n');
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }

    /// If the node does not hear it, it is gone, and so will this process be.
    fn doing(&self, doing: Doing) {
        let _ = self.say(&Word::Doing(doing));
    }
}

fn make(order: &Order, node: &Node<'_>) -> Result<Made, Problem> {
    let (app, mut warnings) = read_manifest(&order.manifest)?;
    let components = read_components(&app, order, node)?;
    let failed = |error| refused_by(&error);
    let cache = CodeCache::open_kept(&order.cache).map_err(|error| failed(error.into()))?;
    let engine = Engine::on_demand().map_err(|error| failed(RevisionError::Engine { source: error.into() }))?;
    let progress = |step: Step<'_>| match step {
        Step::Plan => node.doing(Doing::Planning),
        Step::Compose(group) => node.doing(Doing::Composing(group.to_owned())),
        Step::Compile(group) => node.doing(Doing::Compiling(group.to_owned())),
        Step::Start(_) => {}
    };
    let options = MakeOptions { shape: order.shape.clone(), ..MakeOptions::default() };
    let made = Package::make(&app, &components, &options, &engine, &cache, &progress).map_err(failed)?;
    warnings.extend(made.plan.warnings.iter().map(|warning| Renderer::plain().diagnostic(warning)));
    let code = made.package.code().map(|key| key.as_str().to_owned()).collect();
    let package = String::from_utf8(made.package.to_bytes()).expect("a package is JSON");
    Ok(Made { package, code, compiled: made.compiled, warnings })
}

/// The app that a manifest's text describes, and what is to be warned of.
///
/// # Errors
/// With all that is wrong with it, as people read it.
pub(super) fn read_manifest(text: &str) -> Result<(App, Vec<String>), Problem> {
    let render = Renderer::plain();
    match isomer_manifest::parse(&SourceFile::new("isomer.toml", text)) {
        Ok(Parsed { app, warnings }) => Ok((app, warnings.iter().map(|warning| render.diagnostic(warning)).collect())),
        Err(found) => {
            Err(Problem::new(ProblemKind::Refused, "the manifest is wrong").detail(render.diagnostics(&found)))
        }
    }
}

/// Why a revision cannot be made, for an admin.
pub(super) fn refused_by(error: &RevisionError) -> Problem {
    let render = Renderer::plain();
    let problem = Problem::new(ProblemKind::Refused, error.to_string());
    match error {
        RevisionError::Plan(found) => problem.detail(render.diagnostics(found)),
        error => match std::error::Error::source(error) {
            Some(source) => problem.detail(render.error(source)),
            None => problem,
        },
    }
}

fn read_components(app: &App, order: &Order, node: &Node<'_>) -> Result<Components, Problem> {
    let refused = |title: String| Err(Problem::new(ProblemKind::Refused, title));
    let mut components = Components::new();
    for name in order.components.keys() {
        if !app.components.keys().any(|known| known.as_str() == name) {
            return refused(format!("the release has a component `{name}`, which the manifest does not know"));
        }
    }
    for name in app.components.keys() {
        node.doing(Doing::Reading(name.to_string()));
        let Some(path) = order.components.get(name.as_str()) else {
            return refused(format!("the release lacks the bytes of component `{name}`"));
        };
        let bytes = std::fs::read(path).map_err(|error| {
            Problem::new(ProblemKind::Failed, format!("cannot read component `{name}`")).detail(error.to_string())
        })?;
        check_kind(name, &bytes)?;
        components.insert(name.clone(), bytes.into());
    }
    Ok(components)
}

/// Only a plain component is taken: the head of a binary says what it is (Component Model, `Binary.md`, "Component Definitions").
fn check_kind(name: &ComponentName, bytes: &[u8]) -> Result<(), Problem> {
    let (what, hint) = match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => return Ok(()),
        Some([0x7f, b'E', b'L', b'F', ..]) => {
            ("compiled code", "upload the component that it was compiled from: this node compiles it itself")
        }
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            ("a core module", "make a component of it, for example with `wasm-tools component new`")
        }
        Some([0, b'a', b's', b'm', ..]) => ("a component of a version that this node does not know", "build it anew"),
        _ => ("something else", "upload the file that `isomer build` makes"),
    };
    Err(Problem::new(ProblemKind::Refused, format!("component `{name}` is no component, but {what}")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_components_are_taken() {
        let name = ComponentName::new("cart").unwrap();
        let told = |bytes: &[u8]| check_kind(&name, bytes).map_err(|problem| problem.title);
        assert_eq!(told(b"\0asm\x0d\0\x01\0rest"), Ok(()));
        for (bytes, what) in [
            (&b"\x7fELF\x02\x01\x01\0"[..], "compiled code"),
            (b"\0asm\x01\0\0\0", "a core module"),
            (b"\0asm\x0e\0\x01\0", "a component of a version"),
            (b"(component)", "something else"),
            (b"", "something else"),
        ] {
            let title = told(bytes).unwrap_err();
            assert!(title.contains(&format!("component `cart` is no component, but {what}")), "{title}");
        }
    }
}
