//! Errors that carry hints: what to do about them.

use std::error::Error;
use std::fmt;

use isomer_ids::InvalidText;

use crate::diagnostic::bounded;

/// An error type that knows ways out. Turn one into a [`Hinted`] (`?` into `anyhow` does it after
/// `.map_err(Hinted::from)`) and its hints are printed wherever in a chain it ends up.
pub trait Hints: Error {
    /// What to do about it, each a sentence that names the next action.
    fn hints(&self) -> Vec<String>;
}

/// An error with hints. It shows itself as the error that it holds and adds nothing to the chain.
#[derive(Debug)]
pub struct Hinted {
    error: Box<dyn Error + Send + Sync>,
    hints: Vec<String>,
}

impl Hinted {
    /// `error` with one hint.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>, hint: impl Into<String>) -> Self {
        Self { error: error.into(), hints: vec![hint.into()] }
    }

    /// One more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(bounded(hint));
        self
    }

    /// The hints.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The error that it holds.
    #[must_use]
    pub fn inner(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Hinted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl<E: Hints + Send + Sync + 'static> From<E> for Hinted {
    fn from(error: E) -> Self {
        Self { hints: error.hints(), error: Box::new(error) }
    }
}

/// Adds hints to results.
pub trait HintExt<T> {
    /// Say what to do if this is an error.
    ///
    /// # Errors
    /// The error itself, with the hint.
    fn hint(self, hint: impl Into<String>) -> Result<T, Hinted>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> HintExt<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> Result<T, Hinted> {
        self.map_err(|error| Hinted::new(error, hint))
    }
}

impl Hints for InvalidText {
    fn hints(&self) -> Vec<String> {
        vec![self.hint()]
    }
}
