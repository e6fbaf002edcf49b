//! The error of a failed command: the message that is printed, and the exit code.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 1 | the command failed |
//! | 2 | the command line is invalid: an argument is unknown, malformed or missing, contradicts another argument, or names something that the command cannot use |
//! | 130 | a second signal ended the process immediately |
//!
//! Exit code 2 means that the command line must be corrected. Exit code 1 means that something else must be corrected,
//! such as the app or the machine. If a guest exits with an exit code of its own, the command exits with the guest's
//! code.

use isomer_diagnostics::{Diagnostic, Hinted, Renderer, SourceFile};

/// The exit code of a command that failed.
pub const FAILED: u8 = 1;

/// The exit code of a process that a second signal ended immediately. Shells use the same code for Ctrl-C (128 +
/// SIGINT).
pub const INTERRUPTED: u8 = 130;

/// The exit code for a wrong command line. clap uses the same exit code.
const USAGE: u8 = 2;

/// The reason why a command failed.
pub enum CliError {
    /// The command failed. The error is a chain of causes, some of which have hints.
    Failed(anyhow::Error),
    /// The command line is wrong.
    Usage(anyhow::Error),
    /// The command line is wrong: an argument names something that does not exist.
    UsageFinding(Box<Diagnostic>),
    /// Findings about the manifest, the plan, or another file, each with its place in that file.
    Findings(Vec<Diagnostic>),
    /// The error of another Isomer process, which rendered the message.
    Rendered {
        /// The rendered message.
        text: String,
        /// The exit code of the command.
        code: u8,
    },
    /// An exit code without a message, because no message is needed or it was sent elsewhere. Examples are the guest's
    /// own exit code, [`INTERRUPTED`], and [`FAILED`] after the user has answered no to a question.
    ExitCode(u8),
}

impl CliError {
    /// Creates an error that consists of `findings` about the file `source`.
    pub fn findings(findings: Vec<Diagnostic>, source: &SourceFile) -> Self {
        Self::Findings(findings.into_iter().map(|finding| finding.in_source(source)).collect())
    }

    /// Creates an error with hints that state how to fix it.
    pub fn hinted<E>(error: E, hints: impl IntoIterator<Item = impl Into<String>>) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let mut hints = hints.into_iter();
        match hints.next() {
            None => Self::Failed(error.into()),
            Some(first) => Self::Failed(hints.fold(Hinted::new(error, first), Hinted::hint).into()),
        }
    }

    /// Creates an error from a message and one hint. The error has no cause.
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let message: anyhow::Error = anyhow::anyhow!(message.into());
        Self::Failed(Hinted::new(message.into_boxed_dyn_error(), hint.into()).into())
    }

    /// Creates an error for a wrong command line. `hint` states what to write.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let message: anyhow::Error = anyhow::anyhow!(message.into());
        Self::Usage(Hinted::new(message.into_boxed_dyn_error(), hint.into()).into())
    }

    /// Returns the message for people, and the exit code.
    pub fn render(&self, renderer: &Renderer) -> (String, u8) {
        match self {
            Self::Failed(error) => (renderer.error(error.as_ref()), FAILED),
            Self::Usage(error) => (renderer.error(error.as_ref()), USAGE),
            Self::UsageFinding(finding) => (renderer.diagnostic(finding), USAGE),
            Self::Findings(findings) => (renderer.diagnostics(findings), FAILED),
            Self::Rendered { text, code } => (text.clone(), *code),
            Self::ExitCode(code) => (String::new(), *code),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
