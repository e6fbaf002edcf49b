//! Formats an error and its causes as plain text on one line, for logs and messages.

use std::error::Error;

/// Returns the causes of an error, the direct cause first. Does not return the error itself.
pub fn causes<'a>(error: &'a (dyn Error + 'a)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// Formats an error and its causes on one line: `cannot start: cannot listen: the address is in use`.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}
