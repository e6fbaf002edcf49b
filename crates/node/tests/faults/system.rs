//! Makes system calls of this process fail when a test requests it. The faults occur on real files and below the
//! storage engines, so they can occur in any part of the product.
//!
//! A seccomp filter passes the calls that open, change and sync files to a thread of this module
//! (`SECCOMP_RET_USER_NOTIF`, see seccomp_unotify(2)). This thread lets a call continue, or makes it fail with an
//! error. The filter applies to the thread that installs it, and to the threads that this thread starts later. Faults
//! apply only to files below one folder.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use libc::{seccomp_notif, seccomp_notif_resp, sock_filter};

/// A kind of fault: the calls that fail, and their error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The disk is full: a call that writes to a file, changes its size, or creates, renames or removes a directory
    /// entry fails with `ENOSPC`. A write fails after it has written its first half.
    NoSpace,
    /// The disk is broken: every call fails with `EIO`. A write fails after it has written its first half.
    Broken,
    /// The disk accepts writes but loses them: each sync fails with `EIO`.
    NotSynced,
    /// The process has no descriptors left: opening a file fails with `EMFILE`.
    NoDescriptors,
    /// The process is killed, for example in the middle of a write.
    Killed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Open {
        makes: bool,
    },
    Read,
    Write,
    Sync,
    /// A call that creates, renames or removes a directory entry.
    Name,
}

impl Fault {
    /// All kinds of faults except `Killed`.
    pub(crate) const ALL: [Self; 4] = [Self::NoSpace, Self::Broken, Self::NotSynced, Self::NoDescriptors];

    fn concerns(self, call: Call) -> bool {
        match self {
            Self::NoSpace => matches!(call, Call::Write | Call::Name | Call::Open { makes: true }),
            Self::Broken => true,
            Self::NotSynced => call == Call::Sync,
            Self::NoDescriptors => matches!(call, Call::Open { .. }),
            Self::Killed => matches!(call, Call::Write | Call::Name | Call::Sync | Call::Open { makes: true }),
        }
    }

    fn error(self) -> i32 {
        match self {
            Self::NoSpace => libc::ENOSPC,
            Self::Broken | Self::NotSynced | Self::Killed => libc::EIO,
            Self::NoDescriptors => libc::EMFILE,
        }
    }
}

#[derive(Default)]
struct Plan {
    fault: Option<Fault>,
    /// The number of system calls to which the fault applies and that will still succeed. Later ones fail.
    left: u64,
    /// The number of system calls to which the fault applied since it started, whether or not they failed.
    concerned: u64,
}

/// Controls which system calls fail, with a seccomp filter. A test that installs the filter must be a separate program,
/// because a process cannot remove it.
pub(crate) struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// Installs the filter for this thread and for all threads that it starts later. The filter concerns only files
    /// below `root`.
    pub(crate) fn install(root: &Path) -> Self {
        let plan = Arc::new(Mutex::new(Plan::default()));
        let (listener, listens) = channel();
        let answering = (plan.clone(), root.canonicalize().unwrap());
        // The thread starts before the filter is installed, so its own calls are not filtered.
        std::thread::spawn(move || respond(&listens, &answering.0, &answering.1));
        listener.send(install_filter().unwrap()).unwrap();
        Self(plan)
    }

    /// Starts a fault. The next `left` system calls to which `fault` applies succeed. All later such calls fail, until
    /// [`Faults::end`].
    pub(crate) fn begin(&self, fault: Fault, left: u64) {
        *self.plan() = Plan { fault: Some(fault), left, concerned: 0 };
    }

    /// Ends the fault: all system calls succeed again. Returns the number of system calls to which the fault applied.
    pub(crate) fn end(&self) -> u64 {
        let mut plan = self.plan();
        plan.fault = None;
        plan.concerned
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers of the system calls that are filtered.
const CALLS: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
];

fn install_filter() -> io::Result<OwnedFd> {
    let statement = |code: u32, k: u32| sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf: 0, k };
    // Load the number of the system call, which is the first field of the filter's input.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (index, call) in CALLS.iter().enumerate() {
        let to_the_end = u8::try_from(CALLS.len() - index).unwrap();
        let compare = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, u32::try_from(*call).unwrap());
        program.push(sock_filter { jt: to_the_end, ..compare });
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF));
    let program = libc::sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_mut_ptr() };
    // SAFETY: plain system calls; the filter program lives until they return. The descriptor is new and has no other
    // owner.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        match libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) {
            listener if listener >= 0 => Ok(OwnedFd::from_raw_fd(i32::try_from(listener).unwrap())),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Lets each system call that the seccomp filter reports succeed or fail, as `plan` states. This is the main function
