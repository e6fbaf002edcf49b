//! The protocol between a node and the child processes of its compiler. Both send one JSON object per line over a
//! socket pair, one end of which is the child's standard input. A line may announce a number of bytes, which follow the
//! line. The child gets no files and no file names: its input and its results go over the socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use isomer_api::{ApiProblem, Release};
use isomer_apps::Package;
use isomer_ids::TenantName;
use isomer_runtime::code::{CodeCache, Key};
use isomer_state::Blobs;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::sandbox::Confinement;

/// The resource limits of a child process. The child applies them to itself before it reads its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildLimits {
    /// The maximum size in bytes of the child's address space.
    pub memory_bytes: u64,
    /// The maximum processor time of the child, in seconds.
    pub cpu_s: u64,
    /// The maximum size in bytes of the compiled code of one group.
    pub file_bytes: u64,
    /// The maximum number of files that the child may have open.
    pub files: u64,
}

impl Default for ChildLimits {
    /// Returns limits that are sufficient for the largest components that occur in practice, and that protect the
    /// machine from a malicious component.
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, cpu_s: 300, file_bytes: 1 << 30, files: 256 }
    }
}

/// A release to compile.
#[derive(Debug, Clone)]
pub struct CompileRequest {
    /// The tenant whose app has the release. The release waits for a compiler process in the queue of this tenant.
    pub tenant: TenantName,
    /// The text of the manifest, `isomer.toml`.
    pub manifest: String,
    /// The name of the shape in which the app is planned.
    pub shape: String,
    /// The paths of the component files, by component name.
    pub components: BTreeMap<String, PathBuf>,
    /// The cache of compiled code, which only the node reads and writes.
    pub cache: CodeCache,
    /// A hash of the program's version and its engine's settings. The engine cannot run code that was compiled by a
    /// program with another hash.
    pub maker: Key,
}

impl CompileRequest {
    /// Returns the request to compile `release` for `tenant`. The bytes of its components are in `blobs`.
    pub(crate) fn new(tenant: &TenantName, release: &Release, blobs: &Blobs, cache: &CodeCache, maker: &Key) -> Self {
        let components = release.components.iter();
        Self {
            tenant: tenant.clone(),
            manifest: release.manifest.clone(),
            shape: release.shape.clone(),
            components: components.map(|(name, part)| (name.clone(), blobs.path(&part.digest))).collect(),
            cache: cache.clone(),
            maker: maker.clone(),
        }
    }
}

/// The task of a child process. It is the first line that the child reads. The components, or the composition, follow;
/// the task contains their lengths.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChildTask {
    /// No task: the child only reports the layers of its sandbox.
    Nothing,
    /// Plan an app and compose its groups.
    Compose {
        /// The text of the manifest.
        manifest: String,
        /// The shape of the app.
        shape: String,
        /// The number of bytes of each component. The bytes of all components follow, ordered by component name.
        components: BTreeMap<String, u64>,
        /// The position of the only group to compose, with probes. `None` composes all groups without probes.
        probed_group: Option<usize>,
    },
    /// Compile one composition.
    Compile {
        /// The name of the group, which error messages show ([`CompilePhase::Compiling`]).
        group: String,
        /// The number of bytes of the composition. The bytes follow.
        bytes: u64,
    },
}

/// A message from a child process to the node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChildMessage {
    /// The layers of the child's sandbox. This is always the first message.
    Confined(Confinement),
    /// A phase of the task begins.
    Phase(CompilePhase),
    /// A group is composed. The composition follows, with this number of bytes.
    Composed(u64),
    /// The files of the browser group are made. They follow as a note for the code cache, with this number of bytes.
    WebFiles(u64),
    /// All groups are composed. This is the last message of the task [`ChildTask::Compose`].
    Drafted(PackageDraft),
    /// The group is composed with probes, and this is its metadata. `None` if there is no composition, because no
    /// function can be probed. This is the last message of the task [`ChildTask::Compose`] with a `probed_group`.
    Probed(Option<String>),
    /// The composition is compiled. The code follows, with this number of bytes. This is the last message of the task
    /// [`ChildTask::Compile`].
    Compiled(u64),
    /// The release is invalid. This is the last message.
    Refused(ApiProblem),
}

/// The maximum size of a plan as JSON in bytes. Larger plans are not stored.
pub(crate) const PLAN_BYTES_MAX: usize = 256 << 10;

/// A planned and composed app, before its compositions are compiled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PackageDraft {
    /// The package as JSON, without the cache keys of its code.
    pub(crate) package: String,
    /// The plan as JSON; `None` if it has more than [`PLAN_BYTES_MAX`] bytes.
    pub(crate) plan: Option<String>,
    /// The warnings about the manifest and the plan, as text for people.
    pub(crate) warnings: Vec<String>,
}

/// A phase of a child's task, for error messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompilePhase {
    /// The child is starting and has not read any component.
    Starting,
    /// The child reads the component with this name.
    Reading(String),
    /// The child plans the app.
    Planning,
    /// The child composes the components of the group with this name.
    Composing(String),
    /// The child compiles the group with this name.
    Compiling(String),
}

impl fmt::Display for CompilePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Reading(component) => write!(f, "reading component `{component}`"),
            Self::Planning => f.write_str("planning"),
            Self::Composing(group) => write!(f, "composing group `{group}`"),
            Self::Compiling(group) => write!(f, "compiling group `{group}`"),
        }
    }
}

/// The result of compiling a release.
#[derive(Debug, Clone)]
pub struct CompileOutput {
    /// The package from which the app is started.
    pub package: Package,
    /// The cache keys of the package's compiled code.
    pub code: BTreeSet<String>,
    /// Whether a child process compiled code; `false` if the cache had all the code.
    pub compiled: bool,
    /// The plan as JSON; `None` if it is too large to be stored. The node does not interpret it.
    pub plan: Option<Box<RawValue>>,
    /// The warnings about the manifest and the plan, as text for people.
    pub warnings: Vec<String>,
}
