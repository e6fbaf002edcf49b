//! The body of a response on its way to the client, and what happens when it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use isomer_observe::Log;
use isomer_telemetry::{Event, RequestId, TraceContext};
use isomer_transport::Permit;

use crate::activity::ActiveRequest;
use crate::appended_body::AppendedBody;
use crate::compressor::{CompressedBody, Compressor};
use crate::event_stream::EventClock;
use crate::handler::{BodyFailure, Handler, HandlerBody};
use crate::interruption::Interruption;
use crate::request_body::BodyOutcome;
use crate::request_record::RequestRecord;
use crate::response_deadline;
use crate::response_error::ResponseError;
use crate::site::SiteInUse;

/// The maximum time that a client may take to read a response that the front door generated.
const OWN_RESPONSE_MAX: Duration = Duration::from_secs(10);

/// The permits that a request holds until its response has been sent.
pub(crate) struct RequestPermits {
    /// The permit of the front door, or `None` for a request that is refused because no permit is left.
    pub(crate) front: Option<Permit>,
    /// The permit of the tenant, or `None` if the tenant is unknown or its requests are not counted.
    pub(crate) tenant: Option<Permit>,
    /// A guard that prevents the connection from being closed as idle.
    pub(crate) connection: ActiveRequest,
}

/// The body of any response. The request is in progress until the body is dropped.
pub(crate) struct ResponseBody<H: Handler> {
    source: Source<H>,
    _permits: RequestPermits,
    record: RequestRecord,
    /// Whether the client gets only the head of the response.
    unsent: bool,
    /// Whether the length of the body is unknown. This is the case in the response to a HEAD request if the same GET
    /// request would get a compressed response: the length of that response is known only after it has been compressed.
    of_unknown_length: bool,
    /// The error that ends the body. It is held until the data before it has been written.
    held_error: Option<Error<H>>,
    /// Reports that the body was cut off. `None` for a response of the front door, and after the body has ended.
    reporter: Option<CutOffReporter<H>>,
    /// The time limits, if the response is a stream of server-sent events.
    events: Option<EventClock>,
    /// The memory that is charged for a response of the front door.
    _memory: Option<Box<dyn ChargedMemory>>,
}

/// A charge of memory, of any type. Dropping it releases the memory.
pub(crate) trait ChargedMemory: Send {}

impl<T: Send> ChargedMemory for T {}

type Error<H> = ResponseError<<<H as Handler>::Body as Body>::Error>;

/// Reports in the app's log that a response was cut off.
pub(crate) struct CutOffReporter<H: Handler> {
    pub(crate) id: RequestId,
    /// The span of the request.
    pub(crate) trace: Option<TraceContext>,
    pub(crate) component: Arc<str>,
    pub(crate) deadline: Instant,
    /// The time from the request's arrival to `deadline`, for messages.
    pub(crate) allowed: Duration,
    /// The outcome of reading the request's body. If reading failed because of the client, the app's log does not
    /// report that the guest's response failed.
    pub(crate) request_body: BodyOutcome,
    /// The site that served the request, which has the app's log.
    pub(crate) site: SiteInUse<H>,
    /// The node's log, used if the app has no log of its own.
    pub(crate) log: Log,
}

/// The encoding of a handler's body for the client.
pub(crate) enum BodyCoding<H: Handler> {
    /// The body is sent as the handler returns it.
    Identity,
    /// The body is compressed.
    Compressed(Box<Compressor<H>>),
    /// The body would be compressed, but the client gets only the head.
    CompressedUnsent,
}

enum Source<H: Handler> {
    Handler(AppendedBody<H::Body>),
    Compressed(Box<CompressedBody<H>>),
    Front(Full<Bytes>),
}

impl<H: Handler> CutOffReporter<H> {
    fn report(&self, interruption: &Interruption) {
        self.site.events(&self.log).emit(Event::RequestFailed {
            component: &self.component,
            request: self.id,
            trace: self.trace,
            reason: interruption,
            backtrace: &[],
            response_cut_off: true,
        });
    }
}

