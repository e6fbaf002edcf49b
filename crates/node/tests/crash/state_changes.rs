//! Tests that a kill after any step of a change of a tenant or a secret leaves the complete old or the complete new
//! state.

use std::fs;

use isomer_admin::Admin as _;
use isomer_api::{QuotaChange, TenantChange};
use isomer_node::ChangeStep;
use libtest_mimic::Trial;

use crate::child::{Change, Steps, kill_after};
use crate::node::{TestNode, copy, tenant};

pub(crate) fn tests() -> Vec<Trial> {
    let test = |change: StateChange| {
        let name = format!("state_changes::a_kill_at_any_step_leaves_the_old_or_the_new_state::{change:?}");
        crate::test(name, move || a_kill_leaves_the_old_or_the_new_state(change))
    };
    StateChange::ALL.into_iter().map(test).collect()
}

/// A change of a tenant or a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateChange {
    SetSecret,
    RemoveSecret,
    SetTenant,
    RemoveTenant,
}

impl StateChange {
    pub(crate) const ALL: [Self; 4] = [Self::SetSecret, Self::RemoveSecret, Self::SetTenant, Self::RemoveTenant];

    pub(crate) async fn run(self, node: &TestNode) {
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

/// Kills a process after every step of the change.
async fn a_kill_leaves_the_old_or_the_new_state(change: StateChange) {
    let folder = tempfile::tempdir().unwrap();
    let (base, dir) = (folder.path().join("base"), folder.path().join("done"));
    fs::create_dir(&base).unwrap();
    let node = TestNode::open(&base).await;
    let guest = || tenant("guest");
    node.node.clone().set_tenant(guest(), TenantChange::default()).await.unwrap();
    node.node.clone().set_secret(guest(), "key".parse().unwrap(), b"value".to_vec()).await.unwrap();
    fs::create_dir_all(base.join("tenants/guest/apps/old/kv")).unwrap();
    node.stop().await;
    copy(&base, &dir);
    let steps = Steps::default();
    let node = TestNode::watched(&dir, Some(steps.watch())).await;
    assert!(!change.is_done(&node).await);
    change.run(&node).await;
    assert!(change.is_done(&node).await);
    node.stop().await;
    let steps = steps.take();
    let counts = steps.iter().position(|step| matches!(step, ChangeStep::Recorded | ChangeStep::Forgotten)).unwrap();
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{change:?} killed at {step:?}");
        let dir = folder.path().join(format!("{step:?}"));
        copy(&base, &dir);
        kill_after(Change::State(change), *step, &dir);
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
