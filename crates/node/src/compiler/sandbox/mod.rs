//! The sandbox of a compiling child: the child may compute, and use the descriptors that it has.
//!
//! A child reads untrusted uploads, so it is treated as hostile. Before it reads the first byte, and while it has one
//! thread, it gives up all other rights, in independent layers: each layer alone prevents access to the node's files
//! and to the network.
//!
//! | layer | what it does | where it is missing |
//! | --- | --- | --- |
//! | [`Layer::Namespaces`] | own user, network, IPC, host name and mount namespaces; the root is an empty folder; the number of threads is limited | where unprivileged user namespaces are forbidden, as under the packaged systemd unit |
//! | [`Layer::Landlock`] | no files, no TCP, no signals or abstract sockets to other processes | before Linux 5.13, or where it is not enabled |
//! | [`Layer::Seccomp`] | only the system calls that computing needs; all others fail with `EPERM` | where the kernel has no seccomp filters |
//!
//! A layer that the kernel does not support is reported ([`Confinement`]), and the child continues with the other
//! layers. Any other failure ends the child.

mod filter;
mod landlock;
mod namespaces;
mod system;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// A layer of confinement. Each layer works without the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Namespaces of its own.
    Namespaces,
    /// A Landlock ruleset that allows nothing.
    Landlock,
    /// A filter of system calls.
    Seccomp,
}

impl Layer {
    /// All layers, in the order in which they are applied. A later layer would forbid the calls that apply an earlier
    /// one.
    pub const ALL: [Self; 3] = [Self::Namespaces, Self::Landlock, Self::Seccomp];
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "namespaces",
            Self::Landlock => "Landlock",
            Self::Seccomp => "seccomp",
        })
    }
}

/// The layers that could be applied, and those that could not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The layers in force, each with a description.
    pub held: BTreeMap<Layer, String>,
    /// The layers that this system does not support, each with the reason.
    pub missing: BTreeMap<Layer, String>,
}

impl Confinement {
    /// Returns whether the layers that every supported kernel has are in force. Namespaces are not required, because
    /// administrators often forbid user namespaces, and the other two layers also prevent everything that namespaces
    /// prevent.
    #[must_use]
    pub fn is_sufficient(&self) -> bool {
        self.held.contains_key(&Layer::Landlock) && self.held.contains_key(&Layer::Seccomp)
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (layer, what) in &self.held {
            write!(f, "{separator}{layer} ({what})")?;
            separator = ", ";
        }
        for (layer, why) in &self.missing {
            write!(f, "{separator}no {layer} ({why})")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Closes all descriptors except the three standard ones.
///
/// # Errors
/// When the kernel cannot list or close the descriptors.
pub fn close_descriptors() -> io::Result<()> {
    system::close_from(3)
}

/// Confines this process for the rest of its life. The process must have a single thread: other threads would not be
/// confined.
///
/// # Errors
/// When the process has more threads, or a layer that the system supports cannot be applied.
pub fn confine(layers: &[Layer]) -> io::Result<Confinement> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() != 1) {
        return Err(io::Error::other("a process with several threads cannot be confined"));
    }
    let mut confinement = Confinement::default();
    let mut note = |layer, outcome| match outcome {
        Ok(what) => drop(confinement.held.insert(layer, what)),
        Err(why) => drop(confinement.missing.insert(layer, why)),
    };
    if layers.contains(&Layer::Namespaces) {
        note(Layer::Namespaces, namespaces::enter());
    }
    // This also drops the privileges that a user namespace adds.
    system::give_up_privileges()?;
    if layers.contains(&Layer::Landlock) {
        note(Layer::Landlock, landlock::restrict()?);
    }
    if layers.contains(&Layer::Seccomp) {
        note(Layer::Seccomp, filter::install()?);
    }
    Ok(confinement)
}