impl<H: Handler> Source<H> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error<H>>>> {
        match self {
            Self::Handler(body) => Pin::new(body).poll_frame(cx).map_err(ResponseError::Handler),
            Self::Compressed(body) => body.poll_frame(cx),
            Self::Front(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn handler_body(&self) -> Option<&AppendedBody<H::Body>> {
        match self {
            Self::Handler(body) => Some(body),
            Self::Compressed(body) => Some(body.body()),
            Self::Front(_) => None,
        }
    }

    /// Returns whether the whole body was read.
    fn is_complete(&self) -> bool {
        match self {
            Self::Handler(body) => body.is_complete(),
            Self::Compressed(body) => body.is_complete(),
            Self::Front(body) => body.is_end_stream(),
        }
    }
}

impl<H: Handler> ResponseBody<H> {
    /// Creates the body of a handler's response, with the bytes that the front door appends.
    pub(crate) fn of_handler(
        body: AppendedBody<H::Body>,
        coding: BodyCoding<H>,
        events: Option<EventClock>,
        reporter: CutOffReporter<H>,
        permits: RequestPermits,
        record: RequestRecord,
    ) -> Self {
        response_deadline::begin(reporter.deadline);
        let (source, of_unknown_length) = match coding {
            BodyCoding::Identity => (Source::Handler(body), false),
            BodyCoding::Compressed(compressor) => {
                (Source::Compressed(Box::new(CompressedBody::new(body, compressor))), false)
            }
            BodyCoding::CompressedUnsent => (Source::Handler(body), true),
        };
        Self {
            source,
            _permits: permits,
            record,
            unsent: false,
            of_unknown_length,
            held_error: None,
            reporter: Some(reporter),
            events,
            _memory: None,
        }
    }

    /// Creates the body of a response that the front door generated. `memory` is what is charged for the body.
    pub(crate) fn of_front(
        body: Bytes,
        memory: Option<Box<dyn ChargedMemory>>,
        permits: RequestPermits,
        record: RequestRecord,
    ) -> Self {
        response_deadline::begin(Instant::now() + OWN_RESPONSE_MAX);
        Self {
            source: Source::Front(Full::new(body)),
            _permits: permits,
            record,
            unsent: false,
            of_unknown_length: false,
            held_error: None,
            reporter: None,
            events: None,
            _memory: memory,
        }
    }

    /// If the response is a stream of events, ends it when the future that `handed_over` returns resolves.
    pub(crate) fn end_events_when<F>(&mut self, handed_over: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(events) = &mut self.events {
            events.end_when(handed_over());
        }
    }

    /// Discards the body, so that the client gets only the head. The guest still runs to its end.
    pub(crate) fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }

    /// Records that the client did not get the whole response.
    fn note_cut_off(&mut self, why: impl Into<String>) {
        self.record.set_cut_off(why.into());
    }

    /// Reports that the handler's body ended with an error.
    fn report_failed_body(&mut self) {
        let Some(reporter) = self.reporter.take() else { return };
        if reporter.request_body.is_clients_fault() {
            return self.note_cut_off("the request's body arrived only in part");
        }
        let Some(BodyFailure { reason, is_reported }) = self.source.handler_body().map(HandlerBody::failure) else {
            return;
        };
        if !is_reported {
            reporter.report(&Interruption::Incomplete { reason: reason.clone() });
        }
        self.note_cut_off(reason);
    }

    /// Ends a stream of events that has reached a limit, and cancels the guest.
    fn end_events(&mut self, interruption: &Interruption) {
        if let Some(reporter) = self.reporter.take() {
            reporter.report(interruption);
        }
        self.note_cut_off(interruption.to_string());
        self.events = None;
        self.source = Source::Front(Full::default());
    }

    /// Polls for the next frame. If a stream of events has reached a limit, or if another front door takes over its
    /// client, ends the stream.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error<H>>>> {
        if self.events.as_mut().is_some_and(|events| events.is_handed_over(cx)) {
            // Nothing has failed, so nothing is reported.
            (self.reporter, self.events) = (None, None);
            self.source = Source::Front(Full::default());
            return Poll::Ready(None);
        }
        let polled = self.source.poll_frame(cx);
        let Some(events) = &mut self.events else { return polled };
        let interruption = match polled {
            Poll::Ready(Some(Ok(_))) => events.sent(Instant::now().into()),
            Poll::Ready(_) => None,
            Poll::Pending => Some(std::task::ready!(events.poll(cx))),
        };
        match interruption {
            Some(interruption) => {
                self.end_events(&interruption);
                Poll::Ready(None)
            }
            None => polled,
        }
    }
}

impl<H: Handler> Drop for ResponseBody<H> {
    fn drop(&mut self) {
        response_deadline::end();
        let Some(reporter) = self.reporter.take() else { return };
        if self.unsent || self.source.is_complete() {
            return;
        }
        if Instant::now() < reporter.deadline {
            return self.note_cut_off("the connection or the stream ended before the whole response was sent");
        }
        // The guest was still sending, or the client did not read. The missed deadline is reported here, because the
        // guest's run, which usually reports it, is dropped with this body.
        let interruption = Interruption::Deadline { allowed: reporter.allowed };
        reporter.report(&interruption);
        self.note_cut_off(interruption.to_string());
    }
}

impl<H: Handler> Body for ResponseBody<H> {
    type Data = Bytes;
    type Error = Error<H>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error<H>>>> {
        let this = self.get_mut();
        if this.unsent {
            return Poll::Ready(None);
        }
        if let Some(error) = this.held_error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match std::task::ready!(this.poll_next(cx)) {
            // When a body fails, hyper closes the connection and drops all data that it has not written. So the error
            // is returned at the next poll, when hyper has written the head and the data before the error.
            Some(Err(error)) => {
                this.report_failed_body();
                this.held_error = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            frame => frame,
        };
        match &frame {
            None => this.reporter = None,
            Some(frame) => {
                if let Ok(frame) = frame {
                    this.record.add_body_bytes(frame.data_ref().map_or(0, Bytes::len));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if self.unsent {
            return true;
        }
        match &self.source {
            Source::Handler(body) => body.is_end_stream(),
            Source::Compressed(_) => false,
            Source::Front(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.unsent {
            return SizeHint::with_exact(0);
        }
        match &self.source {
            Source::Handler(body) if !self.of_unknown_length => body.size_hint(),
            Source::Handler(_) | Source::Compressed(_) => SizeHint::default(),
            Source::Front(body) => body.size_hint(),
        }
    }
}
