//! The cost of a call with telemetry off, in a request that is not sampled, and in a sampled request, which records a
//! span for each side of the call.

use std::time::Duration;

use anyhow::Result;
use isomer_bench_workload::{Mode, What};

use super::methods::{self, CallMethod};
use super::runs::Call;
use crate::lab::Lab;
use crate::report::{Report, Series, Subject};
use crate::telemetry::with_mode;

/// The calls of one request. A request has at most 1,000 spans, and a call has up to two.
const CALLS: u32 = 400;

/// The time in which the code with probes is compiled, which runs in the background after the start. Sampled requests
/// use it from then on.
const PROBES_COMPILED: Duration = Duration::from_secs(10);

const KINDS: [(&str, What); 2] = [("add", What::Add), ("small record", What::Lookup)];

/// The lines of the results: the name, the shape, and the value of `--telemetry`.
const LINES: [(&str, &str, &str); 6] = [
    ("fused, off", "monolith", "off"),
    ("fused, not sampled", "monolith", "0"),
    ("fused, sampled", "monolith", "1"),
    ("isolated, off", "isolated", "off"),
    ("isolated, not sampled", "isolated", "0"),
    ("isolated, sampled", "isolated", "1"),
];

/// Measures calls of blocking functions, one at a time.
pub(crate) fn telemetry(lab: &Lab) -> Result<Report> {
    let app = methods::app(lab)?;
    let start = |(name, shape, mode)| {
        Ok(methods::single(name, lab.start(with_mode(lab.isomer_in_shape(name, &app, shape), mode))?))
    };
    let methods: Vec<CallMethod> = LINES.into_iter().map(start).collect::<Result<_>>()?;
    let series = || KINDS.iter().map(|(kind, _)| Series::new(*kind, "ns")).collect();
    let mut subjects: Vec<Subject> = methods.iter().map(|method| method.subject(method.name, series())).collect();
    std::thread::sleep(PROBES_COMPILED);
    // The first round is a warm-up.
    for round in 0..=lab.effort.rounds {
        for (number, (_, what)) in KINDS.into_iter().enumerate() {
            for (method, subject) in methods.iter().zip(&mut subjects) {
                let ns = ns_per_call(lab, method, what)?;
                if round > 0 {
                    subject.series[number].samples.push(ns);
                }
            }
        }
    }
    let mut report = Report { subjects, ..Report::default() };
    for [off, others @ ..] in [
        ["fused, off", "fused, not sampled", "fused, sampled"],
        ["isolated, off", "isolated, not sampled", "isolated, sampled"],
    ] {
        for other in others {
            for (kind, _) in KINDS {
                let target = if other == "fused, not sampled" { "≤ 1.02" } else { "" };
                report.compare(other, off, kind, target);
            }
        }
    }
    report.notes.push(format!("{CALLS} calls per request, measured by the caller's clock"));
    Ok(report)
}

/// Sends requests until their calls have taken long enough for a measurement. Returns the duration of a call in
/// nanoseconds.
fn ns_per_call(lab: &Lab, method: &CallMethod, what: What) -> Result<f64> {
    let call = Call { what, mode: Mode::Sync, size: 0, concurrency: 1 };
    let (mut ns, mut requests) = (0.0, 0_u32);
    while ns * f64::from(CALLS) < f64::from(lab.effort.calling_ms) * 1e6 / 4.0 || requests == 0 {
        ns += call.make(method, CALLS)?.ns_per_call;
        requests += 1;
    }
    Ok(ns / f64::from(requests))
}
