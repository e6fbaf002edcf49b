//! How a process ended: `ended with exit code 3`, `was killed by SIGKILL (possibly out of memory)`.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// What a shell adds to the number of the signal that ended its command, for its own exit code.
const SHELL_SIGNAL_BASE: i32 = 128;

/// The end of a process, as what follows its name in a sentence: `cargo build` … `was killed by SIGKILL (possibly out of memory)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// By itself, with the exit code of a shell whose command was ended by a signal.
    Shell {
        /// The shell's exit code.
        code: i32,
        /// The command's signal.
        signal: i32,
    },
}

impl Ended {
    /// The end of a shell (`sh -c`), whose exit code tells of its command's signal.
    #[must_use]
    pub fn of_shell(status: ExitStatus) -> Self {
        match Self::from(status) {
            Self::Code(code) => match signal_of_shell(code) {
                Some(signal) => Self::Shell { code, signal },
                None => Self::Code(code),
            },
            ended => ended,
        }
    }
}

/// The signal that an exit code of a shell stands for, if it is one of those that end processes.
#[must_use]
pub fn signal_of_shell(code: i32) -> Option<i32> {
    let signal = code - SHELL_SIGNAL_BASE;
    name(signal).map(|_| signal)
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            // A process that was waited for has ended in one of these two ways.
            (None, None) => Self::Code(status.into_raw()),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was killed by {}", Signal(*signal)),
            Self::Shell { code, signal } => write!(f, "ended with exit code {code}: killed by {}", Signal(*signal)),
        }
    }
}

/// A signal by its name, with what it most likely means.
struct Signal(i32);

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number) = self;
        let Some(name) = name(*number) else { return write!(f, "signal {number}") };
        match meaning(*number) {
            Some(meaning) => write!(f, "{name} ({meaning})"),
            None => f.write_str(name),
        }
    }
}

/// The signals of POSIX that end processes and have the same number on every Linux architecture that the platform runs on.
fn name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

fn meaning(signal: i32) -> Option<&'static str> {
    Some(match signal {
        // What the kernel sends when memory runs out; nothing tells it from a person's `kill -9`.
        9 => "possibly out of memory",
        24 => "more processor time than its limit",
        25 => "a larger file than its limit",
        31 => "a system call that it is not allowed",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_a_sentence() {
        for (raw, said) in [
            (0x0300, "ended with exit code 3"),
            (9, "was killed by SIGKILL (possibly out of memory)"),
            (11, "was killed by SIGSEGV"),
            // With a core dump.
            (0x80 | 6, "was killed by SIGABRT"),
            (24, "was killed by SIGXCPU (more processor time than its limit)"),
            (40, "was killed by signal 40"),
        ] {
            assert_eq!(Ended::from(ExitStatus::from_raw(raw)).to_string(), said);
        }
    }

    #[test]
    fn a_shell_tells_of_the_signal_of_its_command() {
        let of_shell = |code: i32| Ended::of_shell(ExitStatus::from_raw(code << 8)).to_string();
        assert_eq!(of_shell(137), "ended with exit code 137: killed by SIGKILL (possibly out of memory)");
        assert_eq!(of_shell(139), "ended with exit code 139: killed by SIGSEGV");
        assert_eq!(
            [of_shell(1), of_shell(127), of_shell(255)],
            [1, 127, 255].map(|code| format!("ended with exit code {code}"))
        );
        // The shell itself was killed.
        let killed = Ended::of_shell(ExitStatus::from_raw(9)).to_string();
        assert_eq!(killed, "was killed by SIGKILL (possibly out of memory)");
    }
}
