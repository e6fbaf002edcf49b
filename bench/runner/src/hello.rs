//! Small responses over HTTP from one component, and from a component that calls another one.

use anyhow::Result;

use crate::lab::Lab;
use crate::load::{CONNECTIONS, Requests, Run, side_by_side};
use crate::report::Report;

const PATH: Requests = Requests::Path("/");

/// Measures a WASI 0.3 handler in Isomer and in `wasmtime serve`, and a native handler.
pub(crate) fn p3(lab: &Lab) -> Result<Report> {
    let hello = isomer_test_guests::path("http-hello");
    let compiled = lab.precompiled(&hello)?;
    let isomer = lab.start(lab.isomer("isomer", &hello))?;
    let wasmtime = lab.start(lab.wasmtime("wasmtime serve", &compiled, &[]))?;
    let reusing = lab.start(lab.wasmtime("wasmtime serve, more reuse", &compiled, REUSE_AS_ISOMER))?;
    let native = lab.start(lab.native())?;
    let runs = [&isomer, &wasmtime, &reusing, &native].map(|server| Run {
        name: server.name,
        server,
        requests: PATH,
        connections: CONNECTIONS,
    });
    let mut report = Report { subjects: side_by_side(lab, &runs)?, ..Report::default() };
    report.compare("isomer", "wasmtime serve", "requests", "≥ 1.1");
    report.compare("isomer", "wasmtime serve", "p99", "≤ 1");
    report.compare("isomer", "wasmtime serve, more reuse", "requests", "");
    report.compare("isomer", "wasmtime serve, more reuse", "p99", "");
    report.compare("isomer", "native hyper", "requests", "");
    report.notes.push("target: isomer's resident memory ≤ 30 MiB".to_owned());
    Ok(report)
}

/// Makes `wasmtime serve` reuse an instance as often as Isomer does. By default, it handles 128 requests with one
/// instance of a WASI 0.3 handler, and one request with one instance of a WASI 0.2 handler.
const REUSE_AS_ISOMER: &[&str] = &["--max-instance-reuse-count=10000"];

/// Measures a WASI 0.2 handler, with a new instance for each request and with reused instances.
pub(crate) fn p2(lab: &Lab) -> Result<Report> {
    let hello = isomer_test_guests::path("http-hello-p2");
    let compiled = lab.precompiled(&hello)?;
    let manifest = "[app]\nname = \"hello\"\nversion = \"0.1.0\"\n\n\
                    [components.hello]\nwasm = \"hello.wasm\"\nroutes = [\"/...\"]\nreuse = true\n";
    let app = lab.app("hello-p2-reuse", manifest, &[("http-hello-p2", "hello")])?;
    let isomer = lab.start(lab.isomer("isomer 0.2", &hello))?;
    let wasmtime = lab.start(lab.wasmtime("wasmtime serve", &compiled, &[]))?;
    let isomer_reusing = lab.start(lab.isomer("isomer 0.2, more reuse", &app))?;
    let reusing = lab.start(lab.wasmtime("wasmtime serve, more reuse", &compiled, REUSE_AS_ISOMER))?;
    let runs = [&isomer, &wasmtime, &isomer_reusing, &reusing].map(|server| Run {
        name: server.name,
        server,
        requests: PATH,
        connections: CONNECTIONS,
    });
    let mut report = Report { subjects: side_by_side(lab, &runs)?, ..Report::default() };
    report.compare("isomer 0.2", "wasmtime serve", "requests", "≥ 1");
    report.compare("isomer 0.2", "wasmtime serve", "p99", "≤ 1");
    report.compare("isomer 0.2, more reuse", "wasmtime serve, more reuse", "requests", "");
    report.compare("isomer 0.2, more reuse", "wasmtime serve, more reuse", "p99", "");
    report.compare("isomer 0.2", "isomer 0.2, more reuse", "CPU per request", "");
    Ok(report)
}

/// Measures a component that calls another component with which it is fused. The requests per second are compared with
/// those of the same component without a call, of an app of a single component, and of the same composition in
/// `wasmtime serve`.
pub(crate) fn front_calls_back(lab: &Lab) -> Result<Report> {
    let app = lab.ping_pong()?;
    let composed = lab.precompiled(&lab.composed(&app)?)?;
    let hello = lab.start(lab.isomer("isomer", &isomer_test_guests::path("http-hello")))?;
    let fused = lab.start(lab.isomer("isomer ping-pong", &app))?;
    let wasmtime = lab.start(lab.wasmtime("wasmtime serve, composed", &composed, &[]))?;
    let greet = Requests::Path("/greet?name=x");
    let runs = [
        Run { name: "hello, one component", server: &hello, requests: PATH, connections: CONNECTIONS },
        Run { name: "front, without a call", server: &fused, requests: PATH, connections: CONNECTIONS },
        Run { name: "front calls back, fused", server: &fused, requests: greet, connections: CONNECTIONS },
        Run { name: "the same in wasmtime serve", server: &wasmtime, requests: greet, connections: CONNECTIONS },
    ];
    let mut report = Report { subjects: side_by_side(lab, &runs)?, ..Report::default() };
    report.compare("front calls back, fused", "hello, one component", "requests", "≥ 0.95");
    report.compare("front calls back, fused", "front, without a call", "requests", "");
    report.compare("front calls back, fused", "the same in wasmtime serve", "requests", "");
    Ok(report)
}
