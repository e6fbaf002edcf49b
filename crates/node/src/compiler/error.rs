//! Why a release was not compiled.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use isomer_api::{ApiProblem, ProblemKind};
use isomer_display::{Ended, size};

use super::protocol::CompilePhase;

const SIGKILL: i32 = 9;

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The revision cannot be.
    #[error("{0}")]
    Refused(ApiProblem),
    /// Too many wait already, of all or of this tenant's.
    #[error("{waiting_max} deployments wait for the compiler already")]
    Overloaded {
        /// How many may.
        waiting_max: usize,
    },
    /// It took too long.
    #[error("the compiler was stopped after {} s, while {doing}", after.as_secs())]
    TimedOut {
        /// The limit.
        after: Duration,
        /// What it was about.
        doing: CompilePhase,
    },
    /// It took too much processor time.
    #[error("the compiler took more than {cpu_s} s of processor time, while {doing}")]
    ProcessorTime {
        /// The limit.
        cpu_s: u64,
        /// What it was about.
        doing: CompilePhase,
    },
    /// It took too much memory.
    #[error("the compiler took more than {} of memory, while {doing}", size(.memory_bytes))]
    OutOfMemory {
        /// The limit.
        memory_bytes: u64,
        /// What it was about.
        doing: CompilePhase,
    },
    /// It made too much.
    #[error("the compiler made more than {} of code, while {doing}", size(.file_bytes))]
    FileTooLarge {
        /// The limit.
        file_bytes: u64,
        /// What it was about.
        doing: CompilePhase,
    },
    /// It ended without an answer.
    #[error("the compiler {}, while {doing}", Ended::from(*status))]
    Crashed {
        /// How.
        status: ExitStatus,
        /// What it was about.
        doing: CompilePhase,
        /// The end of what it wrote to its standard error.
        last_words: String,
    },
    /// It answered what no compiler answers.
    #[error("the compiler gave a wrong answer, while {doing}")]
    Nonsense {
        /// What it was about.
        doing: CompilePhase,
    },
    /// What it was to read, or what it has made, lies on a disk that fails or is full.
    #[error("the compiled code cannot be kept")]
    Disk {
        /// Why.
        source: io::Error,
    },
    /// It cannot be started, or not be talked to.
    #[error("the compiler cannot be started")]
    Start {
        /// Why.
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
            // Nothing that a component can make a compiler do to itself.
            CompileError::Crashed { status, .. } if status.signal() == Some(SIGKILL) => Self::new(ProblemKind::Failed, title)
                .hint("the machine may have run out of memory: make room, or try again when less is running"),
            CompileError::Crashed { .. } | CompileError::Nonsense { .. } => Self::new(ProblemKind::Refused, title)
                .hint("the node's log has what it said; the component may be made to break compilers, or have found a defect of this one"),
            CompileError::TimedOut { .. }
            | CompileError::ProcessorTime { .. }
            | CompileError::OutOfMemory { .. }
            | CompileError::FileTooLarge { .. } => Self::new(ProblemKind::Refused, title)
                .hint("make the component smaller, or split it into several"),
        }
    }
}
