//! The protocol between a node and its compiling children: one JSON object per line, over the child's standard input,
//! which is one end of a socket pair. Some lines announce bytes, which follow the line. A child is given no file and no
//! file name: all input and output goes over the socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use isomer_api::ApiProblem;
use isomer_apps::Package;
use isomer_ids::TenantName;
use isomer_runtime::code::{CodeCache, Key};
use serde::{Deserialize, Serialize};

use super::sandbox::Confinement;

/// The limits of a child. The child sets them for itself before it reads anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildLimits {
    /// The maximum number of bytes of address space.
    pub memory_bytes: u64,
    /// The maximum number of seconds of processor time.
    pub cpu_s: u64,
    /// The maximum number of bytes of the code of one group.
    pub file_bytes: u64,
    /// The maximum number of open files.
    pub files: u64,
}

impl Default for ChildLimits {
    /// Returns limits that are high enough for the largest components in practice, and low enough not to harm the
    /// machine.
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, cpu_s: 300, file_bytes: 1 << 30, files: 256 }
    }
}

/// A release to compile.
#[derive(Debug, Clone)]
pub struct CompileRequest {
    /// The tenant whose release it is: compilers are shared fairly among tenants.
    pub tenant: TenantName,
    /// The text of the manifest.
    pub manifest: String,
    /// The shape of the app.
    pub shape: String,
    /// The files of the components, by name.
    pub components: BTreeMap<String, PathBuf>,
    /// The cache of compiled code. Children have no access to it.
    pub cache: CodeCache,
    /// A key over the program's version and its engine's settings: code with another key cannot be run.
    pub maker: Key,
}

/// The task of one child: the first line that the child reads. The bytes that the line announces follow.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChildTask {
    /// No task: the node only asks how the child is confined.
    Nothing,
    /// Plan an app and compose its groups.
    Compose {
        /// The text of the manifest.
        manifest: String,
        /// The shape of the app.
        shape: String,
        /// The number of bytes of each component. The bytes follow in the order of the names.
        components: BTreeMap<String, u64>,
    },
    /// Compile one composition.
    Compile {
        /// The group's name, for messages.
        group: String,
        /// The number of bytes of the composition, which follow.
        bytes: u64,
    },
}

/// A message from a child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChildMessage {
    /// How the child confined itself. Always the first message.
    Confined(Confinement),
    /// The phase that begins.
    Phase(CompilePhase),
    /// A group is composed. This number of bytes follows.
    Composed(u64),
    /// All groups are composed.
    Drafted(PackageDraft),
    /// The group is compiled. This number of bytes of code follows, and the child is done.
    Compiled(u64),
    /// The release is invalid.
    Refused(ApiProblem),
}

/// An app that was planned and composed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PackageDraft {
    /// The package, without the keys of its code.
    pub(crate) package: String,
    /// The warnings of the manifest and the plan, rendered for people.
    pub(crate) warnings: Vec<String>,
}

/// The phase of a child's task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompilePhase {
    /// Before the child reads anything.
    Starting,
    /// Reading a component.
    Reading(String),
    /// Planning the app.
    Planning,
    /// Composing the components of a group.
    Composing(String),
    /// Compiling a group.
    Compiling(String),
}

impl fmt::Display for CompilePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Reading(component) => write!(f, "reading component `{component}`"),
            Self::Planning => f.write_str("planning"),
            Self::Composing(group) => write!(f, "composing {group}"),
            Self::Compiling(group) => write!(f, "compiling {group}"),
        }
    }
}

/// A release that was compiled.
#[derive(Debug, Clone)]
pub struct CompileOutput {
    /// The package.
    pub package: Package,
    /// The keys of the compiled code.
    pub code: BTreeSet<String>,
    /// Whether code was compiled; `false` if all code was found in the cache.
    pub compiled: bool,
    /// The warnings of the manifest and the plan, rendered for people.
    pub warnings: Vec<String>,
}
