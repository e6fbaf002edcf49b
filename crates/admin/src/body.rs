//! Reading a request's body within bounds of size and pace.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use http_body::Body as _;
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::Incoming;
use isomer_api::{Problem, ProblemKind};

use crate::admin::Body;

/// Why the body of an upload was cut off, if it was: whoever reads it only sees an error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overflow(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;

impl Overflow {
    /// What the client is told of it.
    pub(crate) fn problem(&self) -> Option<Problem> {
        match self.0.load(Ordering::Acquire) {
            TOO_LARGE => Some(too_large()),
            TOO_SLOW => Some(too_slow()),
            _ => None,
        }
    }
}

fn too_large() -> Problem {
    Problem::new(ProblemKind::TooLarge, "the body is larger than this operation takes")
}

fn too_slow() -> Problem {
    Problem::new(ProblemKind::BadRequest, "the body did not come in time")
}

/// The whole body.
///
/// # Errors
/// When it has more bytes than `bytes_max`, does not come within `pace` altogether, or breaks off.
pub(crate) async fn read(body: Incoming, bytes_max: u64, pace: Duration) -> Result<Vec<u8>, Problem> {
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

/// The body as it comes. It ends with an error after `bytes_max` bytes, or when there is none for as long as `pace`.
///
/// # Errors
/// When it is said to have more bytes.
pub(crate) fn stream(body: Incoming, bytes_max: u64, pace: Duration, overflow: Overflow) -> Result<Body, Problem> {
    check_announced(&body, bytes_max)?;
    let state = Some((body.into_data_stream(), bytes_max));
    let next = move |state: Option<(BodyDataStream<Incoming>, u64)>| {
        let overflow = overflow.clone();
        async move {
            let (mut data, left) = state?;
            let cut_off = |why: u8, text: &'static str| {
                overflow.0.store(why, Ordering::Release);
                Some((Err(io::Error::other(text)), None))
            };
            match tokio::time::timeout(pace, data.next()).await {
                Err(_) => cut_off(TOO_SLOW, "it did not come in time"),
                Ok(None) => None,
                Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), None)),
                Ok(Some(Ok(piece))) => match left.checked_sub(piece.len() as u64) {
                    None => cut_off(TOO_LARGE, "it is too large"),
                    Some(left) => Some((Ok(piece), Some((data, left)))),
                },
            }
        }
    };
    Ok(Box::pin(stream::unfold(state, next)) as std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>)
}

/// Refuses at once what is said to be too large.
fn check_announced(body: &Incoming, bytes_max: u64) -> Result<(), Problem> {
    if body.size_hint().lower() > bytes_max { Err(too_large()) } else { Ok(()) }
}

fn broken_off() -> Problem {
    Problem::new(ProblemKind::BadRequest, "the body broke off")
}
