//! Tests with `kill -9` after every step of a change of an app: afterwards, the app serves either the complete old
//! revision or the complete new one.
//!
//! The test runs itself as a child process, which opens the node, makes one change, and kills itself after one step of
//! the change. Then the parent opens the data directory.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use isomer_admin::{Admin as _, Caller};
use isomer_api::{QuotaChange, RollbackRequest, SwapRequest, TenantChange};
use isomer_node::ChangeStep;

use crate::migration::MigratingChange;
use crate::node::{TestNode, Watch, custom, keep, release, shop, tenant};

const VARIABLE: &str = "ISOMER_TEST_CRASH";
const SIGKILL: i32 = 9;

/// A change of the test's app, whose current revision is `two` and whose previous revision is `one`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AppChange {
    Deploy,
    DeployElsewhere,
    Rollback,
    Swap,
    Stop,
    /// Start the app, which was stopped.
    Start,
    Remove,
}

const ALL: [AppChange; 7] = [
    AppChange::Deploy,
    AppChange::DeployElsewhere,
    AppChange::Rollback,
    AppChange::Swap,
    AppChange::Stop,
    AppChange::Start,
    AppChange::Remove,
];

impl AppChange {
    async fn run(self, node: &TestNode) {
        let (tenant, app) = shop();
        let api = node.node.clone();
        match self {
            Self::Deploy => drop(node.deploy(&release("three").file("static/a", "text")).await.unwrap()),
            Self::DeployElsewhere => {
                let mut made = release("two");
                made.release.hosts = Some(vec!["shop.example".parse().unwrap(), "more.example".parse().unwrap()]);
                node.deploy(&made).await.unwrap();
            }
            Self::Rollback => drop(api.rollback(Caller::Node, tenant, app, RollbackRequest::default()).await.unwrap()),
            Self::Swap => {
                let mut hello = custom("http-hello", "", "");
                let part = hello.release.components["it"].clone();
                node.upload(&part.digest, hello.bytes.remove(&part.digest).unwrap()).await.unwrap();
                api.swap(
                    Caller::Node,
                    tenant,
                    app,
                    SwapRequest { components: [("it".to_owned(), part)].into(), message: None },
                )
                .await
                .unwrap();
            }
            Self::Stop => drop(api.stop(tenant, app).await.unwrap()),
            Self::Start => drop(api.start(tenant, app).await.unwrap()),
            Self::Remove => api.remove(tenant, app, true).await.unwrap(),
        }
    }

    /// Returns the app's response before the change.
    fn response_before(self) -> (u16, &'static str) {
        if self == Self::Start { (503, "") } else { (200, "env=REVISION=two") }
    }

    /// Returns the app's response after the change.
    fn response(self) -> (u16, &'static str) {
        match self {
            Self::Deploy => (200, "env=REVISION=three"),
            Self::DeployElsewhere | Self::Start => (200, "env=REVISION=two"),
            Self::Rollback => (200, "env=REVISION=one"),
            Self::Swap => (200, "hello from WASI 0.3"),
            Self::Stop => (503, ""),
            Self::Remove => (404, ""),
        }
    }
}

/// Runs in the child process, which finds its task in the environment variable. Does nothing when the test harness runs
/// this test, because the variable is not set then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_child() {
    let Ok(child_task) = std::env::var(VARIABLE) else { return };
    let (dir, child_task) = child_task.rsplit_once('\n').unwrap();
    let (change, step) = child_task.split_once(' ').unwrap();
    let migrating = change.strip_prefix("Migrating");
    let migrating =
        migrating.map(|name| MigratingChange::ALL.into_iter().find(|one| format!("{one:?}") == name).unwrap());
    let last = ChangeStep::ALL.into_iter().find(|one| format!("{one:?}") == step).unwrap();
    let watch: Watch = Arc::new(move |step| {
        if step == last {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
    });
    let node = TestNode::watched(Path::new(dir), Some(watch)).await;
    match migrating {
        Some(migrating) => migrating.run(&node).await,
        None if StateChange::ALL.iter().any(|one| format!("{one:?}") == change) => {
            StateChange::ALL.into_iter().find(|one| format!("{one:?}") == change).unwrap().run(&node).await;
        }
        None => ALL.into_iter().find(|one| format!("{one:?}") == change).unwrap().run(&node).await,
    }
    panic!("the change did not reach {last:?}");
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let goal = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &goal)
        } else {
            let _ = fs::copy(entry.path(), goal).unwrap();
        }
    }
}

