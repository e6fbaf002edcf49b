//! The body of a response that holds something until the response was sent, for example a permit.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

/// A body, and what is dropped together with it.
pub(crate) struct HeldBody<B, H> {
    pub(crate) body: B,
    pub(crate) _held: H,
}

impl<B: Body + Unpin, H: Unpin> Body for HeldBody<B, H> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[test]
    fn a_body_holds_its_permit_until_it_is_dropped() {
        let permit = Arc::new(());
        let mut body = HeldBody { body: Full::new(&b"text"[..]), _held: permit.clone() };
        assert!(body.frame().now_or_never().unwrap().is_some_and(|frame| frame.is_ok()));
        assert_eq!(Arc::strong_count(&permit), 2);
        drop(body);
        assert_eq!(Arc::strong_count(&permit), 1);
    }
}
