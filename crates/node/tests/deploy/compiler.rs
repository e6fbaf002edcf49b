//! Tests of the compiler's child processes: their results, the input that they refuse, and their limits on time and
//! memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use isomer_api::{ApiProblem, ProblemKind};
use isomer_node::compiler::{
    ChildLimits, ChildProgram, CompileError, CompilePhase, CompileRequest, CompilerOptions, Compilers,
};
use isomer_runtime::code::{CodeCache, Key};
use tempfile::TempDir;

use crate::compiler;

/// Returns a request to compile one component with the given bytes, and the folder with the component and the cache.
fn request(bytes: &[u8]) -> (TempDir, CompileRequest) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("component");
    fs::write(&path, bytes).unwrap();
    let manifest =
        "[app]\nname = \"test\"\nversion = \"1.2.3\"\n\n[components.it]\nwasm = \"it.wasm\"\nroutes = [\"/...\"]\n";
    let request = CompileRequest {
        tenant: crate::node::tenant("default"),
        manifest: manifest.to_owned(),
        shape: "monolith".to_owned(),
        components: BTreeMap::from([("it".to_owned(), path)]),
        cache: CodeCache::open_kept(&folder.path().join("cache")).unwrap(),
        maker: Key::unknown(),
    };
    (folder, request)
}

fn hello() -> Vec<u8> {
    isomer_test_guests::bytes("http-hello")
}

/// Returns the number of files with compiled code in the cache.
fn entries(folder: &TempDir) -> usize {
    fs::read_dir(folder.path().join("cache")).unwrap().count()
}