async fn check_response(node: &TestNode, expected: (u16, &str), at: &str) {
    let (status, body) = node.get("/").await;
    let is_it = status == expected.0 && (status != 200 || body.lines().any(|line| line == expected.1));
    assert!(is_it, "{at}: {status} {body:?} and not {expected:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_leaves_the_old_or_the_new_revision() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    fs::create_dir(&base).unwrap();
    let node = TestNode::open_warm(&base).await;
    for name in ["one", "two"] {
        node.deploy(&release(name)).await.unwrap();
    }
    let data = base.join("tenants/default/apps/shop/kv");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("cart"), "data").unwrap();
    // Compile the code in advance, so that no step waits for the compiler.
    node.deploy_as(&shop().0, &"hello".parse().unwrap(), &{
        let mut made = custom("http-hello", "", "");
        made.release.hosts = None;
        made
    })
    .await
    .unwrap();
    keep(&base);
    node.stop().await;
    let mut covered = std::collections::BTreeSet::new();
    let stopped = folder.path().join("stopped");
    copy(&base, &stopped);
    let node = TestNode::open(&stopped).await;
    node.node.clone().stop(shop().0, shop().1).await.unwrap();
    node.stop().await;
    for change in ALL {
        let base = if change == AppChange::Start { stopped.clone() } else { base.clone() };
        let steps = steps_of(change, &base, &folder.path().join(format!("{change:?}"))).await;
        assert!(steps.len() >= 2, "{change:?}: {steps:?}");
        // At this step, the change is recorded. A kill before this step leaves the old revision.
        let counts = if change == AppChange::Remove { ChangeStep::Forgotten } else { ChangeStep::Recorded };
        let counts = steps.iter().position(|step| *step == counts).unwrap();
        for (index, step) in steps.iter().enumerate() {
            let at = format!("{change:?} killed at {step:?}");
            let dir = folder.path().join(format!("{change:?}-{step:?}"));
            copy(&base, &dir);
            kill_at(&format!("{change:?}"), *step, &dir);
            let node = TestNode::open(&dir).await;
            let is_new = index >= counts;
            check_response(&node, if is_new { change.response() } else { change.response_before() }, &at).await;
            assert_eq!(node.node.compilers_started(), 0, "{at}: a restart compiles nothing");
            let kept = dir.join("tenants/default/apps/shop/kv/cart").exists();
            assert_eq!(kept, !(is_new && change == AppChange::Remove), "{at}: data");
            if !is_new {
                // After the restart, the change can be made again.
                change.run(&node).await;
                check_response(&node, change.response(), &at).await;
            }
            node.stop().await;
            fs::remove_dir_all(&dir).unwrap();
            covered.insert(*step);
        }
    }
    // These steps occur only in changes that replace stores, which have a test of their own.
    let replacing = [ChangeStep::Held, ChangeStep::Noted, ChangeStep::Staged, ChangeStep::Switched];
    let all: Vec<_> = ChangeStep::ALL.into_iter().filter(|step| !replacing.contains(step)).collect();
    assert_eq!(covered.into_iter().collect::<Vec<_>>(), all, "a process was killed after every step");
}

/// A change of a tenant or a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StateChange {
    SetSecret,
    RemoveSecret,
    SetTenant,
    RemoveTenant,
}

