//! One call on the server: taking it, running it, answering.
//!
//! Reading and running end when the caller goes away (its stream is reset, or the connection ends): the callee's future is dropped.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request as HttpRequest, Response, StatusCode};
use isomer_wire::frame::Head as _;
use isomer_wire::{Answer, Call, CallError, CallFailure, Callee, FrameReader, Reply, Request};
use tokio::time::{Instant, timeout, timeout_at};

use crate::channel::next;
use crate::limits::ServerLimits;
use crate::payload::Payload;

/// What all connections of a server share.
pub(crate) struct Serving {
    callee: Arc<dyn Callee>,
    pub(crate) limits: ServerLimits,
    calls: Arc<Budget>,
    images: Arc<Budget>,
}

impl Serving {
    pub(crate) fn new(callee: Arc<dyn Callee>, limits: ServerLimits) -> Self {
        let calls = Arc::new(Budget::new(limits.calls_max));
        let images = Arc::new(Budget::new(limits.images_bytes_max));
        Self { callee, limits, calls, images }
    }
}

/// A call that was read, and everything that is given back with its answer.
pub(crate) struct Ready {
    call: Call,
    respond: SendResponse<Payload>,
    held: [Taken; 2],
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
    let Some(place) = Budget::take(&serving.calls, 1) else {
        let reason = format!("{} calls are in flight already", serving.limits.calls_max);
        send(&mut respond, Err(CallFailure::overloaded(reason)));
        return None;
    };
    match read(serving, &mut body).await {
        Ok((call, images)) => Some(Ready { call, respond, held: [place, images] }),
        Err(failure) => {
            if let Some(failure) = failure {
                send(&mut respond, Err(failure));
            }
            None
        }
    }
}

/// Runs a call and answers it.
pub(crate) async fn run(serving: Arc<Serving>, ready: Ready) {
    let Ready { call, mut respond, held } = ready;
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
        _ = reset => return,
    };
    // Whoever is answered finds the place free.
    drop(held);
    send(&mut respond, answer);
}

/// Reads a call. Without one there is a failure to answer with, or nobody to answer.
async fn read(serving: &Serving, body: &mut RecvStream) -> Result<(Call, Taken), Option<CallFailure>> {
    let limits = &serving.limits;
    let refused = |error| Some(CallFailure::refused(format!("the call is none: {error}")));
    let mut reader = FrameReader::<Request>::new(limits.image_bytes_max);
    let mut images = None;
    let mut begun = Instant::now();
    loop {
        let piece = match timeout(limits.body_timeout, next(body)).await {
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
            images = Some(Budget::take(&serving.images, head.body_bytes()).ok_or_else(|| {
                Some(CallFailure::overloaded(format!("images of {} bytes are held", limits.images_bytes_max)))
            })?);
        }
    }
    let (head, image) = reader.finish().map_err(refused)?;
    let images = images.expect("a frame that is complete has a head");
    // The time counts from the head: a large image takes its time from the call.
    Ok((head.into_call(image, begun.into_std()), images))
}

fn send(respond: &mut SendResponse<Payload>, answer: Answer) {
    let (reply, body) = Reply::of(answer);
    let payload = Payload::new(Reply::FIXED_BYTES, body, |frame| frame.extend_from_slice(&reply.encode()));
    // Both fail only when nobody is there any more.
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        let _ = stream.send_data(payload, true);
    }
}

/// A bounded amount of something.
struct Budget {
    taken: AtomicUsize,
    max: usize,
}

/// A part of it, given back when dropped.
struct Taken {
    budget: Arc<Budget>,
    amount: usize,
}

impl Budget {
    fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max }
    }

    fn take(budget: &Arc<Self>, amount: usize) -> Option<Taken> {
        let taken = Taken { budget: budget.clone(), amount };
        (budget.taken.fetch_add(amount, Ordering::Relaxed).saturating_add(amount) <= budget.max).then_some(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.amount, Ordering::Relaxed);
    }
}
