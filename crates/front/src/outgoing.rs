//! A response's body on its way to the client, and what has to happen when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use isomer_observe::{AppLog, Log};
use isomer_runtime::{Failure, HttpError, ResponseBody};
use isomer_telemetry::{AccessRecord, Event, RequestId};
use isomer_transport::Permit;

use crate::compress::{Compressed, Compressor};
use crate::deadline;
use crate::events::EventClock;
use crate::incoming::Verdict;
use crate::site::Site;
use crate::traffic::InProgress;

/// How long a client may take to read an answer of the front door's own.
const OWN_ANSWER_MAX: Duration = Duration::from_secs(10);

/// The body of any answer. Noted as being sent until it is dropped.
pub(crate) struct OutgoingBody {
    inner: Inner,
    /// Dropped with the body: then the request is over.
    _admitted: Admitted,
    access: Option<Box<AccessLine>>,
    /// The client gets the head alone.
    unsent: bool,
    /// It would be compressed if it was sent, so its length is not known.
    of_unknown_length: bool,
    /// Why it breaks off, until what came before has been written.
    held: Option<HttpError>,
    /// Of a guest's body that has not come to an end.
    unfinished: Option<Unfinished>,
    /// Of a stream of server-sent events.
    events: Option<EventClock>,
}

/// Whose body it is, to say so if it is cut off.
pub(crate) struct Unfinished {
    pub(crate) id: RequestId,
    pub(crate) component: Arc<str>,
    pub(crate) deadline: Instant,
    /// How long that is from when the request came.
    pub(crate) allowed: Duration,
    /// What became of the request's body, which the response may be made of.
    pub(crate) verdict: Verdict,
    /// Whose log it is said in.
    pub(crate) site: Arc<Site>,
    /// If it has none of its own.
    pub(crate) log: Log,
}

/// What is done to a guest's body on its way.
pub(crate) enum Coded {
    /// Nothing.
    No,
    /// It is compressed.
    By(Box<Compressor>),
    /// It would be compressed, if the client got more than the head.
    Unsent,
}

enum Inner {
    Guest(ResponseBody),
    Compressed(Box<Compressed>),
    Own(Full<Bytes>),
}

impl Unfinished {
    /// Says in the app's log that the response was cut off.
    fn tell(&self, failure: &Failure) {
        self.site.events(&self.log).emit(Event::RequestFailed {
            component: &self.component,
            request: self.id,
            reason: failure,
            backtrace: failure.backtrace(),
            response_cut_off: true,
        });
    }
}

impl Inner {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match self {
            Self::Guest(body) => Pin::new(body).poll_frame(cx),
            Self::Compressed(body) => body.poll_frame(cx),
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn guest(&self) -> Option<&ResponseBody> {
        match self {
            Self::Guest(body) => Some(body),
            Self::Compressed(body) => Some(body.body()),
            Self::Own(_) => None,
        }
    }

    /// Was all of it handed out?
    fn is_complete(&self) -> bool {
        match self {
            Self::Guest(body) => body.is_complete(),
            Self::Compressed(body) => body.is_complete(),
            Self::Own(body) => body.is_end_stream(),
        }
    }
}

impl OutgoingBody {
    pub(crate) fn guest(
        body: ResponseBody,
        coded: Coded,
        events: Option<EventClock>,
        unfinished: Unfinished,
        admitted: Admitted,
        access: Option<Box<AccessLine>>,
    ) -> Self {
        deadline::begin(unfinished.deadline);
        let (inner, of_unknown_length) = match coded {
            Coded::No => (Inner::Guest(body), false),
            Coded::By(compressor) => (Inner::Compressed(Box::new(Compressed::new(body, compressor))), false),
            Coded::Unsent => (Inner::Guest(body), true),
        };
        let unfinished = Some(unfinished);
        Self { inner, _admitted: admitted, access, unsent: false, of_unknown_length, held: None, unfinished, events }
    }

    pub(crate) fn own(body: Bytes, admitted: Admitted, access: Option<Box<AccessLine>>) -> Self {
        deadline::begin(Instant::now() + OWN_ANSWER_MAX);
        let inner = Inner::Own(Full::new(body));
        let (held, unfinished, events) = (None, None, None);
        Self { inner, _admitted: admitted, access, unsent: false, of_unknown_length: false, held, unfinished, events }
    }

    /// Sends nothing of it. The guest still finishes what it does.
    pub(crate) fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }

