//! The session of a visitor: a random token in a cookie, and the identity that is derived from it.
//!
//! The server stores no sessions. A token contains a random number, the time at which it was issued, and a message
//! authentication code (HMAC-SHA256) that proves that this server issued it. The identity is another code, computed
//! from the random number only. So an identity survives a restart and the renewal of its token, and it is no
//! credential: no token can be computed from it. All codes use one key for each app, and a different label for each
//! purpose.
//!
//! A token without a valid code is treated as absent. If any value were accepted, a client could create sessions without
//! being counted.

use std::fmt;

use ring::hmac::{Context, HMAC_SHA256, Key};
use subtle::ConstantTimeEq as _;

/// The length in bytes of the key of an app's sessions.
pub const KEY_BYTES: usize = 32;

/// The number of random bytes of a token.
const RANDOM_BYTES: usize = 32;

/// The number of bytes of a token's code.
const CODE_BYTES: usize = 16;

/// The number of bytes of an identity, which is displayed as twice as many hexadecimal digits.
const IDENTITY_BYTES: usize = 16;

/// The length of a token in bytes: hexadecimal digits.
pub const TOKEN_BYTES: usize = 2 * (RANDOM_BYTES + size_of::<u32>() + CODE_BYTES);

/// The time in seconds after which a token expires if it is not renewed.
pub const TOKEN_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;

/// The age in seconds after which a token is renewed, so that visitors who return stay in their session.
const RENEWAL_SECONDS: u64 = 24 * 60 * 60;

/// The maximum time in seconds by which a token may have been issued in the future, because a clock was set back.
const CLOCK_SKEW_SECONDS_MAX: u64 = 10 * 60;

/// The maximum time in seconds after the last renewal of a token until no server accepts it.
pub(crate) const RENEWABLE_SECONDS_MAX: u64 = TOKEN_SECONDS_MAX + CLOCK_SKEW_SECONDS_MAX;

/// A time, in seconds since the Unix epoch.
pub type UnixSeconds = u64;

/// The identity of a session: 32 hexadecimal digits. Components receive it and may store it; it gives no access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity([u8; IDENTITY_BYTES]);

/// The key of an app's sessions. Its `Debug` output does not show the key.
#[derive(Clone)]
pub struct SessionKey(Key);

/// A session whose token was checked or issued.
#[derive(Clone, PartialEq, Eq)]
pub struct VisitorSession {
    random: [u8; RANDOM_BYTES],
    issued: u32,
    identity: Identity,
}

/// The error for an operating system that provides no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random bytes")]
pub struct NoSessionRandomness;

impl Identity {
    pub(crate) fn from_bytes(bytes: [u8; IDENTITY_BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; IDENTITY_BYTES] {
        &self.0
    }

    /// Returns whether `text` is this identity, in a time that does not depend on the content of `text`.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.digits()[..].ct_eq(text).into()
    }

    /// Returns the identity as 32 hexadecimal digits.
    fn digits(&self) -> [u8; 2 * IDENTITY_BYTES] {
        let mut digits = [0; 2 * IDENTITY_BYTES];
        write_hex(&self.0, &mut digits);
        digits
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

impl SessionKey {
    /// Creates the key of an app's sessions.
    #[must_use]
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Key::new(HMAC_SHA256, key))
    }

    /// Returns eight hexadecimal digits that identify the key, and reveal nothing about it.
    pub(crate) fn name(&self) -> String {
        self.code(b"name", &[]).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns a new session.
    ///
    /// # Errors
    /// If the operating system provides no random bytes.
    pub(crate) fn issue(&self, now: UnixSeconds) -> Result<VisitorSession, NoSessionRandomness> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|_| NoSessionRandomness)?;
        Ok(self.session(random, now))
    }

    /// Returns the session with a token that is issued at `now`. The identity stays the same.
    pub(crate) fn renew(&self, session: &VisitorSession, now: UnixSeconds) -> VisitorSession {
        self.session(session.random, now)
    }

    /// Returns the session of a token. Returns `None` if this key did not issue the token, or if the token has expired.
    pub(crate) fn check(&self, token: &[u8], now: UnixSeconds) -> Option<VisitorSession> {
        let token: &[u8; TOKEN_BYTES] = token.try_into().ok()?;
        let mut bytes = [0; TOKEN_BYTES / 2];
        read_hex(token, &mut bytes)?;
        let (random, rest) = bytes.split_first_chunk::<RANDOM_BYTES>()?;
        let (issued, code) = rest.split_first_chunk::<4>()?;
        let expected = self.code(b"token", &[random, issued]);
        if !bool::from(expected[..CODE_BYTES].ct_eq(code)) {
            return None;
        }
        let issued = u32::from_be_bytes(*issued);
        let age = now.checked_sub(u64::from(issued));
        let is_current = match age {
            Some(age) => age < TOKEN_SECONDS_MAX,
            None => u64::from(issued) - now <= CLOCK_SKEW_SECONDS_MAX,
        };
        is_current.then(|| VisitorSession { random: *random, issued, identity: self.identity(random) })
    }

    /// Returns the token of a session, which the visitor's cookie contains.
    pub(crate) fn token(&self, session: &VisitorSession) -> String {
        let issued = session.issued.to_be_bytes();
        let code = self.code(b"token", &[&session.random, &issued]);
        let bytes = [&session.random[..], &issued, &code[..CODE_BYTES]].concat();
        let mut digits = vec![0; TOKEN_BYTES];
        write_hex(&bytes, &mut digits);
        String::from_utf8(digits).expect("hexadecimal digits are UTF-8")
    }

    fn session(&self, random: [u8; RANDOM_BYTES], now: UnixSeconds) -> VisitorSession {
        // Until 2106, the time fits into 32 bits.
        let issued = u32::try_from(now).unwrap_or(u32::MAX);
        VisitorSession { random, issued, identity: self.identity(&random) }
    }

    fn identity(&self, random: &[u8; RANDOM_BYTES]) -> Identity {
        let code = self.code(b"identity", &[random]);
        let (identity, _) = code.split_first_chunk().expect("a code is longer than an identity");
        Identity(*identity)
    }

    /// Returns the code of `parts` for the purpose `label`. All parts have fixed lengths, so two different lists of
    /// parts never have the same bytes.
    fn code(&self, label: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Context::with_key(&self.0);
        mac.update(label);
        mac.update(b"\0");
        parts.iter().for_each(|part| mac.update(part));
        let mut code = [0; 32];
        code.copy_from_slice(mac.sign().as_ref());
        code
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey")
    }
}

