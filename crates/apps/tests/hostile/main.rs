//! Guests that do what harm they can, on a node that also serves a neighbour. For each: what it tries, and what must come of it.
//!
//! | file | what it is about |
//! | --- | --- |
//! | `corpus` | the attacks that a running guest can make: what is asked of it, and what must come of it |
//! | `stage` | the node that they are made on, the neighbour, and what is looked at afterwards |
//! | `starting`, `bare`, `wat` | components that do harm when they are instantiated, and who has their place next |
//! | `ledger` | all attacks, at a tenant's full concurrency, in processes that are measured; those on the host's own memory |
//! | `tenants` | an attacker and a neighbour as tenants with quotas |
//! | `disk` | attacks by files in granted folders |
//! | `crowded` | all tenants but one hold what they can |
//! | `table` | that `docs/reference/attacks.md` names them all |
//! | `vitals` | what a process has: descriptors, threads, memory |
//!
//! After each attack the node must be well, the neighbour must have had right answers all the while, the log must name the error,
//! the process must have no more descriptors and threads than before, and the next guest in the same place must find nothing of
//! what the one before it had.
//!
//! A hole that is found becomes an entry here first. `docs/reference/attacks.md` has the table of all of them; a test compares.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures of a measured process are said")]

#[allow(dead_code, reason = "shared with the other tests of this crate, which use the rest")]
#[path = "../harness/mod.rs"]
mod harness;

mod attacked_node;
mod attacks;
mod disk;
mod documentation;
mod full_node;
mod instantiation;
mod memory_charges;
mod process_resources;
mod small_engine;
mod tenants;
mod wat_components;
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests of tenants, which use the rest")]
#[path = "../tenancy/world.rs"]
mod world;

use attacked_node::Stage;
use attacks::{Attack, CORPUS};

/// Makes the attacks of one kind, one after the other, each on the same node.
async fn make(kind: &str) {
    let attacks: Vec<&Attack> = CORPUS.iter().filter(|attack| attack.kind == kind).collect();
    assert!(!attacks.is_empty(), "no attacks of kind `{kind}`");
    let _alone = attacked_node::alone().await;
    let stage = Stage::open().await;
    let mut complaints = Vec::new();
    for attack in attacks {
        complaints.extend(stage.suffer(attack).await);
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
