//! The reasons why a response's body ends with an error. Hyper logs the error and ends the connection or the stream.

use std::error::Error;
use std::io;

/// The reason why a response's body ends with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponseError<E: Error + 'static> {
    /// The handler failed while it produced the response body.
    #[error(transparent)]
    Handler(E),
    /// The compressor failed.
    #[error("the response cannot be compressed")]
    Compression(#[source] io::Error),
}
