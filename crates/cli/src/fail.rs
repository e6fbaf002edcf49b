//! How a command ends when it does not end well: what is printed, and with which exit code.

use std::process::ExitCode;

use isomer_manifest::{Diagnostic, Hinted, Renderer, SourceFile};
use isomer_node::RevisionError;

use crate::console::Console;

/// Exit code of a failure.
pub(crate) const FAILED: u8 = 1;

/// Exit code of what a second signal ended at once, as shells give it for Ctrl-C (128 + SIGINT).
pub(crate) const INTERRUPTED: u8 = 130;

/// What is said beside hints that are about a manifest, where there is none.
const NO_MANIFEST: &str = "a component that is run from its file has no manifest: `isomer new` makes an app with one";

/// Exit code for a wrong command line or manifest; clap uses the same.
const USAGE: u8 = 2;

/// Why a command did not do what it was asked for.
pub(crate) enum Fail {
    /// Something went wrong: a chain of causes, with hints in it.
    Error(anyhow::Error),
    /// The command line cannot be meant like that.
    Usage(anyhow::Error),
    /// The manifest (or the plan made from it) is wrong, with places.
    Manifest(Vec<Diagnostic>),
    /// What the manifest names did not work, with places. The manifest itself may be right.
    Located(Vec<Diagnostic>),
    /// What another process of this program had to say of its end.
    Said {
        /// Rendered already.
        text: String,
        /// Its exit code.
        code: u8,
    },
    /// An exit code that says it all: a guest's own, or that of being stopped.
    Exit(u8),
}

impl Fail {
    /// Findings that the manifest's text belongs to.
    pub(crate) fn manifest(findings: Vec<Diagnostic>, source: &SourceFile) -> Self {
        Self::Manifest(findings.into_iter().map(|finding| finding.in_source(source)).collect())
    }

    /// An error with its ways out.
    pub(crate) fn hinted<E>(error: E, hints: impl IntoIterator<Item = impl Into<String>>) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let mut hints = hints.into_iter();
        match hints.next() {
            None => Self::Error(error.into()),
            Some(first) => Self::Error(hints.fold(Hinted::new(error, first), Hinted::hint).into()),
        }
    }

    /// Why a revision could not be planned or made. Findings of the plan have places in the manifest, if there is one.
    pub(crate) fn revision(error: RevisionError, source: Option<&SourceFile>) -> Self {
        match error {
            RevisionError::Plan(findings) => match source {
                Some(source) => Self::manifest(findings, source),
                None => Self::Manifest(findings.into_iter().map(|finding| finding.hint(NO_MANIFEST)).collect()),
            },
            RevisionError::Component { source: ref reason, .. } | RevisionError::Compose { source: ref reason, .. } => {
                let hint = reason.hint();
                Self::hinted(error, hint)
            }
            error => error.into(),
        }
    }

    /// A wrong command line, with the way out.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let message: anyhow::Error = anyhow::anyhow!(message.into());
        Self::Usage(Hinted::new(message.into_boxed_dyn_error(), hint.into()).into())
    }

    /// Prints it for people and gives the exit code.
    pub(crate) fn report(self, console: &Console) -> ExitCode {
        let (said, code) = self.in_words(&console.renderer());
        if !said.is_empty() {
            console.say(&said);
        }
        ExitCode::from(code)
    }

    /// What is printed for people, and the exit code.
    pub(crate) fn in_words(&self, renderer: &Renderer) -> (String, u8) {
        match self {
            Self::Error(error) => (renderer.error(error.as_ref()), FAILED),
            Self::Usage(error) => (renderer.error(error.as_ref()), USAGE),
            Self::Manifest(findings) => (renderer.diagnostics(findings), USAGE),
            Self::Located(findings) => (renderer.diagnostics(findings), FAILED),
            Self::Said { text, code } => (text.clone(), *code),
            Self::Exit(code) => (String::new(), *code),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Fail {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}