/// of the responding thread.
fn respond(listens: &Receiver<OwnedFd>, plan: &Mutex<Plan>, root: &Path) {
    let Ok(listener) = listens.recv() else { return };
    loop {
        // SAFETY: the kernel requires a zeroed structure, and zero is a valid value for all of its fields.
        let mut notification: seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the argument has the type that this request of `ioctl` requires.
        if unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification) } != 0 {
            // The calling thread has ended, or all threads with the filter have ended.
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR | libc::ENOENT) => continue,
                _ => return,
            }
        }
        let mut response = seccomp_notif_resp { id: notification.id, val: 0, error: 0, flags: 0 };
        match fails(&notification, plan, root) {
            None => response.flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap(),
            Some(error) => response.error = -error,
        }
        // SAFETY: the argument has the type that this request of `ioctl` requires. If the calling thread has ended, the
        // call fails.
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    }
}

/// Returns the error number with which the call must fail; `None` if the call continues.
fn fails(notification: &seccomp_notif, plan: &Mutex<Plan>, root: &Path) -> Option<i32> {
    let mut plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
    let fault = plan.fault?;
    let (call, path) = read(notification)?;
    if !fault.concerns(call) || !path.starts_with(root) {
        return None;
    }
    plan.concerned += 1;
    if plan.concerned <= plan.left {
        return None;
    }
    if call == Call::Write && fault != Fault::NoDescriptors {
        write_half(notification);
    }
    if fault == Fault::Killed {
        // SAFETY: the call takes numbers, and does not return.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    Some(fault.error())
}

/// Returns the kind and the file of a system call; `None` if the call does not concern a file.
fn read(notification: &seccomp_notif) -> Option<(Call, PathBuf)> {
    let data = &notification.data;
    let [first, second, third, ..] = data.args;
    let of_descriptor = |call, descriptor: u64| Some((call, std::fs::read_link(descriptor_path(descriptor)).ok()?));
    let opens = |flags: u64| Call::Open { makes: flags & u64::try_from(libc::O_CREAT).unwrap_or(0) != 0 };
    match libc::c_long::from(data.nr) {
        libc::SYS_pread64 => of_descriptor(Call::Read, first),
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 | libc::SYS_ftruncate | libc::SYS_fallocate => {
            of_descriptor(Call::Write, first)
        }
        libc::SYS_fsync | libc::SYS_fdatasync => of_descriptor(Call::Sync, first),
        libc::SYS_openat => Some((opens(third), path_at(first, second)?)),
        libc::SYS_unlinkat | libc::SYS_mkdirat => Some((Call::Name, path_at(first, second)?)),
        libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => Some((Call::Name, path_at(first, second)?)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => Some((opens(second), path(first)?)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename | libc::SYS_link | libc::SYS_unlink | libc::SYS_mkdir => Some((Call::Name, path(first)?)),
        _ => None,
    }
}

fn descriptor_path(descriptor: u64) -> String {
    format!("/proc/self/fd/{descriptor}")
}

fn path_at(folder: u64, at: u64) -> Option<PathBuf> {
    let path = path(at)?;
    if path.is_absolute() {
        return Some(path);
    }
    Some(std::fs::read_link(descriptor_path(folder)).ok()?.join(path))
}

fn path(at: u64) -> Option<PathBuf> {
    let at = usize::try_from(at).ok()? as *const c_char;
    if at.is_null() {
        return None;
    }
    // SAFETY: `at` is the path argument of a system call in which a thread of this process waits, so it points to a C
    // string until the system call returns.
    let path = unsafe { CStr::from_ptr(at) };
    Some(path.to_str().ok()?.into())
}

/// Writes the first half of the bytes of a write call.
fn write_half(notification: &seccomp_notif) {
    let [descriptor, from, bytes, offset, ..] = notification.data.args;
    let (Ok(descriptor), Ok(from), Ok(bytes)) =
        (i32::try_from(descriptor), usize::try_from(from), usize::try_from(bytes))
    else {
        return;
    };
    let from = from as *const c_void;
    // SAFETY: a thread of this process waits in a call that writes these bytes to this descriptor.
    unsafe {
        match libc::c_long::from(notification.data.nr) {
            libc::SYS_write => libc::write(descriptor, from, bytes / 2),
            libc::SYS_pwrite64 => libc::pwrite(descriptor, from, bytes / 2, offset.cast_signed()),
            _ => 0,
        };
    }
}
