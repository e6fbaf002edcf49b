//! What the metrics of an app say about its requests and seams.

use std::collections::BTreeMap;

use isomer_api::{MetricsReport, SeriesReport};
use isomer_plan::{Arrangement, SeamMode};

/// The outcomes of calls that are faults of the callee.
const FAULTS: [&str; 2] = ["trap", "deadline"];

/// The measured requests and calls of an app.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// The number of requests that a component handled.
    pub requests: u64,
    /// The total duration of these requests in microseconds.
    pub request_us: f64,
    /// The measured calls, by the seam.
    pub seams: BTreeMap<SeamKey, SeamTraffic>,
    /// The requests and calls that each composition with fused seams has served, by the name of its group.
    pub runs: BTreeMap<String, GroupRuns>,
}

/// The requests and calls that one composition has served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupRuns {
    /// The number of these requests and calls whose fused calls were measured.
    pub measured: u64,
    /// The number of these requests and calls whose fused calls were not measured.
    pub unmeasured: u64,
}

/// A pair of components between which calls were measured, with the interface. The interface has no version, because
/// metrics do not contain versions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeamKey {
    /// The calling component; empty if it is not known, as for fused calls.
    pub caller: String,
    /// The called component.
    pub callee: String,
    /// The interface, without its version.
    pub interface: String,
    /// The mode in which the calls ran. After a change of the seam's mode, calls in the earlier mode do not predict the
    /// duration of later calls.
    pub mode: String,
}

/// The measured calls of one seam.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeamTraffic {
    /// The number of calls.
    pub calls: u64,
    /// The total duration of the calls in microseconds, with the work of the callee.
    pub call_us: f64,
    /// The number of calls that trapped or exceeded their deadline.
    pub faults: u64,
    /// Whether some calls were measured only in sampled requests, so that the actual number of calls is higher.
    pub is_lower_bound: bool,
    /// The number of calls that were measured, if the other numbers are estimated from them.
    pub measured_calls: Option<u64>,
}

impl SeamTraffic {
    /// Returns the number of calls that were measured.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.measured_calls.unwrap_or(self.calls)
    }
}

