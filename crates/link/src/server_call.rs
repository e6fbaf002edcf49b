//! One call on the server: reading it, running it, responding.
//!
//! If the stream is reset or the connection ends, the call is not read any further, and the callee's future is dropped.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request as HttpRequest, Response, StatusCode};
use isomer_display::size;
use isomer_transport::{Limiter, Permit};
use isomer_wire::frame::FrameHead as _;
use isomer_wire::{Call, CallError, CallFailure, CallHead, CallResult, Callee, FrameReader, ReplyHead};
use tokio::time::{Instant, timeout_at};

use crate::client_connection::next;
use crate::limits::ServerLimits;
use crate::payload::Payload;
use crate::response_write::ResponseWrite;

/// The callee of a server, with the limits and limiters that all calls share.
pub(crate) struct CallServer {
    callee: Arc<dyn Callee>,
    pub(crate) limits: ServerLimits,
    calls: Limiter,
    argument_bytes: Limiter,
    result_bytes: Limiter,
}

impl CallServer {
    pub(crate) fn new(callee: Arc<dyn Callee>, limits: ServerLimits) -> Self {
        let calls = Limiter::new(limits.calls_max);
        let argument_bytes = Limiter::new(limits.images_bytes_max);
        let result_bytes = Limiter::new(limits.images_bytes_max);
        Self { callee, limits, calls, argument_bytes, result_bytes }
    }
}

/// A call that was read, with two permits: one for the call, held until the response is written, and one for the bytes
/// of the encoded arguments, held until the call has run.
pub(crate) struct ReadyCall {
    call: Call,
    respond: SendResponse<Payload>,
    call_permit: Permit,
    image_permit: Permit,
}

/// Reads the call of one stream. Returns `None` if there is no call to run: the stream is a health check, is not a
/// valid call, is refused because of a limit, or has ended. In all these cases except the last one, a response was
/// sent.
pub(crate) async fn read_stream(
    server: Arc<CallServer>,
    request: HttpRequest<RecvStream>,
    mut respond: SendResponse<Payload>,
) -> Option<ReadyCall> {
    let status = match (request.method(), request.uri().path()) {
        (&Method::POST, "/") => return read_call(&server, request.into_body(), respond).await,
        (&Method::GET, "/") => StatusCode::OK,
        (_, "/") => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    // Sending the response fails only if the stream is closed.
    let _ = respond.send_response(response, true);
    None
}

async fn read_call(server: &CallServer, mut body: RecvStream, mut respond: SendResponse<Payload>) -> Option<ReadyCall> {
    let Some(call_permit) = server.calls.try_acquire() else {
        let reason = format!("{} calls are already in flight", server.limits.calls_max);
        send(&mut respond, Err(CallFailure::overloaded(reason)));
        return None;
    };
    match read_frame(server, &mut body).await {
        Ok((call, image_permit)) => Some(ReadyCall { call, respond, call_permit, image_permit }),
        Err(failure) => {
            if let Some(failure) = failure {
                send(&mut respond, Err(failure));
            }
            None
        }
    }
}

/// Runs a call and starts the response, which may not be fully written on return. Returns `None` if the stream is
/// closed.
pub(crate) async fn run(server: Arc<CallServer>, ready: ReadyCall) -> Option<ResponseWrite> {
    let ReadyCall { call, mut respond, call_permit, image_permit } = ready;
    let deadline = Instant::from_std(call.context.deadline);
    // A panic is a bug of this process. As with a trap, only this call fails.
    let running = AssertUnwindSafe(async { server.callee.call(call).await }).catch_unwind();
    let reset = poll_fn(|cx| respond.poll_reset(cx));
    let result = tokio::select! {
        biased;
        result = timeout_at(deadline, running) => match result {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(CallFailure::trap("the platform panicked while it ran the call")),
            Err(_) => Err(CallFailure::deadline("the callee did not return before the deadline")),
        },
        _ = reset => return None,
    };
    drop(image_permit);
    let (mut reply, mut body) = ReplyHead::of(result);
    let response_permit = server.result_bytes.try_acquire_many(body.len());
    if response_permit.is_none() {
        let reason =
            format!("the results that are being written would exceed {}", size(server.limits.images_bytes_max));
        // A failure needs no permit for its bytes, because it has few bytes, and the maximum number of calls also
        // limits the number of failures.
        (reply, body) = ReplyHead::of(Err(CallFailure::Lost { error: CallError::Overloaded, reason, not_run: false }));
    }
    // Sending the head of the response fails only if the stream is closed.
    let stream = respond.send_response(Response::new(()), false).ok()?;
    ResponseWrite::begin(
        stream,
        payload(&reply, body),
        (call_permit, response_permit),
        deadline,
        server.limits.response_timeout,
    )
}

/// Reads a call. The error is the failure to respond with, or `None` if the stream has ended.
async fn read_frame(server: &CallServer, body: &mut RecvStream) -> Result<(Call, Permit), Option<CallFailure>> {
    let limits = &server.limits;
    let malformed = |error| Some(CallFailure::refused(format!("malformed request frame: {error}")));
    let mut reader = FrameReader::<CallHead>::new(limits.image_bytes_max);
    let mut image_permit = None;
    let mut start = Instant::now();
    let mut end = start + limits.reading_timeout;
    loop {
        // `end` also limits a call whose bytes arrive one by one, each within `body_timeout`.
        let piece = match timeout_at(end.min(Instant::now() + limits.body_timeout), next(body)).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(_))) => return Err(None),
            Ok(None) => break,
            Err(_) => {
                let reason = "the rest of the call did not arrive in time".to_owned();
                return Err(Some(CallFailure::Lost { error: CallError::Deadline, reason, not_run: true }));
            }
        };
        let had_head = reader.head().is_some();
        reader.push(&piece).map_err(malformed)?;
        if let Some(head) = reader.head()
            && !had_head
        {
            start = Instant::now();
            end = end.min(start + head.remaining);
            image_permit = Some(server.argument_bytes.try_acquire_many(head.body_bytes()).ok_or_else(|| {
                Some(CallFailure::overloaded(format!(
                    "the arguments of the calls in flight would exceed {}",
                    size(limits.images_bytes_max)
                )))
            })?);
        }
    }
    let (head, image) = reader.finish().map_err(malformed)?;
    let image_permit = image_permit.expect("a frame that is complete has a head");
    // The remaining time of a call is measured from the arrival of its head, so it includes the time to read large
    // arguments.
    Ok((head.into_call(image, start.into_std()), image_permit))
}

/// Sends the failure of a call that was not run. The response holds no permits.
fn send(respond: &mut SendResponse<Payload>, result: CallResult) {
    let (reply, body) = ReplyHead::of(result);
    // Both operations fail only if the stream is closed.
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        let _ = stream.send_data(payload(&reply, body), true);
    }
}

fn payload(reply: &ReplyHead, body: Vec<u8>) -> Payload {
    Payload::new(ReplyHead::FIXED_BYTES, body.into(), |frame| frame.extend_from_slice(&reply.encode()))
}
