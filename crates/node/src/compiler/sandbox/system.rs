//! The system calls that the sandbox needs and that no library of the workspace wraps.
#![allow(unsafe_code, reason = "system calls without a wrapper; each says why it is sound")]

use std::ffi::CStr;
use std::io;
use std::ptr;

fn check(outcome: libc::c_int) -> io::Result<()> {
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes all descriptors from `first` on.
pub(super) fn close_from(first: libc::c_int) -> io::Result<()> {
    // SAFETY: a descriptor with another owner would be closed under that owner. The only caller is a process that has
    // just started and has opened nothing: descriptors beyond the standard ones were left open by its parent.
    if check(unsafe { libc::close_range(first.unsigned_abs(), libc::c_uint::MAX, 0) }).is_ok() {
        return Ok(());
    }
    // The call does not exist before Linux 5.9, or a filter does not know it: close the descriptors one by one.
    let open = std::fs::read_dir("/proc/self/fd")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for descriptor in open.collect::<Vec<libc::c_int>>().into_iter().filter(|descriptor| *descriptor >= first) {
        // SAFETY: as above. The descriptor that the folder was read with is closed by now, so closing it fails, which
        // changes nothing.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

/// Leaves the namespaces in `flags` for new ones.
pub(super) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: nothing is passed by reference. `CLONE_FILES` and `CLONE_FS`, which would change what threads share, are
    // not among the flags of any caller, and the process has one thread.
    check(unsafe { libc::unshare(flags) })
}

/// Makes mounts private: changes in mounts below `/` affect only this namespace from now on.
pub(super) fn make_mounts_private() -> io::Result<()> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: `mount` only reads the strings, which end with a zero byte; the others may be null for these flags.
    check(unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), flags, ptr::null()) })
}

/// Mounts an empty read-only folder at `path`.
pub(super) fn mount_empty(path: &CStr) -> io::Result<()> {
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let (name, options) = (c"tmpfs", c"size=4k,nr_inodes=1,mode=0500");
    // SAFETY: `mount` only reads the strings, which all end with a zero byte.
    check(unsafe { libc::mount(name.as_ptr(), path.as_ptr(), name.as_ptr(), flags, options.as_ptr().cast()) })
}

/// Unmounts the file system at `path` as soon as it is no longer in use.
pub(super) fn unmount(path: &CStr) -> io::Result<()> {
    // SAFETY: `umount2` only reads the string, which ends with a zero byte.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })
}

/// Drops all capabilities, prevents programs that are started from gaining new ones, and prevents the user's other
/// processes from inspecting this one.
pub(super) fn give_up_privileges() -> io::Result<()> {
    // SAFETY: these options of `prctl` take numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: as above.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    #[repr(C)]
    struct Header {
        version: u32,
        process: libc::c_int,
    }
    #[repr(C)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header { version: 0x2008_0522, process: 0 };
    let none = [const { Sets { effective: 0, permitted: 0, inheritable: 0 } }; 2];
    // SAFETY: header and sets have the layout of capset(2) for this version, which takes two sets and reads both.
    let outcome = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    match io::Error::last_os_error() {
        _ if outcome == 0 => Ok(()),
        // A service manager's filter forbids the call. The service's own remaining capabilities have no effect after
        // this process's filter is installed.
        error if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        error => Err(error),
    }
}
