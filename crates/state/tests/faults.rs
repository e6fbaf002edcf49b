//! Tests of a state whose storage fails at one operation after another. Acknowledged changes must be kept, the index
//! must match the file, and changes must succeed again when the storage works.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use isomer_api::TenantChange;
use isomer_disk::faults::{Fault, Faults, FaultyStorage};
use isomer_ids::TenantName;
use isomer_state::{NodeState, Secret, StateError};

/// The maximum time that a test waits for a condition. Only a test that hangs waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_fault_at_any_operation_loses_nothing() {
    for fault in Fault::ALL {
        let dir = tempfile::tempdir().unwrap();
        let (path, faults) = (dir.path().join("state.redb"), Faults::default());
        let state = NodeState::open_over(&path, FaultyStorage::new(path.clone(), faults.clone())).unwrap();
        let (mut tenants, mut refused) = (Vec::<TenantName>::new(), 0);
        for operation in 0..10 {
            let at = format!("{fault:?} at operation {operation}");
            let tenant: TenantName = format!("t{operation}").parse().unwrap();
            faults.begin(fault, operation);
            for number in 0..2 {
                let tenant: TenantName = format!("t{operation}-{number}").parse().unwrap();
                match state.set_tenant(&tenant, TenantChange::default()) {
                    Ok(_) => tenants.push(tenant),
                    Err(_) => refused += 1,
                }
            }
            faults.end();
            let until = Instant::now() + PATIENCE;
            while let Err(error) = state.set_tenant(&tenant, TenantChange::default()) {
                assert!(Instant::now() < until, "{at}: {error}");
                std::thread::yield_now();
            }
            state.set_secret(&tenant, "key", &Secret::new(b"value".to_vec())).unwrap();
            tenants.push(tenant.clone());
            assert_eq!(state.secrets(&tenant).unwrap()["key"].reveal(), b"value", "{at}");
            for tenant in &tenants {
                state.tenant(tenant).unwrap_or_else(|error| panic!("{at}: {error}"));
            }
        }
        assert!(refused > 5, "{fault:?}: only {refused} changes were refused");
        // Compares the index with what another process would read from the file.
        let seen: Vec<_> = state.tenants().into_iter().map(|(name, _)| name).collect();
        drop(state);
        let again: Vec<_> = NodeState::open(&path).unwrap().tenants().into_iter().map(|(name, _)| name).collect();
        assert_eq!(seen, again, "{fault:?}");
        assert!(tenants.iter().all(|tenant| again.contains(tenant)), "{fault:?}");
    }
}

/// A failed commit may or may not have become durable. The reported result must be the one that a later process finds.
#[test]
fn a_change_is_made_exactly_if_it_is_not_reported_as_failed() {
    const OPERATIONS: u64 = 40;
    let (mut failed, mut made) = (0, 0);
    for fault in Fault::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        for operation in 0..OPERATIONS {
            let faults = Faults::default();
            let state = NodeState::open_over(&path, FaultyStorage::new(path.clone(), faults.clone())).unwrap();
            let at = format!("{fault:?} of only operation {operation}");
            let tenant: TenantName = format!("t{operation}").parse().unwrap();
            faults.begin_for(fault, operation, 1);
            let change = state.set_tenant(&tenant, TenantChange::default());
            let is_met = faults.end();
            assert!(!matches!(change, Err(StateError::Unsettled { .. })), "{at}: the storage works again");
            state.reread().unwrap();
            let is_seen = state.tenant(&tenant).is_ok();
            drop(state);
            let is_there = NodeState::open(&path).unwrap().tenant(&tenant).is_ok();
            assert_eq!((change.is_ok(), change.is_ok()), (is_seen, is_there), "{at}: {change:?}");
            match change {
                Ok(_) if is_met => made += 1,
                Ok(_) => {}
                Err(_) => failed += 1,
            }
        }
    }
    assert!(failed > 5 && made > 0, "{failed} failed, {made} were made although their commit failed");
}

#[test]
fn a_change_is_unsettled_until_its_number_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let (mut unsettled, mut made) = (0, 0);
    for operation in 0..40 {
        let faults = Faults::default();
        let state = NodeState::open_over(&path, FaultyStorage::new(path.clone(), faults.clone())).unwrap();
        let tenant: TenantName = format!("t{operation}").parse().unwrap();
        faults.begin(Fault::Broken, operation);
        let change = state.set_tenant(&tenant, TenantChange::default());
        let cannot = state.reread();
        if faults.end() {
            cannot.unwrap_err();
        }
        let until = Instant::now() + PATIENCE;
        while let Err(error) = state.reread() {
            assert!(Instant::now() < until, "{error}");
            std::thread::yield_now();
        }
        let is_there = state.tenant(&tenant).is_ok();
        match change {
            Err(StateError::Unsettled { .. }) => {
                unsettled += 1;
                made += usize::from(is_there);
            }
            change => assert_eq!(change.is_ok(), is_there, "operation {operation}: {change:?}"),
        }
    }
    assert!(unsettled > 1, "{unsettled} unsettled, of which {made} were made");
}
