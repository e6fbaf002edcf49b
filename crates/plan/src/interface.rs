//! What a component imports and exports, as far as planning needs to know it.
//!
//! These are summaries that the reader of components fills in: names, functions with a hash over their structurally
//! resolved types, and what kind of values cross. Nothing here knows how a component is encoded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Serialize, Serializer};

/// The name of a WIT interface: `namespace:package/interface@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId {
    /// `wasi` in `wasi:io/streams@0.2.6`; several namespaces are joined by `:`.
    pub namespace: String,
    /// `io`.
    pub package: String,
    /// `streams`; deeper paths are joined by `/`.
    pub interface: String,
    /// `0.2.6`.
    pub version: Option<Version>,
}

/// A text that is not the name of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of an interface, which looks like `namespace:package/interface@1.2.3`")]
pub struct NotAnInterface(pub String);

/// The type of a component: the interfaces it imports and exports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComponentType {
    /// Interfaces that it imports.
    pub imports: BTreeMap<InterfaceId, InterfaceType>,
    /// Interfaces that it exports.
    pub exports: BTreeMap<InterfaceId, InterfaceType>,
    /// Imports that belong to no named interface (functions and inline interfaces of the world); no app can meet them.
    pub world_imports: Vec<String>,
}

/// One imported or exported interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceType {
    /// Its name.
    pub id: InterfaceId,
    /// Its functions by name, methods as `[method]resource.name`.
    pub functions: BTreeMap<String, FunctionType>,
    /// Its named types and how they are defined, as WIT; used to say what differs.
    pub types: BTreeMap<String, String>,
    /// What kind of values its functions carry.
    pub class: ValueClass,
    /// Resources that it defines.
    pub resources: BTreeSet<String>,
    /// Resources of other interfaces that its functions carry handles of.
    pub carries: BTreeSet<(InterfaceId, String)>,
    /// Interfaces whose types it uses.
    pub uses: BTreeSet<InterfaceId>,
}

/// The type of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionType {
    /// Declared `async func`.
    pub is_async: bool,
    /// Over the structurally resolved parameters and result: equal hashes, equal types.
    pub hash: TypeHash,
    /// Has the error of its result a place for `isomer:link/types.call-error`: is it one, or a variant with a case of one?
    pub catches: bool,
    /// As WIT, for people: `async func(id: string) -> option<product>`.
    pub signature: String,
}

/// A hash over a structurally resolved type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeHash(pub [u8; 16]);

/// What kind of values an interface carries, and so which seams it can cross.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ValueClass {
    /// Values only.
    Plain,
    /// Has a type that the engine has switched off by default: lists of a fixed length, maps, error contexts.
    Experimental {
        /// The first type that makes it so, as WIT.
        type_name: String,
    },
    /// Has a `stream` or a `future`.
    Streaming {
        /// The first type that makes it so, as WIT.
        type_name: String,
    },
    /// Has a resource.
    Pinned {
        /// The first resource that makes it so.
        type_name: String,
    },
}

impl InterfaceId {
    /// `namespace:package/interface`, without the version.
    pub fn path(&self) -> String {
        format!("{}:{}/{}", self.namespace, self.package, self.interface)
    }

    /// `namespace:package`.
    pub fn family(&self) -> String {
        format!("{}:{}", self.namespace, self.package)
    }

    /// The name with the version cut down to what decides compatibility (`1`, `0.2`, `0.0.3`, or all of a
    /// pre-release): two versions with the same track may meet each other.
    pub fn track(&self) -> String {
        let Some(version) = &self.version else {
            return self.path();
        };
        let path = self.path();
        if !version.pre.is_empty() {
            format!("{path}@{version}")
        } else if version.major > 0 {
            format!("{path}@{}", version.major)
        } else if version.minor > 0 {
            format!("{path}@0.{}", version.minor)
        } else {
            format!("{path}@{version}")
        }
    }

    /// May an import of `self` be met by an export of `other`, as far as names go?
    pub fn is_compatible_with(&self, other: &InterfaceId) -> bool {
        self.track() == other.track()
    }
}

impl fmt::Display for InterfaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.namespace, self.package, self.interface)?;
        match &self.version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

impl FromStr for InterfaceId {
    type Err = NotAnInterface;

    fn from_str(text: &str) -> Result<Self, NotAnInterface> {
        let refuse = || NotAnInterface(text.to_owned());
        let (path, version) = match text.split_once('@') {
            Some((path, version)) => (path, Some(Version::parse(version).map_err(|_| refuse())?)),
            None => (text, None),
        };
        let (package, interface) = path.split_once('/').ok_or_else(refuse)?;
        let (namespace, package) = package.rsplit_once(':').ok_or_else(refuse)?;
        if [namespace, package, interface].iter().any(|part| part.is_empty()) {
            return Err(refuse());
        }
        Ok(InterfaceId {
            namespace: namespace.to_owned(),
            package: package.to_owned(),
            interface: interface.to_owned(),
            version,
        })
    }
}

impl Serialize for InterfaceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for TypeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl InterfaceType {
    /// Has it nothing but types of plain values? Such an interface needs nobody to implement it.
    pub fn is_types_only(&self) -> bool {
        self.functions.is_empty() && self.resources.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_written_alike() {
        for name in ["a:b/c", "a:b/c@1.2.3", "wasi:http/types@0.3.0-rc-2025-09-16", "a:b:c/d@0.1.0+build", "a:b/c/d"] {
            assert_eq!(name.parse::<InterfaceId>().map(|id| id.to_string()), Ok(name.to_owned()));
        }
        for name in ["", "a", "a/b", "a:b", "a:/c", ":b/c", "a:b/", "a:b/c@", "a:b/c@1", "a:b/c@x.y.z"] {
            assert_eq!(name.parse::<InterfaceId>(), Err(NotAnInterface(name.to_owned())));
        }
    }

    #[test]
    fn versions_meet_on_their_track() {
        let compatible = |left: &str, right: &str| {
            let id = |version: &str| format!("a:b/c{version}").parse::<InterfaceId>().expect("it is a name");
            id(left).is_compatible_with(&id(right))
        };
        for (left, right) in [("", ""), ("@1.0.0", "@1.9.3"), ("@0.2.0", "@0.2.12"), ("@0.2.0-draft", "@0.2.0-draft")] {
            assert!(compatible(left, right), "{left} {right}");
        }
        for (left, right) in [
            ("", "@1.0.0"),
            ("@1.0.0", "@2.0.0"),
            ("@0.1.0", "@0.2.0"),
            ("@0.0.1", "@0.0.2"),
            ("@0.2.0-draft", "@0.2.0-draft2"),
            ("@0.2.0-draft", "@0.2.0"),
        ] {
            assert!(!compatible(left, right), "{left} {right}");
        }
    }
}
