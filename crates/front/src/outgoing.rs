//! A response's body on its way to the client, and what has to happen when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use isomer_observe::Log;
use isomer_observe::record::Access;
use isomer_runtime::output::OutputSink;
use isomer_runtime::{Failure, HttpError, RequestId, ResponseBody};

use crate::admission::Place;
use crate::deadline;
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
    /// Why it breaks off, until what came before has been written.
    held: Option<HttpError>,
    /// Of a guest's body that has not come to an end.
    unfinished: Option<Unfinished>,
}

/// Whose body it is, to say so if it is dropped at its deadline.
pub(crate) struct Unfinished {
    pub(crate) id: RequestId,
    pub(crate) component: Arc<str>,
    pub(crate) deadline: Instant,
    /// How long that is from when the request came.
    pub(crate) allowed: Duration,
    /// Whose log it is said in.
    pub(crate) site: Arc<Site>,
    /// If it has none of its own.
    pub(crate) log: Log,
}

enum Inner {
    Guest(ResponseBody),
    Own(Full<Bytes>),
}

impl OutgoingBody {
    pub(crate) fn guest(
        body: ResponseBody,
        unfinished: Unfinished,
        admitted: Admitted,
        access: Option<Box<AccessLine>>,
    ) -> Self {
        deadline::begin(unfinished.deadline);
        let unfinished = Some(unfinished);
        Self { inner: Inner::Guest(body), _admitted: admitted, access, unsent: false, held: None, unfinished }
    }

    pub(crate) fn own(body: Bytes, admitted: Admitted, access: Option<Box<AccessLine>>) -> Self {
        deadline::begin(Instant::now() + OWN_ANSWER_MAX);
        let inner = Inner::Own(Full::new(body));
        Self { inner, _admitted: admitted, access, unsent: false, held: None, unfinished: None }
    }

    /// Sends nothing of it. The guest still finishes what it does.
    pub(crate) fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        deadline::end();
        let Some(unfinished) = self.unfinished.take() else { return };
        // The guest still sent, or the client did not read: the run that would say so is dropped with this.
        if !self.unsent && Instant::now() >= unfinished.deadline && !self.is_end_stream() {
            let failure = Failure::Deadline { deadline: unfinished.allowed, backtrace: Vec::new() };
            let sink: &dyn OutputSink = match unfinished.site.log() {
                Some(log) => log,
                None => &unfinished.log,
            };
            sink.broken(&unfinished.component, unfinished.id, &failure);
        }
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
        let frame = match &mut this.inner {
            Inner::Guest(body) => match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                // On an error hyper closes the connection with all that it has not written. One turn later it has written the
                // head and what the guest sent before it failed.
                Some(Err(error)) => {
                    // Its own run has said why.
                    this.unfinished = None;
                    this.held = Some(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                frame => {
                    if frame.is_none() {
                        this.unfinished = None;
                    }
                    frame
                }
            },
            Inner::Own(body) => match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => Some(Ok(frame)),
                Some(Err(never)) => match never {},
                None => None,
            },
        };
        if let (Some(line), Some(Ok(frame))) = (&mut this.access, &frame) {
            line.record.body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if self.unsent {
            return true;
        }
        match &self.inner {
            Inner::Guest(body) => body.is_end_stream(),
            Inner::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.unsent {
            return SizeHint::with_exact(0);
        }
        match &self.inner {
            Inner::Guest(body) => body.size_hint(),
            Inner::Own(body) => body.size_hint(),
        }
    }
}

/// A line of the access log, written when it is dropped: with the response's body.
pub(crate) struct AccessLine {
    pub(crate) record: Access,
    pub(crate) start: Instant,
    pub(crate) log: Log,
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let record = &mut self.record;
        self.log.access(Access {
            id: record.id,
            method: std::mem::take(&mut record.method),
            target: std::mem::take(&mut record.target),
            status: record.status,
            body_bytes: record.body_bytes,
            took: self.start.elapsed(),
            component: record.component.take(),
            host: record.host.take(),
            owner: record.owner.take(),
        });
    }
}

/// One of the requests that the process has taken on. The place is free again when this is dropped.
pub(crate) struct Admitted {
    places: Arc<AtomicUsize>,
    /// Held for as long as its connection is in use.
    pub(crate) connection: InProgress,
    /// Its place among those of its tenant, once it is known whose it is.
    pub(crate) place: Option<Place>,
}

impl Admitted {
    /// Takes a place, if fewer than `max` are taken.
    pub(crate) fn enter(places: &Arc<AtomicUsize>, max: usize, connection: InProgress) -> Result<Self, Self> {
        let before = places.fetch_add(1, Ordering::AcqRel);
        let admitted = Self { places: places.clone(), connection, place: None };
        if before < max { Ok(admitted) } else { Err(admitted) }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.places.fetch_sub(1, Ordering::AcqRel);
    }
}
