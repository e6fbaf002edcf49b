//! Compressing a response while it is sent.
//!
//! Guest output is not delayed: whenever the guest pauses, the compressor is flushed. The memory and processor time of
//! a compressor are charged to the account of the app. If too many compressors are in use, or if the account has no
//! memory left, the response is sent uncompressed.
//!
//! Compression runs on the executor's threads, in short steps, so that many responses of one tenant do not delay the
//! requests of other tenants.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::{Body, Frame};
use isomer_transport::{FairLimiter, FairPermit};
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::appended_body::AppendedBody;
use crate::handler::Handler;
use crate::negotiation::Coding;
use crate::response_error::ResponseError;

/// The maximum number of responses that are compressed at the same time, of all apps together. A tenant gets another
/// compressor only while it uses fewer compressors than are free. Otherwise, its response is sent uncompressed.
const COMPRESSORS_MAX: usize = 256;

/// The number of compressed bytes that are collected before they are sent as one frame. If the guest pauses or its
/// response ends, fewer bytes are sent.
const PIECE_BYTES: usize = 16 << 10;

/// The number of bytes that are compressed in one step, which takes about half a millisecond. Between two steps, the
/// thread runs other tasks.
const STEP_BYTES: usize = 32 << 10;

/// The compression levels of gzip and zstd. Higher levels take several times as long to save a few percent of the size.
const GZIP_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 3;

/// The binary logarithm of zstd's window size: 128 KiB. A larger window would take megabytes per response on the server
/// and on the client.
const ZSTD_WINDOW_LOG: u32 = 17;

/// The host memory in bytes that a compressor for gzip or zstd uses: its tables, its window, its input, and the output
/// that waits to be sent.
const GZIP_BYTES: usize = 512 << 10;
const ZSTD_BYTES: usize = 1536 << 10;

/// The permits for compressors of this process, which tenants share.
static COMPRESSORS: LazyLock<FairLimiter<Arc<str>>> =
    LazyLock::new(|| FairLimiter::new(COMPRESSORS_MAX, |own, free| own < free));

/// A response body that is compressed while it is read.
pub(crate) struct CompressedBody<H: Handler> {
    body: AppendedBody<H::Body>,
    compressor: Box<Compressor<H>>,
    /// Bytes that the guest has sent and that are not compressed yet.
    input: Bytes,
    /// The number of bytes that were compressed in the current step.
    step_bytes: usize,
    /// Whether the encoder may hold bytes that it has not written to its output.
    unflushed: bool,
    /// The trailers or the error to return after the last piece.
    last: Option<Result<Frame<Bytes>, BodyError<H>>>,
    /// Whether the encoder has been finished.
    finished: bool,
}

type BodyError<H> = ResponseError<<<H as Handler>::Body as Body>::Error>;

/// An encoder, with the permit for it and the memory that is charged for it.
pub(crate) struct Compressor<H: Handler> {
    encoder: Encoder,
    handler: H,
    _memory: H::Memory,
    _permit: FairPermit<Arc<str>>,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl<H: Handler> Compressor<H> {
    /// Reserves a compressor for a response of `handler`. Returns `None` if the tenant may not use one more compressor
    /// (see [`COMPRESSORS_MAX`]), or if the account has no memory left.
    pub(crate) fn reserve(coding: Coding, handler: &H) -> Option<Box<Self>> {
        let permit = COMPRESSORS.try_acquire(handler.tenant())?;
        let bytes = match coding {
            Coding::Gzip => GZIP_BYTES,
            Coding::Zstd => ZSTD_BYTES,
        };
        let memory = handler.charge_memory(bytes)?;
        let encoder = Encoder::new(coding).ok()?;
        Some(Box::new(Self { encoder, handler: handler.clone(), _memory: memory, _permit: permit }))
    }

    /// Runs `work` on the encoder, and charges the processor time of `work`.
    fn work(&mut self, work: impl FnOnce(&mut Encoder) -> io::Result<()>) -> Result<(), BodyError<H>> {
        let start = Instant::now();
        let done = work(&mut self.encoder);
        self.handler.charge_cpu(start.elapsed());
        done.map_err(ResponseError::Compression)
    }

    /// Takes the compressed bytes that are available, if any.
    fn piece(&mut self) -> Option<Frame<Bytes>> {
        let waiting = self.encoder.waiting_mut();
        (!waiting.is_empty()).then(|| Frame::data(std::mem::take(waiting).into()))
    }
}

impl<H: Handler> CompressedBody<H> {
    /// Creates a body that compresses `body` with `compressor`.
    pub(crate) fn new(body: AppendedBody<H::Body>, compressor: Box<Compressor<H>>) -> Self {
        Self { body, compressor, input: Bytes::new(), step_bytes: 0, unflushed: false, last: None, finished: false }
    }

