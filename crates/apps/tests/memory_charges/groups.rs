//! The groups of attacks. An attack consists of concurrent requests, and the attacks of a group run in the same
//! process.

use std::collections::BTreeMap;

use crate::attacks::{AttackRequest, CORPUS};
use crate::disk_attacks::ON_DISK;
use crate::hoards::{AT_ONCE, GLOBALS, HOARDS, Hoard};
use crate::start_functions::STARTS;
use crate::wat_components;

/// The deadline of the attacker's requests, in milliseconds.
const DEADLINE_MS: u64 = 1000;

/// The deadline of the attacker's requests if the attack needs time to accumulate memory, in milliseconds.
const LONG_DEADLINE_MS: u64 = 4000;

/// An attack that is made by concurrent requests.
pub(crate) struct ConcurrentAttack {
    pub(crate) name: &'static str,
    pub(crate) ask: AttackRequest,
    pub(crate) http2: bool,
    pub(crate) at_once: usize,
    pub(crate) deadline_ms: u64,
    /// The component that makes the attack, or `None` for the guest `hostile`.
    pub(crate) component: Option<Vec<u8>>,
    /// Texts that no response may contain.
    pub(crate) never: &'static [&'static str],
}

/// Returns all attacks, by the name of their group. The attacks of a group run in the same process.
pub(crate) fn groups() -> BTreeMap<&'static str, Vec<ConcurrentAttack>> {
    let crowd = |name, ask| ConcurrentAttack {
        name,
        ask,
        http2: false,
        at_once: AT_ONCE,
        deadline_ms: DEADLINE_MS,
        component: None,
        never: &[],
    };
    let mut groups: BTreeMap<&'static str, Vec<ConcurrentAttack>> = BTreeMap::new();
    for attack in CORPUS {
        let group = if attack.kind == "hoards" { attack.name } else { attack.kind };
        groups
            .entry(group)
            .or_default()
            .push(ConcurrentAttack { never: attack.must.never, ..crowd(attack.name, attack.ask) });
    }
    for attack in ON_DISK {
        groups.entry("disk").or_default().push(ConcurrentAttack { never: &["got "], ..crowd(attack.name, attack.ask) });
    }
    for start in STARTS {
        let component = Some(wat_components::handler(start.fields, start.body));
        groups
            .entry("starts")
            .or_default()
            .push(ConcurrentAttack { component, ..crowd(start.name, AttackRequest::Get("")) });
    }
    for &Hoard { name, ask, http2, at_once } in HOARDS {
        let component = (name == GLOBALS).then(globals);
        let deadline_ms = LONG_DEADLINE_MS;
        groups.insert(name, vec![ConcurrentAttack { http2, at_once, deadline_ms, component, ..crowd(name, ask) }]);
    }
    let made: usize = groups.values().map(Vec::len).sum();
    assert_eq!(made, CORPUS.len() + ON_DISK.len() + STARTS.len() + HOARDS.len(), "each attack is in a group");
    groups
}

/// Returns a component whose instances have nearly as many globals as they may have.
fn globals() -> Vec<u8> {
    wat_components::handler(&"(global (mut v128) (v128.const i64x2 1 1))".repeat(200_000), "")
}
