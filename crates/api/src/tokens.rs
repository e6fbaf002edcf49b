//! Tokens of tenants, in addition to the node's own token.
//!
//! A token is shown once, in the response that creates it ([`CreatedToken`]). A node stores only its digest
//! ([`StoredToken`]).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use isomer_ids::{Digest, InvalidText, TenantName, TokenId, TokenName};

/// What the holder of a tenant's token may do with the tenant. Each role includes the permissions of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenRole {
    /// Read the tenant, its apps, revisions and logs.
    Read,
    /// Also deploy, roll back and swap, stop and start apps.
    Deploy,
    /// Also set secrets, remove apps, create and revoke tokens.
    Admin,
}

impl TokenRole {
    /// All roles, from the fewest permissions to the most.
    pub const ALL: [Self; 3] = [Self::Read, Self::Deploy, Self::Admin];

    /// Returns the name in the API and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for TokenRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TokenRole {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| InvalidText::new("a role", "read", text, "use `read`, `deploy` or `admin`"))
    }
}

/// The request to create a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The name, which says what the token is for. It must be unique in the tenant.
    pub name: TokenName,
    /// What the holder may do.
    pub role: TokenRole,
    /// Seconds until it expires; absent means never. A token that was created with an expiring token does not outlive
    /// that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// What can be read about a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenInfo {
    /// Its name.
    pub name: TokenName,
    /// The id, as in the audit log.
    pub id: TokenId,
    /// The tenant.
    pub tenant: TenantName,
    /// What the holder may do.
    pub role: TokenRole,
    /// When it was created, in seconds since 1970, UTC.
    pub created_at: u64,
    /// When it expires, in seconds since 1970, UTC; absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

impl TokenInfo {
    /// Returns whether the token has expired at `now`, in seconds since 1970.
    #[must_use]
    pub fn is_expired_at(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|expires_at| now >= expires_at)
    }
}

/// A created token. Only this response contains the token itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedToken {
    /// What can be read about it later.
    #[serde(flatten)]
    pub info: TokenInfo,
    /// The token. It is not shown again.
    pub token: String,
}

/// Formats everything except the token.
impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What a node stores of a token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredToken {
    /// What can be read about it.
    #[serde(flatten)]
    pub info: TokenInfo,
    /// The SHA-256 of the token. The token contains 256 bits of randomness, so a plain hash reveals nothing about it.
    pub digest: Digest,
}

/// Formats everything except the digest.
impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken").field("info", &self.info).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_the_permissions_of_those_before_it() {
        assert!(
            TokenRole::ALL.is_sorted() && TokenRole::Read < TokenRole::Deploy && TokenRole::Deploy < TokenRole::Admin
        );
        for role in TokenRole::ALL {
            assert_eq!(role.as_str().parse::<TokenRole>().unwrap(), role);
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        for bad in ["", "root", "Admin", "read "] {
            assert!(bad.parse::<TokenRole>().is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_output_contains_neither_token_nor_digest() {
        let info = TokenInfo {
            name: "ci".parse().unwrap(),
            id: "0123456789abcdef".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            role: TokenRole::Deploy,
            created_at: 1,
            expires_at: Some(3),
        };
        let created = CreatedToken { info: info.clone(), token: "hush".to_owned() };
        let stored = StoredToken { info, digest: Digest::from([0xab; 32]) };
        assert!(!format!("{created:?}").contains("hush") && !format!("{stored:?}").contains("abab"));
        let text = serde_json::to_string(&stored).unwrap();
        assert_eq!(serde_json::from_str::<StoredToken>(&text).unwrap(), stored);
        assert_eq!([1, 2, 3, 4].map(|now| stored.info.is_expired_at(now)), [false, false, true, true]);
        let without_expiry = text.replace(",\"expires_at\":3", "");
        assert!(
            without_expiry != text
                && !serde_json::from_str::<StoredToken>(&without_expiry).unwrap().info.is_expired_at(u64::MAX)
        );
    }
}
