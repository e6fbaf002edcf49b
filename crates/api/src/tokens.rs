//! Tokens of tenants, beside the node's own: what is told of them, and what a node keeps.
//!
//! A token is told once, in the answer that makes it ([`CreatedToken`]). A node keeps its digest only ([`StoredToken`]).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use isomer_ids::{Digest, InvalidText, TenantName, TokenId, TokenName};

/// What the holder of a tenant's token may do with what is the tenant's. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenRole {
    /// Look: the tenant, its apps, revisions and logs.
    Read,
    /// Also bring revisions into service, stop and start apps.
    Deploy,
    /// Also set secrets, remove apps, make and revoke tokens.
    Admin,
}

impl TokenRole {
    /// All roles, the one that may do least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Deploy, Self::Admin];

    /// Its name in the API and on the command line.
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

/// A token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Its name: what it is for. The tenant has no other one of this name.
    pub name: TokenName,
    /// What its holder may do.
    pub role: TokenRole,
    /// Seconds after which it opens nothing any more; absent: never. One that is made with a token that expires does not outlive that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// What is told of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenInfo {
    /// Its name.
    pub name: TokenName,
    /// Which of that name it is, as the audit log has it.
    pub id: TokenId,
    /// Whose it is.
    pub tenant: TenantName,
    /// What its holder may do.
    pub role: TokenRole,
    /// When it was made: seconds since 1970, UTC.
    pub created_at: u64,
    /// From when on it opens nothing any more: seconds since 1970, UTC. Absent: it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

impl TokenInfo {
    /// Returns whether it opens nothing any more at this time, in seconds since 1970.
    #[must_use]
    pub fn is_expired_at(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|expires_at| now >= expires_at)
    }
}

/// A token that was made. Only this answer tells the token itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedToken {
    /// What is told of it from now on.
    #[serde(flatten)]
    pub info: TokenInfo,
    /// The token. It is not told again.
    pub token: String,
}

/// Without the token.
impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What a node keeps of a token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredToken {
    /// What is told of it.
    #[serde(flatten)]
    pub info: TokenInfo,
    /// The SHA-256 of the token. It holds 256 bits of randomness, so a plain hash tells nothing about it.
    pub digest: Digest,
}

/// Without the digest.
impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken").field("info", &self.info).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_may_do_what_those_before_it_may() {
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
    fn neither_token_nor_digest_is_printed() {
        let info = TokenInfo {
            name: "ci".parse().unwrap(),
            id: "0123456789abcdef".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            role: TokenRole::Deploy,
            created_at: 1,
            expires_at: Some(3),
        };
        let made = CreatedToken { info: info.clone(), token: "hush".to_owned() };
        let kept = StoredToken { info, digest: Digest::from([0xab; 32]) };
        assert!(!format!("{made:?}").contains("hush") && !format!("{kept:?}").contains("abab"));
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<StoredToken>(&text).unwrap(), kept);
        assert_eq!([1, 2, 3, 4].map(|now| kept.info.is_expired_at(now)), [false, false, true, true]);
        let of_before = text.replace(",\"expires_at\":3", "");
        assert!(
            of_before != text && !serde_json::from_str::<StoredToken>(&of_before).unwrap().info.is_expired_at(u64::MAX)
        );
    }
}
