//! Requests to one registry and to the servers to which it redirects: TLS, redirects, and limits on time and size.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use isomer_display::escaped;
use isomer_display::excerpt::cut;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::error::RegistryError;

/// The maximum time to connect, without the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The maximum time until the head of a response arrives, in addition to the time for the request's own body.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum time between two pieces of a response's body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// The minimum rate at which a body must be transferred, so that its total time is limited too.
const BYTES_PER_SECOND_MIN: u64 = 16 << 10;

/// The maximum number of redirects of one request.
const REDIRECTS_MAX: usize = 5;

/// The maximum size in bytes of a response that contains an error.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// The maximum length in bytes of a message or URL from a server that is shown.
const SHOWN_BYTES_MAX: usize = 300;

/// The maximum size in bytes of a file of certificate authorities.
const AUTHORITY_BYTES_MAX: u64 = 4 << 20;

/// The size in bytes of a piece of an uploaded body.
const PIECE_BYTES: usize = 64 << 10;

pub(crate) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Whether connections to a registry use TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TransportSecurity {
    /// TLS, except for a registry on this machine's loopback address.
    #[default]
    TlsExceptLoopback,
    /// Always TLS.
    Tls,
    /// Never TLS.
    Plain,
}

/// How a registry is reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Whether connections use TLS.
    pub security: TransportSecurity,
    /// PEM files with certificate authorities that are trusted in addition to the public ones.
    pub authorities: Vec<PathBuf>,
}

impl RegistryOptions {
    /// Returns the options with the certificate authorities that the environment names (`SSL_CERT_FILE`).
    #[must_use]
    pub fn from_environment(security: TransportSecurity) -> Self {
        let authority = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
        Self { security, authorities: authority.into_iter().map(Into::into).collect() }
    }
}

/// The connections to a registry.
pub(crate) struct Connection {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    /// The URL of the registry, which ends with `/`.
    base: Url,
}

/// A request without its URL and credentials. The body is kept, so that the request can be sent again.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What the request does, for errors.
    pub(crate) operation: &'static str,
}

impl Order {
    pub(crate) fn new(method: Method, operation: &'static str) -> Self {
        Self { method, headers: HeaderMap::new(), body: Bytes::new(), operation }
    }

    pub(crate) fn header(mut self, name: http::HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

impl Connection {
    pub(crate) fn new(registry: &str, options: &RegistryOptions) -> Result<Self, RegistryError> {
        // References to Docker Hub contain the host `docker.io`, but its API is at another host.
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let reference = |_| RegistryError::Reference { problem: format!("`{registry}` is not a host") };
        let base = Url::parse(&format!("https://{host}/")).map_err(reference)?;
        let is_plain = match options.security {
            TransportSecurity::Plain => true,
            TransportSecurity::Tls => false,
            TransportSecurity::TlsExceptLoopback => is_loopback(&base),
        };
        // `Url::set_scheme` would drop port 443, because it is the default port of `https`.
        let base = if is_plain { Url::parse(&format!("http://{host}/")).map_err(reference)? } else { base };
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.enforce_http(false);
        http.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls_config(options)?);
        let connector = connector.https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(8)
            .http1_max_headers(100)
            .build(connector);
        Ok(Self { client, base })
    }

    /// Returns the URL of the registry.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Sends a request. Follows redirects of a request without a body. The credentials are sent only to servers with the
    /// same scheme, host and port as `url`.
    pub(crate) async fn send(
        &self,
        url: Url,
        order: &Order,
        credentials: Option<&HeaderValue>,
    ) -> Result<(Url, Response<Incoming>), RegistryError> {
        let first = url.clone();
        let mut url = url;
        for _ in 0..=REDIRECTS_MAX {
            let credentials = credentials.filter(|_| is_same_origin(&url, &first));
            let response = self.send_once(&url, order, credentials).await?;
            let may_redirect = matches!(order.method, Method::GET | Method::HEAD);
            if !may_redirect || !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((url, response));
            }
            let next = location(&url, response.headers())?;
            check_target(&url, &next)?;
            url = next;
        }
        Err(redirect(&first, &url, "there are too many redirects"))
    }

