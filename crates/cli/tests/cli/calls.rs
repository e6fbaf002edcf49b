//! Tests of calls across one seam in each shape: every kind of call returns the right result, sequentially and
//! concurrently.

use isomer_bench_workload::{Mode, What, Work, expected};

use crate::support::Workspace;

const MANIFEST: &str = r#"[app]
name = "seam-bench"
version = "0.1.0"

[components.caller]
wasm = "caller.wasm"
routes = ["/..."]

[components.callee]
wasm = "callee.wasm"

[shapes.isolated]
isolate = ["callee"]

[shapes.split.groups]
front = ["caller"]
back = ["callee"]
"#;

fn answers_are_right_in(shape: &str) {
    let workspace = Workspace::with_manifest(MANIFEST);
    workspace.guest("seam-bench-caller", "caller.wasm");
    workspace.guest("seam-bench-callee", "callee.wasm");
    let server = workspace.serve(&["run", "--shape", shape]);
    for (what, size) in [(What::Add, 0), (What::Lookup, 0), (What::Echo, 1), (What::Echo, 70_000), (What::All, 100)] {
        for (mode, concurrency) in [(Mode::Sync, 1), (Mode::Async, 1), (Mode::Async, 20)] {
            let work = Work { what, mode, calls: 45, size, concurrency };
            let (status, answer) = server.get(&format!("/run?{work}"));
            let right = format!("\"checksum\":\"{:016x}\"", expected(work));
            assert!(status == 200 && answer.contains(&right), "{shape}, {work}: {status} {answer}");
        }
    }
}

#[test]
fn fused_calls_return_the_right_results() {
    answers_are_right_in("monolith");
}

#[test]
fn isolated_calls_return_the_right_results() {
    answers_are_right_in("isolated");
}

#[test]
fn remote_calls_return_the_right_results() {
    answers_are_right_in("split");
}
