//! One-time codes and sessions. The functions get the time and the secrets from the caller, so every transition can be
//! tested.

use std::time::{Duration, Instant};

use crate::secret::{Secret, SecretDigest};

/// The time after which an unused code expires.
pub const CODE_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The time after which a session expires, whether it is used or not.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The time after which a session expires if it is not used.
pub const IDLE_SESSION_LIFETIME: Duration = Duration::from_secs(8 * 60 * 60);

/// The maximum number of unused codes of one owner. A further code replaces the oldest.
const CODES_PER_OWNER_MAX: usize = 4;

/// The maximum number of sessions of one owner. A further session replaces the one that was unused for the longest
/// time.
const SESSIONS_PER_OWNER_MAX: usize = 16;

/// The maximum number of unused codes, and the maximum number of sessions. The limits apply to all owners together. A
/// further code or session replaces the oldest.
const TOTAL_MAX: usize = 4096;

/// The rights of a session: those of the token that created it.
pub trait SessionRights: Clone {
    /// Returns the name of the owner. If an owner is at its limit, a new code or session of this owner replaces one of
    /// its own, not one of another owner.
    fn owner(&self) -> &str;
}

/// All unused codes, and all sessions.
#[derive(Debug)]
pub struct Sessions<R> {
    codes: Vec<Code<R>>,
    sessions: Vec<Session<R>>,
}

#[derive(Debug)]
struct Code<R> {
    digest: SecretDigest,
    rights: R,
    created: Instant,
}

#[derive(Debug)]
struct Session<R> {
    cookie: SecretDigest,
    key: SecretDigest,
    rights: R,
    created: Instant,
    used: Instant,
}

impl<R> Default for Sessions<R> {
    fn default() -> Self {
        Self { codes: Vec::new(), sessions: Vec::new() }
    }
}

impl<R: SessionRights> Sessions<R> {
    /// Adds a code that can be exchanged once for a session with `rights`.
    pub fn add_code(&mut self, code: &Secret, rights: R, now: Instant) {
        self.expire(now);
        // An unused code has no time of last use, so the code that was created first is replaced.
        make_room(
            &mut self.codes,
            CODES_PER_OWNER_MAX,
            rights.owner(),
            |code| code.rights.owner(),
            |code| code.created,
        );
        self.codes.push(Code { digest: code.digest(), rights, created: now });
    }

    /// Exchanges a code for a session that is identified by `cookie` and `key` together. Returns the rights of the
    /// session, or `None` if the code is unknown, was used, or has expired. In any case, the code cannot be used again.
    pub fn exchange(&mut self, code: &[u8], cookie: &Secret, key: &Secret, now: Instant) -> Option<R> {
        self.expire(now);
        let position = self.codes.iter().position(|known| known.digest.matches(code))?;
        let rights = self.codes.remove(position).rights;
        let owner = rights.owner();
        let used = |session: &Session<R>| session.used;
        make_room(&mut self.sessions, SESSIONS_PER_OWNER_MAX, owner, |session| session.rights.owner(), used);
        let (cookie, key) = (cookie.digest(), key.digest());
        self.sessions.push(Session { cookie, key, rights: rights.clone(), created: now, used: now });
        Some(rights)
    }

    /// Returns the rights of the session that `cookie` and `key` identify together, if it has not expired.
    pub fn rights(&mut self, cookie: &[u8], key: &[u8], now: Instant) -> Option<R> {
        self.expire(now);
        let session = self.find(cookie, key)?;
        session.used = now;
        Some(session.rights.clone())
    }

    /// Ends a session. Returns whether it existed.
    pub fn end(&mut self, cookie: &[u8], key: &[u8]) -> bool {
        let before = self.sessions.len();
        self.sessions.retain(|session| !(session.cookie.matches(cookie) && session.key.matches(key)));
        self.sessions.len() < before
    }

    fn find(&mut self, cookie: &[u8], key: &[u8]) -> Option<&mut Session<R>> {
        self.sessions.iter_mut().find(|session| session.cookie.matches(cookie) && session.key.matches(key))
    }

    fn expire(&mut self, now: Instant) {
        let age = |since: Instant| now.saturating_duration_since(since);
        self.codes.retain(|code| age(code.created) < CODE_LIFETIME);
        self.sessions
            .retain(|session| age(session.created) < SESSION_LIFETIME && age(session.used) < IDLE_SESSION_LIFETIME);
    }
}

/// Removes codes or sessions until one more of `owner` fits both the maximum per owner, `per_owner_max`, and the
/// maximum of all owners, [`TOTAL_MAX`]. Removes those with the earliest `time_of` first.
fn make_room<T>(
    entries: &mut Vec<T>,
    per_owner_max: usize,
    owner: &str,
    owner_of: impl Fn(&T) -> &str,
    time_of: impl Fn(&T) -> Instant,
) {
    while entries.iter().filter(|entry| owner_of(entry) == owner).count() >= per_owner_max {
        remove_earliest(entries, |entry| owner_of(entry) == owner, &time_of);
    }
    while entries.len() >= TOTAL_MAX {
        remove_earliest(entries, |_| true, &time_of);
    }
}

