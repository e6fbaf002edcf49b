//! The shop's two cookies.

use crate::http::Head;

/// The name of the cookie that identifies the visitor's cart and orders. The value is secret, because it gives access
/// to them.
pub(crate) const SESSION: &str = "shop_session-id";
/// The name of the cookie with the currency in which prices are shown. Scripts may read it, so that the shop can also
/// run in a tab: a component in a tab sees no cookie with `HttpOnly`.
pub(crate) const CURRENCY: &str = "shop_currency";

/// The lifetime of the cookies: thirty days.
const AGE_SECONDS: u32 = 30 * 24 * 60 * 60;

/// Returns the value of the cookie `name` of a request, if the request has such a cookie.
pub(crate) fn read<'a>(head: &'a Head, name: &str) -> Option<&'a str> {
    head.headers_named("cookie")
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value)
}

/// Returns the value of a `Set-Cookie` header that sets the cookie.
pub(crate) fn keep(name: &str, value: &str, secure: bool) -> String {
    format!("{name}={value}; Path=/; Max-Age={AGE_SECONDS}; {}SameSite=Lax{}", visibility(name), attribute(secure))
}

/// Returns the value of a `Set-Cookie` header that removes the cookie.
pub(crate) fn expire(name: &str, secure: bool) -> String {
    format!(
        "{name}=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; {}SameSite=Lax{}",
        visibility(name),
        attribute(secure)
    )
}

/// Returns the attribute that hides a cookie with a secret value from scripts.
fn visibility(name: &str) -> &'static str {
    if name == SESSION { "HttpOnly; " } else { "" }
}

fn attribute(secure: bool) -> &'static str {
    if secure { "; Secure" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(cookies: &[&str]) -> Head {
        Head { headers: cookies.iter().map(|value| ("Cookie".into(), (*value).into())).collect(), ..Head::default() }
    }

    #[test]
    fn a_cookie_is_found_among_others_and_over_several_headers() {
        let head = head(&["a=1; shop_currency=EUR", "shop_session-id=abc;b=2"]);
        assert_eq!(read(&head, CURRENCY), Some("EUR"));
        assert_eq!(read(&head, SESSION), Some("abc"));
        assert_eq!(read(&head, "shop"), None);
    }

    #[test]
    fn cookies_are_out_of_reach_of_scripts_and_other_sites() {
        for cookie in [keep(SESSION, "abc", true), expire(SESSION, true)] {
            for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"] {
                assert!(cookie.contains(part), "{cookie}");
            }
        }
        assert!(!keep(SESSION, "abc", false).contains("Secure"));
        assert!(!keep(CURRENCY, "EUR", true).contains("HttpOnly"));
    }
}