impl VisitorSession {
    /// Returns the identity of the session.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns whether the token is so old that it should be renewed.
    pub(crate) fn is_due(&self, now: UnixSeconds) -> bool {
        now.saturating_sub(u64::from(self.issued)) >= RENEWAL_SECONDS
    }
}

impl fmt::Debug for VisitorSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VisitorSession").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Writes `bytes` as hexadecimal digits in lower case into `digits`, which is twice as long.
fn write_hex(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Reads hexadecimal digits in lower case. Returns `None` if `digits` contains another character. Upper case is refused,
/// so that each token has one spelling.
fn read_hex(digits: &[u8], bytes: &mut [u8]) -> Option<()> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (pair, byte) in digits.chunks_exact(2).zip(bytes) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixSeconds = 1_800_000_000;

    fn key() -> SessionKey {
        SessionKey::new(&[7; KEY_BYTES])
    }

    #[test]
    fn a_token_proves_its_session_until_it_expires() {
        let session = key().issue(NOW).unwrap();
        let token = key().token(&session);
        assert_eq!(token.len(), TOKEN_BYTES);
        let at = |now| key().check(token.as_bytes(), now);
        assert_eq!(at(NOW).as_ref(), Some(&session));
        assert!(at(NOW + TOKEN_SECONDS_MAX - 1).is_some());
        assert_eq!(at(NOW + TOKEN_SECONDS_MAX), None);
        assert!(at(NOW - CLOCK_SKEW_SECONDS_MAX).is_some());
        assert_eq!(at(NOW - CLOCK_SKEW_SECONDS_MAX - 1), None);
    }

    #[test]
    fn a_renewed_session_has_the_same_identity_and_another_token() {
        let session = key().issue(NOW).unwrap();
        assert!(!session.is_due(NOW + RENEWAL_SECONDS - 1) && session.is_due(NOW + RENEWAL_SECONDS));
        let renewed = key().renew(&session, NOW + RENEWAL_SECONDS);
        assert_eq!(renewed.identity(), session.identity());
        assert_ne!(key().token(&renewed), key().token(&session));
        assert!(key().check(key().token(&renewed).as_bytes(), NOW + TOKEN_SECONDS_MAX).is_some());
    }

    #[test]
    fn sessions_and_apps_have_different_identities() {
        let (session, other) = (key().issue(NOW).unwrap(), key().issue(NOW).unwrap());
        assert_ne!(session.identity(), other.identity());
        let other_app = SessionKey::new(&[8; KEY_BYTES]);
        assert_eq!(other_app.check(key().token(&session).as_bytes(), NOW), None);
        assert_ne!(other_app.identity(&session.random), session.identity());
        assert_ne!(other_app.name(), key().name());
    }

    #[test]
    fn an_identity_matches_only_its_digits() {
        let identity = key().issue(NOW).unwrap().identity();
        let text = identity.to_string();
        assert_eq!(text.len(), 32);
        assert!(identity.matches(text.as_bytes()));
        assert!(!identity.matches(text.to_uppercase().as_bytes()) || text == text.to_uppercase());
        assert!(!identity.matches(b"") && !identity.matches(&text.as_bytes()[1..]));
    }

    #[test]
    fn no_output_shows_a_token() {
        let session = key().issue(NOW).unwrap();
        let shown = format!("{session:?} {:?} {}", key(), session.identity());
        let token = key().token(&session);
        assert!((0..TOKEN_BYTES - 16).all(|at| !shown.contains(&token[at..at + 16])), "{shown}");
    }

    proptest! {
        #[test]
        fn a_changed_token_is_no_token(position in 0..TOKEN_BYTES, byte in any::<u8>()) {
            let session = key().issue(NOW).unwrap();
            let mut token = key().token(&session).into_bytes();
            prop_assume!(token[position] != byte);
            token[position] = byte;
            prop_assert_eq!(key().check(&token, NOW), None);
        }

        #[test]
        fn arbitrary_bytes_are_no_token(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(key().check(&bytes, NOW), None);
        }
    }
}
