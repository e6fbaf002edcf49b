//! The trace of a deployment: one span for each of its steps. It is stored with the traces of the app.
//!
//! The node reports only the completion of a step ([`ChangeStep`]). So the span of a step starts when the previous step
//! is completed.
//!
//! The revision that is replaced finishes its requests after the deployment has ended. Its span is a separate fragment,
//! which is stored when the revision has drained.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isomer_api::{ApiProblem, DeployReport, ProblemKind, RevisionOperation};
use isomer_apps::tenancy::RetiredRevision;
use isomer_ids::ReleaseDigest;
use isomer_telemetry::{
    ActiveSpan, RequestId, SamplingPolicy, SpanKind, TraceContext, TraceFragment, TraceId, TraceSink, Tracer, semantics,
};

use crate::node::Node;
use crate::steps::ChangeStep;

/// Every deployment is traced.
const POLICY: SamplingPolicy = SamplingPolicy { ratio: 1.0, per_second_max: u32::MAX, slow: Duration::MAX };

/// The maximum time that the span of a draining revision takes. If requests still run then, the span fails.
const DRAIN_MAX: Duration = Duration::from_secs(600);

/// The interval between two checks whether a revision has drained. Its last request notifies no task.
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// The name of the span of a draining revision.
const DRAIN: &str = "drain";

/// The trace of a deployment in progress.
pub(super) struct DeploymentTrace {
    request: RequestId,
    recorded: Arc<RecordedTrace>,
    spans: Mutex<DeploymentSpans>,
}

struct DeploymentSpans {
    root: ActiveSpan,
    /// The span of the step in progress, and the step that completes it.
    current: Option<(ActiveSpan, ChangeStep)>,
    drain: Option<DrainSpan>,
}

/// The span of a revision that has left service and finishes its requests.
pub(super) struct DrainSpan {
    recorded: Arc<RecordedTrace>,
    span: ActiveSpan,
    retired: RetiredRevision,
}

/// Keeps the trace until the deployment has ended, because a new app has no traces before it is recorded.
#[derive(Default)]
struct RecordedTrace(Mutex<Option<TraceFragment>>);

impl TraceSink for RecordedTrace {
    fn record(&self, fragment: TraceFragment) {
        *lock(&self.0) = Some(fragment);
    }
}

impl DeploymentTrace {
    /// Starts the trace of an operation that brings `revision` into service. `action` is the number of the operation in
    /// the audit log.
    pub(super) fn begin(operation: RevisionOperation, revision: &ReleaseDigest, action: Option<u64>) -> Self {
        let recorded = Arc::new(RecordedTrace::default());
        let tracer = Tracer::new(None, POLICY, recorded.clone());
        let request = RequestId::random();
        let mut root = tracer.begin_request(None, false, request, "", Instant::now());
        let name = operation_name(operation);
        root.rename(name);
        root.set_kind(SpanKind::Internal);
        root.set(semantics::DEPLOY_OPERATION, name);
        root.set(semantics::REVISION, revision.to_string());
        if let Some(action) = action {
            root.set(semantics::AUDIT_ACTION, action);
        }
        let spans = Mutex::new(DeploymentSpans { root, current: None, drain: None });
        let trace = Self { request, recorded, spans };
        trace.expect(ChangeStep::Checked);
        trace
    }

    /// Returns the ids of the trace and of its first span.
    pub(super) fn context(&self) -> TraceContext {
        lock(&self.spans).root.context().trace()
    }

    /// Returns the id of the trace.
    pub(super) fn id(&self) -> TraceId {
        lock(&self.spans).root.context().trace().trace_id
    }

    /// Ends the span of the step in progress, which is `step`, and starts the span of the step that usually follows.
    pub(super) fn completed(&self, node: &Node, step: ChangeStep) {
        node.step(step);
        let mut spans = lock(&self.spans);
        spans.end_step(step);
        if let Some(next) = next(step) {
            spans.begin_step(next);
        }
    }

    /// Changes the expected step of the span in progress. Used if the step that follows is not the usual one.
    pub(super) fn expect(&self, step: ChangeStep) {
        let mut spans = lock(&self.spans);
        match &mut spans.current {
            Some((_, expected)) => *expected = step,
            None => spans.begin_step(step),
        }
    }

