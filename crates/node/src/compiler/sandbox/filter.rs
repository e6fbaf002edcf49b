//! A seccomp filter that allows only the system calls that a compiler needs after it has opened its descriptors. All
//! other calls fail with `EPERM`.
//!
//! A compiler allocates memory, starts and synchronizes threads, reads the clock, and reads and writes open
//! descriptors. It opens no files, maps no executable memory (it never runs the code that it compiles), starts no
//! processes, and sends signals only to itself.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

/// The system calls that are allowed with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Reading and writing open descriptors.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    // Managing memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Starting and synchronizing threads. `clone3` is in this list although the process cannot use it: another filter
    // makes it fail with `ENOSYS`, and `EPERM` from this filter would take precedence.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Handling signals that the process sends to itself.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Reading clocks, sleeping, and getting random bytes.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
];

/// The flags that a call of `clone` must have to start a thread (`THREAD`), and the flags that it must not have
/// (`NO_THREAD`).
const THREAD: libc::c_int = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
const NO_THREAD: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_VFORK
    | libc::CLONE_PTRACE
    | libc::CLONE_PARENT;

/// Installs the filter for all threads of the process. Returns a description of the filter. If the kernel does not
/// support seccomp filters, returns the reason as the inner `Err`.
pub(super) fn install() -> io::Result<Result<String, String>> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(Err(format!("seccomp filters are not supported on {}", std::env::consts::ARCH)));
    };
    let invalid = |error: BackendError| io::Error::new(io::ErrorKind::InvalidInput, error);
    // A filter cannot check the flags of `clone3`, because `clone3` takes them by reference. So `clone3` fails with
    // `ENOSYS`, and the C library then calls `clone`.
    let clone3 = SeccompFilter::new(
        [(libc::SYS_clone3, vec![])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        arch,
    );
    let allowed = SeccompFilter::new(
        allowed().map_err(invalid)?,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        arch,
    );
    // If several filters are installed, the kernel applies the strictest of their results.
    for filter in [clone3, allowed] {
        let program = filter.and_then(BpfProgram::try_from).map_err(invalid)?;
        match apply_filter_all_threads(&program) {
            Ok(()) => {}
            Err(seccompiler::Error::Seccomp(error))
                if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
            {
                return Ok(Err("the kernel does not support seccomp filters".to_owned()));
            }
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
    Ok(Ok(format!("{} system calls", ALLOWED.len() + 5)))
}

fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules = ALLOWED.iter().map(|call| (*call, vec![])).collect::<BTreeMap<_, _>>();
    let is = |argument, mask: libc::c_int, value: libc::c_int| {
        let (mask, value) = (u64::from(mask.cast_unsigned()), u64::from(value.cast_unsigned()));
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
    };
    let whole = |argument, value: u32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value))
    };
    let mut allow =
        |call, condition| SeccompRule::new(vec![condition]).map(|rule| drop(rules.insert(call, vec![rule])));
    allow(libc::SYS_mmap, is(2, libc::PROT_EXEC, 0)?)?;
    allow(libc::SYS_mprotect, is(2, libc::PROT_EXEC, 0)?)?;
    allow(libc::SYS_clone, is(0, THREAD | NO_THREAD, THREAD)?)?;
    // A process that panics aborts by sending a signal to itself.
    allow(libc::SYS_tgkill, whole(0, std::process::id())?)?;
    // A new thread sets its name.
    allow(libc::SYS_prctl, whole(0, libc::PR_SET_NAME.unsigned_abs())?)?;
    Ok(rules)
}
