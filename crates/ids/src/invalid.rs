//! The error for text that breaks the rule of what it should be: a name, a route, a host, a size.

use isomer_display::escaped;
use isomer_display::excerpt::cut;

/// The maximum number of bytes of the refused text that the error repeats.
const SHOWN_BYTES_MAX: usize = 128;

/// Text that breaks the rule of what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: {problem}")]
pub struct InvalidText {
    /// The kind of text that was expected, with its article: `a component name`.
    pub kind: &'static str,
    /// The text, at most 128 bytes of it, with control characters escaped.
    pub text: String,
    /// The rule that the text breaks.
    pub problem: String,
    /// An example of a valid text.
    pub example: &'static str,
    /// The valid text that was probably meant.
    pub suggestion: Option<String>,
}

impl InvalidText {
    /// Returns the error for `text`, which is not `kind` (with its article) because of `problem`.
    #[must_use]
    pub fn new(kind: &'static str, example: &'static str, text: &str, problem: impl Into<String>) -> Self {
        let text = escaped(&cut(text.to_owned(), SHOWN_BYTES_MAX));
        Self { kind, text, problem: problem.into(), example, suggestion: None }
    }

    /// Sets the valid text that was probably meant.
    #[must_use]
    pub fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    /// Returns what to write instead, as a sentence.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.suggestion {
            Some(suggestion) => format!("write `{suggestion}`"),
            None => format!("write {} such as `{}`", self.kind, self.example),
        }
    }
}
