//! Requests and responses as plain values.

use std::borrow::Cow;

/// A request without its body.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Upper case, as it came.
    pub method: String,
    /// Path and query, still percent-encoded.
    pub path_and_query: String,
    /// Did it come over TLS?
    pub secure: bool,
    /// Names in any case; values that are not UTF-8 are left out.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// The query without its question mark.
    pub fn query(&self) -> &str {
        self.path_and_query.split_once('?').map_or("", |(_, query)| query)
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).next()
    }

    /// All headers of this name.
    pub fn headers_named(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It is larger than it may be.
    TooLarge,
    /// It ended before its end.
    Broken,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(&'static str, String)>,
    /// The body; of an answer to `HEAD` too, where the sender leaves it out.
    pub body: Cow<'static, [u8]>,
}

impl Response {
    /// An answer with a body of this type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { status, headers: vec![("content-type", content_type.into())], body: body.into() }
    }

    /// Plain text.
    pub fn text(status: u16, text: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", text.as_bytes())
    }

    /// A page; it belongs to one visitor and is not kept by anybody.
    pub fn page(status: u16, html: maud::Markup) -> Self {
        Self::new(status, "text/html; charset=utf-8", html.into_string().into_bytes()).with("cache-control", "no-store")
    }

    /// `302 Found`: see there, with `GET`.
    pub fn redirect(to: impl Into<String>) -> Self {
        Self { status: 302, headers: vec![("location", to.into())], body: Cow::default() }
            .with("cache-control", "no-store")
    }

    /// The same answer with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }
}
