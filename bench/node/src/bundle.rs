//! A release with its parts, as a client deploys it: the manifest, and the bytes and digests of the components.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use isomer_api::{Release, ReleasePart};
use isomer_ids::{Digest, HostPattern};
use sha2::{Digest as _, Sha256};

/// A release and the bytes of its parts.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The description of the release, which is sent as JSON.
    pub release: Release,
    /// The bytes of the release's parts, by digest. The client uploads those that the node does not have.
    pub parts: BTreeMap<Digest, Vec<u8>>,
}

impl Bundle {
    /// Creates a release in the shape `monolith` from a manifest, its components, and host names.
    ///
    /// # Errors
    /// If a host name is invalid.
    pub fn new(manifest: &str, components: &[(&str, Vec<u8>)], hosts: &[String]) -> Result<Self> {
        let mut bundle = Self {
            release: Release {
                manifest: manifest.to_owned(),
                shape: "monolith".to_owned(),
                components: BTreeMap::new(),
                files: BTreeMap::new(),
                folders: BTreeSet::new(),
                message: None,
                signatures: Vec::new(),
                hosts: Some(hosts.iter().map(|host| host.parse::<HostPattern>()).collect::<Result<_, _>>()?),
            },
            parts: BTreeMap::new(),
        };
        for (name, bytes) in components {
            let part = part(bytes);
            bundle.parts.insert(part.digest.clone(), bytes.clone());
            bundle.release.components.insert((*name).to_owned(), part);
        }
        Ok(bundle)
    }

    /// Creates a release of one component that receives the requests to every path.
    ///
    /// # Errors
    /// The errors of [`Bundle::new`].
    pub fn one(name: &str, component: Vec<u8>, hosts: &[String]) -> Result<Self> {
        Self::new(&manifest(name, ""), &[("main", component)], hosts)
    }
}

/// Returns a manifest with one component, `main`, that receives the requests to every path. `more` is TOML text that is
/// appended to the component's table.
#[must_use]
pub fn manifest(name: &str, more: &str) -> String {
    format!(
        "[app]\nname = \"{name}\"\nversion = \"1.0.0\"\n\n[components.main]\nwasm = \"main.wasm\"\nroutes = [\"/...\"]\n{more}"
    )
}

/// Returns the description of a part with the given bytes.
#[must_use]
pub fn part(bytes: &[u8]) -> ReleasePart {
    ReleasePart { digest: Digest::from(<[u8; 32]>::from(Sha256::digest(bytes))), bytes: bytes.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_identified_by_their_digest() {
        let bundle = Bundle::one("a", b"abc".to_vec(), &["a.test".to_owned()]).unwrap();
        let part = &bundle.release.components["main"];
        // The test vector of FIPS 180-2, appendix B.1.
        assert_eq!(part.digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(bundle.parts[&part.digest], b"abc");
        assert!(Bundle::one("a", Vec::new(), &["a/b".to_owned()]).is_err());
    }
}