    /// Starts the span of the revision that leaves service now. `revision` is its digest.
    pub(super) fn retired(&self, retired: Option<RetiredRevision>, revision: Option<&ReleaseDigest>) {
        let Some(retired) = retired else { return };
        let recorded = Arc::new(RecordedTrace::default());
        let tracer = Tracer::new(None, POLICY, recorded.clone());
        let mut spans = lock(&self.spans);
        let context = tracer.continue_call(spans.root.context().trace(), self.request);
        let mut span = context.begin(DRAIN, SpanKind::Internal);
        span.set(semantics::DEPLOY_STEP, DRAIN);
        if let Some(revision) = revision {
            span.set(semantics::REVISION, revision.to_string());
        }
        spans.drain = Some(DrainSpan { recorded, span, retired });
    }

    /// Ends the trace. Returns its spans, if there are any, and the span of the revision that drains, if there is one.
    pub(super) fn end(self, outcome: &Result<DeployReport, ApiProblem>) -> (Option<TraceFragment>, Option<DrainSpan>) {
        let DeploymentSpans { mut root, current, drain } =
            self.spans.into_inner().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(report) => {
                root.set(semantics::DEPLOY_COMPILED, report.compiled);
                // After the last step, or if there was nothing to do, the next step does not take place.
                if let Some((span, _)) = current {
                    span.discard();
                }
            }
            Err(problem) => {
                let reason = reason(problem);
                if let Some((mut span, step)) = current {
                    name_step(&mut span, step);
                    span.fail(reason.clone());
                    span.end();
                }
                root.fail(reason);
            }
        }
        drop(root);
        (lock(&self.recorded.0).take(), drain)
    }
}

impl DrainSpan {
    /// Waits until the revision has drained, but no longer than [`DRAIN_MAX`]. Returns the span.
    pub(super) async fn drained(self) -> Option<TraceFragment> {
        let Self { recorded, mut span, retired } = self;
        let drained = async {
            while !retired.is_drained() {
                tokio::time::sleep(DRAIN_CHECK_INTERVAL).await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            span.fail(format!("requests still run after {} s", DRAIN_MAX.as_secs()));
        }
        span.end();
        lock(&recorded.0).take()
    }
}

impl DeploymentSpans {
    fn begin_step(&mut self, step: ChangeStep) {
        self.current = Some((self.root.context().begin("", SpanKind::Internal), step));
    }

    fn end_step(&mut self, step: ChangeStep) {
        if let Some((mut span, _)) = self.current.take() {
            name_step(&mut span, step);
            span.end();
        }
    }
}

fn name_step(span: &mut ActiveSpan, step: ChangeStep) {
    let name = step_name(step);
    span.rename(name);
    span.set(semantics::DEPLOY_STEP, name);
}

/// Returns the reason for a failure as the app's tenant may see it. A failure of the node itself can contain paths of the
/// node, so its reason is only in the node's log.
fn reason(problem: &ApiProblem) -> String {
    match problem.kind {
        ProblemKind::Failed => "the node failed; see the node's log".to_owned(),
        _ => problem.title.clone(),
    }
}

pub(super) fn operation_name(operation: RevisionOperation) -> &'static str {
    match operation {
        RevisionOperation::Deploy => "deploy",
        RevisionOperation::Swap => "swap",
        RevisionOperation::Rollback => "rollback",
        RevisionOperation::Reshape => "reshape",
    }
}

/// Returns what the node does until the step is completed.
fn step_name(step: ChangeStep) -> &'static str {
    match step {
        ChangeStep::Checked => "check",
        ChangeStep::Packed => "compile",
        ChangeStep::LaidOut => "write files",
        ChangeStep::Started => "start",
        ChangeStep::Healthy => "health check",
        ChangeStep::Held => "hold requests",
        ChangeStep::Noted => "write intent",
        ChangeStep::Staged => "prepare stores",
        ChangeStep::Recorded => "record",
        ChangeStep::Switched => "replace stores",
        ChangeStep::TookOver => "take over",
        ChangeStep::RemovalNoted
        | ChangeStep::Forgotten
        | ChangeStep::Unloaded
        | ChangeStep::DataSetAside
        | ChangeStep::DataRemoved => "remove",
    }
}

/// Returns the step that usually follows.
fn next(step: ChangeStep) -> Option<ChangeStep> {
    Some(match step {
        ChangeStep::Checked => ChangeStep::Packed,
        ChangeStep::Packed => ChangeStep::LaidOut,
        ChangeStep::LaidOut => ChangeStep::Started,
        ChangeStep::Started => ChangeStep::Healthy,
        ChangeStep::Healthy | ChangeStep::Staged => ChangeStep::Recorded,
        ChangeStep::Held => ChangeStep::Noted,
        ChangeStep::Noted => ChangeStep::Staged,
        ChangeStep::Recorded | ChangeStep::Switched => ChangeStep::TookOver,
        _ => return None,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
