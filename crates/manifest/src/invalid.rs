//! One error for text that is not what it should be: names, routes, hosts, sizes.

use crate::diagnostic::Hints;

/// Text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: {problem}")]
pub struct InvalidText {
    /// What it should be, with its article: `a component name`.
    pub kind: &'static str,
    /// The text as given.
    pub text: String,
    /// The rule that it breaks.
    pub problem: String,
    /// Legal text that is probably meant.
    pub suggestion: Option<String>,
}

impl InvalidText {
    pub(crate) fn new(kind: &'static str, text: &str, problem: impl Into<String>) -> Self {
        Self { kind, text: text.to_owned(), problem: problem.into(), suggestion: None }
    }

    pub(crate) fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    /// What to do about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.suggestion.as_ref().map(|suggestion| format!("write `{suggestion}`"))
    }
}

impl Hints for InvalidText {
    fn hints(&self) -> Vec<String> {
        self.hint().into_iter().collect()
    }
}
