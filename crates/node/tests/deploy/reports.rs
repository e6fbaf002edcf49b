//! Tests of what a node reports about an app: the origin of its revisions, why it cannot be loaded, and why a revision
//! of it is refused. Also tests of empty folders in a release.

use std::time::Instant;

use isomer_admin::{Admin as _, AppApi as _, Caller};
use isomer_api::{
    Actor, AppState, LogQuery, ProblemKind, RevisionOperation, RevisionOrigin, RollbackRequest, SwapRequest, TraceKind,
    TraceQuery,
};

use crate::migrating_app::refused;
use crate::node::{PATIENCE, TestNode, app, custom, keep, release, shop, tenant};
use crate::tokens::holder;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plan_is_that_of_the_current_revision() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    let plan = async |node: &TestNode| node.node.clone().plan(tenant.clone(), app.clone()).await;
    assert_eq!(plan(&node).await.unwrap_err().kind, ProblemKind::NotFound);
    node.deploy(&release("one")).await.unwrap();
    keep(folder.path());
    let first = plan(&node).await.unwrap();
    assert_eq!(
        (first["shape"].as_str(), first["groups"][0]["components"].to_string()),
        (Some("monolith"), r#"["it"]"#.into())
    );
    node.deploy(&release("two").healthy_at("/")).await.unwrap();
    assert_eq!(plan(&node).await.unwrap()["groups"], first["groups"]);
    node.stop().await;
    node = TestNode::open(folder.path()).await;
    assert_eq!(plan(&node).await.unwrap()["app"], first["app"], "the plan is read from the node's state");
    let other = node.node.clone().plan(crate::node::tenant("other"), app.clone()).await;
    assert_eq!(other.unwrap_err().kind, ProblemKind::NotFound);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_is_traced_as_its_manifest_says_within_the_limits_of_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    let traces = async || {
        let query = TraceQuery { kind: Some(TraceKind::Request), ..TraceQuery::default() };
        node.node.clone().traces(tenant.clone(), app.clone(), query).await.unwrap().traces.len()
    };
    let deploy = async |sampling: &str| {
        let release = custom("http-hello", "", &format!("[telemetry]\n{sampling}\n"));
        node.deploy(&release).await.unwrap();
    };
    deploy("sample = 0").await;
    assert_eq!(node.get("/").await.0, 200);
    assert_eq!(traces().await, 0);
    deploy("sample = 1\nsamples_per_second = 1000000").await;
    for _ in 0..3 {
        assert_eq!(node.get("/").await.0, 200);
    }
    // A request ends after its response has been received.
    let deadline = Instant::now() + PATIENCE;
    while traces().await < 3 {
        assert!(Instant::now() < deadline, "the requests are not traced");
    }
    deploy("sample = 0").await;
    assert_eq!(node.get("/").await.0, 200);
    assert_eq!(traces().await, 3);
    keep(folder.path());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_list_changes_operation_actor_and_message() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let ((tenant, app), api) = (shop(), || node.node.clone());
    let mut one = release("one");
    one.release.message = Some("The first one".parse().unwrap());
    let first = node.deploy(&one).await.unwrap().revision;
    let mut two = release("two").file("static/a", "text");
    two.release.message = Some("Another one".parse().unwrap());
    let second = node.deploy(&two).await.unwrap().revision;
    let mut other = custom("http-hello", "", "");
    let part = other.release.components.remove("it").unwrap();
    node.upload(&part.digest, other.bytes[&part.digest].clone()).await.unwrap();
    let caller = holder(&tenant);
    let pieces = vec![Ok(other.bytes[&part.digest].clone().into())];
    let body = Box::pin(futures::stream::iter(pieces));
    api().put_blob(caller.clone(), part.digest.clone(), body).await.unwrap();
    let swap = SwapRequest { components: [("it".to_owned(), part)].into(), message: None };
    api().swap(caller, tenant.clone(), app.clone(), swap).await.unwrap();
    let back = RollbackRequest { revision: Some(first.clone()), ..RollbackRequest::default() };
    api().rollback(Caller::Node, tenant.clone(), app.clone(), back).await.unwrap();
    let origins_of = async |node: &TestNode| {
        let revisions = node.node.clone().revisions(tenant.clone(), app.clone()).await.unwrap();
        let origins = revisions.into_iter().map(|info| info.origin.unwrap());
        origins.collect::<Vec<_>>()
    };
    let origins = origins_of(&node).await;
    let hows: Vec<RevisionOperation> = origins.iter().map(|origin| origin.how).collect();
    assert_eq!(
        hows,
        [RevisionOperation::Rollback, RevisionOperation::Swap, RevisionOperation::Deploy],
        "each revision has the origin of its last deployment"
    );
    let messages: Vec<_> = origins.iter().map(|origin| origin.message.as_ref().map(|it| it.as_str())).collect();
    assert_eq!(
        messages,
        [Some("The first one"), None, Some("Another one")],
        "a rollback has the message of the first deployment"
    );
    let firsts = |origins: &[RevisionOrigin]| -> Vec<_> {
        origins.iter().map(|origin| origin.first_message.as_ref().map(|it| it.as_str().to_owned())).collect()
    };
    assert_eq!(firsts(&origins), [None, None, None], "the messages of the first deployments are shown already");
    let by = Actor::Tenant { name: "ci".parse().unwrap(), id: [1; 8].into() };
    assert_eq!((&origins[0].by, &origins[1].by, &origins[2].by), (&Actor::Node, &by, &Actor::Node));
    let changes = |index: usize| origins[index].changes.clone().unwrap();
    assert_eq!((changes(1).changed, changes(1).manifest, changes(1).files), (vec!["it".to_owned()], false, 0));
    assert_eq!((changes(2).changed.len(), changes(2).manifest, changes(2).files), (0, true, 1));
    let all = changes(0);
    assert_eq!((all.changed.len(), all.manifest, all.files), (1, true, 1), "the changes from the previous revision");
    // A later deployment of a revision has its own message, and that of the first deployment is kept.
    for (message, expected) in [(Some("Back again"), "Back again"), (None, "Another one")] {
        for (revision, message) in [(&second, message), (&first, None)] {
            let message = message.map(|text| text.parse().unwrap());
            let back = RollbackRequest { revision: Some(revision.clone()), message, ..RollbackRequest::default() };
            api().rollback(Caller::Node, tenant.clone(), app.clone(), back).await.unwrap();
        }
        let origins = origins_of(&node).await;
        assert_eq!(origins[1].message.as_ref().map(|it| it.as_str()), Some(expected));
        let first = (expected == "Back again").then(|| "Another one".to_owned());
        assert_eq!(firsts(&origins), [None, first, None]);
    }
    node.deploy(&release("two").file("static/a", "text")).await.unwrap();
    let origins = origins_of(&node).await;
    assert_eq!((origins[0].message.as_ref(), firsts(&origins)[0].as_deref()), (None, Some("Another one")));
    // The revision is in service already, so the deployment changes only its message.
    let mut again = release("two").file("static/a", "text");
    again.release.message = Some("Once more".parse().unwrap());
    let report = node.deploy(&again).await.unwrap();
    assert_eq!(report.previous.as_ref(), Some(&report.revision));
    let origins = origins_of(&node).await;
    let message = origins[0].message.as_ref().map(|it| it.as_str());
    assert_eq!((message, firsts(&origins)[0].as_deref()), (Some("Once more"), Some("Another one")));
    keep(folder.path());
    node.stop().await;
    assert_eq!(origins_of(&TestNode::open(folder.path()).await).await, origins, "after a restart, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_load_is_in_the_apps_log_and_status() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    let lines = "grants.dirs = [{ host = \"static\", guest = \"/static\" }]";
    let deployed = node.deploy(&custom("dirs-probe", lines, "").file("static/a", "text")).await.unwrap();
    assert_eq!(node.get("/read?path=/static/a").await, (200, "text".to_owned()));
    keep(folder.path());
    node.stop().await;
    // Remove the files of the revision, as if the disk had lost them.
    std::fs::remove_dir_all(folder.path().join("revisions").join(deployed.revision.as_str()).join("files")).unwrap();
    let node = TestNode::open(folder.path()).await;
    let api = || node.node.clone();
    let info = async || api().app(tenant.clone(), app.clone()).await.unwrap();
    assert_eq!((info().await.state, info().await.failure), (AppState::Idle, None), "no request has loaded the app");
    assert_eq!(node.get("/read?path=/static/a").await.0, 500);
    let failed = info().await;
    let failure = failed.failure.unwrap();
    assert_eq!(failed.state, AppState::Failed);
    assert!(failure.contains("`static`") && !failure.contains(folder.path().to_str().unwrap()), "{failure}");
    assert_eq!(api().apps(None).await.unwrap()[0].state, AppState::Failed);
    let log = async || {
        let lines = api().logs(tenant.clone(), app.clone(), LogQuery::default()).await.unwrap();
        futures::StreamExt::collect::<Vec<_>>(lines).await
    };
    let lines = log().await;
    let line = lines.last().unwrap();
    assert!(
        line.stream == "node" && line.text.contains("cannot be loaded") && line.text.contains("`static`"),
        "{line:?}"
    );
    // When the new revision serves, the node no longer reports the failure of the earlier revision.
    node.deploy(&release("two")).await.unwrap();
    assert_eq!((info().await.state, info().await.failure), (AppState::Loaded, None));
    assert_eq!(node.serving().await, "two");
    // Stopping the app clears its failure.
    assert_eq!(api().stop(tenant.clone(), app.clone()).await.unwrap().failure, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denials_are_in_the_apps_log() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&custom("fetch-probe", "", "")).await.unwrap();
    assert_eq!(node.get("/?url=http://elsewhere.example/").await.0, 502);
    let (tenant, app) = shop();
    let lines = node.node.clone().logs(tenant, app, LogQuery::default()).await.unwrap();
    let lines = futures::StreamExt::collect::<Vec<_>>(lines).await;
    let denied = lines.iter().find(|line| line.text.contains("`elsewhere.example:80` was denied")).unwrap();
    assert_eq!((denied.stream.as_str(), denied.component.as_deref()), ("node", Some("it")));
    keep(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_access_log_it_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&release("one")).await.unwrap();
    let query = LogQuery { access: true, ..LogQuery::default() };
    let logs = node.node.clone().logs(tenant("default"), app("shop"), query);
    let Err(problem) = logs.await else { panic!("the request is not refused") };
    assert_eq!(problem.kind, ProblemKind::NotFound);
    assert!(
        problem.hints[0].contains("--access-log") && !folder.path().join("tenants/default/apps/shop/access").exists()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_folders_exist_on_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let lines =
        "grants.dirs = [{ host = \"static\", guest = \"/static\" }, { host = \"./drop/box\", guest = \"/box\" }]";
    let mut made = custom("dirs-probe", lines, "").file("static/a", "text");
    made.release.folders.insert("static/empty".parse().unwrap());
    node.deploy(&made).await.unwrap();
    assert_eq!(node.get("/list?path=/static").await, (200, "a\nempty\n".to_owned()));
    assert_eq!(node.get("/list?path=/static/empty").await, (200, String::new()));
    assert_eq!(node.get("/list?path=/box").await, (200, String::new()));
    keep(folder.path());
    node.stop().await;
    let node = TestNode::open(folder.path()).await;
    assert_eq!(node.get("/list?path=/static/empty").await, (200, String::new()));
    // If a release names a folder outside of the app's folder, no folder is created.
    let mut outside = custom("dirs-probe", "", "");
    outside.release.manifest += "\n[components.it.grants]\ndirs = [{ host = \"../../x\", guest = \"/x\" }]\n";
    refused(node.deploy(&outside), ProblemKind::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_returned_even_if_the_files_of_the_revision_stay() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    // The node moves the files of a refused revision to the trash. Here, the trash is a file, so this fails.
    std::fs::remove_dir(folder.path().join("trash")).unwrap();
    std::fs::write(folder.path().join("trash"), "").unwrap();
    let problem = refused(node.deploy(&custom("http-trap", "", "").healthy_at("/trap")), ProblemKind::Refused).await;
    assert_eq!(problem.title, "the revision is not healthy");
}
