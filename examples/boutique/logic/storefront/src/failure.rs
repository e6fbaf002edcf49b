//! Failures of requests. One function chooses the status of each failure.

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
    /// The path exists, but not with this method. Contains the value of the header `Allow`, which lists the methods.
    Method(&'static str),
    /// The body could not be read completely.
    BrokenBody,
    FormTooLarge,
    NotAForm,
    Fields(Vec<FieldError>),
    /// A service failed. The text is the reason, which is only logged.
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
            Self::Method(_) => "This method is not allowed",
            Self::BrokenBody => "The form is incomplete",
            Self::FormTooLarge => "That form is too large",
            Self::NotAForm => "That is not a form",
            Self::Fields(_) => "Please check the form",
            Self::Unavailable(_) => "The shop is temporarily unavailable",
        }
    }

    fn explanation(&self) -> String {
        match self {
            Self::UnknownPath => "The address may be mistyped, or the page may have been removed.".into(),
            Self::UnknownProduct => "It may no longer be on sale. All products are on the home page.".into(),
            Self::UnknownOrder => "An order is shown only in the browser that placed it.".into(),
            Self::Method(allow) => format!("This page accepts {allow}."),
            Self::BrokenBody => "The connection ended before the end of the form. Please send it again.".into(),
            Self::FormTooLarge => format!("No form of this shop has more than {} KiB.", crate::FORM_BYTES_MAX / 1024),
            Self::NotAForm => "Forms are sent as application/x-www-form-urlencoded.".into(),
            Self::Fields(_) => "These fields are missing or invalid:".into(),
            Self::Unavailable(_) => {
                "One of our services is not available. Nothing was changed; please try again in a moment.".into()
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
