//! Names, checked when they are read: whoever holds one can put it in a path or compare it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The most bytes of a tenant's or an app's name: that of a DNS label (RFC 1035, section 2.3.4).
pub const NAME_BYTES_MAX: usize = 63;

/// The most bytes of a host name (RFC 1035, section 2.3.4).
pub const HOST_BYTES_MAX: usize = 253;

/// Why a text is not such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {rule}")]
pub struct InvalidName {
    /// What was given; cut short if it is long.
    pub text: String,
    /// What it was to be, with its article.
    pub what: &'static str,
    /// How one looks.
    pub rule: &'static str,
}

fn invalid(text: &str, what: &'static str, rule: &'static str) -> InvalidName {
    let mut text: String = text.chars().take(80).collect();
    text.retain(|character| !character.is_control());
    InvalidName { text, what, rule }
}

/// The rule of tenants' and apps' names. It also is that of a file's name that means nothing to any system.
const LABEL: &str = "use 1 to 63 of a-z, 0-9 and -, beginning with a letter and not ending with -";

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=NAME_BYTES_MAX).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes[bytes.len() - 1] != b'-'
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

macro_rules! name {
    ($(#[doc = $doc:literal])* $name:ident, $what:literal, $pattern:literal) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        /// By hand: what is derived from a type that is read from another one has no pattern.
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let about = [$($doc),*].map(str::trim).join(" ");
                json_schema!({ "description": about, "type": "string", "pattern": $pattern })
            }
        }

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as shared text.
            #[must_use]
            pub fn shared(&self) -> std::sync::Arc<str> {
                self.0.clone()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name!(
    /// A tenant of a node.
    TenantName,
    "a tenant's name",
    "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
);
name!(
    /// An app of a tenant: the manifest's `[app] name`, unless it was deployed under another one.
    AppName,
    "an app's name",
    "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
);
name!(
    /// A host name that requests are for: `shop.example`, `*.shop.example` (any name that ends so, of any depth, not the name
    /// itself) or `*` (whatever nobody else has). Lower case, without a port; an IP literal is written as in a URL.
    HostPattern,
    "a host name",
    "^(\\*|(\\*\\.)?[a-z0-9_.:\\[\\]-]+)$"
);
name!(
    /// What a revision of an app is called: the first 32 hexadecimal digits of a SHA-256 over all that it is made of.
    RevisionId,
    "a revision",
    "^[0-9a-f]{32}$"
);
name!(
    /// A token of a tenant, among the tenant's tokens.
    TokenName,
    "a token's name",
    "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
);
name!(
    /// Identifies a token of a tenant among all tokens that the node ever had: 16 hexadecimal digits. It is part of the token, and no secret.
    TokenId,
    "a token's id",
    "^[0-9a-f]{16}$"
);
name!(
    /// The SHA-256 of some bytes, as 64 hexadecimal digits.
    Digest,
    "a SHA-256",
    "^[0-9a-f]{64}$"
);

impl TenantName {
    /// The tenant that is meant where none is named.
    pub const DEFAULT: &'static str = "default";
}

impl FromStr for TenantName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_label(text) { Ok(Self(text.into())) } else { Err(invalid(text, "a tenant's name", LABEL)) }
    }
}

impl FromStr for AppName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_label(text) { Ok(Self(text.into())) } else { Err(invalid(text, "an app's name", LABEL)) }
    }
}

impl FromStr for TokenName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_label(text) { Ok(Self(text.into())) } else { Err(invalid(text, "a token's name", LABEL)) }
    }
}

impl FromStr for TokenId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_hexadecimal(text, 16) {
            return Ok(Self(text.into()));
        }
        Err(invalid(text, "a token's id", "it has 16 hexadecimal digits, in lower case"))
    }
}

impl From<[u8; 8]> for TokenId {
    fn from(bytes: [u8; 8]) -> Self {
        Self(format!("{:016x}", u64::from_be_bytes(bytes)).into())
    }
}

impl FromStr for HostPattern {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        if lower == "*" || (lower.len() <= HOST_BYTES_MAX && is_host(name) && (name == lower || !is_address(name))) {
            return Ok(Self(lower.into()));
        }
        Err(invalid(
            text,
            "a host name",
            "write `shop.example`, `*.shop.example` or `*`, without scheme, port and path",
        ))
    }
}

impl HostPattern {
    /// Does it stand for more than one name?
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Returns whether all names that `other` stands for are given away with this pattern. `*` gives away nothing but itself: it stands for
    /// the names that no other tenant has.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let below = self.0.strip_prefix('*').filter(|below| !below.is_empty());
        let name = other.0.strip_prefix("*.").unwrap_or(&other.0);
        self == other
            || below.is_some_and(|below| !is_address(name) && name.len() > below.len() && name.ends_with(below))
    }
}

/// DNS labels with dots in between, or an address.
fn is_host(text: &str) -> bool {
    let is_part = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    is_address(text) || text.split('.').all(is_part)
}

fn is_address(text: &str) -> bool {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    text.parse::<std::net::Ipv4Addr>().is_ok()
        || bracketed.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl FromStr for RevisionId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_hexadecimal(text, 32) {
            return Ok(Self(text.into()));
        }
        Err(invalid(
            text,
            "a revision",
            "it has 32 hexadecimal digits; `isomer revisions APP` lists those that there are",
        ))
    }
}

impl RevisionId {
    /// The first digits: enough for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// As bytes.
    ///
    /// # Panics
    /// Never: the digits were checked.
    #[must_use]
    pub fn bytes(&self) -> [u8; 16] {
        let number = u128::from_str_radix(&self.0, 16).expect("32 hexadecimal digits");
        number.to_be_bytes()
    }
}

impl From<[u8; 16]> for RevisionId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)).into())
    }
}

impl FromStr for Digest {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_hexadecimal(text, 64) {
            return Ok(Self(text.into()));
        }
        Err(invalid(text, "a SHA-256", "it has 64 hexadecimal digits, in lower case"))
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
        }
        Self(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_nothing_to_a_file_system() {
        for good in ["a", "shop", "shop-2", "a23456789012345678901234567890123456789012345678901234567890123"] {
            assert!(good.parse::<TenantName>().is_ok(), "{good}");
        }
        let bad = ["", ".", "..", "a/b", "A", "a_b", "-a", "a-", "1a", "a\0", "a b", "ä"];
        for bad in bad.iter().map(|bad| (*bad).to_owned()).chain(["a".repeat(64)]) {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_patterns_or_addresses() {
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
    fn a_wildcard_covers_what_lies_below_it() {
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

    #[test]
    fn a_revision_is_its_bytes() {
        let id = RevisionId::from([7; 16]);
        assert_eq!(id.bytes(), [7; 16]);
        assert_eq!(serde_json::from_str::<RevisionId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        assert!(serde_json::from_str::<Digest>("\"abc\"").is_err());
    }
}
