//! Errors that carry hints how to fix them.

use std::error::Error;
use std::fmt;

use isomer_ids::InvalidText;

use crate::diagnostic::bounded;

/// An error type that has hints. Convert it into a [`Hinted`] (for `anyhow`: `.map_err(Hinted::from)?`), and its hints
/// are printed wherever it ends up in a chain of errors.
pub trait Hints: Error {
    /// Returns what to do about the error, each hint a sentence that names an action.
    fn hints(&self) -> Vec<String>;
}

/// An error with hints. It displays as the error that it wraps, and adds nothing to the chain of causes.
#[derive(Debug)]
pub struct Hinted {
    error: Box<dyn Error + Send + Sync>,
    hints: Vec<String>,
}

impl Hinted {
    /// Wraps `error` with one hint.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>, hint: impl Into<String>) -> Self {
        Self { error: error.into(), hints: vec![hint.into()] }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(bounded(hint));
        self
    }

    /// Returns the hints.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Returns the wrapped error.
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
    /// Adds a hint if the result is an error.
    ///
    /// # Errors
    /// With the original error, wrapped with the hint.
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
