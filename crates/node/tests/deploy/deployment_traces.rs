//! The traces of deployments: their steps, and what a failed step says.

use isomer_admin::{Admin as _, AppApi as _, Caller};
use isomer_api::{ProblemKind, RollbackRequest, Trace, TraceKind, TraceQuery, TraceValue};

use crate::migrating_app::refused;
use crate::node::{TestNode, custom, release, shop};

/// Returns the traces of deployments of the app, the oldest first.
async fn traces(node: &TestNode) -> Vec<Trace> {
    let (tenant, app) = shop();
    let query = TraceQuery { kind: Some(TraceKind::Deployment), ..TraceQuery::default() };
    let page = node.node.clone().traces(tenant.clone(), app.clone(), query).await.unwrap();
    let mut traces = Vec::new();
    for summary in page.traces.into_iter().rev() {
        traces.push(node.node.clone().trace(tenant.clone(), app.clone(), summary.id).await.unwrap());
    }
    traces
}

/// Returns the names of the spans, those of steps in the order of the deployment.
fn names(trace: &Trace) -> Vec<&str> {
    trace.spans.iter().map(|span| span.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_has_a_trace_with_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let report = node.deploy(&release("one")).await.unwrap();
    node.deploy(&release("two")).await.unwrap();
    let (tenant, app) = shop();
    node.node.clone().rollback(Caller::Node, tenant.clone(), app.clone(), RollbackRequest::default()).await.unwrap();
    assert_eq!(node.serving().await, "one");
    let traces = loop {
        // The span of a revision that drains is stored after the deployment has ended.
        let traces = traces(&node).await;
        if traces.iter().skip(1).all(|trace| names(trace).contains(&"drain")) {
            break traces;
        }
        tokio::task::yield_now().await;
    };
    let [first, second, rollback] = &traces[..] else { panic!("three traces: {traces:?}") };
    let steps = ["check", "compile", "write files", "start", "health check", "record", "take over"];
    assert_eq!(names(first), [&["deploy"][..], &steps].concat());
    assert_eq!(names(rollback), [&["rollback"][..], &steps, &["drain"]].concat());
    let drain = second.spans.last().unwrap();
    assert_eq!((drain.name.as_str(), drain.parent.as_ref()), ("drain", Some(&second.spans[0].id)));
    assert_eq!(drain.attributes["isomer.revision"], TraceValue::Text(report.revision.to_string()));
    assert!(!first.summary.failed && !second.summary.failed);
    let root = &first.spans[0].attributes;
    assert_eq!(root["isomer.revision"], TraceValue::Text(report.revision.to_string()));
    assert_eq!(root["isomer.deploy.compiled"], TraceValue::Bool(report.compiled));
    assert!(first.spans[1..].iter().all(|span| span.parent.as_deref() == Some(&*first.spans[0].id)));
    let revisions = node.node.clone().revisions(tenant, app).await.unwrap();
    let of_origin: Vec<_> = revisions.into_iter().map(|revision| revision.origin.unwrap().trace).collect();
    assert_eq!(of_origin, [Some(rollback.summary.id.clone()), Some(second.summary.id.clone())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_step_has_the_reason_of_the_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    // The first deployment of an app is stored only if it succeeds.
    let unhealthy = custom("secret-probe", "", "").healthy_at("/");
    refused(node.deploy(&unhealthy), ProblemKind::Refused).await;
    node.deploy(&release("one")).await.unwrap();
    let problem = refused(node.deploy(&unhealthy), ProblemKind::Refused).await;
    let traces = traces(&node).await;
    let [_, failed] = &traces[..] else { panic!("two traces: {traces:?}") };
    assert_eq!(names(failed), ["deploy", "check", "compile", "write files", "start", "health check"]);
    let failures: Vec<_> = failed.spans.iter().filter_map(|span| span.failure.as_deref()).collect();
    assert_eq!(failures, [&problem.title; 2], "the deployment and its last step failed");
    assert!(failed.summary.failed);
}
