//! The error for invalid text: a name, a route, a host name, a size or other text that breaks the rule for its kind.

use isomer_display::escaped;
use isomer_display::excerpt::cut;

/// The maximum number of bytes of the invalid text that an error quotes.
const SHOWN_BYTES_MAX: usize = 128;

/// The error for text that breaks the rule for its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: {problem}")]
pub struct InvalidText {
    /// The kind of text that was expected, with its article: `a component name`.
    pub kind: &'static str,
    /// The invalid text with control characters escaped, cut after 128 bytes.
    pub text: String,
    /// The rule that the text breaks.
    pub problem: String,
    /// An example of a valid text.
    pub example: &'static str,
    /// The valid text that the user probably meant.
    pub suggestion: Option<String>,
}

impl InvalidText {
    /// Creates the error for `text`. `kind` is the expected kind of text with its article, `example` is a valid text,
    /// and `problem` is the rule that `text` breaks.
    #[must_use]
    pub fn new(kind: &'static str, example: &'static str, text: &str, problem: impl Into<String>) -> Self {
        let text = escaped(&cut(text.to_owned(), SHOWN_BYTES_MAX));
        Self { kind, text, problem: problem.into(), example, suggestion: None }
    }

    /// Sets the valid text that the user probably meant.
    #[must_use]
    pub fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    /// Returns a hint that says what to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.suggestion {
            Some(suggestion) => format!("write `{suggestion}`"),
            None => format!("write {} such as `{}`", self.kind, self.example),
        }
    }
}
