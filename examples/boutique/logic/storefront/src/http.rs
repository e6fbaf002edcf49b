//! Requests and responses as plain values, independent of an HTTP server.

use std::borrow::Cow;

/// A request without its body.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The method, in upper case.
    pub method: String,
    /// The path and query, percent-encoded.
    pub path_and_query: String,
    /// Whether the request was sent over TLS.
    pub secure: bool,
    /// The header fields. Names may have any case; fields with values that are not UTF-8 are left out.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Returns the path without the query.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// Returns the query without its question mark.
    pub fn query(&self) -> &str {
        self.path_and_query.split_once('?').map_or("", |(_, query)| query)
    }

    /// Returns the value of the first header field `name`. The comparison ignores case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).next()
    }

    /// Returns the values of all header fields `name`. The comparison ignores case.
    pub fn headers_named(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The reason why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// The body is larger than the limit.
    TooLarge,
    /// The connection ended before the end of the body.
    Broken,
}

/// An HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The header fields, with lower-case names.
    pub headers: Vec<(&'static str, String)>,
    /// The body. A response to `HEAD` also has a body here, which the caller must not send.
    pub body: Cow<'static, [u8]>,
}

impl Response {
    /// Creates a response with a body of the given content type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { status, headers: vec![("content-type", content_type.into())], body: body.into() }
    }

    /// Creates a plain-text response.
    pub fn text(status: u16, text: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", text.as_bytes())
    }

    /// Creates a response with an HTML page. The page is meant for one visitor, so it must not be cached.
    pub fn page(status: u16, html: maud::Markup) -> Self {
        Self::new(status, "text/html; charset=utf-8", html.into_string().into_bytes()).with("cache-control", "no-store")
    }

    /// Creates a `302 Found` redirect to the URL `to`. Browsers follow it with `GET`.
    pub fn redirect(to: impl Into<String>) -> Self {
        Self { status: 302, headers: vec![("location", to.into())], body: Cow::default() }
            .with("cache-control", "no-store")
    }

    /// Returns the response with an additional header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Returns the value of the first header field `name`, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }
}
