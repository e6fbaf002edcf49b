//! Describes how a process ended: `ended with exit code 3`, `was killed by SIGKILL (possibly out of memory)`.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// A shell whose command was terminated by a signal exits with this number plus the number of the signal.
const SHELL_SIGNAL_BASE: i32 = 128;

/// The result of a process that has ended: an exit code or a signal. Displayed as the predicate of a sentence about the
/// process: `was killed by SIGKILL (possibly out of memory)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessExit {
    /// The process exited with this code.
    Code(i32),
    /// The process was terminated by this signal.
    Signal(i32),
    /// The process is a shell. Its exit code means that a signal terminated the shell's command.
    Shell {
        /// The shell's exit code.
        code: i32,
        /// The number of the signal that terminated the command.
        signal: i32,
    },
}

impl ProcessExit {
    /// Converts the exit status of a shell (`sh -c`). The shell's exit code may mean that a signal terminated the
    /// shell's command.
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

/// Returns the signal that the exit code of a shell encodes; `None` if the code encodes no signal that terminates
/// processes.
#[must_use]
pub fn signal_of_shell(code: i32) -> Option<i32> {
    let signal = code - SHELL_SIGNAL_BASE;
    name(signal).map(|_| signal)
}

impl From<ExitStatus> for ProcessExit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            // Unreachable, because a process that was waited for has either an exit code or a signal.
            (None, None) => Self::Code(status.into_raw()),
        }
    }
}

impl fmt::Display for ProcessExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was killed by {}", Signal(*signal)),
            Self::Shell { code, signal } => write!(f, "ended with exit code {code}: killed by {}", Signal(*signal)),
        }
    }
}

/// A signal, displayed as its name and its most likely meaning.
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

/// Returns the name of a POSIX signal that terminates processes and has the same number on every Linux architecture
/// that the platform supports.
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
        // The kernel sends SIGKILL when memory runs out. A manual `kill -9` looks the same.
        9 => "possibly out of memory",
        24 => "more processor time than its limit",
        25 => "a larger file than its limit",
        31 => "a forbidden system call",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_of_a_process_is_a_sentence() {
        for (raw, text) in [
            (0x0300, "ended with exit code 3"),
            (9, "was killed by SIGKILL (possibly out of memory)"),
            (11, "was killed by SIGSEGV"),
            // 0x80 means that the kernel wrote a core dump.
            (0x80 | 6, "was killed by SIGABRT"),
            (24, "was killed by SIGXCPU (more processor time than its limit)"),
            (40, "was killed by signal 40"),
        ] {
            assert_eq!(ProcessExit::from(ExitStatus::from_raw(raw)).to_string(), text);
        }
    }

    #[test]
    fn the_exit_code_of_a_shell_contains_the_signal() {
        let of_shell = |code: i32| ProcessExit::of_shell(ExitStatus::from_raw(code << 8)).to_string();
        assert_eq!(of_shell(137), "ended with exit code 137: killed by SIGKILL (possibly out of memory)");
        assert_eq!(of_shell(139), "ended with exit code 139: killed by SIGSEGV");
        assert_eq!(
            [of_shell(1), of_shell(127), of_shell(255)],
            [1, 127, 255].map(|code| format!("ended with exit code {code}"))
        );
        // SIGKILL terminated the shell itself, not its command.
        let killed = ProcessExit::of_shell(ExitStatus::from_raw(9)).to_string();
        assert_eq!(killed, "was killed by SIGKILL (possibly out of memory)");
    }
}
