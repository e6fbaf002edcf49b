//! Header fields of requests to a collector.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// The maximum number of header fields.
const HEADERS_MAX: usize = 32;

/// The maximum length in bytes of the values of all header fields.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Header fields that the exporter sets itself.
const RESERVED: [&str; 7] =
    ["connection", "content-encoding", "content-length", "content-type", "host", "transfer-encoding", "user-agent"];

/// Header fields that are sent with each request. Their values may be secrets, and are never displayed.
#[derive(Clone, Default, PartialEq)]
pub struct Headers(HeaderMap);

/// Why header fields are not valid. The error contains names, but no values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeaders {
    /// An entry is not `NAME=VALUE`.
    #[error("entry {0} has no `=`: write `NAME=VALUE,NAME=VALUE`")]
    Entry(usize),
    /// A name is not valid.
    #[error("the name of entry {0} is not the name of a header field")]
    Name(usize),
    /// A value is not valid.
    #[error("the value of `{0}` is not valid in a header field")]
    Value(String),
    /// The exporter sets this field itself.
    #[error("the exporter sets `{0}` itself")]
    Reserved(String),
    /// There are too many fields, or they are too long.
    #[error("there are more than {HEADERS_MAX} header fields, or they are longer than {HEADER_BYTES_MAX} bytes")]
    TooMany,
}

impl Headers {
    /// Parses `NAME=VALUE,NAME=VALUE`. Names and values may be percent-encoded.
    ///
    /// # Errors
    /// If an entry is not valid.
    pub fn parse(text: &str) -> Result<Self, InvalidHeaders> {
        let mut headers = Self::default();
        for (index, entry) in text.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
            let (name, value) = entry.split_once('=').ok_or(InvalidHeaders::Entry(index + 1))?;
            let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().map(std::borrow::Cow::into_owned);
            let name = decoded(name).map_err(|_| InvalidHeaders::Name(index + 1))?;
            let name: HeaderName = name.parse().map_err(|_| InvalidHeaders::Name(index + 1))?;
            let value = decoded(value).map_err(|_| InvalidHeaders::Value(name.to_string()))?;
            headers.insert(name, &value)?;
        }
        Ok(headers)
    }

    /// Adds the field `name`.
    ///
    /// # Errors
    /// If the name or the value is not valid.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), InvalidHeaders> {
        let name: HeaderName = name.parse().map_err(|_| InvalidHeaders::Name(self.0.len() + 1))?;
        self.insert(name, value)
    }

    fn insert(&mut self, name: HeaderName, value: &str) -> Result<(), InvalidHeaders> {
        if RESERVED.contains(&name.as_str()) {
            return Err(InvalidHeaders::Reserved(name.to_string()));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| InvalidHeaders::Value(name.to_string()))?;
        value.set_sensitive(true);
        self.0.insert(name, value);
        let bytes: usize = self.0.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if self.0.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
            return Err(InvalidHeaders::TooMany);
        }
        Ok(())
    }

    /// Returns whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn map(&self) -> &HeaderMap {
        &self.0
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_not_shown() {
        let headers = Headers::parse("Authorization=Basic%20c2VjcmV0, x-scope = a=b,").unwrap();
        assert_eq!(headers.map()["authorization"], "Basic c2VjcmV0");
        assert_eq!(headers.map()["x-scope"], "a=b");
        assert_eq!(format!("{headers:?}"), r#"{"authorization", "x-scope"}"#);
        assert!(!format!("{:?}", headers.map()).contains("c2VjcmV0"));
    }

    #[test]
    fn invalid_fields_are_refused_without_their_values() {
        let refused = |text: &str| Headers::parse(text).unwrap_err().to_string();
        assert!(refused("a=1,s3cret").starts_with("entry 2 has no `=`"));
        assert!(refused("a b=s3cret").starts_with("the name of entry 1"));
        assert_eq!(refused("a=s3cret%0a"), "the value of `a` is not valid in a header field");
        assert_eq!(refused("Content-Length=1"), "the exporter sets `content-length` itself");
        assert!(refused(&format!("a={}", "x".repeat(HEADER_BYTES_MAX))).starts_with("there are more than"));
        assert!(Headers::default().add("a\n", "b").is_err());
    }
}