    /// Notes for the access log that the client did not get all of it.
    fn cut_off(&mut self, why: impl Into<String>) {
        if let Some(line) = &mut self.access {
            line.record.cut_off = Some(why.into());
        }
    }

    /// The guest's body has ended in an error.
    fn broke_off(&mut self) {
        let Some(unfinished) = self.unfinished.take() else { return };
        if unfinished.verdict.is_clients_fault() {
            return self.cut_off("the request's body did not arrive as a whole");
        }
        let Some((reason, is_told)) = self.inner.guest().map(ResponseBody::broke_off) else { return };
        if !is_told {
            unfinished.tell(&Failure::Incomplete { reason: reason.clone() });
        }
        self.cut_off(reason);
    }

    /// A stream of events has reached a limit: it ends here, in order, and its guest with it.
    fn end_events(&mut self, failure: &Failure) {
        if let Some(unfinished) = self.unfinished.take() {
            unfinished.tell(failure);
        }
        self.cut_off(failure.to_string());
        self.events = None;
        self.inner = Inner::Own(Full::default());
    }

    /// The next frame, or the end of a stream of events that has reached a limit.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let polled = self.inner.poll_frame(cx);
        let Some(events) = &mut self.events else { return polled };
        let over = match polled {
            Poll::Ready(Some(Ok(_))) => events.sent(Instant::now().into()),
            Poll::Ready(_) => None,
            Poll::Pending => Some(std::task::ready!(events.poll(cx))),
        };
        match over {
            Some(failure) => {
                self.end_events(&failure);
                Poll::Ready(None)
            }
            None => polled,
        }
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        deadline::end();
        let Some(unfinished) = self.unfinished.take() else { return };
        if self.unsent || self.inner.is_complete() {
            return;
        }
        if Instant::now() < unfinished.deadline {
            return self.cut_off("its connection, or its stream, ended before all of it was sent");
        }
        // The guest still sent, or the client did not read: the run that would say so is dropped with this.
        let failure = Failure::Deadline { deadline: unfinished.allowed, backtrace: Vec::new() };
        unfinished.tell(&failure);
        self.cut_off(failure.to_string());
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        if this.unsent {
            return Poll::Ready(None);
        }
        if let Some(error) = this.held.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match std::task::ready!(this.poll_next(cx)) {
            // On an error hyper closes the connection with all that it has not written. One turn later it has written the
            // head and what the guest sent before it failed.
            Some(Err(error)) => {
                this.broke_off();
                this.held = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            frame => frame,
        };
        match &frame {
            None => this.unfinished = None,
            Some(frame) => {
                if let (Some(line), Ok(frame)) = (&mut this.access, frame) {
                    line.record.body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if self.unsent {
            return true;
        }
        match &self.inner {
            Inner::Guest(body) => body.is_end_stream(),
            Inner::Compressed(_) => false,
            Inner::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.unsent {
            return SizeHint::with_exact(0);
        }
        match &self.inner {
            Inner::Guest(body) if !self.of_unknown_length => body.size_hint(),
            Inner::Guest(_) | Inner::Compressed(_) => SizeHint::default(),
            Inner::Own(body) => body.size_hint(),
        }
    }
}

/// A line of the access log, written when it is dropped: with the response's body.
pub(crate) struct AccessLine {
    pub(crate) record: AccessRecord,
    pub(crate) start: Instant,
    pub(crate) log: Log,
    /// The app's own access log.
    pub(crate) app_log: Option<AppLog>,
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let record = &mut self.record;
        let record = AccessRecord {
            id: record.id,
            method: std::mem::take(&mut record.method),
            target: std::mem::take(&mut record.target),
            status: record.status,
            body_bytes: record.body_bytes,
            took: self.start.elapsed(),
            component: record.component.take(),
            host: record.host.take(),
            app: record.app.take(),
            client: record.client,
            cut_off: record.cut_off.take(),
        };
        self.log.access(record, self.app_log.as_ref());
    }
}

/// What a request holds until its response has been sent.
pub(crate) struct Admitted {
    /// One of the requests of the front door; none for a request that is refused because there are too many.
    pub(crate) _permit: Option<Permit>,
    /// Held for as long as its connection is in use.
    pub(crate) connection: InProgress,
    /// One of the requests of its tenant, once it is known whose it is.
    pub(crate) place: Option<Permit>,
}
