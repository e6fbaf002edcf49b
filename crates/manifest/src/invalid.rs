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
    /// What it looks like when it is right.
    pub example: &'static str,
    /// Legal text that is probably meant.
    pub suggestion: Option<String>,
}

impl InvalidText {
    pub(crate) fn new(kind: &'static str, example: &'static str, text: &str, problem: impl Into<String>) -> Self {
        Self { kind, text: text.to_owned(), problem: problem.into(), example, suggestion: None }
    }

    pub(crate) fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.suggestion {
            Some(suggestion) => format!("write `{suggestion}`"),
            None => format!("write {} such as `{}`", self.kind, self.example),
        }
    }
}

impl Hints for InvalidText {
    fn hints(&self) -> Vec<String> {
        vec![self.hint()]
    }
}