    async fn send_once(
        &self,
        url: &Url,
        order: &Order,
        credentials: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let mut request = Request::builder().method(&order.method).uri(url.as_str());
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&order.headers);
            headers.insert(USER_AGENT, HeaderValue::from_static(concat!("isomer/", env!("CARGO_PKG_VERSION"))));
            if !matches!(order.method, Method::GET | Method::HEAD) {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(order.body.len()));
            }
            credentials.into_iter().for_each(|value| drop(headers.insert(AUTHORIZATION, value.clone())));
        }
        let request = request.body(body(order.body.clone())).map_err(|error| RegistryError::Malformed {
            server: server(url),
            problem: format!("it refers to an invalid URL: {error}"),
        })?;
        let timeout = RESPONSE_TIMEOUT + transfer_time(order.body.len() as u64);
        match tokio::time::timeout(timeout, self.client.request(request)).await {
            Err(_) => Err(RegistryError::Timeout { server: server(url) }),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => {
                Err(RegistryError::Unreachable { server: server(url), source: error.into() })
            }
            Ok(Err(error)) => Err(RegistryError::Broken { server: server(url), source: error.into() }),
        }
    }
}

/// Reads a body of at most `max` bytes.
pub(crate) async fn read(
    url: &Url,
    response: Response<Incoming>,
    what: &'static str,
    max: usize,
) -> Result<Bytes, RegistryError> {
    let mut bytes = Vec::new();
    read_pieces(url, response, what, max as u64, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .await?;
    Ok(bytes.into())
}

/// Reads a body of at most `max` bytes, and passes each piece to `take`.
pub(crate) async fn read_pieces(
    url: &Url,
    response: Response<Incoming>,
    what: &'static str,
    max: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), RegistryError>,
) -> Result<(), RegistryError> {
    let too_large =
        || RegistryError::TooLarge { server: server(url), what, max: isomer_display::size(max).to_string() };
    let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let mut body = response.into_body();
    let mut left = max;
    let pieces = async {
        loop {
            let frame = tokio::time::timeout(PIECE_TIMEOUT, body.frame()).await;
            let frame = frame.map_err(|_| RegistryError::Timeout { server: server(url) })?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| RegistryError::Broken { server: server(url), source: error.into() })?;
            let Ok(piece) = frame.into_data() else { continue };
            left = left.checked_sub(piece.len() as u64).ok_or_else(too_large)?;
            take(&piece)?;
        }
    };
    let total = tokio::time::timeout(PIECE_TIMEOUT + transfer_time(max), pieces).await;
    total.unwrap_or_else(|_| Err(RegistryError::Timeout { server: server(url) }))
}

/// Returns the error for a response with an unexpected status. Reads the message in the response.
pub(crate) async fn status_error(url: &Url, response: Response<Incoming>, operation: &'static str) -> RegistryError {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<ErrorEntry>,
    }
    #[derive(serde::Deserialize)]
    struct ErrorEntry {
        code: Option<String>,
        message: Option<String>,
    }
    let status = response.status().as_u16();
    let bytes = read(url, response, "the error", ERROR_BYTES_MAX).await.unwrap_or_default();
    let entry = serde_json::from_slice::<Errors>(&bytes).ok().and_then(|errors| errors.errors.into_iter().next());
    let message = entry.and_then(|entry| entry.message.filter(|text| !text.is_empty()).or(entry.code));
    RegistryError::Status { server: server(url), operation, status, message: message.map(|text| shown(&text)) }
}

/// Returns the URL in the field `Location`.
pub(crate) fn location(url: &Url, headers: &HeaderMap) -> Result<Url, RegistryError> {
    let missing = || RegistryError::Malformed { server: server(url), problem: "it has no valid `Location`".to_owned() };
    let value = headers.get(LOCATION).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    url.join(value).map_err(|_| missing())
}

/// Checks that a request to `from` may continue at `to`: the scheme is the same, and a connection without TLS stays at the
/// registry. Only a registry on this machine may name other servers on this machine: a registry elsewhere must not send
/// requests to the local services of its clients.
pub(crate) fn check_target(from: &Url, to: &Url) -> Result<(), RegistryError> {
    if to.scheme() != from.scheme() {
        return Err(redirect(from, to, "the scheme differs"));
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(redirect(from, to, "the URL contains credentials"));
    }
    if to.scheme() == "http" && !is_same_origin(from, to) && !(is_loopback(from) && is_loopback(to)) {
        return Err(redirect(from, to, "a connection without TLS must stay at the registry"));
    }
    Ok(())
}

