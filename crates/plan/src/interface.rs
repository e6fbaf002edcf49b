//! The type of a component, summarised for planning.
//!
//! A summary contains interface names, functions with a hash of their structurally resolved types, and the kind of
//! values that the functions pass. `isomer-seam` creates the summaries from the bytes of a component; this crate does
//! not know the binary format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Serialize, Serializer};

/// The name of a WIT interface: `namespace:package/interface@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId {
    /// The namespace: `wasi` in `wasi:io/streams@0.2.6`. Nested namespaces are joined by `:`.
    pub namespace: String,
    /// The package: `io` in `wasi:io/streams@0.2.6`.
    pub package: String,
    /// The name of the interface in its package: `streams` in `wasi:io/streams@0.2.6`. If the name has several
    /// segments, they are joined by `/`.
    pub interface: String,
    /// The version: `0.2.6` in `wasi:io/streams@0.2.6`.
    pub version: Option<Version>,
}

/// The error for a text that is not the name of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of an interface, which looks like `namespace:package/interface@1.2.3`")]
pub struct NotAnInterface(pub String);

/// The type of a component: the interfaces that it imports and exports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComponentType {
    /// The imported interfaces.
    pub imports: BTreeMap<InterfaceId, InterfaceType>,
    /// The exported interfaces.
    pub exports: BTreeMap<InterfaceId, InterfaceType>,
    /// The imports that belong to no named interface: functions and inline interfaces of the world. No component of an
    /// app can provide them.
    pub world_imports: Vec<String>,
}

/// One imported or exported interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceType {
    /// The interface's name.
    pub id: InterfaceId,
    /// The functions by name. A method of a resource has the name `[method]resource.name`.
    pub functions: BTreeMap<String, FunctionType>,
    /// The named types and their definitions as WIT. Used to report differences between two components.
    pub types: BTreeMap<String, String>,
    /// The kind of values that the functions pass.
    pub class: ValueClass,
    /// The resources that the interface defines.
    pub resources: BTreeSet<String>,
    /// The resources of other interfaces that this interface's functions pass handles of. Each resource is listed with
    /// the interface that defines it.
    pub carries: BTreeSet<(InterfaceId, String)>,
    /// The interfaces whose types this interface uses.
    pub uses: BTreeSet<InterfaceId>,
}

/// The type of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionType {
    /// Whether the function is declared `async func`.
    pub is_async: bool,
    /// The hash of the structurally resolved parameters and result. Functions with equal hashes have equal types.
    pub hash: TypeHash,
    /// Whether the function's error type can represent a call that was lost: the type is
    /// `isomer:link/types.call-error`, or a variant with a case of this type.
    pub catches: bool,
    /// The signature as WIT, for messages: `async func(id: string) -> option<product>`.
    pub signature: String,
    /// The parameters in their order.
    pub parameters: Vec<Parameter>,
}

/// A parameter of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The parameter's name.
    pub name: String,
    /// For a parameter of type `string`: the offset in bytes, from the start of an image of the arguments, at which the
    /// image contains the address of the text (four bytes) and its length (four bytes). `None` for other types, and for
    /// functions whose calls cannot leave a wasmtime store.
    pub text_offset: Option<u32>,
}

/// A hash of a type in which every named type is replaced by its definition, so that equal structures have equal hashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeHash(pub [u8; 16]);

/// The kind of values that an interface's functions pass. It decides whether calls can cross a seam that is not fused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ValueClass {
    /// The functions pass only plain values: numbers, text, lists, records, variants.
    Plain,
    /// The functions pass at least one type that the engine disables by default: a list of fixed length, a map or an
    /// error context.
    Experimental {
        /// The first disabled type that was found, as WIT.
        type_name: String,
    },
    /// The functions pass at least one `stream` or `future`.
    Streaming {
        /// The first `stream` or `future` type that was found in the types of the functions, as WIT.
        type_name: String,
    },
    /// The functions pass at least one resource. Its handles are valid in one wasmtime store only.
    Pinned {
        /// The name of the first resource that was found in the types of the functions.
        type_name: String,
    },
}

impl ValueClass {
    /// Returns whether the functions pass only plain values.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }
}

impl InterfaceId {
    /// Returns `namespace:package/interface`, without the version.
    pub fn path(&self) -> String {
        format!("{}:{}/{}", self.namespace, self.package, self.interface)
    }

    /// Returns the name of the interface's package without its version: `wasi:io`.
    pub fn package_name(&self) -> String {
        format!("{}:{}", self.namespace, self.package)
    }

    /// Returns the *track*: the name with only that part of the version that decides compatibility (`1`, `0.2`,
    /// `0.0.3`, or the complete version of a pre-release). An export can provide an import only if both have the same
    /// track.
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

    /// Returns whether an export named `other` can provide an import named `self`. Only names and versions are
    /// compared.
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
    /// Returns whether the interface contains only types of plain values. Such an interface needs no implementation.
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