impl StateChange {
    const ALL: [Self; 4] = [Self::SetSecret, Self::RemoveSecret, Self::SetTenant, Self::RemoveTenant];

    async fn run(self, node: &TestNode) {
        let (api, tenant) = (node.node.clone(), tenant("guest"));
        match self {
            Self::SetSecret => api.set_secret(tenant, "other".parse().unwrap(), b"value".to_vec()).await.unwrap(),
            Self::RemoveSecret => api.remove_secret(tenant, "key".parse().unwrap(), false).await.unwrap(),
            Self::SetTenant => {
                let quotas = QuotaChange { apps: Some(7), ..QuotaChange::default() };
                api.set_tenant(tenant, TenantChange { quotas, hosts: None }).await.unwrap();
            }
            Self::RemoveTenant => api.remove_tenant(tenant).await.unwrap(),
        }
    }

    async fn is_done(self, node: &TestNode) -> bool {
        let info = node.node.clone().tenant(tenant("guest")).await;
        match self {
            Self::SetSecret => info.unwrap().secrets == ["key", "other"],
            Self::RemoveSecret => info.unwrap().secrets.is_empty(),
            Self::SetTenant => info.unwrap().quotas.apps == 7,
            Self::RemoveTenant => info.is_err(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_leaves_old_or_new_secrets_and_tenants() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    fs::create_dir(&base).unwrap();
    let node = TestNode::open(&base).await;
    let guest = || tenant("guest");
    node.node.clone().set_tenant(guest(), TenantChange::default()).await.unwrap();
    node.node.clone().set_secret(guest(), "key".parse().unwrap(), b"value".to_vec()).await.unwrap();
    fs::create_dir_all(base.join("tenants/guest/apps/old/kv")).unwrap();
    node.stop().await;
    for change in StateChange::ALL {
        let dir = folder.path().join(format!("{change:?}"));
        copy(&base, &dir);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let watch: Watch = {
            let seen = seen.clone();
            Arc::new(move |step| seen.lock().unwrap().push(step))
        };
        let node = TestNode::watched(&dir, Some(watch)).await;
        assert!(!change.is_done(&node).await);
        change.run(&node).await;
        assert!(change.is_done(&node).await);
        node.stop().await;
        let steps = std::mem::take(&mut *seen.lock().unwrap());
        let counts =
            steps.iter().position(|step| matches!(step, ChangeStep::Recorded | ChangeStep::Forgotten)).unwrap();
        for (index, step) in steps.iter().enumerate() {
            let at = format!("{change:?} killed at {step:?}");
            let dir = folder.path().join(format!("{change:?}-{step:?}"));
            copy(&base, &dir);
            kill_at(&format!("{change:?}"), *step, &dir);
            let node = TestNode::open(&dir).await;
            assert_eq!(change.is_done(&node).await, index >= counts, "{at}");
            let is_gone = index >= counts && change == StateChange::RemoveTenant;
            assert_eq!(dir.join("tenants/guest").exists(), !is_gone, "{at}: data");
            if index < counts {
                change.run(&node).await;
                assert!(change.is_done(&node).await, "{at}: the change can be made again");
            }
            node.stop().await;
        }
    }
}

/// Returns the steps of the change, in order.
async fn steps_of(change: AppChange, base: &Path, dir: &Path) -> Vec<ChangeStep> {
    copy(base, dir);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watch: Watch = {
        let seen = seen.clone();
        Arc::new(move |step| seen.lock().unwrap().push(step))
    };
    let node = TestNode::watched(dir, Some(watch)).await;
    change.run(&node).await;
    check_response(&node, change.response(), "done").await;
    node.stop().await;
    std::mem::take(&mut *seen.lock().unwrap())
}

pub(crate) fn kill_at(change: &str, step: ChangeStep, dir: &Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::crash_child", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, format!("{}\n{change} {step:?}", dir.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(SIGKILL), "{change} at {step:?}: {stderr}");
}
