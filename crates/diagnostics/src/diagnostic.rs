//! What is wrong, as data: a message, the place in a source file, notes, and hints that name the way out.
//!
//! A [`Diagnostic`] knows nothing of terminals; [`crate::Renderer`] is the only place that turns one into text for people.
//! An error without a place in a file travels as a [`Hinted`] error, which carries its hints through any chain of errors.

use std::error::Error;
use std::fmt;

use isomer_display::excerpt::{TEXT_BYTES_MAX, cut};
use serde::{Serialize, Serializer};

use crate::source::{Position, SourceFile, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something that works, and is probably not meant.
    Warning,
    /// Something that cannot go on.
    Error,
}

/// A place in a source file and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The file; absent until somebody who knows the file calls [`Diagnostic::in_source`].
    pub source: Option<SourceFile>,
    /// The text that is meant.
    pub span: Span,
    /// What is said under it; may be empty.
    pub text: String,
    /// Text that is never shown, since it may be a secret.
    pub hidden: Option<Span>,
}

/// One problem, with where it is and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name of this kind of problem, for programs.
    pub code: Option<&'static str>,
    /// What is wrong, in one lower-case sentence without a full stop.
    pub message: String,
    /// Where it is.
    pub label: Option<Label>,
    /// Other places that have to do with it.
    pub related: Vec<Label>,
    /// More about it.
    pub notes: Vec<String>,
    /// What to do about it; may have several lines, the later ones being text to paste.
    pub hints: Vec<String>,
}

impl Diagnostic {
    /// An error.
    #[must_use]
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    /// A warning.
    #[must_use]
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        let message = bounded(message);
        Self { severity, code: None, message, label: None, related: vec![], notes: vec![], hints: vec![] }
    }

    /// Name the kind of problem, for programs.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Say where it is and what is there. A place that was never written ([`Span::NONE`]) is left out.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.label = label(span, text.into());
        self
    }

    /// Say that it is about the file as a whole.
    #[must_use]
    pub fn in_file(mut self) -> Self {
        self.label = Some(Label { source: None, span: Span::NONE, text: String::new(), hidden: None });
        self
    }

    /// Never show this part of the file: it may be a secret.
    #[must_use]
    pub fn hide(mut self, secret: Span) -> Self {
        if let Some(label) = &mut self.label {
            label.hidden = Some(secret);
        }
        self
    }

    /// Point at another place that has to do with it.
    #[must_use]
    pub fn related(mut self, span: Span, text: impl Into<String>) -> Self {
        self.related.extend(label(span, text.into()));
        self
    }

    /// Say more.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(bounded(note));
        self
    }

    /// Say what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(bounded(hint));
        self
    }

    /// Say what to do, if anything is known.
    #[must_use]
    pub fn hint_if(mut self, hint: Option<String>) -> Self {
        self.hints.extend(hint.map(bounded));
        self
    }

    /// Name the file that the labels without a file are in.
    #[must_use]
    pub fn in_source(mut self, source: &SourceFile) -> Self {
        for label in self.label.iter_mut().chain(&mut self.related) {
            label.source.get_or_insert_with(|| source.clone());
        }
        self
    }

    /// Is it an error (and not a warning)?
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The diagnostic as JSON, as `--json` prints it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("strings and numbers are always JSON")
    }
}

/// Cuts a text of a diagnostic (message, label, note, hint) to [`TEXT_BYTES_MAX`].
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

/// How a label looks in JSON. The offending text itself is left out: the reader has the file.
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

/// Several diagnostics as one error; [`crate::Renderer::error`] shows each of them in full.
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
