//! The Landlock layer of the sandbox: a ruleset without rules, which forbids every access that Landlock can control.

use std::io;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr as _, RulesetStatus, Scope,
};

/// The newest Landlock ABI to use. A kernel with an older ABI forbids only the kinds of access that it knows.
const ABI_NEWEST: ABI = ABI::V10;

/// Restricts this thread and the threads that it starts from now on. Returns a description of the restriction. If the
/// kernel does not support Landlock, returns the reason as the inner `Err`.
pub(super) fn restrict() -> io::Result<Result<String, String>> {
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI_NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI_NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI_NEWEST)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(io::Error::other)?;
    Ok(match (restricted.ruleset, restricted.landlock) {
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        ) => Ok(format!("ABI {effective_abi}")),
        (_, LandlockStatus::NotEnabled) => {
            Err("the kernel has Landlock, but it is not enabled: add `landlock` to `lsm=`".to_owned())
        }
        _ => Err("the kernel does not support Landlock: Linux 5.13 or later is needed".to_owned()),
    })
}
