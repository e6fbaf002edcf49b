//! The sandbox of the compiler's child processes. A sandboxed child can only compute and use the descriptors that it
//! already has.
//!
//! A child reads untrusted uploads, so the node treats it as hostile. Before the child reads the first byte, and while
//! it has only one thread, it applies three independent layers. Each layer by itself prevents access to the node's
//! files and to the network.
//!
//! | layer | effect | not available if |
//! | --- | --- | --- |
//! | [`Layer::Namespaces`] | new user, network, IPC, host name and mount namespaces; the root is an empty folder; the number of threads is limited | unprivileged user namespaces are forbidden, as in the packaged systemd unit |
//! | [`Layer::Landlock`] | no files, no TCP, no signals to other processes, no connections to their abstract sockets | the kernel is older than Linux 5.13, or Landlock is disabled |
//! | [`Layer::Seccomp`] | only the system calls that computing needs; all others fail with `EPERM` | the kernel has no seccomp filters |
//!
//! If the kernel does not support a layer, the child reports this ([`Confinement`]) and continues with the other
//! layers. If a supported layer cannot be applied, the child exits.

mod filter;
mod landlock;
mod namespaces;
mod system;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// A layer of the sandbox. Each layer has its effect even if other layers are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// New Linux namespaces, without network and files.
    Namespaces,
    /// A Landlock ruleset that allows no access.
    Landlock,
    /// A seccomp filter of system calls.
    Seccomp,
}

impl Layer {
    /// All layers, in the order in which they are applied. In another order, a layer would forbid the system calls that
    /// apply the next layer.
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

/// The layers of the sandbox that a child applied, and the layers that its system does not support.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The layers in effect, each with a description.
    pub held: BTreeMap<Layer, String>,
    /// The layers that this system does not support, each with the reason.
    pub missing: BTreeMap<Layer, String>,
}

impl Confinement {
    /// Returns whether the Landlock and seccomp layers are in effect. Every supported kernel has both. The namespaces
    /// are not required: administrators often forbid user namespaces, and the other two layers together prevent the
    /// same accesses.
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

/// Closes all descriptors except standard input, standard output and standard error.
///
/// # Errors
/// If the kernel cannot list or close the descriptors.
pub fn close_descriptors() -> io::Result<()> {
    system::close_from(3)
}

/// Applies `layers` to this process, permanently. The process must have a single thread, because the layers
/// would not apply to other threads.
///
/// # Errors
/// If the process has several threads, or if a layer that the system supports cannot be applied.
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
    // Drop all Linux capabilities, including those that a new user namespace has granted to the process.
    system::give_up_privileges()?;
    if layers.contains(&Layer::Landlock) {
        note(Layer::Landlock, landlock::restrict()?);
    }
    if layers.contains(&Layer::Seccomp) {
        note(Layer::Seccomp, filter::install()?);
    }
    Ok(confinement)
}
