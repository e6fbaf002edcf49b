//! The body of a handler's response, with bytes that the front door appends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::handler::{BodyFailure, HandlerBody};

/// A body that is followed by more bytes if it ends without an error. The bytes precede trailers.
pub(crate) struct AppendedBody<B> {
    body: B,
    appended: Option<Bytes>,
    /// The trailers, which are returned after the appended bytes.
    trailers: Option<Frame<Bytes>>,
    /// Whether the end of `body` was reached.
    ended: bool,
}

impl<B> AppendedBody<B> {
    /// Creates a body of `body` and then `appended`, if any.
    pub(crate) fn new(body: B, appended: Option<Bytes>) -> Self {
        Self { body, appended, trailers: None, ended: false }
    }
}

impl<B: HandlerBody> Body for AppendedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(this.trailers.take().map(Ok));
        }
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        match frame {
            Some(Ok(frame)) if frame.is_trailers() && this.appended.is_some() => {
                (this.ended, this.trailers) = (true, Some(frame));
                Poll::Ready(this.appended.take().map(Frame::data).map(Ok))
            }
            None => {
                this.ended = true;
                Poll::Ready(this.appended.take().map(Frame::data).map(Ok))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.appended.is_none() && self.trailers.is_none() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        if let Some(appended) = &self.appended {
            let bytes = appended.len() as u64;
            // The upper bound is set first, because it must never be below the lower one.
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(bytes));
            }
            hint.set_lower(hint.lower().saturating_add(bytes));
        }
        hint
    }
}

impl<B: HandlerBody> HandlerBody for AppendedBody<B> {
    fn is_complete(&self) -> bool {
        self.appended.is_none() && self.trailers.is_none() && self.body.is_complete()
    }

    fn failure(&self) -> BodyFailure {
        self.body.failure()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;

    use http::HeaderMap;
    use http_body_util::BodyExt as _;

    use super::*;

    /// A body of these frames.
    struct Frames(VecDeque<Result<Frame<Bytes>, io::Error>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    impl HandlerBody for Frames {
        fn is_complete(&self) -> bool {
            self.0.is_empty()
        }

        fn failure(&self) -> BodyFailure {
            BodyFailure { reason: String::new(), is_reported: false }
        }
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, io::Error> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    fn body(frames: impl IntoIterator<Item = Result<Frame<Bytes>, io::Error>>) -> AppendedBody<Frames> {
        AppendedBody::new(Frames(frames.into_iter().collect()), Some(Bytes::from_static(b"<s>")))
    }

    #[tokio::test]
    async fn the_bytes_follow_the_data_and_precede_trailers() {
        let collected = body([data("a"), data("b")]).collect().await.expect("no error");
        assert_eq!(collected.to_bytes(), "ab<s>");
        assert_eq!(body([]).collect().await.expect("no error").to_bytes(), "<s>");
        let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
        let mut body = body([data("a"), Ok(Frame::trailers(trailers.clone()))]);
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.expect("no error"));
        }
        assert!(body.is_complete() && body.is_end_stream());
        let kinds: Vec<_> = frames.iter().map(Frame::is_trailers).collect();
        assert_eq!(kinds, [false, false, true]);
        assert_eq!(frames[1].data_ref().map(|data| &data[..]), Some(&b"<s>"[..]));
    }

    #[tokio::test]
    async fn nothing_is_appended_to_a_body_that_fails() {
        let mut body = body([data("a"), Err(io::Error::other("failed"))]);
        assert!(body.frame().await.expect("a frame").is_ok());
        assert!(body.frame().await.expect("a frame").is_err());
        assert!(!body.is_complete(), "the script was not sent");
    }

    #[test]
    fn the_length_includes_the_bytes() {
        struct Sized;
        impl Body for Sized {
            type Data = Bytes;
            type Error = io::Error;

            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
                Poll::Ready(None)
            }

            fn is_end_stream(&self) -> bool {
                true
            }

            fn size_hint(&self) -> SizeHint {
                SizeHint::with_exact(10)
            }
        }
        impl HandlerBody for Sized {
            fn is_complete(&self) -> bool {
                true
            }

            fn failure(&self) -> BodyFailure {
                BodyFailure { reason: String::new(), is_reported: false }
            }
        }
        let body = AppendedBody::new(Sized, Some(Bytes::from_static(b"<s>")));
        assert_eq!(body.size_hint().exact(), Some(13));
        assert!(!body.is_end_stream() && !body.is_complete());
        let plain = AppendedBody::new(Sized, None);
        assert!(plain.is_end_stream() && plain.is_complete());
    }
}
