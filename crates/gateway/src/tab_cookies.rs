//! Cookies that a component in a tab sets with `HttpOnly`. A script cannot set such a cookie, so the tab sends the line
//! to the server, which sets it.

use http::HeaderValue;
use serde::Deserialize;

use crate::browser_revision::BrowserRevision;
use crate::cookies::{CookieChange, CookieKind, changed, has_attribute};
use crate::session::Identity;

/// The maximum size of a request with cookies in bytes.
pub const COOKIES_BYTES_MAX: usize = 32 << 10;

/// The maximum number of cookies in a request.
pub const COOKIES_MAX: usize = 50;

/// The maximum length of a line of `Set-Cookie` in bytes. Browsers refuse cookies that are longer.
pub const COOKIE_BYTES_MAX: usize = 4096;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CookieRequest {
    set_cookie: Vec<String>,
}

/// The cookies of a valid request.
#[derive(Debug, PartialEq, Eq)]
pub struct TabCookies {
    /// The lines of `Set-Cookie` to send.
    pub lines: Vec<HeaderValue>,
    /// How the app's cookie that identifies visitors changes, if it changes.
    pub change: Option<CookieChange>,
}

/// The reason why cookies are refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCookies {
    /// The request is not valid JSON of the expected form.
    #[error("the request is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// There are too many cookies, or one is too long.
    #[error("the request has more than {COOKIES_MAX} cookies, or one of more than {COOKIE_BYTES_MAX} bytes")]
    TooLarge,
    /// A line is not valid in a header.
    #[error("a cookie is not a valid header value")]
    Value,
    /// A cookie without `HttpOnly` can be set by the tab itself.
    #[error("a cookie has no attribute `HttpOnly`; the tab can set it itself")]
    NotHttpOnly,
    /// A cookie with `Domain` would also be sent to other hosts.
    #[error("a cookie has the attribute `Domain`, which a tab may not set")]
    Domain,
    /// Only the front door sets a session's cookie.
    #[error("a tab may not set the cookie of a session")]
    Session,
}

impl BrowserRevision {
    /// Parses cookies that a tab of the session `identity` wants to set.
    ///
    /// # Errors
    /// If the request is not valid, or if a tab may not set one of the cookies.
    pub fn parse_cookies(&self, bytes: &[u8], identity: Identity) -> Result<TabCookies, InvalidCookies> {
        let CookieRequest { set_cookie } = serde_json::from_slice(bytes)?;
        if set_cookie.len() > COOKIES_MAX || set_cookie.iter().any(|line| line.len() > COOKIE_BYTES_MAX) {
            return Err(InvalidCookies::TooLarge);
        }
        let mut cookies = TabCookies { lines: Vec::new(), change: None };
        for line in set_cookie {
            let bytes = line.as_bytes();
            match self.reserved().kind_of(bytes) {
                CookieKind::Session => return Err(InvalidCookies::Session),
                CookieKind::App => cookies.change = changed(bytes, Some(identity)),
                CookieKind::Other if !has_attribute(bytes, "httponly") => return Err(InvalidCookies::NotHttpOnly),
                CookieKind::Other if has_attribute(bytes, "domain") => return Err(InvalidCookies::Domain),
                CookieKind::Other => {
                    cookies.lines.push(HeaderValue::try_from(line).map_err(|_| InvalidCookies::Value)?);
                }
            }
        }
        Ok(cookies)
    }
}
