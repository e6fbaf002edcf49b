//! The attacks that need many concurrent requests.

use crate::attacks::AttackRequest;

/// The number of concurrent requests of an attack: the default quota of a tenant.
pub(crate) const AT_ONCE: usize = 256;

/// An attack that is defined in this file, because it needs many concurrent requests.
pub(crate) struct Hoard {
    pub(crate) name: &'static str,
    pub(crate) ask: AttackRequest,
    pub(crate) http2: bool,
    pub(crate) at_once: usize,
}

/// All attacks that are defined in this file. `docs/reference/attacks.md` also lists their names.
pub(crate) const HOARDS: &[Hoard] = &[
    Hoard { name: "fields in many requests", ask: AttackRequest::Get("kept-fields"), http2: false, at_once: AT_ONCE },
    Hoard { name: "values behind handles", ask: AttackRequest::Get("kept-values"), http2: false, at_once: 32 },
    Hoard { name: "names of maximum length", ask: AttackRequest::Get("long-names"), http2: false, at_once: 16 },
    Hoard { name: GLOBALS, ask: AttackRequest::Get(""), http2: false, at_once: AT_ONCE },
    Hoard { name: "bodies that no guest reads", ask: AttackRequest::Endless("sleep"), http2: true, at_once: 128 },
    Hoard { name: "bodies that no client reads", ask: AttackRequest::Unread("body"), http2: true, at_once: 128 },
];

/// The name of the attack by a component with many globals.
pub(crate) const GLOBALS: &str = "many globals";

/// Returns the names of all attacks that are defined in this file.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    HOARDS.iter().map(|hoard| hoard.name)
}
