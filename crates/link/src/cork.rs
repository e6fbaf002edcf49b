//! Buffers the writes of a connection, and writes the buffer at the end of each poll of the connection's task.
//!
//! h2 flushes after every piece of a body, which costs a system call for each call and each reply. A busy connection's
//! task handles many calls and replies in one poll. So this module buffers their writes, and [`CorkHandle::poll_drain`]
//! sends the buffer with one system call at the end of the poll. Large pieces are not copied: they are written
//! immediately, after the buffered bytes. The buffer has at most [`GATHERED_BYTES_MAX`] bytes.
//!
//! The number of bytes that are read in one poll is also limited, because h2 reads as long as bytes are available. If a
//! peer sent many large arguments or results, h2 would buffer megabytes of them before the first call or reply is
//! processed, and the processor's cache would no longer contain their bytes by then.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The maximum size of the write buffer in bytes. A write that does not fit is passed to the stream immediately, and
/// waits if the peer does not read.
const GATHERED_BYTES_MAX: usize = 64 << 10;

/// The maximum number of bytes that are read in one poll. After these bytes, the task yields to all other ready tasks.
const READ_BYTES_MAX: usize = 256 << 10;

/// The maximum number of slices in one write.
const SLICES_MAX: usize = 16;

/// A stream that buffers writes, for h2.
pub(crate) struct Cork<T>(Arc<Mutex<CorkedStream<T>>>);

/// A handle to the stream of a [`Cork`], for the task that runs the connection.
pub(crate) struct CorkHandle<T>(Arc<Mutex<CorkedStream<T>>>);

struct CorkedStream<T> {
    stream: T,
    gathered: BytesMut,
    /// The number of bytes that may still be read in this poll.
    readable_bytes: usize,
    /// Whether the stream may hold written bytes that are not flushed.
    is_dirty: bool,
    /// The TLS error that ended the connection. Kept here because h2 does not keep it.
    tls_error: Option<rustls::Error>,
}

/// Returns a stream that buffers writes, and the handle that writes the buffer.
pub(crate) fn cork<T>(stream: T) -> (Cork<T>, CorkHandle<T>) {
    let held = CorkedStream {
        stream,
        gathered: BytesMut::new(),
        readable_bytes: READ_BYTES_MAX,
        is_dirty: false,
        tls_error: None,
    };
    let held = Arc::new(Mutex::new(held));
    (Cork(held.clone()), CorkHandle(held))
}

fn lock<T>(held: &Mutex<CorkedStream<T>>) -> MutexGuard<'_, CorkedStream<T>> {
    held.lock().expect("nothing panics while it is held")
}

impl<T: AsyncWrite + Unpin> CorkHandle<T> {
    /// Writes the buffer to the stream. Called at the end of each poll.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = lock(&self.0);
        if held.readable_bytes == 0 {
            cx.waker().wake_by_ref();
        }
        held.readable_bytes = READ_BYTES_MAX;
        held.poll_drain(cx)
    }

    /// Returns the TLS error that ended the connection, if any.
    pub(crate) fn tls_error(&self) -> Option<rustls::Error> {
        lock(&self.0).tls_error.clone()
    }
}

impl<T: AsyncWrite + Unpin> CorkedStream<T> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        if self.is_dirty {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        self.is_dirty = true;
        if self.gathered.len() + bytes <= GATHERED_BYTES_MAX {
            slices.iter().for_each(|slice| self.gathered.extend_from_slice(slice));
            return Poll::Ready(Ok(bytes));
        }
        loop {
            let mut all = [IoSlice::new(&[]); SLICES_MAX];
            let parts = std::iter::once(&*self.gathered).chain(slices.iter().map(|slice| &**slice));
            let parts = parts.filter(|part| !part.is_empty());
            let count = all.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part)).count();
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &all[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_gathered = written.min(self.gathered.len());
            self.gathered.advance(of_gathered);
            if written > of_gathered {
                return Poll::Ready(Ok(written - of_gathered));
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Cork<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut held = lock(&self.0);
        if held.readable_bytes == 0 {
            // No waker is needed: [`CorkHandle::poll_drain`] wakes the task and allows it to read again.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut held.stream).poll_read(cx, buf));
        held.readable_bytes = held.readable_bytes.saturating_sub(buf.filled().len() - before);
        if let Err(error) = &read {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            held.tls_error = inner.cloned().or(held.tls_error.take());
        }
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cork<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: [`CorkHandle::poll_drain`] flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = lock(&self.0);
        ready!(held.poll_drain(cx))?;
        Pin::new(&mut held.stream).poll_shutdown(cx)
    }
}
