//! Guests that attack a node, which also serves a neighbour. Each test has an attack and its expected result.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `attacks` | the attacks that a running guest can make: their requests, and the expected results |
//! | `attacked_node` | the attacked node, the neighbour, and the checks after each attack |
//! | `instantiation`, `start_functions`, `small_engine`, `wat_components` | components that attack while they are instantiated, and guests that reuse their slots |
//! | `tenants` | an attacker and a neighbour as tenants with quotas |
//! | `disk`, `disk_attacks` | attacks that use files in granted folders |
//! | `full_node` | all tenants except one use as many resources as they can |
//! | `documentation` | a check that `docs/reference/attacks.md` names all attacks |
//! | `process_resources` | the descriptors, threads and memory of a process |
//!
//! After each attack, the node must serve requests, the neighbour must have received correct responses throughout, the
//! log must name the error, the process must not have more descriptors and threads than before, and the next guest in
//! the same slot must find no data of the previous guest.
//!
//! The program `memory_charges` makes the same attacks with a tenant's maximum number of concurrent requests.
//!
//! For each vulnerability that is found, a test is added here before the fix.

#[allow(dead_code, reason = "shared with the other tests of this crate, which use the rest")]
#[path = "../harness/mod.rs"]
mod harness;

mod attacked_node;
mod attacks;
mod disk;
mod disk_attacks;
mod documentation;
mod full_node;
#[allow(dead_code, reason = "shared with the tests of memory charges, which make these attacks")]
#[path = "../memory_charges/hoards.rs"]
mod hoards;
mod instantiation;
#[allow(dead_code, reason = "shared with the tests of memory charges, which use the rest")]
mod process_resources;
mod small_engine;
mod start_functions;
mod tenants;
mod wat_components;
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests of tenants, which use the rest")]
#[path = "../tenancy/world.rs"]
mod world;

use attacked_node::AttackedNode;
use attacks::{Attack, CORPUS};

/// Runs all attacks of one kind, one after another, on the same node.
async fn make(kind: &str) {
    let attacks: Vec<&Attack> = CORPUS.iter().filter(|attack| attack.kind == kind).collect();
    assert!(!attacks.is_empty(), "no attacks of kind `{kind}`");
    let _exclusive = attacked_node::exclusive().await;
    let stage = AttackedNode::open().await;
    let mut complaints = Vec::new();
    for attack in attacks {
        complaints.extend(stage.attack(attack).await);
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_end_at_the_deadline() {
    make("loops").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hoarding_ends_at_the_limit() {
    make("hoards").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_cut_off() {
    make("floods").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_reach_only_what_they_were_granted() {
    make("reaches").await;
}
