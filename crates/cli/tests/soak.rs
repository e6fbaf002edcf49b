//! Runs a node with good and hostile tenants while apps are deployed, swapped and rolled back. No response may be
//! wrong, and no request of a good tenant may fail. The test runs for a few seconds. With `ISOMER_LONG`, it runs for
//! half a minute and also checks that memory, descriptors and threads have not grown. `cargo xtask soak --long` does
//! the same for a million requests.
//!
//! `ISOMER_SOAK_SEED=N` repeats the random choices of an earlier run.

use std::path::PathBuf;
use std::time::Duration;

use isomer_bench_node::block_on;
use isomer_bench_node::node::Launch;
use isomer_bench_node::soak::{self, Settings};

#[test]
fn good_tenants_see_nothing_of_hostile_ones_and_of_deployments() {
    let seed = std::env::var("ISOMER_SOAK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let settings =
        if std::env::var_os("ISOMER_LONG").is_some() { Settings::short(seed) } else { Settings::sample(seed) };
    let dir = tempfile::tempdir().unwrap();
    let node = Launch::new(PathBuf::from(env!("CARGO_BIN_EXE_isomer")), dir.path()).start().unwrap();
    let summary = block_on(soak::run(&node, &settings, &mut |_| {})).unwrap();
    let complaints = summary.complaints();
    assert!(complaints.is_empty(), "again with ISOMER_SOAK_SEED={seed}\n{}", summary.report());
    node.stop(Duration::from_secs(60)).unwrap();
}
