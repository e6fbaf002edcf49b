//! Host names under which apps are served, and patterns of host names.

use std::sync::Arc;

use crate::invalid::InvalidText;
use crate::label::LABEL_BYTES_MAX;
use crate::name_type::name_type;

/// The maximum length of a host name in bytes (RFC 1035, section 2.3.4).
pub const HOST_BYTES_MAX: usize = 253;

const RULE: &str = "write `shop.example`, `*.shop.example` or `*`, without scheme, port and path";

name_type! {
    /// A pattern for host names in requests: a name (`shop.example`), a wildcard (`*.shop.example` for any name below
    /// `shop.example`, at any depth, but not `shop.example` itself) or `*` (every name that no other app has). Patterns
    /// are in lower case and have no port; an IP literal is written as in a URL.
    HostPattern,
    pattern,
    { "pattern": "^(\\*|(\\*\\.)?[a-z0-9_.:\\[\\]-]+)$" }
}

impl HostPattern {
    /// Returns whether the pattern matches more than one name.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.as_str().starts_with('*')
    }

    /// Returns whether a tenant that owns this pattern also owns every name that `other` matches. `*` covers only
    /// itself, because it matches only names that no other tenant owns.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let below = self.as_str().strip_prefix('*').filter(|below| !below.is_empty());
        let name = other.as_str().strip_prefix("*.").unwrap_or(other.as_str());
        self == other
            || below.is_some_and(|below| !is_address(name) && name.len() > below.len() && name.ends_with(below))
    }
}

fn pattern(text: &str) -> Result<Arc<str>, InvalidText> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    if lower == "*" || (lower.len() <= HOST_BYTES_MAX && is_host(name) && (name == lower || !is_address(name))) {
        return Ok(lower.into());
    }
    Err(InvalidText::new("a host name", "shop.example", text, RULE))
}

/// Returns whether the text is an IP address, or consists of DNS labels separated by dots.
fn is_host(text: &str) -> bool {
    is_address(text) || text.split('.').all(is_host_label)
}

/// Returns whether a text can be a label of a host name: letters, digits, `-` and `_`, without `-` at either end, at
/// most 63 bytes (RFC 1123, section 2.1; `_` occurs in the names of services).
#[must_use]
pub fn is_host_label(text: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_address(text: &str) -> bool {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    text.parse::<std::net::Ipv4Addr>().is_ok()
        || bracketed.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_wildcards_and_addresses_are_accepted() {
        for good in ["shop.example", "*.shop.example", "*", "localhost", "127.0.0.1", "[::1]", "a_b.example"] {
            assert!(good.parse::<HostPattern>().is_ok(), "{good}");
        }
        assert_eq!("Shop.Example".parse::<HostPattern>().unwrap().as_str(), "shop.example");
        for bad in [
            "",
            ".",
            "a..b",
            "shop.example.",
            "a:80",
            "http://a",
            "a/b",
            "*.",
            "*.*.a",
            "a.*",
            "*.127.0.0.1",
            "-a.b",
            "a b",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_covers_the_names_below_it() {
        let covers = |own: &str, host: &str| own.parse::<HostPattern>().unwrap().covers(&host.parse().unwrap());
        let yes = [
            ("shop.example", "shop.example"),
            ("*.shop.example", "*.shop.example"),
            ("*.shop.example", "a.shop.example"),
            ("*.shop.example", "a.b.shop.example"),
            ("*.shop.example", "*.a.shop.example"),
            ("*", "*"),
        ];
        let no = [
            ("shop.example", "a.shop.example"),
            ("shop.example", "*.shop.example"),
            ("*.shop.example", "shop.example"),
            ("*.shop.example", "*.example"),
            ("*.shop.example", "bookshop.example"),
            ("*.shop.example", "*"),
            ("*", "shop.example"),
            ("*", "*.example"),
            ("*.0.0.1x", "127.0.0.1"),
        ];
        assert!(yes.iter().all(|(own, host)| covers(own, host)));
        for (own, host) in no {
            assert!(!covers(own, host), "{own} {host}");
        }
    }
}
