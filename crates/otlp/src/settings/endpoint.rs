//! The URL of a collector.

use std::fmt;

use http::Uri;

use crate::Signal;

/// The maximum length of a collector's URL in bytes.
const URL_BYTES_MAX: usize = 2048;

/// The URL to which a signal is sent. Displayed without its query, which may contain a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) is_secure: bool,
    /// The host name or IP address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The path and the query.
    pub(crate) target: String,
}

/// Why a text is not the URL of a collector. The error does not contain the text, which may contain a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The text is not a URL.
    #[error("it is not a URL such as `http://localhost:4318`")]
    Url,
    /// The URL has a scheme other than `http` and `https`.
    #[error("the URL must begin with `http://` or `https://`")]
    Scheme,
    /// The URL contains a user name or a password.
    #[error("the URL must not contain a user name or a password: send them in a header")]
    Credentials,
    /// The URL is too long.
    #[error("the URL is longer than {URL_BYTES_MAX} bytes")]
    Length,
}

impl Endpoint {
    /// Parses the URL of a signal. No path is added to the URL.
    ///
    /// # Errors
    /// If `text` is not a URL with the scheme `http` or `https`, or contains credentials.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        if text.len() > URL_BYTES_MAX {
            return Err(InvalidEndpoint::Length);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidEndpoint::Url)?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(InvalidEndpoint::Scheme),
        };
        let authority = uri.authority().ok_or(InvalidEndpoint::Url)?;
        if authority.as_str().contains('@') {
            return Err(InvalidEndpoint::Credentials);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(InvalidEndpoint::Url);
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().len() > authority.host().len() => return Err(InvalidEndpoint::Url),
            None if is_secure => 443,
            None => 80,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self { is_secure, host: host.to_owned(), port, target: target.to_owned() })
    }

    /// Parses the base URL of a collector. The URL of a signal is the base URL with the path of the signal.
    ///
    /// # Errors
    /// The same errors as [`parse`](Self::parse).
    pub fn parse_base(text: &str, signal: Signal) -> Result<Self, InvalidEndpoint> {
        let base = Self::parse(text)?;
        let (path, query) = match base.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (base.target.as_str(), None),
        };
        let mut target = format!("{}/{}", path.trim_end_matches('/'), signal.path());
        if let Some(query) = query {
            target = format!("{target}?{query}");
        }
        Ok(Self { target, ..base })
    }

    /// Returns the content of the `Host` header.
    pub(crate) fn authority(&self) -> String {
        let is_default = self.port == if self.is_secure { 443 } else { 80 };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if is_default { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_signal_is_added_to_a_base_url_only() {
        let base = |text| Endpoint::parse_base(text, Signal::Traces).unwrap().to_string();
        assert_eq!(base("http://localhost:4318"), "http://localhost:4318/v1/traces");
        assert_eq!(base("https://otlp.example/in/"), "https://otlp.example/in/v1/traces");
        assert_eq!(base("http://[::1]:4318/"), "http://[::1]:4318/v1/traces");
        let signal = Endpoint::parse("http://localhost:80").unwrap();
        assert_eq!((signal.to_string().as_str(), signal.port), ("http://localhost/", 80));
        assert_eq!(Endpoint::parse("http://[::1]:1/").unwrap().host, "::1");
    }

    #[test]
    fn a_query_is_sent_but_not_shown() {
        let endpoint = Endpoint::parse_base("https://otlp.example?key=s3cret", Signal::Logs).unwrap();
        assert_eq!(endpoint.target, "/v1/logs?key=s3cret");
        assert!(!format!("{endpoint} {endpoint:?}").contains("s3cret"));
    }

    #[test]
    fn other_texts_are_refused() {
        let refused = |text: &str| Endpoint::parse(text).unwrap_err();
        for text in ["localhost:4318", "ftp://localhost", "/v1/traces"] {
            assert_eq!(refused(text), InvalidEndpoint::Scheme, "{text}");
        }
        for text in ["", "http://", "http://:80", "http://a b", "http://host:99999"] {
            assert_eq!(refused(text), InvalidEndpoint::Url, "{text}");
        }
        assert_eq!(refused("https://user:s3cret@host"), InvalidEndpoint::Credentials);
        assert_eq!(refused(&format!("http://{}", "h".repeat(3000))), InvalidEndpoint::Length);
    }
}
