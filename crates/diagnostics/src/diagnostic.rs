//! Diagnostics: problems as data, with a message, a place in a source file, notes, and hints.
//!
//! A [`Diagnostic`] does not depend on terminals; only [`crate::Renderer`] converts it into text for people. An error
//! that has no place in a source file is a [`Hinted`](crate::Hinted) error instead, which keeps its hints inside a
//! chain of errors.

use std::error::Error;
use std::fmt;

use isomer_display::excerpt::{TEXT_BYTES_MAX, cut};
use serde::{Serialize, Serializer};

use crate::source::{Position, SourceFile, Span};

/// The severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The input works, but is probably a mistake.
    Warning,
    /// The input cannot be used.
    Error,
}

/// A place in a source file, with a text that is shown under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The source file; `None` until [`Diagnostic::in_source`] sets it.
    pub source: Option<SourceFile>,
    /// The place in the source file.
    pub span: Span,
    /// The text that is shown under the place; can be empty.
    pub text: String,
    /// A part of the source file that is never shown, because it may be a secret.
    pub hidden: Option<Span>,
}

/// A problem: what is wrong, at which place, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The severity of the problem.
    pub severity: Severity,
    /// A stable identifier of this type of problem, for programs.
    pub code: Option<&'static str>,
    /// The message: one sentence in lower case without a full stop.
    pub message: String,
    /// The place of the problem; `None` if the problem has no place in a file.
    pub label: Option<Label>,
    /// Other places that the problem involves.
    pub related: Vec<Label>,
    /// Additional information about the problem.
    pub notes: Vec<String>,
    /// Hints that say how to fix the problem. A hint may have several lines; its second and later lines are text to
    /// paste.
    pub hints: Vec<String>,
}

impl Diagnostic {
    /// Creates a diagnostic with the severity error.
    #[must_use]
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    /// Creates a diagnostic with the severity warning.
    #[must_use]
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        let message = bounded(message);
        Self { severity, code: None, message, label: None, related: vec![], notes: vec![], hints: vec![] }
    }

    /// Sets the identifier of the type of problem.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Sets the place, and the text that is shown under it. Does nothing if the span is [`Span::NONE`].
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.label = label(span, text.into());
        self
    }

    /// Sets the complete source file as the place, for a problem that has no position in the file.
    #[must_use]
    pub fn in_file(mut self) -> Self {
        self.label = Some(Label { source: None, span: Span::NONE, text: String::new(), hidden: None });
        self
    }

    /// Sets the part of the source file that is never shown, because it may be a secret.
    #[must_use]
    pub fn hide(mut self, secret: Span) -> Self {
        if let Some(label) = &mut self.label {
            label.hidden = Some(secret);
        }
        self
    }

    /// Adds another place that the problem involves.
    #[must_use]
    pub fn related(mut self, span: Span, text: impl Into<String>) -> Self {
        self.related.extend(label(span, text.into()));
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(bounded(note));
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(bounded(hint));
        self
    }

    /// Adds a hint if `hint` is not `None`.
    #[must_use]
    pub fn hint_if(mut self, hint: Option<String>) -> Self {
        self.hints.extend(hint.map(bounded));
        self
    }

    /// Sets the source file of all labels that have none.
    #[must_use]
    pub fn in_source(mut self, source: &SourceFile) -> Self {
        for label in self.label.iter_mut().chain(&mut self.related) {
            label.source.get_or_insert_with(|| source.clone());
        }
        self
    }

    /// Returns whether the diagnostic is an error. Otherwise it is a warning.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Returns the diagnostic as JSON, as `--json` prints it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("strings and numbers are always JSON")
    }
}

/// Cuts a text of a diagnostic (message, label, note or hint) to [`TEXT_BYTES_MAX`].
pub(crate) fn bounded(text: impl Into<String>) -> String {
    cut(text.into(), TEXT_BYTES_MAX)
}

fn label(span: Span, text: String) -> Option<Label> {
    (!span.is_none()).then(|| Label { source: None, span, text: bounded(text), hidden: None })
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The JSON form of a label. Does not contain the source text to which the label points, because that text may be a
/// secret.
#[derive(Serialize)]
struct LabelJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Span>,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let source = self.source.as_ref();
        let written = source.filter(|_| !self.span.is_none());
        LabelJson {
            file: source.map(SourceFile::name),
            start: written.map(|source| source.position(self.span.start)),
            end: written.map(|source| source.position(self.span.end)),
            bytes: written.map(|_| self.span),
            text: &self.text,
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
struct DiagnosticJson<'a> {
    severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<&'a Label>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    related: &'a [Label],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notes: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    hints: &'a [String],
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        DiagnosticJson {
            severity: self.severity,
            code: self.code,
            message: &self.message,
            at: self.label.as_ref(),
            related: &self.related,
            notes: &self.notes,
            hints: &self.hints,
        }
        .serialize(serializer)
    }
}

/// Several diagnostics as one error. [`crate::Renderer::error`] renders each of them with its place, notes and hints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = self.0.iter().filter(|diagnostic| diagnostic.is_error());
        match (errors.next().or(self.0.first()), errors.count()) {
            (None, _) => f.write_str("no diagnostics"),
            (Some(first), 0) => write!(f, "{first}"),
            (Some(first), 1) => write!(f, "{first} (and 1 more error)"),
            (Some(first), more) => write!(f, "{first} (and {more} more errors)"),
        }
    }
}

impl Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl From<Vec<Diagnostic>> for Diagnostics {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self(diagnostics)
    }
}
