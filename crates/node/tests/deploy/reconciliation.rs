//! Tests of changes of tenants and secrets that fail while they are recorded. After the state can be read again, the
//! node must enforce and serve the recorded state.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use isomer_admin::Admin as _;
use isomer_api::{ProblemKind, QuotaChange, TenantChange};
use isomer_disk::faults::Fault;
use isomer_node::ChangeStep;

use crate::node::{POLL_INTERVAL, TestNode, copy, custom, keep, shop, tenant};
use crate::unknown_outcome::{Failing, NEVER, PATIENCE};

/// The number of storage operations of the state that are made to fail, one by one. A change has fewer operations.
const OPERATIONS: u64 = 24;

impl Failing {
    /// Waits until no change of the tenant is in progress and the node's state can be written. To find out, repeats a
    /// harmless change until it succeeds or the tenant does not exist: sets a secret if `by_secret` is true, and
    /// otherwise requests a change of the tenant that changes nothing. Returns whether the tenant exists.
    async fn has(&self, name: &str, by_secret: bool) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            let api = self.node.node.clone();
            let changed = match by_secret {
                true => api.set_secret(tenant(name), "other".parse().unwrap(), b"x".to_vec()).await,
                false => api.set_tenant(tenant(name), TenantChange::default()).await.map(drop),
            };
            match changed {
                Ok(()) => return true,
                Err(problem) if problem.kind == ProblemKind::NotFound => return false,
                Err(problem) => assert!(Instant::now() < until, "{problem:?}"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_served_secret_is_the_recorded_one_wherever_recording_fails() {
    let folder = tempfile::tempdir().unwrap();
    crate::node::warm(folder.path());
    let failing = Failing::open(folder.path(), ChangeStep::Healthy).await;
    let (api, (tenant, app)) = (failing.node.node.clone(), shop());
    api.clone().set_secret(tenant.clone(), "key".parse().unwrap(), b"first".to_vec()).await.unwrap();
    let secret = custom("secret-probe", "grants.secrets = [\"key\"]", "[secrets]\nkey = { env = \"KEY\" }");
    failing.node.deploy(&secret).await.unwrap();
    keep(folder.path());
    let served = async || failing.node.get("/?name=key").await;
    let mut outcomes = BTreeSet::new();
    for left in 0..OPERATIONS {
        let (_, before) = served().await;
        let value = format!("after {left} operations");
        failing.faults.begin(Fault::Broken, left);
        let set = api.clone().set_secret(tenant.clone(), "key".parse().unwrap(), value.clone().into_bytes()).await;
        failing.faults.end();
        assert!(failing.has("default", false).await);
        let (status, found) = served().await;
        assert_eq!(status, 200, "{left}: {found}");
        // A restart of the app loads the recorded secret.
        api.clone().stop(tenant.clone(), app.clone()).await.unwrap();
        api.clone().start(tenant.clone(), app.clone()).await.unwrap();
        assert_eq!(served().await, (200, found.clone()), "{left}: {set:?}");
        assert!(found == value || (found == before && set.is_err()), "{left}: {set:?}, {found}");
        outcomes.insert((set.is_ok(), found == value));
    }
    // All three outcomes occurred: reported as failed and not made, reported as failed but made, and reported as made.
    assert_eq!(outcomes, BTreeSet::from([(false, false), (false, true), (true, true)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enforced_quotas_are_the_recorded_ones_wherever_recording_fails() {
    let folder = tempfile::tempdir().unwrap();
    crate::node::warm(folder.path());
    let failing = Failing::open(folder.path(), ChangeStep::Healthy).await;
    let api = failing.node.node.clone();
    failing.node.deploy(&crate::node::release("one")).await.unwrap();
    keep(folder.path());
    let quotas = |at_once: u32| {
        let quotas = QuotaChange { requests_concurrent: Some(at_once), ..QuotaChange::default() };
        TenantChange { quotas, hosts: None }
    };
    let mut outcomes = BTreeSet::new();
    for left in 0..OPERATIONS {
        api.clone().set_tenant(tenant("default"), quotas(100)).await.unwrap();
        assert_eq!(failing.node.get("/").await.0, 200, "{left}");
        failing.faults.begin(Fault::Broken, left);
        let set = api.clone().set_tenant(tenant("default"), quotas(0)).await;
        failing.faults.end();
        assert!(failing.has("default", true).await);
        let recorded = api.clone().tenant(tenant("default")).await.unwrap().quotas.requests_concurrent;
        let status = failing.node.get("/").await.0;
        assert_eq!(status, if recorded == 0 { 429 } else { 200 }, "{left}: {set:?}");
        outcomes.insert((set.is_ok(), recorded == 0));
    }
    assert_eq!(outcomes, BTreeSet::from([(false, false), (false, true), (true, true)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenant_and_data_exist_together_wherever_recording_a_removal_fails() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    fs::create_dir(&base).unwrap();
    let node = TestNode::open(&base).await;
    node.node.clone().set_tenant(tenant("guest"), TenantChange::default()).await.unwrap();
    node.stop().await;
    const DATA: &str = "tenants/guest/apps/old/kv";
    fs::create_dir_all(base.join(DATA)).unwrap();
    fs::write(base.join(DATA).join("cart"), "data").unwrap();
    let mut outcomes = BTreeSet::new();
    for left in 0..OPERATIONS {
        let dir = folder.path().join(left.to_string());
        copy(&base, &dir);
        let failing = Failing::open(&dir, ChangeStep::RemovalNoted).await;
        let api = failing.node.node.clone();
        // The node has measured the tenant's storage.
        assert!(api.clone().tenant(tenant("guest")).await.unwrap().usage.storage_bytes > 0);
        failing.left.store(left, std::sync::atomic::Ordering::SeqCst);
        let removed = api.clone().remove_tenant(tenant("guest")).await;
        failing.left.store(NEVER, std::sync::atomic::Ordering::SeqCst);
        failing.faults.end();
        let is_there = failing.has("guest", true).await;
        outcomes.insert((removed.is_ok(), is_there));
        assert_eq!(dir.join(DATA).join("cart").exists(), is_there, "{left}: {removed:?}");
        assert!(fs::read_dir(dir.join("removals")).unwrap().next().is_none(), "{left}: no intent is left");
        // A new tenant of the same name has no data of the removed tenant.
        let made = api.clone().set_tenant(tenant("guest"), TenantChange::default()).await.unwrap();
        assert_eq!(made.usage.storage_bytes > 0, is_there, "{left}: {removed:?}");
        failing.node.stop().await;
    }
    assert_eq!(outcomes, BTreeSet::from([(false, true), (false, false), (true, false)]));
}
