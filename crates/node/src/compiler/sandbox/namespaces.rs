//! Namespaces for a child: without network and mounts, and with an empty folder as the root.

use std::io;

use rustix::process::{Resource, Rlimit, chdir, chroot, pivot_root, setrlimit};

use super::system;

/// The maximum number of threads of a child. The kernel counts them in the child's own user namespace; without that
/// namespace, it would count the node's threads as well.
const THREADS_MAX: u64 = 512;

/// Enters as many namespaces as the system permits. Returns their names, or the reason why none is permitted.
pub(super) fn enter() -> Result<String, String> {
    system::unshare(libc::CLONE_NEWUSER).map_err(|error| format!("no user namespace: {error}"))?;
    let mut entered = vec!["user"];
    let mut refused = Vec::new();
    for (name, flag) in [
        ("network", libc::CLONE_NEWNET),
        ("IPC", libc::CLONE_NEWIPC),
        ("host name", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("mounts", libc::CLONE_NEWNS),
    ] {
        match system::unshare(flag) {
            Ok(()) => entered.push(name),
            Err(error) => refused.push(format!("{name}: {error}")),
        }
    }
    if entered.contains(&"mounts") {
        match empty_root() {
            Ok(()) => entered.push("empty root"),
            Err(error) => refused.push(format!("empty root: {error}")),
        }
    }
    let threads = Rlimit { current: Some(THREADS_MAX), maximum: Some(THREADS_MAX) };
    if let Err(error) = setrlimit(Resource::Nproc, threads) {
        refused.push(format!("bound of threads: {error}"));
    }
    let entered = entered.join(", ");
    if refused.is_empty() {
        Ok(entered)
    } else if entered == "user" {
        // This happens, for example, where AppArmor permits user namespaces but no privileges in them.
        Err(format!("a user namespace only; {}", refused.join(", ")))
    } else {
        Ok(format!("{entered}; not {}", refused.join(", ")))
    }
}

/// Replaces the root by an empty folder.
fn empty_root() -> io::Result<()> {
    system::make_mounts_private()?;
    // `/proc` is a folder that every system has. Its content is not needed any more.
    system::mount_empty(c"/proc")?;
    chdir("/proc")?;
    match pivot_root(".", ".") {
        // The old root is now mounted above the new one.
        Ok(()) => system::unmount(c".")?,
        // If the root is the kernel's initial root file system, it cannot be replaced, only left.
        Err(_) => chroot(".")?,
    }
    Ok(chdir("/")?)
}
