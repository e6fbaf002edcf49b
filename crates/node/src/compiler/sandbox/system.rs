//! The system calls of the sandbox for which no library of the workspace has a safe function.
#![allow(unsafe_code, reason = "system calls without a safe wrapper; each has a SAFETY comment")]

use std::ffi::CStr;
use std::io;
use std::ptr;

fn check(outcome: libc::c_int) -> io::Result<()> {
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes all descriptors with the number `first` or a greater number.
pub(super) fn close_from(first: libc::c_int) -> io::Result<()> {
    // SAFETY: no value of this process owns one of the closed descriptors. The only caller is a process that has just
    // started and has opened nothing: descriptors beyond the standard three were left open by its parent.
    if check(unsafe { libc::close_range(first.unsigned_abs(), libc::c_uint::MAX, 0) }).is_ok() {
        return Ok(());
    }
    // `close_range` does not exist before Linux 5.9, and a seccomp filter may forbid it. Close the descriptors one by
    // one.
    let open = std::fs::read_dir("/proc/self/fd")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for descriptor in open.collect::<Vec<libc::c_int>>().into_iter().filter(|descriptor| *descriptor >= first) {
        // SAFETY: as for `close_range`, no value of this process owns the descriptor. One of the numbers is that of the
        // folder itself, whose descriptor is already closed; for this number, `close` fails without effect.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

/// Moves the process to new namespaces of the kinds in `flags`.
pub(super) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: nothing is passed by reference. `CLONE_FILES` and `CLONE_FS`, which would change what threads share, are
    // not among the flags of any caller, and the process has one thread.
    check(unsafe { libc::unshare(flags) })
}

/// Makes all mounts private: from now on, changes of mounts affect only this mount namespace.
pub(super) fn make_mounts_private() -> io::Result<()> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: `mount` only reads the strings, which end with a zero byte. The other pointers may be null for these
    // flags.
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

/// Drops all Linux capabilities, prevents this process from gaining privileges by executing a program
/// (`PR_SET_NO_NEW_PRIVS`), and prevents other processes of the same user from inspecting it (`PR_SET_DUMPABLE`).
pub(super) fn give_up_privileges() -> io::Result<()> {
    // SAFETY: this option of `prctl` takes numbers, no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: this option of `prctl` takes numbers, no pointers.
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
    // SAFETY: `header` and `none` have the layout that capset(2) defines for this version: one header and two sets,
    // which the kernel only reads.
    let outcome = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    match io::Error::last_os_error() {
        _ if outcome == 0 => Ok(()),
        // The system call filter of a service manager may forbid `capset`. The capabilities that the service still has
        // can do nothing after this process installs its own filter.
        error if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        error => Err(error),
    }
}
