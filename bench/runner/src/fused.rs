//! The cost of a call between two fused components, compared with the same composition in `wasmtime serve`.
//!
//! One request makes one component call the other component many times. The duration of the same request without a call
//! is subtracted. Each call passes a string and returns a record with a string, so allocation and copying are included.
//! Isomer can stop guest code at the deadline of a request, so the compiled code checks for the deadline at every loop
//! and function entry. Therefore `wasmtime serve` is measured both without and with a deadline.

use anyhow::Result;

use crate::http;
use crate::lab::Lab;
use crate::report::{Report, Series, Subject};

pub(crate) fn run(lab: &Lab) -> Result<Report> {
    let app = lab.ping_pong()?;
    let composed = lab.composed(&app)?;
    let compiled = lab.precompiled(&composed)?;
    let stoppable = lab.precompiled_to_be_stopped(&composed)?;
    let servers = [
        lab.start(lab.isomer("isomer ping-pong", &app))?,
        lab.start(lab.wasmtime("wasmtime serve, composed", &compiled, &[]))?,
        lab.start(lab.wasmtime("wasmtime serve, with a deadline", &stoppable, &["-Wtimeout=30s"]))?,
    ];
    let mut subjects: Vec<Subject> = Vec::new();
    for server in &servers {
        let series = vec![Series::new("call", "ns")];
        subjects.push(Subject { name: server.name.to_owned(), command: server.line.clone(), series });
    }
    let calls = lab.effort.calls;
    // The rounds are short, so there are twice as many as usual. The first round is a warm-up.
    for round in 0..=2 * lab.effort.rounds {
        for (server, subject) in servers.iter().zip(&mut subjects) {
            let without = http::get(server.address, "/many?n=0")?.whole;
            let with = http::get(server.address, &format!("/many?n={calls}"))?.whole;
            if round > 0 {
                let call_ns = with.saturating_sub(without).as_secs_f64() * 1e9 / f64::from(calls);
                subject.series[0].samples.push(call_ns);
            }
        }
    }
    let mut report = Report { subjects, ..Report::default() };
    report.compare("isomer ping-pong", "wasmtime serve, composed", "call", "≤ 1.05");
    report.compare("isomer ping-pong", "wasmtime serve, with a deadline", "call", "");
    Ok(report)
}
