//! The error type of the compiler.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use isomer_api::{ApiProblem, ProblemKind};
use isomer_display::{ProcessExit, size};

use super::protocol::CompilePhase;

const SIGKILL: i32 = 9;

/// The reason why a release was not compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The release is invalid.
    #[error("{0}")]
    Refused(ApiProblem),
    /// Too many releases already wait for a compiler process: either as many as one tenant may have, or as many as all
    /// tenants together may have.
    #[error("{waiting_max} deployments already wait for the compiler")]
    Overloaded {
        /// The limit that was reached: the maximum number of waiting releases.
        waiting_max: usize,
    },
    /// The compiler did not finish within its time limit.
    #[error("the compiler was stopped after {} s, while {phase}", after.as_secs())]
    TimedOut {
        /// The time limit, measured in wall-clock time.
        after: Duration,
        /// The phase in which the compiler was stopped.
        phase: CompilePhase,
    },
    /// The compiler used too much processor time.
    #[error("the compiler used more than {cpu_s} s of processor time, while {phase}")]
    ProcessorTime {
        /// The limit in seconds of processor time.
        cpu_s: u64,
        /// The phase in which the compiler reached the limit.
        phase: CompilePhase,
    },
    /// The compiler used too much memory.
    #[error("the compiler used more than {} of memory, while {phase}", size(.memory_bytes))]
    OutOfMemory {
        /// The limit in bytes of address space.
        memory_bytes: u64,
        /// The phase in which the compiler reached the limit.
        phase: CompilePhase,
    },
    /// The compiled code of a group is larger than the limit.
    #[error("the compiler produced more than {} of code, while {phase}", size(.file_bytes))]
    FileTooLarge {
        /// The limit in bytes for the code of one group.
        file_bytes: u64,
        /// The phase in which the compiler reached the limit.
        phase: CompilePhase,
    },
    /// The compiler process exited without a result.
    #[error("the compiler {}, while {phase}", ProcessExit::from(*status))]
    Crashed {
        /// The exit status of the compiler process.
        status: ExitStatus,
        /// The phase in which the compiler process exited.
        phase: CompilePhase,
        /// The first bytes of the compiler's standard error.
        error_output: String,
    },
    /// The compiler sent an invalid message, or a package that contradicts the manifest.
    #[error("the compiler sent an invalid result, while {phase}")]
    InvalidOutput {
        /// The phase in which the compiler sent the message.
        phase: CompilePhase,
    },
    /// The node cannot read the components or write the compiled code, because the disk fails or is full.
    #[error("cannot read the components or write the compiled code")]
    Disk {
        /// The file system's error.
        source: io::Error,
    },
    /// The compiler process cannot be started, or its socket cannot be set up.
    #[error("the compiler cannot be started")]
    Start {
        /// The operating system's error.
        source: io::Error,
    },
}

impl From<CompileError> for ApiProblem {
    fn from(error: CompileError) -> Self {
        let title = error.to_string();
        match error {
            CompileError::Refused(problem) => problem,
            CompileError::Overloaded { .. } => Self::new(ProblemKind::Unavailable, title).hint("try again later"),
            CompileError::Start { source } | CompileError::Disk { source } => {
                Self::new(ProblemKind::Failed, title).detail(source.to_string())
            }
            // The compiler never sends SIGKILL to itself, whatever component it reads, so the release is not the cause
            // of this signal.
            CompileError::Crashed { status, .. } if status.signal() == Some(SIGKILL) => Self::new(ProblemKind::Failed, title)
                .hint("the machine may have run out of memory: free memory, or try again when fewer programs run"),
            CompileError::Crashed { .. } | CompileError::InvalidOutput { .. } => Self::new(ProblemKind::Refused, title)
                .hint("see the node's log for the compiler's output; the component may be malicious, or the compiler may have a defect"),
            CompileError::TimedOut { .. }
            | CompileError::ProcessorTime { .. }
            | CompileError::OutOfMemory { .. }
            | CompileError::FileTooLarge { .. } => Self::new(ProblemKind::Refused, title)
                .hint("make the component smaller, or split it into several"),
        }
    }
}
