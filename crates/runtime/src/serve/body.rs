//! The body of a guest's response.
//!
//! Reading the body runs the guest, because the body contains the future of the remaining work of the request. So a
//! request is served by the single task that owns its connection, and no other thread is woken for a frame. Dropping a
//! body that has not ended also drops that future and the wasmtime store, so a client that disconnects cancels its
//! guest.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::Either;
use http_body::{Body, Frame, SizeHint};
use isomer_display::excerpt;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use crate::guest::signals::{ResponseSignals, has_no_content};
use crate::lanes::MeteredFuture;
use crate::pool::{HostMemory, OutOfMemory};

/// The future that does the rest of a request's work after the head of the response exists.
pub(crate) type Run = MeteredFuture<()>;

/// The remaining work of a request. The variant states which task polls it.
pub(crate) enum RemainingWork {
    /// The future that does the remaining work. It is polled whenever the body is polled.
    Reader(Run),
    /// The task of the instance polls the remaining work.
    Elsewhere,
    /// The remaining work has ended.
    Over,
}

/// The body of a response, which returns the frames of the guest's body. If the guest fails before the end of the body,
/// the body ends with an error.
pub struct ResponseBody {
    inner: WasiBody,
    rest: RemainingWork,
    signals: Arc<ResponseSignals>,
    /// Notifies the guest's execution that the last frame has been read.
    ended: Option<oneshot::Sender<()>>,
    /// The number of announced bytes that have not been returned yet; `None` if the response announced no length. When
    /// the number reaches 0, the body must be complete, because the server possibly does not poll the body again.
    missing_bytes: Option<u64>,
    /// The length in bytes that the response announced; 0 if it announced none.
    announced_bytes: u64,
    /// The reason why the body ended early, as far as the body itself shows it. Used only if the guest's execution has
    /// not reported a failure.
    broken: Option<String>,
    /// Whether the server does not read the body, because the request is a `HEAD` request or the status allows no body.
    unread: bool,
    /// The charge for the host memory of the request and its response.
    _memory: Option<HostMemory>,
}

/// The maximum number of bytes of a response that are between the guest and its client while the client does not read:
/// one chunk that the guest has written, one in transit, and the server's buffers (`front/src/limits.rs`).
const RESPONSE_BUFFER_BYTES: usize = 160 << 10;

/// The maximum size in bytes of a body or head that the basic charge of each request covers.
const SMALL_RESPONSE_BYTES: usize = 2 << 10;

impl ResponseBody {
    /// Replaces the body of `response` with a [`ResponseBody`]. `unread` states whether the request is a `HEAD`
    /// request, whose response has no body.
    pub(crate) fn of(
        response: http::Response<WasiBody>,
        rest: RemainingWork,
        signals: Arc<ResponseSignals>,
        ended: oneshot::Sender<()>,
        unread: bool,
    ) -> http::Response<Self> {
        let length = response.headers().get(http::header::CONTENT_LENGTH);
        let missing_bytes = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let unread = unread || has_no_content(response.status());
        response.map(|inner| Self {
            inner,
            rest,
            signals,
            ended: Some(ended),
            missing_bytes,
            announced_bytes: missing_bytes.unwrap_or(0),
            broken: None,
            unread,
            _memory: None,
        })
    }

