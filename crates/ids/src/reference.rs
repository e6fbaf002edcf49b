//! References to artifacts in OCI registries.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::host::is_host_label;
use crate::invalid::InvalidText;

/// The scheme that marks a reference where a path could also be written.
const SCHEME: &str = "oci://";

/// The prefix of a digest in a reference.
const SHA256: &str = "sha256:";

/// The tag that is used if a reference has neither a tag nor a digest.
const DEFAULT_TAG: &str = "latest";

/// The maximum length of a repository's name in bytes, as registries define it.
const REPOSITORY_BYTES_MAX: usize = 255;

/// The maximum length of a tag in bytes (OCI distribution specification, "Pulling manifests").
pub const TAG_BYTES_MAX: usize = 128;

/// The name of an artifact in an OCI registry: `registry.example/team/shop:1.4.0` or
/// `registry.example/team/shop@sha256:…`. A reference with a digest always names the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OciReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl OciReference {
    /// Returns the host of the registry, with its port if the reference has one.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the name of the repository in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the digest of the artifact's manifest, if the reference has one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the tag; `latest` if the reference has neither a tag nor a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG),
        }
    }

    /// Returns the reference of the artifact with this digest in the same repository, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Returns the reference of the artifact with this tag in the same repository; `None` if the text is not a tag.
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Option<Self> {
        is_tag(tag).then(|| Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// Returns whether a text starts with `oci://`, so it is meant as a reference and not as a path.
    #[must_use]
    pub fn is_marked(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Returns the last part of the repository's name.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        self.digest.iter().try_for_each(|digest| write!(f, "@{SHA256}{digest}"))
    }
}

impl FromStr for OciReference {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let invalid = |problem: &str| {
            InvalidText::new("a reference to a registry", "registry.example/team/shop:1.4.0", text, problem)
        };
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.strip_prefix(SHA256).and_then(|digits| digits.parse().ok());
                (rest, Some(digest.ok_or_else(|| invalid("a digest is `sha256:` and 64 hexadecimal digits"))?))
            }
            None => (rest, None),
        };
        let (registry, path) = rest.split_once('/').ok_or_else(|| invalid("it must begin with the registry's host"))?;
        if !is_registry(registry) {
            return Err(invalid(
                "it must begin with the registry's host, such as `registry.example` or `localhost:5000`",
            ));
        }
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if repository.len() > REPOSITORY_BYTES_MAX || !repository.split('/').all(is_repository_part) {
            return Err(invalid("a repository has lower-case letters, digits, and `.`, `_`, `-` or `/` between them"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("a tag has at most 128 letters, digits, `_`, `.` and `-`"));
        }
        Ok(Self {
            registry: registry.to_ascii_lowercase(),
            repository: repository.to_owned(),
            tag: tag.map(ToOwned::to_owned),
            digest,
        })
    }
}

/// Returns whether a text is the host of a registry. A single name without a port is refused, except `localhost`,
/// because `team/shop` is a repository of which the registry is missing.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
        Some((address, rest)) => match rest.strip_prefix(':') {
            Some(port) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("localhost", Some(port)),
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number > 0));
    let is_qualified = host.contains('.') || host == "localhost" || port.is_some();
    is_port && is_qualified && host.len() <= crate::host::HOST_BYTES_MAX && host.split('.').all(is_host_label)
}

/// Returns whether a text is a part of a repository's name: lower-case letters and digits, with `.`, `_`, `__` or any
/// number of `-` between them.
fn is_repository_part(part: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separators = part.split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit());
    part.bytes().next().is_some_and(is_plain)
        && part.bytes().next_back().is_some_and(is_plain)
        && separators.all(|text| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=TAG_BYTES_MAX).contains(&text.len())
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_registry_repository_and_tag_or_digest() {
        let digest = "ab".repeat(32);
        for (text, shown) in [
            ("registry.example/team/shop:1.4.0", "registry.example/team/shop:1.4.0".to_owned()),
            ("oci://localhost:5000/shop", "localhost:5000/shop:latest".to_owned()),
            ("[::1]:5000/a__b/c-d", "[::1]:5000/a__b/c-d:latest".to_owned()),
            ("Registry.example/x:V1_", "registry.example/x:V1_".to_owned()),
            (&format!("r.example/x@sha256:{digest}"), format!("r.example/x@sha256:{digest}")),
            (&format!("r.example/x:1@sha256:{digest}"), format!("r.example/x:1@sha256:{digest}")),
        ] {
            let reference: OciReference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(reference.to_string(), shown);
            assert_eq!(shown.parse::<OciReference>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_could_leave_the_repository_is_refused() {
        for bad in [
            "",
            "shop",
            "team/shop",
            "https://r.example/x",
            "r.example/",
            "r.example/../x",
            "r.example/a/../x",
            "r.example/a//b",
            "r.example/X",
            "r.example/a?b",
            "r.example/a#b",
            "r.example/a%2f",
            "r.example/a:",
            "r.example/a:-x",
            "r.example/a:b/c",
            "r.example/a@sha256:ab",
            "r.example/a@sha512:ab",
            "user@r.example/a",
            "r.example:0/a",
            "r.example:x/a",
            "[::1/a",
            "[::1]x/a",
            "[::1]:/a",
            "r.example/a b",
            "r.example/a\n",
            "r.example/-a",
            "r.example/a___b",
            &format!("r.example/{}", "a".repeat(256)),
            &format!("r.example/a:{}", "a".repeat(129)),
        ] {
            assert!(bad.parse::<OciReference>().is_err(), "{bad}");
        }
    }
}
