//! The namespaces layer of the sandbox: no network, no mounts, and an empty folder as the root.

use std::io;

use rustix::process::{Resource, Rlimit, chdir, chroot, pivot_root, setrlimit};

use super::system;

/// The maximum number of threads of a child. The limit is set only after the child has entered a new user namespace,
/// because otherwise the kernel would count the node's threads as well.
const THREADS_MAX: u64 = 512;

/// Enters as many of the namespaces as the system permits. Returns their names, or the reason why the system permits
/// none.
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
        refused.push(format!("thread limit: {error}"));
    }
    let entered = entered.join(", ");
    if refused.is_empty() {
        Ok(entered)
    } else if entered == "user" {
        // The user namespace has no effect by itself, so the layer counts as missing. This happens, for example, if
        // AppArmor permits user namespaces, but no privileges in them.
        Err(format!("a user namespace only; {}", refused.join(", ")))
    } else {
        Ok(format!("{entered}; not {}", refused.join(", ")))
    }
}

/// Replaces the root of the file system with an empty folder.
fn empty_root() -> io::Result<()> {
    system::make_mounts_private()?;
    // `/proc` is the mount point because every system has this folder. The child no longer needs the files in `/proc`.
    system::mount_empty(c"/proc")?;
    chdir("/proc")?;
    match pivot_root(".", ".") {
        // `pivot_root` has mounted the old root on top of the new root.
        Ok(()) => system::unmount(c".")?,
        // `pivot_root` cannot replace the kernel's initial root file system, so `chroot` is used.
        Err(_) => chroot(".")?,
    }
    Ok(chdir("/")?)
}
