//! The functions that tabs may call, and the checks of a call before it runs.
//!
//! A tab is a hostile peer. It may call only functions that the plan publishes. If such a function has an identity
//! parameter, its value must be the identity of the session that sent the call. The check reads this one string from the
//! image of the arguments; the callee's skeleton checks the whole image before it calls the component.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_ids::PlanDigest;
use isomer_wire::image::BASE;
use isomer_wire::{CallError, CallFailure, CallHead, FunctionKey};

use crate::session::Identity;

/// A function that tabs may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFunction {
    /// The key that identifies the function in calls.
    pub key: FunctionKey,
    /// The component that exports the function.
    pub component: Arc<str>,
    /// The offset of the identity parameter in the image of the arguments, in bytes; `None` if the function has no such
    /// parameter.
    pub identity_offset: Option<u32>,
    /// The maximum duration of a call.
    pub allowed: Duration,
}

/// The reason why the identity parameter of a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongIdentity {
    /// The value is not the identity of the session. The tab may have an outdated identity, because the visitor has
    /// logged in or out in another tab.
    #[error("the identity parameter is not the identity of the session")]
    OtherSession,
    /// The image contains no valid string for the parameter.
    #[error("the identity parameter is not a valid string")]
    InvalidImage,
}

/// The functions that tabs may call, of one revision.
#[derive(Debug)]
pub struct PublishedFunctions {
    plan: PlanDigest,
    functions: HashMap<FunctionKey, PublishedFunction>,
}

impl PublishedFunctions {
    /// Returns the functions of the revision with the plan digest `plan`.
    #[must_use]
    pub fn new(plan: PlanDigest, functions: impl IntoIterator<Item = PublishedFunction>) -> Self {
        Self { plan, functions: functions.into_iter().map(|function| (function.key, function)).collect() }
    }

    /// Returns the digest of the plan that publishes the functions.
    #[must_use]
    pub fn plan(&self) -> PlanDigest {
        self.plan
    }

    /// Returns the function of a call.
    ///
    /// # Errors
    /// If the call is for another revision, or if tabs may not call the function.
    pub fn find(&self, head: &CallHead) -> Result<&PublishedFunction, CallFailure> {
        if head.plan != self.plan {
            return Err(CallFailure::refused("the call is for another revision of the app"));
        }
        let function = self.functions.get(&head.function);
        function.ok_or_else(|| CallFailure::refused("tabs may not call this function"))
    }
}

impl PublishedFunction {
    /// Checks the identity in the image of a call's arguments.
    ///
    /// # Errors
    /// If the function has an identity parameter whose value is not `identity`, or if the image is invalid.
    pub fn check_identity(&self, image: &[u8], identity: Identity) -> Result<(), WrongIdentity> {
        let Some(offset) = self.identity_offset else { return Ok(()) };
        match string_at(image, offset) {
            Some(value) if identity.matches(value) => Ok(()),
            Some(_) => Err(WrongIdentity::OtherSession),
            None => Err(WrongIdentity::InvalidImage),
        }
    }

    /// Returns the deadline of a call with `remaining` time, whose head arrived at `now`. No call continues after
    /// `latest`.
    #[must_use]
    pub fn deadline(&self, remaining: Duration, now: Instant, latest: Instant) -> Instant {
        let allowed = remaining.min(self.allowed);
        now.checked_add(allowed).map_or(latest, |deadline| deadline.min(latest))
    }
}

/// Returns the bytes of the string whose address and length are at `offset` in an image. Returns `None` if the string
/// is not inside of the image.
fn string_at(image: &[u8], offset: u32) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = image.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let offset = usize::try_from(offset).ok()?;
    let address = word(offset)?;
    let length = usize::try_from(word(offset.checked_add(4)?)?).ok()?;
    let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
    image.get(start..start.checked_add(length)?)
}

/// Returns the failure as a tab receives it. A reason may contain details of the app, which are only for the log.
#[must_use]
pub fn public_failure(failure: &CallFailure) -> CallFailure {
    match failure {
        CallFailure::Trap { lost, .. } => {
            CallFailure::Trap { reason: "the called component failed".to_owned(), lost: *lost }
        }
        CallFailure::Lost { error, not_run, .. } => {
            let reason = match error {
                CallError::Unreachable => "the called component cannot be reached",
                CallError::Deadline => "the call did not return before its deadline",
                CallError::Overloaded => "the server is overloaded",
                CallError::Refused => "the call was refused",
            };
            CallFailure::Lost { error: *error, reason: reason.to_owned(), not_run: *not_run }
        }
    }
}

