//! The error of a failed command: the message that is printed, and the exit code.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 1 | the command failed |
//! | 2 | the command line is wrong: an argument is unknown, malformed or missing, contradicts another one, or names something that the command cannot use |
//! | 130 | a second signal ended the process at once |
//!
//! So 2 means that the command line has to change, and 1 that something else has to. When a guest exits with a code of
//! its own, the command exits with that code instead.

use isomer_diagnostics::{Diagnostic, Hinted, Renderer, SourceFile};

/// The exit code of a failure.
pub const FAILED: u8 = 1;

/// The exit code of a process that a second signal ended at once, as shells report Ctrl-C (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// The exit code of a wrong command line. clap uses the same.
const USAGE: u8 = 2;

/// The reason why a command failed.
pub enum CliError {
    /// A chain of causes, with hints in it.
    Failed(anyhow::Error),
    /// The command line is wrong.
    Usage(anyhow::Error),
    /// The command line is wrong: an argument names something that does not exist.
    UsageFinding(Box<Diagnostic>),
    /// Findings about the manifest, the plan, or another file, each with its place.
    Findings(Vec<Diagnostic>),
    /// The error of another process of this program.
    Rendered {
        /// The message, rendered by that process.
        text: String,
        /// The exit code.
        code: u8,
    },
    /// An exit code without a message: a guest's own, or that of an interrupted process.
    ExitCode(u8),
}

impl CliError {
    /// Findings about the file `source`.
    pub fn findings(findings: Vec<Diagnostic>, source: &SourceFile) -> Self {
        Self::Findings(findings.into_iter().map(|finding| finding.in_source(source)).collect())
    }

    /// An error with hints that say how to fix it.
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

    /// An error without a cause, with a hint that says how to fix it.
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let message: anyhow::Error = anyhow::anyhow!(message.into());
        Self::Failed(Hinted::new(message.into_boxed_dyn_error(), hint.into()).into())
    }

    /// A wrong command line, with a hint that says what to write.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let message: anyhow::Error = anyhow::anyhow!(message.into());
        Self::Usage(Hinted::new(message.into_boxed_dyn_error(), hint.into()).into())
    }

    /// The message for people, and the exit code.
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
