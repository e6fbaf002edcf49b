//! The shapes of an app, the comparison of two shapes, and advice from measured traffic.

use std::collections::BTreeMap;
use std::ops::Not;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The maximum number of groups of a shape in a [`ShapeRequest`].
pub const GROUPS_MAX: usize = 256;

/// The maximum number of components that the groups and the list `isolate` of a [`ShapeRequest`] name together.
pub const COMPONENTS_MAX: usize = 1024;

/// A shape that the manifest defines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShapeInfo {
    /// The shape's name.
    pub name: String,
    /// Whether the app runs in this shape.
    pub current: bool,
    /// Whether all groups run in one process, as on a node. Seams between groups are then isolated.
    #[serde(default, skip_serializing_if = "is_false")]
    pub in_one_process: bool,
    /// The groups of the shape, each with its compositions.
    pub processes: Vec<ProcessOutline>,
}

/// A group of a shape. It runs in its own process, except on a node, where all groups run in the node's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessOutline {
    /// The group's name.
    pub name: String,
    /// The compositions in the process. Components of one composition are fused and share one wasmtime store; those of
    /// different compositions are isolated from each other.
    pub compositions: Vec<Vec<String>>,
}

/// A shape of the manifest, or an arrangement that the manifest does not define.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShapeRequest {
    /// The name of a shape. If it is set, `groups` and `isolate` must be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// The groups, by name. A component in no group forms a group by itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Vec<String>>,
    /// The components that are isolated, in addition to those that the manifest isolates in every shape.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub isolate: Vec<String>,
}

/// The differences between two arrangements of an app's components, with their estimated cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShapeComparison {
    /// The current shape.
    pub from: String,
    /// The other shape; absent if the manifest does not define it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The seams whose mode changes.
    pub seams: Vec<SeamChange>,
    /// The number of seams whose mode stays the same.
    pub unchanged: u64,
    /// The estimated change of the time of one request in microseconds, on average over all requests: the sum over the
    /// measured seams that change. Negative if requests become faster. Absent if no seam that changes was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_us_per_request: Option<f64>,
    /// Whether the cost is at least `cost_us_per_request`, because the calls of some seams are only measured in sampled
    /// requests.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub is_lower_bound: bool,
    /// The number of seams that change and were not measured, so the estimate does not include them.
    pub unmeasured: u64,
    /// The number of requests from which calls per request were computed.
    pub requests: u64,
    /// The processes of the current shape.
    pub before: Vec<ProcessOutline>,
    /// The processes of the other shape.
    pub after: Vec<ProcessOutline>,
    /// The components whose isolation changes.
    pub isolation: Vec<IsolationChange>,
    /// Why the app cannot run in the other shape; empty if no reason is known.
    pub problems: Vec<String>,
}

/// A seam whose mode changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeamChange {
    /// The importing component.
    pub importer: String,
    /// The exporting component.
    pub exporter: String,
    /// The imported interface.
    pub interface: String,
    /// The current mode: `fused`, `isolated` or `remote`.
    pub before: String,
    /// The other mode.
    pub after: String,
    /// The estimated change of the time of one call in microseconds: the difference between the modes in the published
    /// benchmarks, for a small record.
    pub cost_us_per_call: f64,
    /// The measured number of calls per request; absent if no call was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_request: Option<f64>,
    /// Whether there were more calls than `calls_per_request`, because calls of a fused seam are only measured in sampled
    /// requests.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub is_lower_bound: bool,
}

/// How the isolation of a component changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IsolationChange {
    /// The component.
    pub component: String,
    /// The current number of other components in the component's wasmtime store. A trap in one of them ends the
    /// instances of all of them.
    pub store_before: u32,
    /// The number of other components in the component's wasmtime store in the other shape.
    pub store_after: u32,
    /// The current number of other components in the component's process.
    pub process_before: u32,
    /// The number of other components in the component's process in the other shape.
    pub process_after: u32,
}

/// Advice about the shape of an app, from the traffic since it started in its current shape.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShapeAdvice {
    /// The number of measured requests.
    pub requests: u64,
    /// The mean duration of a request in microseconds; absent without requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_us: Option<f64>,
    /// The pieces of advice, the one with the largest effect first. Empty if nothing was measured that supports advice.
    pub items: Vec<AdviceItem>,
    /// What was not measured, or not often enough for advice.
    pub notes: Vec<String>,
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AdviceItem {
    /// The kind of change.
    pub kind: AdviceKind,
    /// The component that should be fused with its callers, isolated, or moved.
    pub component: String,
    /// The component that calls it; absent if the advice is not about one seam.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The advice in one sentence.
    pub summary: String,
    /// The estimated change of the time of one request in microseconds, on average over all requests. Negative if
    /// requests become faster.
    pub cost_us_per_request: f64,
    /// The measurements that support the advice, as sentences.
    pub evidence: Vec<String>,
    /// How reliable the measurements are.
    pub confidence: Confidence,
}

/// The kinds of advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdviceKind {
    /// Fuse a component with a component that calls it.
    Fuse,
    /// Isolate a component, because it traps or exceeds its deadline.
    Isolate,
    /// Move a component into its own process, because it does most of the work.
    Move,
}

/// How reliable measurements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Enough samples for a rough estimate: at least 100 requests and calls.
    Low,
    /// Enough samples: at least 1,000 requests and calls.
    High,
}

fn is_false(value: &bool) -> bool {
    !value
}