#[cfg(test)]
mod tests {
    use isomer_wire::image::BLOCKS;
    use proptest::prelude::*;

    use super::*;
    use crate::session::{KEY_BYTES, SessionKey};

    fn identity() -> Identity {
        SessionKey::new(&[3; KEY_BYTES]).issue(0).unwrap().identity()
    }

    fn function(identity_offset: Option<u32>) -> PublishedFunction {
        PublishedFunction {
            key: FunctionKey([1; 16]),
            component: "cart".into(),
            identity_offset,
            allowed: Duration::from_secs(10),
        }
    }

    fn head(function: FunctionKey, plan: PlanDigest) -> CallHead {
        CallHead { function, remaining: Duration::from_secs(1), request: 1, traceparent: None, plan, image_bytes: 0 }
    }

    /// Returns the image of two strings, as a stub encodes them.
    fn image(first: &str, second: &str) -> Vec<u8> {
        let mut image = vec![0; (BLOCKS - BASE) as usize];
        let mut at = 0;
        for text in [first, second] {
            let address = BASE + u32::try_from(image.len()).unwrap();
            image[at..at + 4].copy_from_slice(&address.to_le_bytes());
            image[at + 4..at + 8].copy_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
            image.extend_from_slice(text.as_bytes());
            at += 8;
        }
        image
    }

    #[test]
    fn only_published_functions_of_the_revision_are_found() {
        let published = PublishedFunctions::new(PlanDigest([9; 16]), [function(None)]);
        assert_eq!(published.find(&head(FunctionKey([1; 16]), PlanDigest([9; 16]))), Ok(&function(None)));
        for (key, plan) in [([2; 16], [9; 16]), ([1; 16], [8; 16])] {
            let failure = published.find(&head(FunctionKey(key), PlanDigest(plan))).unwrap_err();
            assert_eq!(failure.lost(), Some(CallError::Refused));
        }
    }

    #[test]
    fn only_the_identity_of_the_session_is_accepted() {
        let (own, other) = (identity(), identity());
        let (first, second) = (function(Some(0)), function(Some(8)));
        let both = image(&own.to_string(), &other.to_string());
        assert_eq!(first.check_identity(&both, own), Ok(()));
        assert!(first.check_identity(&both, other).is_err());
        assert_eq!(second.check_identity(&both, other), Ok(()));
        assert!(second.check_identity(&both, own).is_err());
        assert_eq!(function(None).check_identity(&[], own), Ok(()));
        for wrong in ["", "x", &own.to_string()[..31], &format!("{own}0"), &own.to_string().replace('a', "A")] {
            assert!(first.check_identity(&image(wrong, ""), own).is_err() || *wrong == own.to_string(), "{wrong}");
        }
    }

    #[test]
    fn a_string_outside_of_the_image_is_refused() {
        let own = identity();
        let valid = image(&own.to_string(), "");
        for (at, value) in [(0, 0_u32), (0, BASE - 1), (0, u32::MAX), (0, BASE + 1000), (4, u32::MAX), (4, 33)] {
            let mut image = valid.clone();
            image[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(function(Some(0)).check_identity(&image, own).is_err(), "{at} {value}");
        }
        for offset in [u32::MAX, u32::try_from(valid.len()).unwrap() - 7, u32::try_from(valid.len()).unwrap()] {
            assert!(function(Some(offset)).check_identity(&valid, own).is_err(), "{offset}");
        }
        assert!(function(Some(0)).check_identity(&[], own).is_err());
    }

    #[test]
    fn a_deadline_has_three_limits() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let deadline = |remaining, latest| function(None).deadline(remaining, now, now + latest) - now;
        assert_eq!(deadline(second, 60 * second), second);
        assert_eq!(deadline(Duration::MAX, 60 * second), 10 * second);
        assert_eq!(deadline(60 * second, 5 * second), 5 * second);
    }

    #[test]
    fn a_tab_learns_no_reason() {
        let secret = || "postgres://user:password@db".to_owned();
        for failure in [
            CallFailure::trap(secret()),
            CallFailure::overloaded(secret()),
            CallFailure::refused(secret()),
            CallFailure::deadline(secret()),
            CallFailure::unreachable(secret(), true),
        ] {
            let public = public_failure(&failure);
            assert_eq!(public.lost(), failure.lost());
            assert!(!public.to_string().contains("password"), "{public}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_images_never_pass(image in proptest::collection::vec(any::<u8>(), 0..300), offset in any::<u32>()) {
            prop_assert!(function(Some(offset)).check_identity(&image, identity()).is_err());
        }
    }
}
