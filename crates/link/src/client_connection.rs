//! The client's side of one connection: the connection's task, and calls over the connection.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{Method, Request, StatusCode};
use isomer_transport::Limiter;
use isomer_wire::frame::FrameHead as _;
use isomer_wire::{CallError, CallResult, FrameReader, ReplyHead};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::call_frame::CallFrame;
use crate::cork::{Cork, CorkHandle, cork};
use crate::keep_alive::KeepAlive;
use crate::limits::{PeerLimits, http2};
use crate::payload::Payload;
use crate::stream::LinkStream;
use crate::tls;

/// An open connection.
pub(crate) struct ClientConnection {
    sender: Mutex<SendRequest<Payload>>,
    /// The maximum number of calls in flight that the server accepts.
    pub(crate) calls_max: usize,
    /// Counts the bytes of results that are being read. Shared with the peer's other connections.
    result_bytes: Limiter,
    /// Notified by the first call that finds that the connection has ended. Each connection has its own `Notify`, so
    /// that a late notification does not reach the endpoint's next connection.
    pub(crate) ended: Notify,
}

/// A request that was passed to the connection.
struct SentRequest {
    response: ResponseFuture,
    /// Whether the connection accepted the whole body.
    is_whole: bool,
}

/// The reason why an attempt at a call has no result.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    pub(crate) error: CallError,
    pub(crate) reason: String,
    pub(crate) not_run: bool,
    /// Whether the connection accepts no further calls.
    pub(crate) is_connection_ended: bool,
}

impl ClientConnection {
    /// Starts HTTP/2 over `stream`, and spawns the connection's task in `tasks`. Returns when the server has responded
    /// to a ping, so that the server's limits are known. When the connection ends, the reason is sent to the returned
    /// receiver.
    pub(crate) async fn open(
        stream: LinkStream,
        limits: &PeerLimits,
        result_bytes: Limiter,
        tasks: &mut JoinSet<()>,
    ) -> Result<(Self, oneshot::Receiver<String>), String> {
        let is_clear_tcp = matches!(stream, LinkStream::Tcp(_));
        let (corked, handle) = cork(stream);
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(http2::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(http2::CONNECTION_WINDOW_BYTES)
            .max_frame_size(http2::FRAME_BYTES_MAX)
            .max_header_list_size(http2::HEADER_LIST_BYTES_MAX)
            // h2 must remember the streams of all cancelled calls, because their responses still arrive.
            .max_concurrent_reset_streams(http2::STREAMS_MAX as usize)
            .initial_max_send_streams(http2::STREAMS_MAX as usize);
        let (sender, mut connection) = builder.handshake(corked).await.map_err(|error| error.to_string())?;
        let ping_pong = connection.ping_pong().expect("`ping_pong` is called once");
        let (first, responded) = oneshot::channel();
        let keep_alive =
            KeepAlive::new(ping_pong, limits.keep_alive_interval, limits.keep_alive_timeout).ping_now(first);
        let (end, ended) = oneshot::channel();
        tasks.spawn(async move {
            // Sending fails if the receiver was dropped.
            let _ = end.send(run(connection, handle, keep_alive).await);
        });
        if responded.await.is_err() {
            let reason = ended.await.unwrap_or_default();
            return Err(match reason {
                reason if is_clear_tcp => {
                    format!("it does not speak HTTP/2 without TLS; does it require TLS? ({reason})")
                }
                reason => reason,
            });
        }
        let calls_max = sender.current_max_send_streams();
        Ok((Self { sender: Mutex::new(sender), calls_max, result_bytes, ended: Notify::new() }, ended))
    }

    /// Sends `frame` and waits for the reply's frame. A reply whose encoded result has more than `image_bytes_max`
    /// bytes is a failed attempt. Dropping the future cancels the call on the server.
    pub(crate) async fn call(&self, frame: &CallFrame, image_bytes_max: usize) -> Result<CallResult, FailedAttempt> {
        let SentRequest { response, is_whole } = self.send(Method::POST, Some(frame))?;
        let response = response.await.map_err(|error| {
            let failed = after_sending(&error);
            // The server never runs a call whose body is incomplete.
            FailedAttempt { not_run: failed.not_run || !is_whole, ..failed }
        })?;
        if response.status() != StatusCode::OK {
            return Err(rejected(format!("it responded with HTTP status {}", response.status().as_u16())));
        }
        let mut body = response.into_body();
        let mut reader = FrameReader::<ReplyHead>::new(image_bytes_max);
        let mut permit = None;
        while let Some(piece) = next(&mut body).await {
            let piece = piece.map_err(|error| after_sending(&error))?;
            reader.push(&piece).map_err(|error| rejected(format!("malformed reply frame: {error}")))?;
            if let (None, Some(head)) = (&permit, reader.head()) {
                let acquired = self.result_bytes.try_acquire_many(head.body_bytes()).ok_or_else(|| {
                    let reason = "too many bytes of results are being read".to_owned();
                    FailedAttempt { error: CallError::Overloaded, reason, not_run: false, is_connection_ended: false }
                })?;
                permit = Some(acquired);
            }
        }
        let result = reader.finish().and_then(|(reply, body)| reply.into_result(body));
        result.map_err(|error| rejected(format!("malformed reply frame: {error}")))
    }

    /// Sends `GET /` to check whether the server responds. Does not call the callee.
    pub(crate) async fn check_health(&self) -> Result<(), FailedAttempt> {
        let response = self.send(Method::GET, None)?.response.await.map_err(|error| after_sending(&error))?;
        match response.status() {
            StatusCode::OK => Ok(()),
            status => Err(rejected(format!("it responded with HTTP status {}", status.as_u16()))),
        }
    }

    fn send(&self, method: Method, frame: Option<&CallFrame>) -> Result<SentRequest, FailedAttempt> {
        let mut sender = self.lock();
        match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Err(before_sending(&error)),
            Poll::Pending => {
                let reason = "all streams of the connection are in use".to_owned();
                return Err(FailedAttempt {
                    error: CallError::Overloaded,
                    reason,
                    not_run: true,
                    is_connection_ended: false,
                });
            }
        }
        // Without a scheme and a host, the head of the request is as short as possible: h2 adds the scheme `http` and
        // no host, so the encoded head is three indices into HPACK's static table.
        let mut request = Request::new(());
        *request.method_mut() = method;
        let (response, mut body) =
            sender.send_request(request, frame.is_none()).map_err(|error| before_sending(&error))?;
        drop(sender);
        // `send_data` fails if the stream has ended. For example, an overloaded server may respond and reset the stream
        // before the whole call has arrived. The connection is still usable, and the response contains the reply or the
        // reason.
        let is_whole = frame.is_none_or(|frame| body.send_data(frame.payload(), true).is_ok());
        Ok(SentRequest { response, is_whole })
    }

