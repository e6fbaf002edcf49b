//! Failures of requests, and the one function that chooses their status.

use crate::http::Response;
use crate::pages::{self, Frame};

/// An error in a field of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldError {
    /// The name of the field in the form.
    pub(crate) field: &'static str,
    /// The error, as a complete sentence.
    pub(crate) message: String,
}

impl FieldError {
    pub(crate) fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}

/// The reason why a request fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    UnknownPath,
    UnknownProduct,
    UnknownOrder,
    /// The path has other methods. Contains the value of `Allow`.
    Method(&'static str),
    /// The body could not be read completely.
    BrokenBody,
    FormTooLarge,
    NotAForm,
    Fields(Vec<FieldError>),
    /// A service failed; the text is for the log.
    Unavailable(String),
}

impl Failure {
    pub(crate) fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self::Fields(vec![FieldError::new(field, message)])
    }

    fn status(&self) -> u16 {
        match self {
            Self::BrokenBody => 400,
            Self::UnknownPath | Self::UnknownProduct | Self::UnknownOrder => 404,
            Self::Method(_) => 405,
            Self::FormTooLarge => 413,
            Self::NotAForm => 415,
            Self::Fields(_) => 422,
            Self::Unavailable(_) => 503,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::UnknownPath => "There is nothing here",
            Self::UnknownProduct => "We have no such product",
            Self::UnknownOrder => "We have no such order",
            Self::Method(_) => "That cannot be done here",
            Self::BrokenBody => "The form did not arrive whole",
            Self::FormTooLarge => "That form is too large",
            Self::NotAForm => "That is not a form",
            Self::Fields(_) => "Please look at this again",
            Self::Unavailable(_) => "The shop is catching its breath",
        }
    }

    fn explanation(&self) -> String {
        match self {
            Self::UnknownPath => "The address may be mistyped, or the page has moved away.".into(),
            Self::UnknownProduct => {
                "It may have been a product of ours once. What we have is on the first page.".into()
            }
            Self::UnknownOrder => "An order is shown only in the browser that placed it.".into(),
            Self::Method(allow) => format!("This page answers {allow}."),
            Self::BrokenBody => "The connection ended before the end of the form. Please send it again.".into(),
            Self::FormTooLarge => format!("No form of this shop has more than {} KiB.", crate::FORM_BYTES_MAX / 1024),
            Self::NotAForm => "Forms are sent as application/x-www-form-urlencoded.".into(),
            Self::Fields(_) => "Something in the form is not as it should be:".into(),
            Self::Unavailable(_) => {
                "One of our services does not answer just now. Nothing was changed; try again in a moment.".into()
            }
        }
    }

    /// Renders the page that reports the failure.
    pub(crate) fn into_response(self, frame: &Frame) -> Response {
        let fields = if let Self::Fields(fields) = &self { fields.as_slice() } else { &[] };
        let page = pages::error(frame, self.status(), self.title(), &self.explanation(), fields);
        let response = Response::page(self.status(), page);
        match self {
            Self::Method(allow) => response.with("allow", allow),
            Self::Unavailable(_) => response.with("retry-after", "2"),
            _ => response,
        }
    }
}
