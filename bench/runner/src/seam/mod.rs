//! The cost of a call over a seam in every mode and over every transport, compared with other methods of making the
//! same call.
//!
//! One app of two components runs fused, isolated, in two processes over a Unix socket, and as two groups over HTTP/2,
//! in plain text and with mutual TLS. It is compared with the same components composed and run by `wasmtime serve`, the
//! same components linked by dynamic values, and gRPC between native programs. All of them serve `GET /run?…`. The
//! response contains the duration of the calls by the caller's clock, and the checksum of all results, which must be
//! correct.
//!
//! In this module, a *method* is one of these modes, transports and alternatives by which the same call is made.

mod methods;
mod plot;
mod publish;
mod runs;
mod telemetry;

use anyhow::Result;
use isomer_bench_workload::{Mode, What};

use crate::lab::Lab;
use crate::report::{Report, Series, Subject};
use methods::CallMethod;
pub(crate) use publish::publish;
use runs::Call;
pub(crate) use telemetry::telemetry;

/// A kind of call: a function and the size of its payload.
struct Kind {
    name: &'static str,
    what: What,
    size: u32,
}

/// All kinds of calls, from small to large payloads.
const KINDS: [Kind; 6] = [
    Kind { name: "add", what: What::Add, size: 0 },
    Kind { name: "small record", what: What::Lookup, size: 0 },
    Kind { name: "1 KiB of bytes", what: What::Echo, size: 1 << 10 },
    Kind { name: "64 KiB of bytes", what: What::Echo, size: 64 << 10 },
    Kind { name: "1 MiB of bytes", what: What::Echo, size: 1 << 20 },
    Kind { name: "100 records", what: What::All, size: 100 },
];

/// The most common kinds of calls, which are also measured under load.
const LOADED: [&str; 2] = ["small record", "1 KiB of bytes"];

/// The numbers of concurrent calls under load.
const CONCURRENCIES: [u32; 3] = [1, 16, 256];

/// Measures calls of blocking functions, one at a time.
pub(super) fn calls(lab: &Lab) -> Result<Report> {
    one_by_one(lab, Mode::Sync)
}

/// Measures calls of `async func`s, one at a time.
pub(super) fn async_calls(lab: &Lab) -> Result<Report> {
    one_by_one(lab, Mode::Async)
}

fn one_by_one(lab: &Lab, mode: Mode) -> Result<Report> {
    let methods = methods::all(lab)?;
    let mut subjects: Vec<Subject> = methods.iter().map(|method| method.subject(method.name, kinds_in_us())).collect();
    for (number, kind) in KINDS.iter().enumerate() {
        let call = Call { what: kind.what, mode, size: kind.size, concurrency: 1 };
        // For each method, increasing numbers of calls are made, to find the number that fills a round. These calls
        // also warm the method up.
        let mut counts = Vec::new();
        for method in &methods {
            counts.push(call.count_for(method, lab.effort.calling_ms)?);
        }
        for _ in 0..lab.effort.rounds {
            for ((method, count), subject) in methods.iter().zip(&counts).zip(&mut subjects) {
                subject.series[number].samples.push(call.make(method, *count)?.ns_per_call / 1e3);
            }
        }
        println!("   {}", kind.name);
    }
    let mut report = Report { subjects, ..Report::default() };
    for Kind { name, .. } in &KINDS {
        report.compare(methods::FUSED, methods::COMPOSED, name, "≤ 1.05");
    }
    for Kind { name, .. } in &KINDS {
        report.compare(methods::ISOLATED, methods::DYNAMIC, name, "≤ 1");
    }
    for (ours, theirs) in methods::REMOTE_AND_GRPC {
        for Kind { name, .. } in &KINDS {
            report.compare(ours, theirs, name, "≤ 1");
        }
    }
    report.notes = vec![
        "targets of isolated calls: small record ≤ 1.5 µs, then ≤ 1.0 µs; 64 KiB sent and returned ≤ 150 µs".to_owned(),
        "each payload is sent and returned; 100 records are only returned".to_owned(),
    ];
    Ok(report)
}

fn kinds_in_us() -> Vec<Series> {
    KINDS.iter().map(|kind| Series::new(kind.name, "µs")).collect()
}

/// Measures concurrent calls of `async func`s: calls per second, and processor time per call.
pub(super) fn load(lab: &Lab) -> Result<Report> {
    let methods = methods::loaded(lab)?;
    let lines: Vec<(&CallMethod, u32)> =
        CONCURRENCIES.iter().flat_map(|concurrency| methods.iter().map(move |method| (method, *concurrency))).collect();
    let series = || {
        let both = |kind: &&str| [Series::new(*kind, "1/s"), Series::new(format!("{kind}, CPU per call"), "µs")];
        LOADED.iter().flat_map(both).collect()
    };
    let mut subjects: Vec<Subject> = lines
        .iter()
        .map(|(method, concurrency)| method.subject(&in_flight(method.name, *concurrency), series()))
        .collect();
    for (number, name) in LOADED.iter().enumerate() {
        let Some(kind) = KINDS.iter().find(|kind| kind.name == *name) else { continue };
        let call = |concurrency| Call { what: kind.what, mode: Mode::Async, size: kind.size, concurrency };
        let mut counts = Vec::new();
        for (method, concurrency) in &lines {
            counts.push(call(*concurrency).count_for(method, lab.effort.call_load_ms)?);
        }
        for round in 1..=lab.effort.rounds {
            for (((method, concurrency), count), subject) in lines.iter().zip(&counts).zip(&mut subjects) {
                let cpu_before = method.cpu()?;
                let made = call(*concurrency).make(method, *count)?;
                let cpu = method.cpu()?.saturating_sub(cpu_before);
                subject.series[2 * number].samples.push(1e9 / made.ns_per_call);
                subject.series[2 * number + 1].samples.push(cpu.as_secs_f64() * 1e6 / f64::from(*count));
            }
            println!("   {round}/{} {name}", lab.effort.rounds);
        }
    }
    let mut report = Report { subjects, ..Report::default() };
    for (ours, theirs) in methods::REMOTE_AND_GRPC {
        for concurrency in CONCURRENCIES {
            let (ours, theirs) = (in_flight(ours, concurrency), in_flight(theirs, concurrency));
            for name in LOADED {
                report.compare(&ours, &theirs, name, "≥ 1");
                report.compare(&ours, &theirs, &format!("{name}, CPU per call"), "≤ 1");
            }
        }
    }
    report.notes.push("CPU: of all processes on both sides, user and kernel".to_owned());
    Ok(report)
}

fn in_flight(method: &str, concurrency: u32) -> String {
    format!("{method}, {concurrency} in flight")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaded_kinds_exist() {
        assert!(LOADED.iter().all(|name| KINDS.iter().any(|kind| kind.name == *name)));
    }
}