pub(crate) fn redirect(from: &Url, target: &Url, reason: &'static str) -> RegistryError {
    RegistryError::Redirect { server: server(from), target: place(target), reason }
}

/// Returns a URL for errors: without its user, query and fragment, which may contain passwords and signatures.
fn place(url: &Url) -> String {
    let server = if url.origin().is_tuple() { server(url) } else { format!("{}:", url.scheme()) };
    shown(&format!("{server}{}", url.path()))
}

/// Returns whether two URLs have the same scheme, host and port.
pub(crate) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Returns the scheme, host and port of a URL, for errors. The rest of the URL is left out, because it may contain a
/// secret, such as the signature of a presigned URL.
pub(crate) fn server(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Returns a text from a server in a form that can be displayed: escaped, and truncated if it is long.
pub(crate) fn shown(text: &str) -> String {
    escaped(&cut(text.to_owned(), SHOWN_BYTES_MAX))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn transfer_time(bytes: u64) -> Duration {
    Duration::from_secs(bytes / BYTES_PER_SECOND_MIN)
}

fn body(bytes: Bytes) -> Body {
    let mut left = bytes;
    let pieces = std::iter::from_fn(move || {
        let piece = left.split_to(left.len().min(PIECE_BYTES));
        (!piece.is_empty()).then_some(Ok(Frame::data(piece)))
    });
    StreamBody::new(stream::iter(pieces)).boxed_unsync()
}

fn tls_config(options: &RegistryOptions) -> Result<ClientConfig, RegistryError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for path in &options.authorities {
        let file = |source| RegistryError::File { path: path.clone(), source };
        let invalid = |problem: String| file(std::io::Error::new(std::io::ErrorKind::InvalidData, problem));
        let pem = crate::cache::read_bounded(path, AUTHORITY_BYTES_MAX).map_err(file)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.map_err(|error| invalid(format!("the file is damaged: {error}")))?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(invalid("the file contains no certificate".to_owned()));
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.expect("ring supports the default versions").with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_registry_on_this_machine_is_reached_without_tls() {
        let scheme = |registry: &str, security| {
            let options = RegistryOptions { security, authorities: Vec::new() };
            Connection::new(registry, &options).unwrap().base.to_string()
        };
        for (registry, url) in [
            ("registry.example", "https://registry.example/"),
            ("docker.io", "https://registry-1.docker.io/"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/"),
            ("[::1]:5000", "http://[::1]:5000/"),
            ("localhost:443", "http://localhost:443/"),
            ("127.0.0.1.example:5000", "https://127.0.0.1.example:5000/"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/"),
        ] {
            assert_eq!(scheme(registry, TransportSecurity::TlsExceptLoopback), url);
        }
        assert_eq!(scheme("localhost:5000", TransportSecurity::Tls), "https://localhost:5000/");
        assert_eq!(scheme("registry.example", TransportSecurity::Plain), "http://registry.example/");
    }

    #[test]
    fn a_redirect_keeps_the_scheme() {
        let check = |from: &str, to: &str| check_target(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
        check("https://r.example/a", "https://cdn.example/b").unwrap();
        check("http://127.0.0.1:5000/a", "http://127.0.0.1:6000/b").unwrap();
        for (from, to) in [
            ("https://r.example/a", "http://r.example/a"),
            ("https://r.example/a", "file:///etc/passwd"),
            ("https://r.example/a", "https://user:word@cdn.example/a"),
            ("http://127.0.0.1:5000/a", "http://169.254.169.254/latest"),
            ("http://127.0.0.1:5000/a", "https://r.example/a"),
            ("http://10.0.0.1:5000/a", "http://127.0.0.1:6000/b"),
            ("http://10.0.0.1:5000/a", "http://10.0.0.1:6000/b"),
        ] {
            assert!(check(from, to).is_err(), "{from} {to}");
        }
    }
}
