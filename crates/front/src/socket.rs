//! A connection below HTTP and TLS: the time limits that hyper does not have, bytes that were read ahead, and closing
//! without losing data.
//!
//! [`Socket`] requires that the peer keeps reading: when no byte can be written for a while, the connection is closed.
//!
//! Closing a socket with unread bytes makes the kernel reset the connection, and the reset can overtake a response that
//! is still on its way. So a connection is closed in three steps, whatever protocol it carries. First, writing ends.
//! Then bytes that still arrive are read and dropped until the peer has closed its side or a limit is reached
//! ([`LINGER_MAX`]). Only then the socket is closed.
//!
//! [`Opening`] requires that the peer starts to send: hyper's limit for a request's head starts when the version of
//! HTTP is known, so without [`Opening`] the server would wait forever for a peer that sends nothing, or only the first
//! half of the HTTP/2 preface. TLS lies between the two types: [`Socket`] handles bytes of the network, [`Opening`]
//! bytes of HTTP.

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

/// The maximum time that a peer may take to close its side of a connection that has ended. After it the connection is
/// closed.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(1);

/// The maximum number of bytes that are read and dropped in this time. After it the connection is closed.
const LINGER_BYTES_MAX: usize = 16 << 20;

/// A connection that fails when its peer does not read.
pub(crate) struct Socket {
    stream: WriteTimeout<TcpStream>,
    /// Bytes that were read ahead, to be read again.
    ahead: Bytes,
    lingering: Option<Lingering>,
}

/// The last phase of a connection: nothing more is written.
struct Lingering {
    until: Pin<Box<Sleep>>,
    left_bytes: usize,
}

/// A connection that fails when its peer does not start to send. Records in the connection's activity that bytes
/// arrive.
pub(crate) struct Opening<S> {
    stream: S,
    activity: Arc<Activity>,
    /// Bytes that were read ahead, to be read again.
    ahead: Bytes,
}

/// The versions of HTTP, which can be told apart by the first bytes.
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

    /// Puts `bytes` back, so that they are read next.
    pub(crate) fn unread(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.ahead.is_empty(), "bytes that were read ahead are read first");
        self.ahead = bytes.into();
    }

    /// Reads until the peer has closed its side or one of the limits is reached.
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

/// Reads from the bytes that were read ahead. Returns `false` if there are none.
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

    /// Returns the version of HTTP that the peer uses, judged by its first bytes; `None` if the peer closes its side
    /// before it sends a byte. Called once, before anything is read. Dropping the future loses the bytes that it has
    /// read.
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