async fn refused(compilers: &Compilers, request: &CompileRequest) -> ApiProblem {
    match compilers.make(request).await {
        Err(CompileError::Refused(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

/// Returns a component with a function so long that compiling it takes seconds and gigabytes.
fn bomb() -> Vec<u8> {
    let mut text = String::from("(component (core module (func (export \"f\") (param i32) (result i32) local.get 0 ");
    for number in 0..600_000 {
        write!(text, "i32.const {number} i32.mul local.get 0 i32.xor ").unwrap();
    }
    text += ")))";
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn a_package_is_made_and_its_code_is_cached() {
    let compilers = Compilers::new(compiler(ChildLimits::default()));
    let (folder, request) = request(&hello());
    let first = compilers.make(&request).await.unwrap();
    assert!(first.compiled && first.code.len() == 1 && first.warnings.is_empty(), "{first:?}");
    assert_eq!((entries(&folder), compilers.started(), compilers.compiled()), (1, 2, 1));
    let package = &first.package;
    assert_eq!((package.name(), package.version().to_string().as_str()), ("test", "1.2.3"));
    assert!(package.code().all(|key| request.cache.has(key)));
    let second = compilers.make(&request).await.unwrap();
    assert!(!second.compiled && second.code == first.code);
    assert_eq!(second.package.to_bytes(), first.package.to_bytes());
    assert_eq!((entries(&folder), compilers.started(), compilers.compiled()), (1, 3, 1));
    // The same components in another app use the same compiled code.
    let other = CompileRequest { manifest: request.manifest.replace("test", "other"), ..request };
    let third = compilers.make(&other).await.unwrap();
    assert!(!third.compiled && third.code == first.code && third.package.name() == "other");
}

#[tokio::test]
async fn invalid_components_are_refused_by_name() {
    let compilers = Compilers::new(compiler(ChildLimits::default()));
    let elf = fs::read(std::env::current_exe().unwrap()).unwrap();
    let module = wat::parse_str("(module)").unwrap();
    let mut broken = hello();
    let half = broken.len() / 2;
    broken.truncate(half);
    for (bytes, title) in [
        (&elf[..100_000], "the bytes of component `it` are not a component, but compiled code"),
        (&module, "the bytes of component `it` are not a component, but a core module"),
        (b"hello", "the bytes of component `it` are not a component, but a file of an unknown format"),
        (&broken, "cannot read component `it`"),
    ] {
        let (folder, request) = request(bytes);
        let problem = refused(&compilers, &request).await;
        assert_eq!((problem.kind, problem.title.as_str()), (ProblemKind::Refused, title));
        assert_eq!(entries(&folder), 0);
    }
    let (_folder, valid) = request(&hello());
    let manifest = valid.manifest.replace("1.2.3", "one");
    let problem = refused(&compilers, &CompileRequest { manifest, ..valid.clone() }).await;
    let detail = problem.detail.unwrap();
    assert!(detail.contains("isomer.toml:3:11") && detail.contains("`one` is not a version"), "{detail}");
    let manifest = format!("{}links.\"a:b/c\" = \"missing\"\n", valid.manifest);
    assert!(
        refused(&compilers, &CompileRequest { manifest, ..valid.clone() }).await.detail.unwrap().contains("`missing`")
    );
    let problem = refused(&compilers, &CompileRequest { shape: "round".to_owned(), ..valid.clone() }).await;
    assert!(problem.detail.unwrap().contains("`round`"));
    let problem = refused(&compilers, &CompileRequest { components: BTreeMap::new(), ..valid.clone() }).await;
    assert_eq!(problem.title, "the release lacks the bytes of component `it`");
}

#[tokio::test]
async fn compile_bombs_end_at_each_limit() {
    let (folder, mut request) = request(&bomb());
    request.manifest = request.manifest.replace("routes = [\"/...\"]\n", "");
    let is_compiling = |phase: &CompilePhase| matches!(phase, CompilePhase::Compiling(group) if group == "monolith");
    let memory = ChildLimits { memory_bytes: 600 << 20, ..ChildLimits::default() };
    match Compilers::new(compiler(memory)).make(&request).await {
        Err(CompileError::OutOfMemory { phase, .. }) if is_compiling(&phase) => {}
        other => panic!("memory: {other:?}"),
    }
    let processor = ChildLimits { cpu_s: 1, ..ChildLimits::default() };
    match Compilers::new(compiler(processor)).make(&request).await {
        Err(CompileError::ProcessorTime { cpu_s: 1, phase }) if is_compiling(&phase) => {}
        other => panic!("processor: {other:?}"),
    }
    let clock = CompilerOptions { time_max: Duration::from_secs(1), ..compiler(ChildLimits::default()) };
    match Compilers::new(clock).make(&request).await {
        Err(CompileError::TimedOut { phase, .. }) if phase != CompilePhase::Starting => {}
        other => panic!("clock: {other:?}"),
    }
    assert_eq!(entries(&folder), 0, "the cache has no file");
    let (_folder, request) = self::request(&hello());
    let file = ChildLimits { file_bytes: 1000, ..ChildLimits::default() };
    match Compilers::new(compiler(file)).make(&request).await {
        Err(CompileError::FileTooLarge { file_bytes: 1000, .. }) => {}
        other => panic!("file: {other:?}"),
    }
}

#[tokio::test]
async fn crashed_and_missing_compilers_have_distinct_errors() {
    let (_folder, request) = request(&hello());
    let with = |path: &str, arguments: &[&str]| {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let program = ChildProgram { path: path.into(), arguments, environment: Vec::new() };
        Compilers::new(CompilerOptions { program, ..compiler(ChildLimits::default()) })
    };
    match with("/bin/sh", &["-c", "echo ouch >&2; kill -SEGV $$"]).make(&request).await {
        Err(CompileError::Crashed { phase: CompilePhase::Starting, error_output, .. }) => {
            assert_eq!(error_output, "ouch\n")
        }
        other => panic!("{other:?}"),
    }
    // When memory is exhausted, the system kills a process with SIGKILL. This is not the fault of the component.
    let killed = with("/bin/sh", &["-c", "kill -KILL $$"]).make(&request).await.expect_err("the compiler is killed");
    let problem = ApiProblem::from(killed);
    assert!(problem.title.starts_with("the compiler was killed by SIGKILL (possibly out of memory)"), "{problem:?}");
    assert_eq!(problem.kind, ProblemKind::Failed);
    assert!(matches!(with("/nonexistent", &[]).make(&request).await, Err(CompileError::Start { .. })));
}

#[tokio::test]
async fn unreadable_input_fails_the_compile_and_releases_its_permit() {
    // If the node did not end the session with the child, the child would wait for its input until `time_max`.
    let options =
        CompilerOptions { children_max: 1, time_max: Duration::from_secs(60), ..compiler(ChildLimits::default()) };
    let compilers = Compilers::new(options);
    let (folder, valid) = request(&hello());
    // This path can be opened and has a length, but cannot be read.
    let unreadable = folder.path().join("unreadable");
    fs::create_dir(&unreadable).unwrap();
    fs::write(unreadable.join("file"), "").unwrap();
    let broken = CompileRequest { components: BTreeMap::from([("it".to_owned(), unreadable)]), ..valid.clone() };
    for _ in 0..2 {
        match compilers.make(&broken).await {
            Err(CompileError::Disk { source }) => assert_eq!(source.kind(), std::io::ErrorKind::IsADirectory),
            other => panic!("{other:?}"),
        }
    }
    assert!(compilers.make(&valid).await.is_ok(), "the permit was released");
}

#[tokio::test]
async fn running_and_waiting_compiles_are_limited() {
    let options = CompilerOptions { children_max: 1, waiting_max: 1, ..compiler(ChildLimits::default()) };
    let compilers = Compilers::new(options);
    let (_folder, request) = request(&hello());
    let (one, two, three) =
        futures::join!(compilers.make(&request), compilers.make(&request), compilers.make(&request));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert!(matches!(three, Err(CompileError::Overloaded { waiting_max: 1 })), "{three:?}");
    assert!(compilers.make(&request).await.is_ok(), "the permits were released");
}

#[test]
fn a_child_ends_with_its_node() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = start(theirs);
    // Send a task as a node would, but only some of the bytes that the task announces.
    std::io::Write::write_all(&mut &ours, b"{\"compile\":{\"group\":\"g\",\"bytes\":1000}}\nhalf").unwrap();
    drop(ours);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_compiling_child_ends_with_its_node() {
    let bomb = bomb();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = start(theirs);
    let mut line = format!("{{\"compile\":{{\"group\":\"g\",\"bytes\":{}}}}}\n", bomb.len()).into_bytes();
    line.extend(bomb);
    std::io::Write::write_all(&mut &ours, &line).unwrap();
    let mut lines_read = String::new();
    let mut lines = std::io::BufReader::new(&ours);
    while !lines_read.contains("compiling") {
        assert_ne!(std::io::BufRead::read_line(&mut lines, &mut lines_read).unwrap(), 0, "{lines_read}");
    }
    drop(ours);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

fn start(channel: UnixStream) -> std::process::Child {
    let CompilerOptions { program, .. } = compiler(ChildLimits::default());
    Command::new(program.path)
        .args(program.arguments)
        .stdin(Stdio::from(OwnedFd::from(channel)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Returns a compiler whose child process is a shell script with arbitrary output.
fn lying(script: &str) -> Compilers {
    let arguments = vec!["-c".to_owned(), script.to_owned()];
    let program = ChildProgram { path: "/bin/sh".into(), arguments, environment: Vec::new() };
    Compilers::new(CompilerOptions { program, ..compiler(ChildLimits::default()) })
}

#[tokio::test]
async fn the_output_of_a_child_is_not_trusted() {
    let (folder, request) = request(&hello());
    for (what, script) in [
        ("no message", "echo hello >&0"),
        ("code, where a plan is wanted", "echo '{\"compiled\":3}' >&0; printf abc >&0"),
        ("more groups than components", "echo '{\"composed\":0}' >&0; echo '{\"composed\":0}' >&0"),
        ("more bytes than there may be", "echo '{\"composed\":99999999999999}' >&0"),
        ("a package that is none", "echo '{\"drafted\":{\"package\":\"{}\",\"warnings\":[]}}' >&0"),
    ] {
        match lying(&format!("{script}; exec sleep 600")).make(&request).await {
            Err(CompileError::InvalidOutput { .. }) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    match lying("echo '{\"composed\":5}' >&0; printf abc >&0").make(&request).await {
        Err(CompileError::Crashed { .. }) => {}
        other => panic!("the child ended in the middle: {other:?}"),
    }
    assert_eq!(entries(&folder), 0);
}

#[tokio::test]
async fn a_tenant_with_many_releases_delays_only_itself() {
    let options = CompilerOptions { children_max: 1, waiting_max: 8, ..compiler(ChildLimits::default()) };
    let compilers = Compilers::new(options);
    let (_folder, request) = request(&hello());
    let of = |name: &str| CompileRequest { tenant: crate::node::tenant(name), ..request.clone() };
    let (greedy, modest) = (of("greedy"), of("modest"));
    let ended = std::sync::Mutex::new(Vec::new());
    let make = async |name: &'static str, request: &CompileRequest| {
        let outcome = compilers.make(request).await;
        ended.lock().unwrap().push((name, outcome.is_ok()));
    };
    futures::join!(make("a", &greedy), make("a", &greedy), make("a", &greedy), make("a", &greedy), make("b", &modest));
    let ended = ended.into_inner().unwrap();
    // At most two requests of tenant `a` may wait, so its last request is refused immediately. Tenant `b` waits for two
    // requests of `a`, and not for all of them.
    assert_eq!(ended, [("a", false), ("a", true), ("a", true), ("b", true), ("a", true)]);
}
