//! Request bodies that the test sends completely or in parts.

use std::io;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::mpsc;

/// The body of a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Creates a body that is available completely from the start.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Creates a body whose parts the test sends. The body ends when the sender is dropped. An error interrupts the body.
pub(crate) fn pieces() -> (mpsc::Sender<io::Result<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((piece.map(Frame::data), receiver))
    });
    (sender, BodyExt::boxed_unsync(StreamBody::new(stream)))
}

/// Creates a body that consists of `piece`, repeated `count` times. The body is generated while it is sent.
pub(crate) fn repeated(piece: Bytes, count: usize) -> Body {
    let stream = futures::stream::iter((0..count).map(move |_| Ok(Frame::data(piece.clone()))));
    BodyExt::boxed_unsync(StreamBody::new(stream))
}
