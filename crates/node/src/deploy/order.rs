//! What a node and its compiling children say to each other: one JSON object a line, over the child's standard input, which is one end
//! of a socket pair.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use isomer_api::Problem;
use serde::{Deserialize, Serialize};

/// What a child may use. It sets these limits for itself before it reads anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildLimits {
    /// Bytes of address space.
    pub memory_bytes: u64,
    /// Seconds of processor time.
    pub cpu_s: u64,
    /// Bytes of each file that it writes.
    pub file_bytes: u64,
    /// Files that it has open.
    pub files: u64,
}

impl Default for ChildLimits {
    /// Enough for the largest components that people deploy, a fraction of what hurts a machine.
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, cpu_s: 300, file_bytes: 1 << 30, files: 256 }
    }
}

/// What is to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The manifest's text.
    pub manifest: String,
    /// The shape that the app takes.
    pub shape: String,
    /// The files of the components, by name.
    pub components: BTreeMap<String, PathBuf>,
    /// The folder of compiled code.
    pub cache: PathBuf,
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Word {
    /// What it begins to do: whatever happens next, happens there.
    Doing(Doing),
    /// It is done.
    Made(Made),
    /// The revision cannot be.
    Refused(Problem),
}

/// What a child is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// Not even reading yet.
    Starting,
    /// Reading a component.
    Reading(String),
    /// Working out who runs where.
    Planning,
    /// Putting a group's components together.
    Composing(String),
    /// Compiling a group.
    Compiling(String),
}

impl fmt::Display for Doing {
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

/// A revision that can be started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    /// The package, as it is kept.
    pub package: String,
    /// The names of its compiled code.
    pub code: BTreeSet<String>,
    /// Was anything compiled for it?
    pub compiled: bool,
    /// What the manifest and the plan warn of, as people read it.
    pub warnings: Vec<String>,
}