    fn lock(&self) -> MutexGuard<'_, SendRequest<Payload>> {
        self.sender.lock().expect("nothing panics while it is held")
    }
}

/// Returns the next piece of a body. Releases the piece's bytes from the window immediately, because the size in the
/// frame's head already limits the body.
pub(crate) async fn next(body: &mut RecvStream) -> Option<Result<bytes::Bytes, h2::Error>> {
    if body.is_end_stream() {
        return None;
    }
    let piece = poll_fn(|cx| body.poll_data(cx)).await;
    if let Some(Ok(piece)) = &piece {
        // Releasing the capacity fails only if the stream has ended.
        let _ = body.flow_control().release_capacity(piece.len());
    }
    piece
}

/// Runs the connection until it ends. Returns the reason why it ended.
async fn run(
    mut connection: Connection<Cork<LinkStream>, Payload>,
    handle: CorkHandle<LinkStream>,
    mut keep_alive: KeepAlive,
) -> String {
    poll_fn(|cx| {
        if keep_alive.poll_dead(cx).is_ready() {
            return Poll::Ready("it no longer responds".to_owned());
        }
        if let Poll::Ready(ended) = std::pin::Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(match (handle.tls_error(), ended) {
                (Some(error), _) => tls::explain(&error),
                (None, Err(error)) => format!("the connection ended: {error}"),
                (None, Ok(())) => "it ended the connection".to_owned(),
            });
        }
        match handle.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(format!("the connection ended: {error}")),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Returns the failure of a call whose head was not sent.
fn before_sending(error: &h2::Error) -> FailedAttempt {
    let reason = format!("the connection is ending: {error}");
    FailedAttempt { error: CallError::Unreachable, reason, not_run: true, is_connection_ended: true }
}

/// Returns the failure of a call whose head was sent. The server did not process the call if it refused the stream, or
/// if its GOAWAY names an earlier stream as the last one.
fn after_sending(error: &h2::Error) -> FailedAttempt {
    let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let not_run = error.is_remote() && (error.is_go_away() || is_refused);
    let reason = format!("the connection was lost before the response arrived: {error}");
    FailedAttempt { error: CallError::Unreachable, reason, not_run, is_connection_ended: !error.is_reset() }
}

fn rejected(reason: String) -> FailedAttempt {
    FailedAttempt { error: CallError::Refused, reason, not_run: false, is_connection_ended: false }
}
