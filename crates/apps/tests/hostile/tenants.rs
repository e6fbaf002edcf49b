//! Two tenants of one node: one attacks within its quotas, and the other one must not be affected. Each quota is
//! reached once. Reaching a quota must result in the error of that quota, and must be counted for the tenant that has
//! reached it.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{join, join_all};
use isomer_api::{Quota, Quotas};
use isomer_apps::TenancyOptions;
use isomer_seam::Components;

use crate::harness::client::TestResponse;
use crate::harness::{one, until};
use crate::world::TestTenancy;
use crate::{attacked_node, instantiation};

/// A quota, and requests that reach it: `at_once` concurrent requests are repeated until the quota is reached.
struct Reach {
    quota: Quota,
    /// Sets `quota` to a low value. The other quotas keep their defaults.
    bound: fn(&mut Quotas),
    target: &'static str,
    at_once: usize,
}

const REACHES: &[Reach] = &[
    Reach { quota: Quota::Cpu, bound: |it| it.cpu_ms_per_second = 50, target: "/loop", at_once: 4 },
    Reach { quota: Quota::Memory, bound: |it| it.memory_bytes = 8 << 20, target: "/memory", at_once: 2 },
    Reach { quota: Quota::ConcurrentRequests, bound: |it| it.requests_concurrent = 3, target: "/sleep", at_once: 12 },
    Reach {
        quota: Quota::RequestRate,
        bound: |it| (it.requests_per_second, it.requests_burst) = (5, 5),
        target: "/ok",
        at_once: 20,
    },
    Reach { quota: Quota::Storage, bound: |it| it.storage_bytes = 4 << 20, target: "/keys?bytes=1048576", at_once: 1 },
];

/// Returns whether the response reports that `quota` was reached. If a store is full, the guest gets the error and
/// reports it in a response with status 200.
fn names(response: &TestResponse, quota: Quota) -> bool {
    match response.status.as_u16() {
        200 => response.text().contains(&format!("the quota `{}`", quota.name())),
        429 => {
            let problem: serde_json::Value = serde_json::from_slice(&response.body).expect("a problem is JSON");
            problem["quota"] == quota.name()
        }
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_one_tenant_do_not_affect_another() {
    let _exclusive = attacked_node::exclusive().await;
    let world = TestTenancy::of(&["attacker", "neighbour"], |_| {}).await;
    let hostile =
        one("hostile", "grants.kv = [\"default\"]\nlimits.memory = \"64MiB\"\nlimits.request_deadline = \"2s\"");
    world.deploy("attacker", "main", &["attacker.test"], &hostile).await;
    let neighbour = one("kv-probe", "grants.kv = [\"default\"]");
    world.deploy("neighbour", "main", &["neighbour.test"], &neighbour).await;
    let mut counted = 0_u64;
    for Reach { quota, bound, target, at_once } in REACHES {
        world.tenant("attacker", bound);
        let before = world.usage("attacker").refused.get(quota).copied().unwrap_or_default();
        let over = AtomicBool::new(false);
        let attacking = async {
            until(&format!("the quota {quota:?}"), async || {
                let responses = join_all((0..*at_once).map(|_| world.get("attacker.test", target))).await;
                responses.iter().any(|response| names(response, *quota)).then_some(())
            })
            .await;
            over.store(true, Ordering::Relaxed);
        };
        let working = async {
            loop {
                counted += 1;
                let response = world.get("neighbour.test", "/increment?key=n&delta=1").await;
                assert_eq!(response.ok(), format!("{counted}\n"), "while {quota:?} is reached");
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        };
        join(attacking, working).await;
        let after = world.usage("attacker").refused.get(quota).copied().unwrap_or_default();
        assert!(after > before, "{quota:?} was reached and not counted");
        assert!(world.usage("neighbour").refused.values().all(|refused| *refused == 0), "{quota:?}");
    }
    // The neighbour's store contains only the neighbour's data.
    assert_eq!(world.get("neighbour.test", "/list-all").await.ok(), "n\n");
}

/// The name of the attack in which a guest looks for data that another guest has left in the same slot.
/// `docs/reference/attacks.md` lists the attack under this name.
pub(crate) const HANDED_ON: &str = "reused memories";

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_slot_has_nothing_of_another_tenant() {
    let _exclusive = attacked_node::exclusive().await;
    let change = |options: &mut TenancyOptions| {
        options.instances_max = Some(1);
        options.requests_per_instance_max = Some(1);
    };
    let world = TestTenancy::sized(instantiation::INSTANCES, |_| {}, change).await;
    // Each component uses all memories and tables of the pool, so the second component gets those that the first
    // component has filled.
    for (tenant, component) in [("one", instantiation::filling()), ("other", instantiation::looking())] {
        world.tenant(tenant, |quotas| *quotas = Quotas::unlimited());
        let manifest = one("hostile", "limits.memory = \"64MiB\"\nlimits.request_deadline = \"50s\"");
        let revision = world.make_of(tenant, "main", &manifest, |app| {
            app.components.keys().map(|name| (name.clone(), component.clone().into())).collect::<Components>()
        });
        world.put_made(tenant, "main", &[&format!("{tenant}.test")], &revision);
    }
    for round in 0..3 {
        for tenant in ["one", "other"] {
            until("room in the pool", async || {
                let response = world.get(&format!("{tenant}.test"), "/").await;
                let busy = response.status == 503;
                assert!(
                    busy || response.status == 200,
                    "{tenant}, round {round}: {} {}",
                    response.status,
                    response.text()
                );
                (!busy).then_some(())
            })
            .await;
        }
    }
}
