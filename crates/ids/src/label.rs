//! Names of tenants, apps and tokens: lower-case DNS labels that begin with a letter (RFC 1035, section 2.3.1).
//!
//! Such a name is also a safe file name on every system: it contains no separator, no dot and no upper-case letter.

use std::sync::Arc;

use crate::invalid::InvalidText;
use crate::name_type::name_type;

/// The maximum length in bytes of the name of a tenant, an app or a token, which is the limit of a DNS label (RFC 1035,
/// section 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

const RULE: &str = "use 1 to 63 of a-z, 0-9 and -, beginning with a letter and not ending with -";

const PATTERN: &str = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$";

name_type! {
    /// The name of a tenant of a node.
    TenantName,
    |text| label("a tenant name", text),
    { "pattern": PATTERN }
}

name_type! {
    /// The name of an app of a tenant: the manifest's `[app] name`, unless the app was deployed under another name.
    AppName,
    |text| label("an app name", text),
    { "pattern": PATTERN }
}

name_type! {
    /// The name of a token, unique among the tenant's tokens.
    TokenName,
    |text| label("a token name", text),
    { "pattern": PATTERN }
}

impl TenantName {
    /// The tenant that is used if a request or command does not name a tenant.
    pub const DEFAULT: &'static str = "default";
}

fn label(kind: &'static str, text: &str) -> Result<Arc<str>, InvalidText> {
    let bytes = text.as_bytes();
    let is_label = (1..=LABEL_BYTES_MAX).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes[bytes.len() - 1] != b'-'
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
    if is_label { Ok(text.into()) } else { Err(InvalidText::new(kind, "shop", text, RULE)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_accepted_and_paths_are_refused() {
        for good in ["a", "shop", "shop-2", "a23456789012345678901234567890123456789012345678901234567890123"] {
            assert!(good.parse::<TenantName>().is_ok(), "{good}");
        }
        let bad = ["", ".", "..", "a/b", "A", "a_b", "-a", "a-", "1a", "a\0", "a b", "ä"];
        for bad in bad.iter().map(|bad| (*bad).to_owned()).chain(["a".repeat(64)]) {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refused_text_is_repeated_in_part_and_escaped() {
        let error = format!("\u{1b}[2J{}", "x".repeat(1000)).parse::<TenantName>().expect_err("not a label");
        assert!(error.text.starts_with("\\u{1b}[2Jxx") && error.text.len() < 200, "{error}");
    }
}