    /// Attaches `memory`, the charge for the request, to this value. If the response is not small, first increases the
    /// charge by the size of the response, whose head takes `head_bytes`.
    ///
    /// # Errors
    /// If the account has no memory left.
    pub(crate) fn charged(mut self, head_bytes: usize, mut memory: HostMemory) -> Result<Self, OutOfMemory> {
        let longest = usize::try_from(self.inner.size_hint().upper().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        // A small response is covered by the basic charge of each request.
        if longest > SMALL_RESPONSE_BYTES || head_bytes > SMALL_RESPONSE_BYTES {
            memory.grow(longest.min(RESPONSE_BUFFER_BYTES) + head_bytes)?;
        }
        self._memory = Some(memory);
        Ok(self)
    }

    /// Lets the remaining work continue after the guest's last frame was read. If it does not end at its first poll, it
    /// is moved to its own task.
    fn end(&mut self, cx: &mut Context<'_>) {
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(());
        }
        if let RemainingWork::Reader(mut run) = std::mem::replace(&mut self.rest, RemainingWork::Over)
            && Pin::new(&mut run).poll(cx).is_pending()
        {
            tokio::spawn(run);
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if self.signals.failed.get().is_some() && !matches!(frame, Some(Ok(_))) {
            self.rest = RemainingWork::Over;
            return Poll::Ready(Some(Err(HttpError::HttpResponseIncomplete)));
        }
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                match self.missing_bytes.map(|missing| missing.checked_sub(bytes)) {
                    None => {}
                    Some(Some(missing)) => self.missing_bytes = Some(missing),
                    Some(None) if self.unread => {}
                    // The body must not be longer than announced, because the client would mistake the additional bytes
                    // for the beginning of the next response.
                    Some(None) => {
                        return Poll::Ready(Some(Err(self.break_off(HttpError::HttpResponseBodySize(None)))));
                    }
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(self.break_off(error))),
            None => match self.missing_bytes {
                Some(missing) if missing > 0 && !self.unread => {
                    let sent = self.announced_bytes - missing;
                    Some(Err(self.break_off(HttpError::HttpResponseBodySize(Some(sent)))))
                }
                _ => {
                    self.end(cx);
                    None
                }
            },
        })
    }

    fn break_off(&mut self, error: HttpError) -> HttpError {
        self.broken = Some(self.describe(&error));
        error
    }

    /// Returns a description of an error of a guest's body, for the log.
    fn describe(&self, error: &HttpError) -> String {
        let announced = self.announced_bytes;
        match (error, self.missing_bytes) {
            (HttpError::HttpResponseBodySize(Some(sent)), _) if *sent < announced => {
                format!("its body has {sent} of the {announced} bytes of its content-length")
            }
            (HttpError::HttpResponseBodySize(_), _) => {
                format!("its body is longer than its content-length of {announced} bytes")
            }
            (HttpError::HttpProtocolError, Some(missing)) if missing > 0 => {
                let sent = announced - missing;
                format!("its body was not finished: it has {sent} of the {announced} bytes of its content-length")
            }
            (HttpError::HttpProtocolError, _) => "its body was not finished".to_owned(),
            (HttpError::HttpResponseIncomplete, _) => "its handler returned without finishing its body".to_owned(),
            (error, _) => excerpt::cut(format_args!("its body ended with an error ({error})"), excerpt::TEXT_BYTES_MAX),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = self.poll_inner(cx) {
            return Poll::Ready(frame);
        }
        if let RemainingWork::Reader(run) = &mut self.rest {
            let is_over = Pin::new(run).poll(cx).is_ready();
            if is_over {
                self.rest = RemainingWork::Over;
            }
            if let Poll::Ready(frame) = self.poll_inner(cx) {
                return Poll::Ready(frame);
            }
        }
        if matches!(self.rest, RemainingWork::Reader(_) | RemainingWork::Elsewhere) && !self.signals.poll_returned(cx) {
            return Poll::Pending;
        }
        // The guest's execution on another thread may have finished the body since the last poll.
        if let Poll::Ready(frame) = self.poll_inner(cx) {
            return Poll::Ready(frame);
        }
        // A handler of WASI 0.2 has returned without dropping the handle of the body, so nothing can finish the body
        // any more.
        Poll::Ready(Some(Err(self.break_off(HttpError::HttpResponseIncomplete))))
    }

    /// Returns whether the complete body has been returned. If so, a server that drops the body has sent everything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_end_stream() || self.missing_bytes == Some(0) || self.inner.size_hint().exact() == Some(0)
    }

    /// After an error, returns the reason why the body ended early, as text for logs, and whether the failure was
    /// already logged.
    #[must_use]
    pub fn broke_off(&self) -> (String, bool) {
        match (self.signals.failed.get(), &self.broken) {
            (Some(why), _) => (why.clone(), true),
            (None, Some(why)) => (why.clone(), false),
            (None, None) => ("its body was not finished".to_owned(), false),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        let frame = this.poll(cx);
        this.signals.unasked.store(frame.is_ready(), Ordering::Relaxed);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.ended.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ResponseBody {
    /// Lets the guest finish if the body was read to its last byte, or if the server does not read it. Otherwise,
    /// cancels the guest.
    fn drop(&mut self) {
        if !self.is_complete() && !self.unread {
            return;
        }
        let RemainingWork::Reader(run) = std::mem::replace(&mut self.rest, RemainingWork::Over) else { return };
        let (Some(ended), Ok(runtime)) = (self.ended.take(), tokio::runtime::Handle::try_current()) else { return };
        let (mut inner, signals) = (std::mem::take(&mut self.inner), self.signals.clone());
        runtime.spawn(async move {
            // Reads the rest of the body, even if only its end is left, because a guest that writes to a closed body
            // would treat that as an error.
            let read = pin!(async move {
                let mut next = |cx: &mut Context<'_>| match Pin::new(&mut inner).poll_frame(cx) {
                    Poll::Pending if signals.poll_returned(cx) => Poll::Ready(None),
                    frame => frame,
                };
                while let Some(Ok(_)) = std::future::poll_fn(&mut next).await {}
                let _ = ended.send(());
            });
            // If the body ends before the guest's execution, the execution continues, but at most until its deadline.
            if let Either::Right(((), run)) = futures::future::select(run, read).await {
                run.await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;
    use crate::guest::TimeLimit;
    use crate::pool::Account;

    fn signals() -> Arc<ResponseSignals> {
        let allowed = Duration::from_secs(30);
        ResponseSignals::new(
            TimeLimit { deadline: std::time::Instant::now() + allowed, allowed },
            Some(Duration::from_secs(3600)),
        )
    }

    type Pieces = Vec<Result<Frame<Bytes>, HttpError>>;

    /// Returns a body with one frame. The body announces `length` bytes, and ends only if `closed` is true.
    fn body(closed: bool, length: &'static str, rest: RemainingWork) -> (ResponseBody, oneshot::Receiver<()>) {
        let pieces: Pieces = vec![Ok(Frame::data(Bytes::from_static(b"hello")))];
        let pieces = futures::stream::iter(pieces);
        let inner = if closed {
            StreamBody::new(pieces).boxed_unsync()
        } else {
            StreamBody::new(futures::StreamExt::chain(pieces, futures::stream::pending())).boxed_unsync()
        };
        let response = http::Response::builder().header("content-length", length).body(inner).unwrap();
        let (ended, end) = oneshot::channel();
        (ResponseBody::of(response, rest, signals(), ended, false).into_body(), end)
    }

    #[test]
    fn a_body_whose_run_has_ended_is_incomplete() {
        let (mut body, _) = body(false, "9", RemainingWork::Over);
        assert!(body.frame().now_or_never().unwrap().unwrap().is_ok());
        assert!(
            body.frame().now_or_never().expect("the body has ended").expect("the body ends with an error").is_err()
        );
    }

    #[tokio::test]
    async fn a_reader_in_another_task_is_woken_when_the_handler_has_returned() {
        let (mut body, _end) = body(false, "9", RemainingWork::Elsewhere);
        assert!(body.frame().await.unwrap().is_ok());
        let signals = body.signals.clone();
        let reading = tokio::spawn(async move { body.frame().await });
        tokio::task::yield_now().await;
        signals.set_returned();
        let end = tokio::time::timeout(Duration::from_secs(60), reading).await.expect("the reader is woken");
        assert!(end.unwrap().expect("the body ends with an error").is_err());
    }

    #[test]
    fn a_body_that_is_finished_while_it_is_polled_is_complete() {
        let (mut body, _end) = body(true, "5", RemainingWork::Elsewhere);
        body.signals.set_returned();
        assert!(body.frame().now_or_never().unwrap().unwrap().is_ok());
        assert!(body.frame().now_or_never().expect("the body has ended").is_none());
    }

    #[test]
    fn a_body_is_as_long_as_was_announced_or_broken_off_with_a_reason() {
        for (length, why) in [
            ("9", "its body has 5 of the 9 bytes of its content-length"),
            ("3", "its body is longer than its content-length of 3 bytes"),
        ] {
            let (mut body, _) = body(true, length, RemainingWork::Over);
            let frames = std::iter::from_fn(|| body.frame().now_or_never().expect("the next frame is ready"));
            assert!(frames.take(2).any(|frame| frame.is_err()), "{length}");
            assert_eq!(body.broke_off(), (why.to_owned(), false));
        }
        let (mut body, _) = body(true, "5", RemainingWork::Over);
        assert!(body.frame().now_or_never().unwrap().unwrap().is_ok());
        assert!(body.frame().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_guest_whose_response_has_its_announced_length_is_not_cancelled() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (length, finishes) in [("5", true), ("9", false)] {
                let (finished, end_of_run) = oneshot::channel();
                let (go_on, finish) = oneshot::channel();
                let run = async move {
                    if finish.await.is_ok() {
                        let _ = finished.send(());
                    }
                };
                let (mut body, end) =
                    body(true, length, RemainingWork::Reader(MeteredFuture::new(&Account::unlimited(), Box::pin(run))));
                body.frame().await.unwrap().unwrap();
                drop(body);
                let _ = go_on.send(end.await);
                assert_eq!(end_of_run.await.is_ok(), finishes, "{length}");
            }
        });
    }
}
