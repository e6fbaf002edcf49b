//! The HTTP client of one signal. It keeps one connection, and sends one request at a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use isomer_display::{escaped, excerpt};
use prost::Message as _;
use rustls::ClientConfig;

use super::attempts::Outcome;
use super::connect::{self, TlsError};
use crate::message::{ExportResponse, RpcStatus};
use crate::settings::SignalSettings;

/// The maximum size of a response's body in bytes. A longer body is not read.
const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// The maximum number of header fields of a response.
const RESPONSE_HEADERS_MAX: usize = 100;

/// The maximum number of bytes of a collector's error message that a log message quotes.
const MESSAGE_BYTES_MAX: usize = 300;

/// The size of the connection's buffers in bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// The content of the `User-Agent` field of requests.
const PRODUCT: &str = concat!("OTel-OTLP-Exporter-Isomer/", env!("CARGO_PKG_VERSION"));

/// Sends requests to the endpoint of one signal.
pub(crate) struct Client {
    settings: SignalSettings,
    tls: Option<Arc<ClientConfig>>,
    headers: HeaderMap,
    /// The idle connection.
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Creates the client. Reads the files for TLS.
    pub(crate) fn new(settings: SignalSettings) -> Result<Self, TlsError> {
        let tls = if settings.endpoint.is_secure { Some(connect::tls_config(&settings.tls)?) } else { None };
        let mut headers = settings.headers.map().clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(PRODUCT));
        if settings.is_compressed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Ok(host) = HeaderValue::from_str(&settings.endpoint.authority()) {
            headers.insert(HOST, host);
        }
        Ok(Self { settings, tls, headers, connection: None })
    }

    pub(super) fn settings(&self) -> &SignalSettings {
        &self.settings
    }

    /// Sends `body`, and returns what the response means.
    pub(super) async fn send(&mut self, body: Bytes) -> Outcome {
        let timeout = self.settings.timeout;
        match tokio::time::timeout(timeout, self.exchange(body)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(reason)) => Outcome::Failed { reason, after: None },
            Err(_) => {
                let reason = format!("there is no response after {} ms", timeout.as_millis());
                Outcome::Failed { reason, after: None }
            }
        }
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Outcome, String> {
        let idle = match self.connection.take() {
            // If the collector has closed the idle connection, a new one is opened below.
            Some(mut connection) => connection.ready().await.is_ok().then_some(connection),
            None => None,
        };
        let is_reused = idle.is_some();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let mut response = connection.send_request(self.request(&body)?).await;
        if response.is_err() && is_reused {
            connection = self.open().await?;
            response = connection.send_request(self.request(&body)?).await;
        }
        let response = response.map_err(|_| "it closed the connection without a response".to_owned())?;
        let outcome = outcome(response).await;
        // After an [`Outcome::Failed`], the body may not have been read to its end. Then the connection cannot be used
        // again.
        if connection.is_ready() || !matches!(outcome, Outcome::Failed { .. }) {
            self.connection = Some(connection);
        }
        Ok(outcome)
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = connect::connect(&self.settings.endpoint, self.tls.as_ref()).await?;
        let (sender, driver) = http1::Builder::new()
            .max_headers(RESPONSE_HEADERS_MAX)
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| "it closed the connection".to_owned())?;
        // The task of the connection ends when its sender is dropped.
        tokio::spawn(driver);
        Ok(sender)
    }

    fn request(&self, body: &Bytes) -> Result<Request<Full<Bytes>>, String> {
        let request = Request::post(&self.settings.endpoint.target).body(Full::new(body.clone()));
        let mut request = request.map_err(|_| "its URL has no valid path".to_owned())?;
        request.headers_mut().clone_from(&self.headers);
        Ok(request)
    }
}

async fn outcome(response: Response<Incoming>) -> Outcome {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_default();
    if head.status.is_success() {
        let partial = ExportResponse::decode(body).ok().and_then(|response| response.partial_success);
        let partial = partial.unwrap_or_default();
        let rejected = usize::try_from(partial.rejected).unwrap_or(0);
        return Outcome::Accepted { rejected, message: shortened(&partial.message) };
    }
    let status = head.status;
    let mut reason = format!("the response has status {}", status.as_u16());
    let message = RpcStatus::decode(body).map(|status| status.message).unwrap_or_default();
    if !message.is_empty() {
        reason = format!("{reason}: {}", shortened(&message));
    }
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let after = head.headers.get(RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now()));
            Outcome::Failed { reason, after }
        }
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::TooLarge(reason),
        _ => Outcome::Refused(reason),
    }
}

/// Returns the pause that a `Retry-After` field requests: a number of seconds, or a date.
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn shortened(message: &str) -> String {
    excerpt::cut(escaped(message), MESSAGE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_number_of_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let after = |text| retry_after(&HeaderValue::from_static(text), now).map(|pause| pause.as_secs());
        assert_eq!(after("7"), Some(7));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:00 GMT"), Some(23));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!((after("soon"), after("-1")), (None, None));
    }
}