    /// Returns the handler's uncompressed body.
    pub(crate) fn body(&self) -> &AppendedBody<H::Body> {
        &self.body
    }

    /// Returns whether the whole compressed body was read.
    pub(crate) fn is_complete(&self) -> bool {
        self.finished && self.last.is_none() && self.compressor.encoder.waiting().is_empty()
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError<H>>>> {
        let polled = self.poll_piece(cx);
        if polled.is_pending() {
            self.step_bytes = 0;
        }
        polled
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError<H>>>> {
        loop {
            if !self.input.is_empty() {
                if self.step_bytes >= STEP_BYTES {
                    // Yields even if more input is available. Otherwise the server, which polls until its buffer is
                    // full, would run many steps without a pause.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let part = self.input.split_to(self.input.len().min(STEP_BYTES - self.step_bytes));
                self.step_bytes += part.len();
                self.unflushed = true;
                self.compressor.work(|encoder| encoder.write(&part))?;
                if self.compressor.encoder.waiting().len() >= PIECE_BYTES {
                    return Poll::Ready(self.compressor.piece().map(Ok));
                }
                continue;
            }
            if self.finished {
                return Poll::Ready(self.compressor.piece().map(Ok).or_else(|| self.last.take()));
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending if self.unflushed => {
                    self.compressor.work(Encoder::flush)?;
                    self.unflushed = false;
                    return self.compressor.piece().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(piece))));
                }
                Poll::Pending => return Poll::Pending,
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.input = data,
                Some(Ok(Err(trailers))) => self.finish(Some(Ok(trailers)))?,
                // The data before the error is sent first. The compressed stream is not finished, so the client detects
                // an incomplete response.
                Some(Err(error)) => {
                    self.compressor.work(Encoder::flush)?;
                    (self.finished, self.last) = (true, Some(Err(ResponseError::Handler(error))));
                }
                None => self.finish(None)?,
            }
        }
    }

    fn finish(&mut self, last: Option<Result<Frame<Bytes>, BodyError<H>>>) -> Result<(), BodyError<H>> {
        self.compressor.work(Encoder::finish)?;
        (self.finished, self.last) = (true, last);
        Ok(())
    }
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(data),
            Self::Zstd(encoder) => encoder.write_all(data),
        }
    }

    /// Writes all input so far to the output, in compressed form.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.try_finish(),
            Self::Zstd(encoder) => encoder.do_finish(),
        }
    }

    /// Returns the compressed bytes that have not been taken yet.
    fn waiting(&self) -> &Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.get_ref(),
            Self::Zstd(encoder) => encoder.get_ref(),
        }
    }

    fn waiting_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text).expect("gzip"),
            Coding::Zstd => {
                zstd::stream::read::Decoder::new(bytes).expect("zstd").read_to_end(&mut text).expect("zstd")
            }
        };
        text
    }

    #[test]
    fn compressed_text_is_smaller_and_decodes_to_the_same() {
        let text = "the same words again and again ".repeat(10_000);
        for coding in [Coding::Gzip, Coding::Zstd] {
            let mut encoder = Encoder::new(coding).expect("an encoder");
            let mut bytes = Vec::new();
            for piece in text.as_bytes().chunks(64 << 10) {
                encoder.write(piece).expect("it is written");
                encoder.flush().expect("it is flushed");
                assert!(!encoder.waiting().is_empty(), "flushing writes the compressed bytes to the output");
                bytes.append(encoder.waiting_mut());
            }
            encoder.finish().expect("it is finished");
            bytes.append(encoder.waiting_mut());
            assert!(bytes.len() * 20 < text.len(), "{coding:?}: {} bytes", bytes.len());
            assert!(decoded(coding, &bytes) == text.as_bytes(), "{coding:?}");
        }
    }
}
