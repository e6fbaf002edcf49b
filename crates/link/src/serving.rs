//! One call on the server: taking it, running it, answering.
//!
//! Reading and running end when the caller goes away (its stream is reset, or the connection ends): the callee's future is dropped.

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

use crate::channel::next;
use crate::limits::ServerLimits;
use crate::payload::Payload;
use crate::writing::Writing;

/// What all connections of a server share.
pub(crate) struct Serving {
    callee: Arc<dyn Callee>,
    pub(crate) limits: ServerLimits,
    calls: Limiter,
    images: Limiter,
    answers: Limiter,
}

impl Serving {
    pub(crate) fn new(callee: Arc<dyn Callee>, limits: ServerLimits) -> Self {
        let calls = Limiter::new(limits.calls_max);
        let images = Limiter::new(limits.images_bytes_max);
        let answers = Limiter::new(limits.images_bytes_max);
        Self { callee, limits, calls, images, answers }
    }
}

/// A call that was read, and what it holds: its place until its answer is written, its image's room until it has run.
pub(crate) struct Ready {
    call: Call,
    respond: SendResponse<Payload>,
    place: Permit,
    image: Permit,
}

/// Takes one stream as far as it goes without the callee: to a call, or to an answer that needs none.
pub(crate) async fn take(
    serving: Arc<Serving>,
    request: HttpRequest<RecvStream>,
    mut respond: SendResponse<Payload>,
) -> Option<Ready> {
    let status = match (request.method(), request.uri().path()) {
        (&Method::POST, "/") => return take_call(&serving, request.into_body(), respond).await,
        (&Method::GET, "/") => StatusCode::OK,
        (_, "/") => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    // Fails only when nobody is there any more.
    let _ = respond.send_response(response, true);
    None
}

async fn take_call(serving: &Serving, mut body: RecvStream, mut respond: SendResponse<Payload>) -> Option<Ready> {
    let Some(place) = serving.calls.try_acquire() else {
        let reason = format!("{} calls are in flight already", serving.limits.calls_max);
        send(&mut respond, Err(CallFailure::overloaded(reason)));
        return None;
    };
    match read(serving, &mut body).await {
        Ok((call, image)) => Some(Ready { call, respond, place, image }),
        Err(failure) => {
            if let Some(failure) = failure {
                send(&mut respond, Err(failure));
            }
            None
        }
    }
}

/// Runs a call and answers it. The answer may be on its way still.
pub(crate) async fn run(serving: Arc<Serving>, ready: Ready) -> Option<Writing> {
    let Ready { call, mut respond, place, image } = ready;
    let deadline = Instant::from_std(call.context.deadline);
    // What panics is this process's fault, and hurts one call as a trap does.
    let running = AssertUnwindSafe(async { serving.callee.call(call).await }).catch_unwind();
    let reset = poll_fn(|cx| respond.poll_reset(cx));
    let answer = tokio::select! {
        biased;
        answer = timeout_at(deadline, running) => match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CallFailure::trap("the callee's host panicked")),
            Err(_) => Err(CallFailure::deadline("the callee did not end before the deadline")),
        },
        _ = reset => return None,
    };
    drop(image);
    let (mut reply, mut body) = ReplyHead::of(answer);
    let room = serving.answers.try_acquire_many(body.len());
    if room.is_none() {
        let reason = format!("answers of {} are being written", size(serving.limits.images_bytes_max));
        // Its few bytes are bounded by the number of calls.
        (reply, body) = ReplyHead::of(Err(CallFailure::Lost { error: CallError::Overloaded, reason, not_run: false }));
    }
    // Fails only when nobody is there any more.
    let stream = respond.send_response(Response::new(()), false).ok()?;
    Writing::begin(stream, payload(&reply, body), (place, room), deadline, serving.limits.answer_timeout)
}

/// Reads a call. Without one there is a failure to answer with, or nobody to answer.
async fn read(serving: &Serving, body: &mut RecvStream) -> Result<(Call, Permit), Option<CallFailure>> {
    let limits = &serving.limits;
    let refused = |error| Some(CallFailure::refused(format!("the call is none: {error}")));
    let mut reader = FrameReader::<CallHead>::new(limits.image_bytes_max);
    let mut images = None;
    let mut begun = Instant::now();
    let mut end = begun + limits.reading_timeout;
    loop {
        // Bytes that come one by one hold a place no longer than a call may.
        let piece = match timeout_at(end.min(Instant::now() + limits.body_timeout), next(body)).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(_))) => return Err(None),
            Ok(None) => break,
            Err(_) => {
                let reason = "the rest of the call did not come".to_owned();
                return Err(Some(CallFailure::Lost { error: CallError::Deadline, reason, not_run: true }));
            }
        };
        let had_head = reader.head().is_some();
        reader.push(&piece).map_err(refused)?;
        if let Some(head) = reader.head()
            && !had_head
        {
            begun = Instant::now();
            end = end.min(begun + head.remaining);
            images = Some(serving.images.try_acquire_many(head.body_bytes()).ok_or_else(|| {
                Some(CallFailure::overloaded(format!("images of {} are held", size(limits.images_bytes_max))))
            })?);
        }
    }
    let (head, image) = reader.finish().map_err(refused)?;
    let images = images.expect("a frame that is complete has a head");
    // The time counts from the head: a large image takes its time from the call.
    Ok((head.into_call(image, begun.into_std()), images))
}

/// Answers a call that has no place any more.
fn send(respond: &mut SendResponse<Payload>, answer: CallResult) {
    let (reply, body) = ReplyHead::of(answer);
    // Both fail only when nobody is there any more.
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        let _ = stream.send_data(payload(&reply, body), true);
    }
}

fn payload(reply: &ReplyHead, body: Vec<u8>) -> Payload {
    Payload::new(ReplyHead::FIXED_BYTES, body.into(), |frame| frame.extend_from_slice(&reply.encode()))
}