fn remove_earliest<T>(entries: &mut Vec<T>, is_counted: impl Fn(&T) -> bool, time_of: impl Fn(&T) -> Instant) {
    let counted = entries.iter().enumerate().filter(|(_, entry)| is_counted(entry));
    if let Some((index, _)) = counted.min_by_key(|(_, entry)| time_of(entry)) {
        entries.remove(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl SessionRights for &'static str {
        fn owner(&self) -> &str {
            self
        }
    }

    fn secret(number: u8) -> Secret {
        Secret::from_bytes([number; 32])
    }

    fn bytes(number: u8) -> Vec<u8> {
        secret(number).reveal().as_bytes().to_vec()
    }

    fn second(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_code_opens_one_session() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        sessions.add_code(&secret(1), "acme", now);
        assert_eq!(sessions.exchange(&bytes(2), &secret(3), &secret(4), now), None, "an unknown code");
        assert_eq!(sessions.exchange(&bytes(1), &secret(3), &secret(4), now), Some("acme"));
        assert_eq!(sessions.exchange(&bytes(1), &secret(5), &secret(6), now), None, "a used code");
        assert_eq!(sessions.rights(&bytes(3), &bytes(4), now), Some("acme"));
        for (cookie, key) in [(3, 3), (4, 4), (4, 3), (5, 6), (3, 6)] {
            assert_eq!(sessions.rights(&bytes(cookie), &bytes(key), now), None, "{cookie} {key}");
        }
        assert!(!sessions.end(&bytes(3), &bytes(9)), "the cookie by itself ends nothing");
        assert!(sessions.end(&bytes(3), &bytes(4)));
        assert_eq!(sessions.rights(&bytes(3), &bytes(4), now), None);
    }

    #[test]
    fn codes_and_sessions_expire() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        sessions.add_code(&secret(1), "acme", start);
        sessions.add_code(&secret(2), "acme", start);
        let late = start + CODE_LIFETIME;
        assert!(sessions.exchange(&bytes(1), &secret(3), &secret(4), late - second(1)).is_some());
        assert!(sessions.exchange(&bytes(2), &secret(5), &secret(6), late).is_none());
        // Even a session in constant use ends after `SESSION_LIFETIME`.
        let mut now = late;
        while now < late - second(1) + SESSION_LIFETIME {
            assert!(sessions.rights(&bytes(3), &bytes(4), now).is_some());
            now += IDLE_SESSION_LIFETIME / 2;
        }
        assert!(sessions.rights(&bytes(3), &bytes(4), now).is_none());
        // A session that is not used ends after `IDLE_SESSION_LIFETIME`.
        sessions.add_code(&secret(7), "acme", now);
        assert!(sessions.exchange(&bytes(7), &secret(8), &secret(9), now).is_some());
        assert!(sessions.rights(&bytes(8), &bytes(9), now + IDLE_SESSION_LIFETIME).is_none());
    }

    #[test]
    fn an_owner_displaces_only_its_own_codes_and_sessions() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        sessions.add_code(&secret(200), "other", start);
        for number in 0..=CODES_PER_OWNER_MAX as u8 {
            sessions.add_code(&secret(number), "acme", start + second(number.into()));
        }
        let now = start + second(10);
        assert!(sessions.exchange(&bytes(0), &secret(201), &secret(202), now).is_none(), "the oldest code");
        assert!(sessions.exchange(&bytes(1), &secret(201), &secret(202), now).is_some());
        assert!(sessions.exchange(&bytes(200), &secret(203), &secret(204), now).is_some());
        let count = SESSIONS_PER_OWNER_MAX as u8;
        for number in 0..count {
            sessions.add_code(&secret(1), "acme", now);
            let (cookie, key) = (secret(10 + number), secret(100 + number));
            sessions.exchange(&bytes(1), &cookie, &key, now + second(number.into())).unwrap();
        }
        let now = now + second(100);
        assert!(sessions.rights(&bytes(201), &bytes(202), now).is_none(), "the session unused for the longest time");
        assert!((0..count).all(|number| sessions.rights(&bytes(10 + number), &bytes(100 + number), now).is_some()));
        assert!(sessions.rights(&bytes(203), &bytes(204), now).is_some());
        assert_eq!(sessions.sessions.len(), SESSIONS_PER_OWNER_MAX + 1);
    }

    #[test]
    fn the_total_is_bounded() {
        let (mut codes, start) = (Vec::new(), Instant::now());
        for number in 0..TOTAL_MAX + 5 {
            make_room(&mut codes, 4, &number.to_string(), |(owner, _): &(String, Instant)| owner, |(_, time)| *time);
            codes.push((number.to_string(), start + second(number as u64)));
        }
        assert_eq!(codes.len(), TOTAL_MAX);
        assert_eq!(codes[0].0, "5");
    }
}
