//! Tokens of tenants, in addition to the node's own token.
//!
//! A token is shown once, in the response to the request that creates it ([`CreatedToken`]). A node stores only its
//! digest ([`StoredToken`]).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use isomer_ids::{Digest, InvalidText, TenantName, TokenId, TokenName};

/// The name of the token file in a node's data directory.
pub const TOKEN_FILE: &str = "admin.token";

/// The permissions of a tenant's token. Each role includes the permissions of the previous roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenRole {
    /// The token permits reading the tenant, its apps, revisions and logs.
    Read,
    /// The token permits everything that a `read` token permits, and also deploying, rolling back, swapping, stopping
    /// and starting apps.
    Deploy,
    /// The token permits everything that a `deploy` token permits, and also setting secrets, removing apps, and
    /// creating and revoking tokens.
    Admin,
}

impl TokenRole {
    /// All roles, from the fewest permissions to the most.
    pub const ALL: [Self; 3] = [Self::Read, Self::Deploy, Self::Admin];

    /// Returns the role's name in the API and on the command line.
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
    /// The token's name, which describes its purpose. It must be unique in the tenant.
    pub name: TokenName,
    /// The token's permissions.
    pub role: TokenRole,
    /// Whether the token also permits reading the content of the apps' stores. Tokens with the role `admin` always
    /// permit this.
    #[serde(default, skip_serializing_if = "is_false")]
    pub data: bool,
    /// The number of seconds until the token expires; if absent, the token never expires. If an expiring token is used
    /// to create another token, the new token expires no later than the existing one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// The public information about a token, which the API returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenInfo {
    /// The token's name.
    pub name: TokenName,
    /// The token's id, which the audit log contains.
    pub id: TokenId,
    /// The tenant that the token belongs to.
    pub tenant: TenantName,
    /// The token's permissions.
    pub role: TokenRole,
    /// Whether the token also permits reading the content of the apps' stores. Tokens with the role `admin` always
    /// permit this.
    #[serde(default, skip_serializing_if = "is_false")]
    pub data: bool,
    /// The time at which the token was created, in seconds since 1970-01-01 00:00 UTC.
    pub created_at: u64,
    /// The time at which the token expires, in seconds since 1970-01-01 00:00 UTC; if absent, the token never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl TokenInfo {
    /// Returns whether the token permits reading the content of the apps' stores.
    #[must_use]
    pub fn may_read_data(&self) -> bool {
        self.data || self.role == TokenRole::Admin
    }

    /// Returns whether the token has expired at the time `now`, in seconds since 1970-01-01 00:00 UTC.
    #[must_use]
    pub fn is_expired_at(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|expires_at| now >= expires_at)
    }
}

/// The response to a request that creates a token. No other response contains the token itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedToken {
    /// The public information about the token.
    #[serde(flatten)]
    pub info: TokenInfo,
    /// The token itself. The API does not return it again.
    pub token: String,
}

/// Formats everything except the token.
impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken").field("info", &self.info).finish_non_exhaustive()
    }
}

/// The record of a token that a node stores.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredToken {
    /// The public information about the token.
    #[serde(flatten)]
    pub info: TokenInfo,
    /// The SHA-256 digest of the token. The token contains 256 bits of randomness, so a plain hash reveals nothing
    /// about it.
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
            data: false,
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
