//! Errors with hints that say how to fix them.

use std::error::Error;
use std::fmt;

use isomer_ids::InvalidText;

use crate::diagnostic::bounded;

/// An error type that has hints. Convert the error into a [`Hinted`] (for `anyhow`: `.map_err(Hinted::from)?`); its
/// hints are then printed wherever the error is in a chain of errors.
pub trait Hints: Error {
    /// Returns the hints. Each hint is a sentence that says what to do about the error.
    fn hints(&self) -> Vec<String>;
}

/// An error with hints. It has the text and the source of the wrapped error, so it does not lengthen the chain of
/// causes.
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

/// Adds a method to [`Result`] that attaches a hint to the error.
pub trait HintExt<T> {
    /// Attaches a hint to the error, if the result is an error.
    ///
    /// # Errors
    /// The original error, wrapped with the hint.
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
