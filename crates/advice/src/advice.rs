//! Which components to fuse, to isolate or to move, with the measurements that support it.

use isomer_api::{AdviceItem, AdviceKind, Confidence, ShapeAdvice};
use isomer_plan::{ArrangedSeam, Arrangement, SeamMode};

use crate::comparison::{Callers, GroupPlacement, callers};
use crate::cost::{FUSED_CALL_US, ISOLATED_CALL_US, REMOTE_CALL_US, call_us};
use crate::traffic::{SeamTraffic, Traffic, mode_name, number, without_version};

/// The minimum number of requests, and of calls of a seam, for advice.
const SAMPLES_MIN: u64 = 100;

/// The number of requests and calls at which advice gets high confidence.
const SAMPLES_HIGH: u64 = 1000;

/// The minimum time that fusing must save, as a fraction of the mean duration of a request.
const SAVING_PART_MIN: f64 = 0.01;

/// The minimum number of faults, and their minimum fraction of the calls, for the advice to isolate a component.
const FAULTS_MIN: u64 = 10;
const FAULT_PART_MIN: f64 = 0.01;

/// The minimum fraction of the time of all requests that a component must use for the advice to move it.
const WORK_PART_MIN: f64 = 0.5;

/// The maximum cost of remote calls, as a fraction of the component's own time, for the advice to move it.
const MOVE_COST_PART_MAX: f64 = 0.02;

/// The maximum number of pieces of advice.
const ITEMS_MAX: usize = 32;

/// The maximum number of seams that the note about unmeasured seams names.
const NAMED_MAX: usize = 8;

/// A seam with its measured calls.
struct Measured<'a> {
    seam: &'a ArrangedSeam,
    traffic: SeamTraffic,
    per_request: f64,
}

/// Returns advice about an app that runs in this arrangement, based on its traffic. If the groups cannot run in
/// processes of their own, there is no advice to move a component.
#[must_use]
pub fn advise(current: &Arrangement, traffic: &Traffic, placement: GroupPlacement) -> ShapeAdvice {
    let traffic = &traffic.clone().with_all_fused_calls(current);
    let current = &placement.arrange(current);
    let mut advice =
        ShapeAdvice { requests: traffic.requests, request_us: traffic.mean_request_us(), ..ShapeAdvice::default() };
    let Some(request_us) = advice.request_us.filter(|_| traffic.requests >= SAMPLES_MIN) else {
        let requests = if traffic.requests == 1 { "request" } else { "requests" };
        advice.notes.push(format!(
            "{} {requests} measured since the app started in this shape; advice needs {SAMPLES_MIN}.",
            traffic.requests
        ));
        return advice;
    };
    let callers = callers(&current.seams);
    let (measured, unmeasured) = measured(current, traffic, &callers);
    let mut items: Vec<_> = measured.iter().filter_map(|seam| fuse(seam, request_us, traffic.requests)).collect();
    items.extend(measured.iter().filter_map(|seam| isolate(seam, traffic.requests)));
    if placement == GroupPlacement::OwnProcesses {
        items.extend(measured.iter().filter_map(|seam| relocate(seam, request_us, traffic.requests)));
    }
    items.sort_by(|one, other| {
        let size = |item: &AdviceItem| item.cost_us_per_request.abs();
        (one.kind == AdviceKind::Move).cmp(&(other.kind == AdviceKind::Move)).then(size(other).total_cmp(&size(one)))
    });
    items.truncate(ITEMS_MAX);
    advice.items = items;
    advice.notes = unmeasured;
    if measured.iter().any(|seam| seam.traffic.is_lower_bound) {
        advice.notes.push(
            "Calls of fused seams are measured only in sampled requests, so there is no advice to move a fused component."
                .to_owned(),
        );
    }
    advice
}

/// Returns the seams that were measured often enough, and a note about the others.
fn measured<'a>(
    current: &'a Arrangement,
    traffic: &Traffic,
    callers: &Callers<'_>,
) -> (Vec<Measured<'a>>, Vec<String>) {
    let (mut measured, mut rare) = (Vec::new(), Vec::new());
    for seam in &current.seams {
        let ArrangedSeam { importer, exporter, interface, mode, .. } = seam;
        let is_only = callers.get(&(exporter.as_str(), without_version(interface))).is_some_and(|all| all.len() == 1);
        let found = traffic.seam((importer, exporter), interface, *mode, is_only);
        match found.and_then(|found| Some((traffic.per_request(found.calls)?, found))) {
            Some((per_request, found)) if found.samples() >= SAMPLES_MIN => {
                measured.push(Measured { seam, traffic: found, per_request });
            }
            _ => rare.push(format!("`{importer}` → `{exporter}`")),
        }
    }
    if rare.is_empty() {
        return (measured, Vec::new());
    }
    let more = rare.len().saturating_sub(NAMED_MAX);
    let seams = if rare.len() == 1 { "seam" } else { "seams" };
    let mut note = format!(
        "No advice about {} {seams} with fewer than {SAMPLES_MIN} measured calls: {}",
        rare.len(),
        rare[..rare.len() - more].join(", ")
    );
    note.push_str(&if more > 0 { format!(", and {more} more.") } else { ".".to_owned() });
    (measured, vec![note])
}

fn confidence(seam: &Measured<'_>, requests: u64) -> Confidence {
    let is_exact = !seam.traffic.is_lower_bound;
    if is_exact && requests >= SAMPLES_HIGH && seam.traffic.samples() >= SAMPLES_HIGH {
        Confidence::High
    } else {
        Confidence::Low
    }
}

