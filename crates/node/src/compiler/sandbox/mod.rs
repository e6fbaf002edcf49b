//! The sandbox of a compiling child: it may compute, and use the descriptors that it has.
//!
//! A child reads what strangers uploaded, so it counts as hostile. Before it reads the first byte, and while it has one
//! thread, it gives up everything else, in layers that do not rely on each other: each layer on its own keeps it from
//! the node's files and from the network.
//!
//! | layer | what it does | where it is missing |
//! | --- | --- | --- |
//! | [`Layer::Namespaces`] | user, network, IPC, host name and mounts of its own; its root is an empty folder; the number of threads is limited | where unprivileged user namespaces are forbidden, as under the packaged systemd unit |
//! | [`Layer::Landlock`] | no file, no TCP, no signal or abstract socket outside of itself | before Linux 5.13, or where it is not enabled |
//! | [`Layer::Seccomp`] | only the system calls that computing needs; all others fail with `EPERM` | where the kernel has no seccomp filters |
//!
//! A layer that the kernel does not have is reported ([`Confinement`]), and the child continues with the other layers.
//! Any other failure ends the child.

mod filter;
mod landlock;
mod namespaces;
mod system;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// A layer of confinement, which works without the other ones.
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
    /// All layers, in the order in which they are applied: a later one would forbid applying an earlier one.
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
    /// The layers in force, with a description.
    pub held: BTreeMap<Layer, String>,
    /// The layers that this system does not have, with the reason.
    pub missing: BTreeMap<Layer, String>,
}

impl Confinement {
    /// Returns whether the layers of every supported kernel are in force. Administrators often forbid user namespaces;
    /// what these would keep out, the other two layers keep out as well.
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

/// Closes all descriptors but the three standard ones.
///
/// # Errors
/// When the kernel cannot list or close them.
pub fn close_descriptors() -> io::Result<()> {
    system::close_from(3)
}

/// Confines this process for the rest of its life. The process must have a single thread, so that no thread is left
/// out.
///
/// # Errors
/// When it has more threads, or a layer that the system has cannot be applied.
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
    // Including the privileges that a user namespace adds.
    system::give_up_privileges()?;
    if layers.contains(&Layer::Landlock) {
        note(Layer::Landlock, landlock::restrict()?);
    }
    if layers.contains(&Layer::Seccomp) {
        note(Layer::Seccomp, filter::install()?);
    }
    Ok(confinement)
}
