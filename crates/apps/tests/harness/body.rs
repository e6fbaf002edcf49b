//! Bodies that the test sends: whole, or piece by piece.

use std::io;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::mpsc;

/// The body of a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is all there.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body whose pieces the test sends when it likes. It ends when the sender is dropped; an error breaks it off.
pub(crate) fn pieces() -> (mpsc::Sender<io::Result<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((piece.map(Frame::data), receiver))
    });
    (sender, BodyExt::boxed_unsync(StreamBody::new(stream)))
}

/// `count` times `piece`, made while it is sent.
pub(crate) fn repeated(piece: Bytes, count: usize) -> Body {
    let stream = futures::stream::iter((0..count).map(move |_| Ok(Frame::data(piece.clone()))));
    BodyExt::boxed_unsync(StreamBody::new(stream))
}