/// Returns the mean duration of a call in microseconds.
fn mean_us(seam: &Measured<'_>) -> f64 {
    seam.traffic.call_us / number(seam.traffic.calls)
}

/// Returns the evidence that is part of all advice: how often the seam is called, and how long a call takes.
fn calls(seam: &Measured<'_>, requests: u64) -> Vec<String> {
    let Measured { seam: ArrangedSeam { importer, exporter, mode, .. }, traffic, per_request } = seam;
    let mode = mode_name(*mode);
    let mut evidence = vec![
        format!(
            "`{importer}` called `{exporter}` {}{} times in {requests} requests: {per_request:.2} {mode} calls per request.",
            if traffic.measured_calls.is_some() { "about " } else { "" },
            traffic.calls
        ),
        format!("A call took {} on average, with the work of `{exporter}`.", time(mean_us(seam))),
    ];
    if let Some(samples) = traffic.measured_calls.filter(|samples| *samples < traffic.calls) {
        evidence.push(format!("Fused calls are measured only in sampled requests; these had {samples} of the calls."));
    }
    if traffic.is_lower_bound {
        evidence.push("Fused calls were measured only in sampled requests, so there were more calls.".to_owned());
    }
    evidence
}

fn fuse(measured: &Measured<'_>, request_us: f64, requests: u64) -> Option<AdviceItem> {
    let ArrangedSeam { importer, exporter, mode, .. } = measured.seam;
    if *mode == SeamMode::Fused {
        return None;
    }
    // A call cannot become faster than the work of the callee.
    let saving = (call_us(*mode) - FUSED_CALL_US).min(mean_us(measured)).max(0.0);
    let per_request = saving * measured.per_request;
    if per_request < SAVING_PART_MIN * request_us {
        return None;
    }
    let mut evidence = calls(measured, requests);
    evidence.push(format!(
        "A {} call costs {} in the published benchmarks, and a fused call {}.",
        mode_name(*mode),
        time(call_us(*mode)),
        time(FUSED_CALL_US)
    ));
    Some(AdviceItem {
        kind: AdviceKind::Fuse,
        component: exporter.clone(),
        caller: Some(importer.clone()),
        summary: format!(
            "Fuse `{exporter}` with `{importer}`: this would save about {} of {} per request.",
            time(per_request),
            time(request_us)
        ),
        cost_us_per_request: -per_request,
        evidence,
        confidence: confidence(measured, requests),
    })
}

fn isolate(measured: &Measured<'_>, requests: u64) -> Option<AdviceItem> {
    let ArrangedSeam { importer, exporter, mode, can_part, .. } = measured.seam;
    let SeamTraffic { calls: count, faults, .. } = measured.traffic;
    let part = number(faults) / number(count);
    if *mode != SeamMode::Fused || !can_part || faults < FAULTS_MIN || part < FAULT_PART_MIN {
        return None;
    }
    let cost = (ISOLATED_CALL_US - FUSED_CALL_US) * measured.per_request;
    let mut evidence = calls(measured, requests);
    evidence.push(format!("{faults} of these calls trapped or exceeded their deadline ({:.1} %).", part * 100.0));
    evidence.push(format!("Each trap ends the instance of `{importer}` too, because both share one wasmtime store."));
    Some(AdviceItem {
        kind: AdviceKind::Isolate,
        component: exporter.clone(),
        caller: Some(importer.clone()),
        summary: format!(
            "Isolate `{exporter}`: its faults would no longer end `{importer}`, at {} {} per request.",
            if measured.traffic.is_lower_bound { "a cost of at least" } else { "about" },
            time(cost)
        ),
        cost_us_per_request: cost,
        evidence,
        confidence: confidence(measured, requests),
    })
}

/// Returns the advice to move a component that does most of the work into its own process. Returns no advice if only
/// some of the calls were measured, because the component's fraction of the work is then unknown.
fn relocate(measured: &Measured<'_>, request_us: f64, requests: u64) -> Option<AdviceItem> {
    let ArrangedSeam { importer, exporter, mode, can_part, .. } = measured.seam;
    if measured.traffic.is_lower_bound {
        return None;
    }
    let work = mean_us(measured);
    let part = work * measured.per_request / request_us;
    let cost = REMOTE_CALL_US - call_us(*mode);
    if *mode == SeamMode::Remote || !can_part || part < WORK_PART_MIN || cost > MOVE_COST_PART_MAX * work {
        return None;
    }
    let mut evidence = calls(measured, requests);
    evidence.push(format!("Calls of `{exporter}` are {:.0} % of the time of all requests.", (part * 100.0).min(100.0)));
    evidence.push(format!(
        "In its own process, a call would take about {} longer ({:.1} %), and the processor time and memory of `{exporter}` would be separate.",
        time(cost),
        cost / work * 100.0
    ));
    Some(AdviceItem {
        kind: AdviceKind::Move,
        component: exporter.clone(),
        caller: Some(importer.clone()),
        summary: format!(
            "`{exporter}` is worth its own process: it does {:.0} % of the work, and moving it costs about {} per request.",
            (part * 100.0).min(100.0),
            time(cost * measured.per_request)
        ),
        cost_us_per_request: cost * measured.per_request,
        evidence,
        confidence: confidence(measured, requests),
    })
}

/// Formats a time. `us` is in microseconds.
fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e4 => format!("{:.0} ms", us / 1e3),
        us if us >= 1e3 => format!("{:.1} ms", us / 1e3),
        us if us >= 10.0 => format!("{us:.0} µs"),
        us => format!("{us:.1} µs"),
    }
}