impl Traffic {
    /// Returns the traffic of the app `app` of `tenant`. `None` matches every name.
    #[must_use]
    pub fn of(report: &MetricsReport, tenant: Option<&str>, app: Option<&str>) -> Self {
        let is_wanted = |series: &&SeriesReport| {
            let is = |label: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| series.label(label) == wanted);
            is("tenant", tenant) && is("app", app)
        };
        let mut traffic = Self::default();
        let requests = report.series("http.server.request.duration").iter().filter(is_wanted);
        // A request that was refused before its route was found has no component.
        for series in requests.filter(|series| !series.label("component").is_empty()) {
            traffic.requests = traffic.requests.saturating_add(series.count());
            traffic.request_us += series.value * 1e6;
        }
        for series in report.series("rpc.client.call.duration").iter().filter(is_wanted) {
            let label = |name: &str| series.label(name).to_owned();
            let interface = without_version(series.label("interface")).to_owned();
            let key = SeamKey { caller: label("caller"), callee: label("callee"), interface, mode: label("mode") };
            let seam = traffic.seams.entry(key).or_default();
            seam.calls = seam.calls.saturating_add(series.count());
            seam.call_us += series.value * 1e6;
            seam.is_lower_bound |= series.label("sampled") == "true";
            if FAULTS.contains(&series.label("outcome")) {
                seam.faults = seam.faults.saturating_add(series.count());
            }
        }
        for series in report.series("isomer.group.runs").iter().filter(is_wanted) {
            let runs = traffic.runs.entry(series.label("group").to_owned()).or_default();
            let count = match series.label("sampled") {
                "true" => &mut runs.measured,
                _ => &mut runs.unmeasured,
            };
            *count = count.saturating_add(whole(series.value));
        }
        traffic
    }

    /// Returns the traffic after `earlier`, which is an earlier result of [`Traffic::of`] for the same app. Used to leave
    /// out what was measured in another shape.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        // Near the maximum number of series, those of an app that is not in memory are removed, and all of them start again
        // from zero when the app is loaded. Then nothing in them is from before.
        if self.requests < earlier.requests {
            return self;
        }
        self.requests = self.requests.saturating_sub(earlier.requests);
        self.request_us = (self.request_us - earlier.request_us).max(0.0);
        for (key, seam) in &mut self.seams {
            let Some(earlier) = earlier.seams.get(key) else { continue };
            seam.calls = seam.calls.saturating_sub(earlier.calls);
            seam.call_us = (seam.call_us - earlier.call_us).max(0.0);
            seam.faults = seam.faults.saturating_sub(earlier.faults);
        }
        for (group, runs) in &mut self.runs {
            let Some(earlier) = earlier.runs.get(group) else { continue };
            runs.measured = runs.measured.saturating_sub(earlier.measured);
            runs.unmeasured = runs.unmeasured.saturating_sub(earlier.unmeasured);
        }
        self
    }

    /// Returns the traffic with an estimate of all fused calls instead of the measured ones. For example, if a
    /// composition has served ten requests, and the fused calls of two of them were measured, the estimate is five
    /// times the measured number. `current` is the arrangement that was measured. If no request was measured, the
    /// number stays a lower bound.
    #[must_use]
    pub fn with_all_fused_calls(mut self, current: &Arrangement) -> Self {
        for (key, seam) in &mut self.seams {
            if !seam.is_lower_bound {
                continue;
            }
            let Some(runs) = runs_of(&self.runs, current, &key.callee).filter(|runs| runs.measured > 0) else {
                continue;
            };
            let factor = number(runs.measured.saturating_add(runs.unmeasured)) / number(runs.measured);
            seam.measured_calls = Some(seam.calls);
            seam.calls = whole(number(seam.calls) * factor);
            seam.call_us *= factor;
            seam.faults = whole(number(seam.faults) * factor);
            seam.is_lower_bound = false;
        }
        self
    }

    /// Returns the mean duration of a request in microseconds; `None` without requests.
    #[must_use]
    pub fn mean_request_us(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.request_us / number(self.requests))
    }

    /// Returns the calls from `caller` to `callee` over `interface` that were measured in the mode `mode`. Calls whose caller is not known belong to
    /// the seam if `is_only_caller`: no other component calls this interface of the callee.
    #[must_use]
    pub fn seam(
        &self,
        (caller, callee): (&str, &str),
        interface: &str,
        mode: SeamMode,
        is_only_caller: bool,
    ) -> Option<SeamTraffic> {
        let key = |caller: &str| SeamKey {
            caller: caller.to_owned(),
            callee: callee.to_owned(),
            interface: without_version(interface).to_owned(),
            mode: mode_name(mode).to_owned(),
        };
        let known = self.seams.get(&key(caller));
        let unknown = if is_only_caller { self.seams.get(&key("")) } else { None };
        let mut found = known.into_iter().chain(unknown).cloned();
        let first = found.next()?;
        let sum = found.fold(first, |sum, other| SeamTraffic {
            calls: sum.calls.saturating_add(other.calls),
            call_us: sum.call_us + other.call_us,
            faults: sum.faults.saturating_add(other.faults),
            is_lower_bound: sum.is_lower_bound || other.is_lower_bound,
            measured_calls: match (sum.measured_calls, other.measured_calls) {
                (None, None) => None,
                _ => Some(sum.samples().saturating_add(other.samples())),
            },
        });
        (sum.calls > 0).then_some(sum)
    }

    /// Returns a number of calls per request; `None` without requests.
    #[must_use]
    pub fn per_request(&self, calls: u64) -> Option<f64> {
        (self.requests > 0).then(|| number(calls) / number(self.requests))
    }
}

/// Returns the name of an interface without its version.
pub(crate) fn without_version(interface: &str) -> &str {
    interface.split_once('@').map_or(interface, |(name, _)| name)
}

/// Returns the name of a mode in labels.
#[must_use]
pub fn mode_name(mode: SeamMode) -> &'static str {
    match mode {
        SeamMode::Fused => "fused",
        SeamMode::Isolated => "isolated",
        SeamMode::Remote => "remote",
    }
}

/// Returns the requests and calls that the composition of the component `callee` has served. A composition has the name
/// of its group, or of one of its components if they are isolated from the rest of the group.
fn runs_of(runs: &BTreeMap<String, GroupRuns>, current: &Arrangement, callee: &str) -> Option<GroupRuns> {
    let composition = current.compositions.iter().find(|it| it.components.contains(callee))?;
    let by_component = composition.components.iter().find_map(|component| runs.get(component));
    by_component.or_else(|| runs.get(&composition.process)).copied()
}

/// Converts a stored or estimated count to a floating-point number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are not negative")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "the results are estimates")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
