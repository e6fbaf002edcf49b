//! Reading the body of a request, with limits on its size and on the time that it takes.

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

/// The reason why the body of an upload was cut off, if it was. The reader of the body only sees an error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overflow(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;

impl Overflow {
    /// Returns the problem that the client gets.
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

/// Reads the whole body.
///
/// # Errors
/// When the body has more than `bytes_max` bytes, does not arrive completely within `pace`, or ends early.
pub(crate) async fn read(body: Incoming, bytes_max: u64, pace: Duration) -> Result<Vec<u8>, ApiProblem> {
    check_announced(&body, bytes_max)?;
    let reading = async {
        let mut data = body.into_data_stream();
        let mut bytes = Vec::new();
        while let Some(piece) = data.next().await {
            let piece = piece.map_err(|_| broken_off())?;
            if bytes.len() as u64 + piece.len() as u64 > bytes_max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    };
    tokio::time::timeout(pace, reading).await.unwrap_or_else(|_| Err(too_slow()))
}

/// The minimum rate of an upload after its first moments, in bytes per second. Slower uploads are cut off, because each
/// upload holds one of few permits.
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 8 << 10;

/// Returns how long to wait for the next bytes of an upload of which `bytes` have arrived, after `waited` in total. The
/// wait is at most `pace`, and the total at most the time that an upload of the minimum rate takes for as many bytes,
/// plus `pace`. Returns `None` when that time is over.
fn patience(pace: Duration, bytes: u64, waited: Duration) -> Option<Duration> {
    let earned = Duration::from_millis(bytes.saturating_mul(1000) / UPLOAD_BYTES_PER_SECOND_MIN);
    let left = pace.saturating_add(earned).checked_sub(waited).filter(|left| !left.is_zero())?;
    Some(left.min(pace))
}

/// Returns the body as a stream. The stream ends with an error after `bytes_max` bytes, when nothing arrives for
/// `pace`, or when bytes arrive more slowly than [`UPLOAD_BYTES_PER_SECOND_MIN`]. The time until the node polls for the
/// next bytes is not counted.
///
/// # Errors
/// When the announced size of the body is larger than `bytes_max`.
pub(crate) fn stream(
    body: Incoming,
    bytes_max: u64,
    pace: Duration,
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
            let Some(patience) = patience(pace, bytes_max - left, waited) else {
                return cut_off(TOO_SLOW, "it arrives too slowly");
            };
            let since = Instant::now();
            match tokio::time::timeout(patience, data.next()).await {
                Err(_) => cut_off(TOO_SLOW, "it did not arrive in time"),
                Ok(None) => None,
                Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), None)),
                Ok(Some(Ok(piece))) => match left.checked_sub(piece.len() as u64) {
                    None => cut_off(TOO_LARGE, "it is too large"),
                    Some(left) => Some((Ok(piece), Some((data, left, waited + since.elapsed())))),
                },
            }
        }
    };
    Ok(Box::pin(stream::unfold(state, next)) as std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>)
}

/// Refuses a body that is announced as too large.
fn check_announced(body: &Incoming, bytes_max: u64) -> Result<(), ApiProblem> {
    if body.size_hint().lower() > bytes_max { Err(too_large()) } else { Ok(()) }
}

fn broken_off() -> ApiProblem {
    ApiProblem::new(ProblemKind::BadRequest, "the body broke off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_has_to_keep_the_pace() {
        let (pace, second) = (Duration::from_secs(30), Duration::from_secs(1));
        assert_eq!(patience(pace, 0, Duration::ZERO), Some(pace));
        assert_eq!(patience(pace, 1, 29 * second), Some(second), "a byte now and then is not enough");
        assert_eq!(patience(pace, 10, 31 * second), None);
        let bytes = 100 * UPLOAD_BYTES_PER_SECOND_MIN;
        assert_eq!(patience(pace, bytes, 100 * second), Some(pace));
        assert_eq!(patience(pace, bytes, 110 * second), Some(20 * second));
        assert_eq!(patience(pace, bytes, 130 * second), None);
        assert_eq!(patience(pace, u64::MAX, second), Some(pace));
    }
}
