//! A connection below HTTP and TLS: time limits that hyper does not have, reading ahead, and closing without losing
//! data.
//!
//! [`Socket`] requires that the peer keeps reading: if no byte can be written for a while, the connection is closed.
//!
//! If a socket with unread bytes is closed, the kernel resets the connection, and the reset can overtake a response
//! that is still on its way. So every connection is closed in three steps. First, the front door stops writing. Then it
//! reads and drops bytes until the peer has closed its side or a limit is reached ([`LINGER_MAX`]). Finally, it closes
//! the socket.
//!
//! [`Opening`] detects the version of HTTP. hyper's timeout for a request's head starts only when the version is known.
//! So the caller of [`Opening::version`] must limit the time until the version is known. Otherwise a peer that sends
//! nothing, or only the first half of the HTTP/2 preface, could keep its connection forever. TLS is between the two
//! types: [`Socket`] handles the bytes on the network, and [`Opening`] the bytes of HTTP.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use isomer_transport::WriteTimeout;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::activity::Activity;

/// The maximum time that a peer may take to close its side of a connection that has ended. After this time, the socket
/// is closed.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(1);

/// The maximum number of bytes that are read and dropped within [`LINGER_MAX`]. After these bytes, the socket is
/// closed.
const LINGER_BYTES_MAX: usize = 16 << 20;

/// A connection that fails when its peer does not read.
pub(crate) struct Socket {
    stream: WriteTimeout<TcpStream>,
    /// Bytes that were read ahead. They are returned by the next reads.
    ahead: Bytes,
    lingering: Option<Lingering>,
}

/// The limits of the last phase of a connection, in which bytes are only read and dropped.
struct Lingering {
    until: Pin<Box<Sleep>>,
    left_bytes: usize,
}

/// A stream that detects the version of HTTP, and records in the connection's activity that bytes arrive.
pub(crate) struct Opening<S> {
    stream: S,
    activity: Arc<Activity>,
    /// Bytes that were read ahead. They are returned by the next reads.
    ahead: Bytes,
}

/// A version of HTTP, as detected from the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// The first bytes of every HTTP/2 connection (RFC 9113, section 3.4). No other connection starts with them.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Socket {
    pub(crate) fn new(stream: TcpStream, write_timeout: Duration) -> Self {
        let stream = WriteTimeout::new(stream, write_timeout);
        Self { stream, ahead: Bytes::new(), lingering: None }
    }

    /// Makes the next reads return `bytes`.
    pub(crate) fn unread(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.ahead.is_empty(), "bytes that were read ahead are read first");
        self.ahead = bytes.into();
    }

    /// Reads and drops bytes until the peer has closed its side or one of the limits is reached.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lingering = self.lingering.get_or_insert_with(|| Lingering {
            until: Box::pin(tokio::time::sleep(LINGER_MAX)),
            left_bytes: LINGER_BYTES_MAX,
        });
        let mut space = [MaybeUninit::<u8>::uninit(); 4 << 10];
        loop {
            let mut dropped = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut dropped) {
                Poll::Ready(Ok(())) if !dropped.filled().is_empty() => {
                    match lingering.left_bytes.checked_sub(dropped.filled().len()) {
                        Some(left_bytes) => lingering.left_bytes = left_bytes,
                        None => return Poll::Ready(()),
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return lingering.until.as_mut().poll(cx),
            }
        }
    }
}

/// Fills `buf` from the bytes that were read ahead. Returns `false` if there are none.
fn read_ahead(ahead: &mut Bytes, buf: &mut ReadBuf<'_>) -> bool {
    let length = ahead.len().min(buf.remaining());
    if length == 0 {
        return false;
    }
    buf.put_slice(&ahead[..length]);
    ahead.advance(length);
    true
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if read_ahead(&mut self.ahead, buf) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        self.poll_linger(cx).map(Ok)
    }
}

impl<S: AsyncRead + Unpin> Opening<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, ahead: Bytes::new() }
    }

    /// Detects the version of HTTP from the first bytes of the peer. Returns `None` if the peer closes its side before
    /// it sends a byte. Must be called once, before the first read. Not cancel safe: dropping the future loses the
    /// bytes that it has read.
    pub(crate) async fn version(&mut self) -> io::Result<Option<Version>> {
        let mut first = [0; PREFACE.len()];
        let mut length = 0;
        while length < first.len() && first[..length] == PREFACE[..length] {
            let count = self.stream.read(&mut first[length..]).await?;
            if count == 0 {
                break;
            }
            self.activity.note_read();
            length += count;
        }
        self.ahead = Bytes::copy_from_slice(&first[..length]);
        let version = if first == *PREFACE { Version::Http2 } else { Version::Http1 };
        Ok((length > 0).then_some(version))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if read_ahead(&mut self.ahead, buf) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.note_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
