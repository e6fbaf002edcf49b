//! What a compiling child may still do: compute, and talk over the descriptors that it has.
//!
//! It reads what strangers uploaded, so it is taken for hostile. Before it reads the first byte, and while it is one thread, it gives up
//! everything else, in layers that do not rely on each other: each alone keeps it from the node's files and from the network.
//!
//! | layer | what it does | where it is missing |
//! | --- | --- | --- |
//! | [`Layer::Namespaces`] | user, network, IPC, host name and mounts of its own; its root is an empty folder; threads are bounded | where unprivileged user namespaces are forbidden, as under the packaged systemd unit |
//! | [`Layer::Landlock`] | no file, no TCP, no signal or abstract socket outside of itself | before Linux 5.13, or where it is not enabled |
//! | [`Layer::Seccomp`] | the system calls that computing needs; all others fail with `EPERM` | where the kernel has no seccomp filters |
//!
//! A layer that the kernel does not offer is told ([`Confinement`]), and the child works on behind the others. Whatever else fails is the end
//! of the child.

mod filter;
mod landlock;
mod namespaces;
mod system;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// Something that confines a child, whatever the others do.
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
    /// All, in the order in which they are put on: a later one would forbid putting on an earlier one.
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

/// What became of the layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Those that hold, with what they consist of.
    pub held: BTreeMap<Layer, String>,
    /// Those that this system does not offer, with the reason.
    pub missing: BTreeMap<Layer, String>,
}

impl Confinement {
    /// Is what every supported kernel offers there? Namespaces are often forbidden by an administrator's own choice, and what they
    /// would keep out is kept out by the other two as well.
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
/// When the kernel cannot.
pub fn close_descriptors() -> io::Result<()> {
    system::close_from(3)
}

/// Confines this process, for ever. It must have one thread, so that none is left out.
///
/// # Errors
/// When it has more, or a layer that the system offers cannot be put on.
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
    // Those that a user namespace brought, too.
    system::give_up_privileges()?;
    if layers.contains(&Layer::Landlock) {
        note(Layer::Landlock, landlock::restrict()?);
    }
    if layers.contains(&Layer::Seccomp) {
        note(Layer::Seccomp, filter::install()?);
    }
    Ok(confinement)
}
