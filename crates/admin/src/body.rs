//! Reading the body of a request, with limits on its size and on the time until it has arrived.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use http_body::Body as _;
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::Incoming;
use isomer_api::{ApiProblem, ProblemKind};

use crate::admin::UploadBody;

/// The reason why the server stopped reading the body of an upload, if it did. The operation that reads the body gets
/// only an I/O error, so the response is created from this value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overflow(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;

impl Overflow {
    /// Returns the problem for a client whose upload was cut off; `None` if it was not.
    pub(crate) fn problem(&self) -> Option<ApiProblem> {
        match self.0.load(Ordering::Acquire) {
            TOO_LARGE => Some(too_large()),
            TOO_SLOW => Some(too_slow()),
            _ => None,
        }
    }
}

fn too_large() -> ApiProblem {
    ApiProblem::new(ProblemKind::TooLarge, "the body is larger than this operation accepts")
}

fn too_slow() -> ApiProblem {
    ApiProblem::new(ProblemKind::BadRequest, "the body did not arrive in time")
}

/// Reads a body into memory.
///
/// # Errors
/// If the body has more than `bytes_max` bytes, has not arrived completely after `timeout`, or ends early.
pub(crate) async fn read(body: Incoming, bytes_max: u64, timeout: Duration) -> Result<Vec<u8>, ApiProblem> {
    check_announced(&body, bytes_max)?;
    let reading = async {
        let mut data = body.into_data_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = data.next().await {
            let chunk = chunk.map_err(|_| incomplete())?;
            if bytes.len() as u64 + chunk.len() as u64 > bytes_max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    tokio::time::timeout(timeout, reading).await.unwrap_or_else(|_| Err(too_slow()))
}

/// The minimum average rate of an upload in bytes per second, after an initial grace period. Slower uploads are cut
/// off, because each upload holds a permit, and there are few permits.
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 8 << 10;

/// Returns the maximum time to wait for the next bytes of an upload, or `None` if the upload is too slow. `bytes` is
/// the number of bytes that have arrived, and `waited` is the total time that the server has waited for them. The total
/// may reach `timeout` plus the time that `bytes` take at the minimum rate. A single wait is at most `timeout`.
fn patience(timeout: Duration, bytes: u64, waited: Duration) -> Option<Duration> {
    let earned = Duration::from_millis(bytes.saturating_mul(1000) / UPLOAD_BYTES_PER_SECOND_MIN);
    let left = timeout.saturating_add(earned).checked_sub(waited).filter(|left| !left.is_zero())?;
    Some(left.min(timeout))
}

/// Returns a body as a stream. The stream ends with an error if the body has more than `bytes_max` bytes, if no bytes
/// arrive for `timeout`, or if bytes arrive more slowly than [`UPLOAD_BYTES_PER_SECOND_MIN`]. Time in which the
/// operation does not poll the stream does not count.
///
/// # Errors
/// If the `Content-Length` of the request exceeds `bytes_max`.
pub(crate) fn stream(
    body: Incoming,
    bytes_max: u64,
    timeout: Duration,
    overflow: Overflow,
) -> Result<UploadBody, ApiProblem> {
    check_announced(&body, bytes_max)?;
    let state = Some((body.into_data_stream(), bytes_max, Duration::ZERO));
    let next = move |state: Option<(BodyDataStream<Incoming>, u64, Duration)>| {
        let overflow = overflow.clone();
        async move {
            let (mut data, left, waited) = state?;
            let cut_off = |why: u8, text: &'static str| {
                overflow.0.store(why, Ordering::Release);
                Some((Err(io::Error::other(text)), None))
            };
            let Some(patience) = patience(timeout, bytes_max - left, waited) else {
                return cut_off(TOO_SLOW, "the body arrives too slowly");
            };
            let since = Instant::now();
            match tokio::time::timeout(patience, data.next()).await {
                Err(_) => cut_off(TOO_SLOW, "the body did not arrive in time"),
                Ok(None) => None,
                Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), None)),
                Ok(Some(Ok(chunk))) => match left.checked_sub(chunk.len() as u64) {
                    None => cut_off(TOO_LARGE, "the body is too large"),
                    Some(left) => Some((Ok(chunk), Some((data, left, waited + since.elapsed())))),
                },
            }
        }
    };
    Ok(Box::pin(stream::unfold(state, next)) as std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>)
}

/// Checks that the `Content-Length` of the request, if there is one, does not exceed `bytes_max`.
fn check_announced(body: &Incoming, bytes_max: u64) -> Result<(), ApiProblem> {
    if body.size_hint().lower() > bytes_max { Err(too_large()) } else { Ok(()) }
}

fn incomplete() -> ApiProblem {
    ApiProblem::new(ProblemKind::BadRequest, "the connection failed before the body was complete")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_has_to_keep_the_pace() {
        let (timeout, second) = (Duration::from_secs(30), Duration::from_secs(1));
        assert_eq!(patience(timeout, 0, Duration::ZERO), Some(timeout));
        assert_eq!(patience(timeout, 1, 29 * second), Some(second), "a byte now and then is not enough");
        assert_eq!(patience(timeout, 10, 31 * second), None);
        let bytes = 100 * UPLOAD_BYTES_PER_SECOND_MIN;
        assert_eq!(patience(timeout, bytes, 100 * second), Some(timeout));
        assert_eq!(patience(timeout, bytes, 110 * second), Some(20 * second));
        assert_eq!(patience(timeout, bytes, 130 * second), None);
        assert_eq!(patience(timeout, u64::MAX, second), Some(timeout));
    }
}
