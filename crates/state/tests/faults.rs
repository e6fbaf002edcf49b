//! A state whose storage fails at each operation in turn: what was acknowledged stays, what is seen is what is kept, and changes are made again
//! when the storage works.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use isomer_api::{TenantChange, TenantName};
use isomer_disk::faults::{Fault, Faults, FaultyStorage};
use isomer_state::{Secret, State};

/// Only tells a hang from an answer.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_fault_at_any_operation_loses_nothing_and_is_over_when_the_storage_works() {
    for fault in Fault::ALL {
        let dir = tempfile::tempdir().unwrap();
        let (path, faults) = (dir.path().join("state.redb"), Faults::default());
        let state = State::open_over(&path, FaultyStorage::new(path.clone(), faults.clone())).unwrap();
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
        assert!(refused > 5, "{fault:?}: {refused} changes met it");
        // What is seen is what another process would see.
        let seen: Vec<_> = state.tenants().into_iter().map(|(name, _)| name).collect();
        drop(state);
        let again: Vec<_> = State::open(&path).unwrap().tenants().into_iter().map(|(name, _)| name).collect();
        assert_eq!(seen, again, "{fault:?}");
        assert!(tenants.iter().all(|tenant| again.contains(tenant)), "{fault:?}");
    }
}
