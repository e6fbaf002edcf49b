//! Names of cookies that belong to the front door.

/// The beginning of the names of all cookies of the front door, after the prefix that browsers know.
const FRONT_DOOR_COOKIE: &str = "isomer-session";

/// The prefix with which browsers accept a cookie only from the host itself, and only over HTTPS.
const HOST_PREFIX: &str = "__Host-";

/// Returns whether a cookie belongs to the front door: the cookie of a session over HTTPS, or one of those over plain
/// HTTP, of this app or another one. The case is ignored, because some servers ignore it.
#[must_use]
pub fn is_front_door_cookie(name: impl AsRef<[u8]>) -> bool {
    let name = name.as_ref();
    let name = without_prefix(name, HOST_PREFIX).unwrap_or(name);
    without_prefix(name, FRONT_DOOR_COOKIE).is_some()
}

fn without_prefix<'a>(name: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
}
