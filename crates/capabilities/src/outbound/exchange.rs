//! One request and its response over one connection, HTTP/1.1 or HTTP/2. Both bodies are streamed.
//!
//! After the request and the response have ended, the connection is [kept](super::idle_connections) for the next
//! exchange. Two exchanges never use a connection at the same time, even over HTTP/2, because concurrent streams share
//! a flow-control window: a guest that does not read its response would block the response of another guest.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::FutureExt as _;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::Error;

use super::http_connection::HttpConnection;
use super::idle_connections::IdleConnections;
use super::sending::{self, BodyEnd, OutboundRequest};
use super::{Destination, Outgoing};
use crate::pool::locked;

pub(super) struct Timeouts {
    pub(super) first_byte: Duration,
    pub(super) between_bytes: Duration,
}

/// The reason why an exchange failed.
pub(super) enum Failed {
    /// The request failed and must not be sent again.
    Finally(Error),
    /// The server had closed the idle connection before it processed the request, so the request can be sent again.
    Unsent(Box<OutboundRequest>),
}

/// One HTTP exchange: its destination, its timeouts, and the idle connections. They do not depend on whether the
/// exchange uses a new or a reused connection.
pub(super) struct Exchange {
    pub(super) to: Destination,
    pub(super) timeouts: Timeouts,
    pub(super) idle: Arc<IdleConnections>,
}

impl Exchange {
    /// Sends `request`. Returns the response when its head has been received. `is_reused` indicates whether an earlier
    /// exchange has used the connection.
    pub(super) async fn run(
        &self,
        mut connection: HttpConnection,
        request: OutboundRequest,
        is_reused: bool,
    ) -> Result<Outgoing, Failed> {
        let uri = request.uri().clone();
        let request_end = request.body().end();
        let request = connection.with_address_form(request).map_err(Failed::Finally)?;
        let repeated = (is_reused && sending::is_repeatable(&request)).then(|| {
            let (mut parts, ()) = http::Request::new(()).into_parts();
            parts.method = request.method().clone();
            parts.uri = uri.clone();
            parts.headers = request.headers().clone();
            parts
        });
        let closing = Closing { task: connection.task.clone(), is_kept: Arc::default() };
        let sent = connection.send(request);
        let response = match tokio::time::timeout(self.timeouts.first_byte, sent).await {
            Err(_) => return Err(Failed::Finally(Error::ConnectionReadTimeout)),
            Ok(Ok(response)) => response,
            Ok(Err(mut error)) => {
                return Err(match (error.take_message(), repeated) {
                    (Some(mut unsent), _) if is_reused => {
                        *unsent.uri_mut() = uri;
                        Failed::Unsent(Box::new(unsent))
                    }
                    (None, Some(parts)) if is_gone(error.error()) => Failed::Unsent(Box::new(sending::repeated(parts))),
                    _ => Failed::Finally(Error::from(error.into_error())),
                });
            }
        };
        let (done, is_done) = oneshot::channel();
        let (ended, failure) = (connection.ended.clone(), connection.failure.clone());
        let end = End {
            is_kept: closing.is_kept.clone(),
            idle: self.idle.clone(),
            to: self.to.clone(),
            runtime: tokio::runtime::Handle::current(),
            connection,
            request_end,
            done,
        };
        let between = self.timeouts.between_bytes;
        let response = response.map(|incoming| ResponseBody::new(incoming, between, end).boxed_unsync());
        let io = async move {
            let _closing = closing;
            tokio::select! {
                biased;
                Ok(()) = is_done => Ok(()),
                () = ended => locked(&failure).take().map_or(Ok(()), |error| Err(Error::from(error))),
            }
        };
        Ok((response, io.boxed()))
    }
}

/// Returns whether the error means that the connection was closed, and not that the response is invalid.
fn is_gone(error: &hyper::Error) -> bool {
    let by_network = || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    error.is_canceled() || error.is_closed() || error.is_incomplete_message() || by_network()
}

/// Closes the connection when the exchange is dropped, unless the connection was kept.
struct Closing {
    task: AbortHandle,
    is_kept: Arc<AtomicBool>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Acquire) {
            self.task.abort();
        }
    }
}

/// The connection of an exchange, with the values that are needed to add it to the idle connections when the response
/// has been read completely.
struct End {
    connection: HttpConnection,
    to: Destination,
    /// Shows whether the body of the request has ended.
    request_end: BodyEnd,
    idle: Arc<IdleConnections>,
    is_kept: Arc<AtomicBool>,
    done: oneshot::Sender<()>,
    runtime: tokio::runtime::Handle,
}

impl End {
    /// Called at the end of the response. Adds the connection to the idle connections if it is still open, if the
    /// request was also sent completely, and if the caller has not dropped the future of the exchange.
    fn reached(self) {
        if self.request_end.is_reached() && !self.done.is_closed() && !self.connection.is_closed() {
            self.is_kept.store(true, Ordering::Release);
            self.connection.release_permit();
            self.idle.put(&self.runtime, self.to, self.connection);
            let _ = self.done.send(());
        }
    }
}

/// The body of a response. Returns an error if the next frame takes too long.
struct ResponseBody {
    incoming: Incoming,
    between_bytes: Duration,
    limit: Pin<Box<Sleep>>,
    waiting: bool,
    end: Option<End>,
}

impl ResponseBody {
    fn new(incoming: Incoming, between_bytes: Duration, end: End) -> Self {
        let limit = Box::pin(tokio::time::sleep(between_bytes));
        let mut body = Self { incoming, between_bytes, limit, waiting: false, end: Some(end) };
        body.check_end();
        body
    }

    fn check_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(end) = self.end.take()
        {
            end.reached();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.waiting = false;
            match &frame {
                Some(Ok(_)) => self.check_end(),
                Some(Err(_)) => drop(self.end.take()),
                None => {
                    if let Some(end) = self.end.take() {
                        end.reached();
                    }
                }
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        // Restart the timeout when the guest begins to wait for a frame, so that the time in which the guest was not
        // reading does not count.
        if !self.waiting {
            self.waiting = true;
            let until = Instant::now() + self.between_bytes;
            self.limit.as_mut().reset(until);
        }
        self.limit.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
