//! A guest's response on its way through a compressor.
//!
//! What a guest sends is not held back: when nothing more is there, what there is goes out. A compressor's memory and its work are charged to
//! the account of the app. Where there are too many compressors already, or the account cannot pay for one, the response is sent as it is.
//!
//! It works on the executor's threads, in short turns, so that requests of others are not held up by many responses of one tenant.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::{Body as _, Frame};
use isomer_runtime::{Account, HostMemory, HttpError, ResponseBody};
use isomer_transport::{FairLimiter, FairPermit};
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::encoding::Coding;

/// Responses that are compressed at once, of all apps together. A tenant has no more of them than it leaves free. Further ones are sent as they
/// are.
const COMPRESSORS_MAX: usize = 256;

/// What is handed on at once, where the guest does not wait.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes that are compressed at once, in half a millisecond or so: then other work of the thread has its turn.
const TURN_BYTES: usize = 32 << 10;

/// How hard it is tried. Higher levels take several times as long for some percent.
const GZIP_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 3;

/// The window of zstd: 128 KiB. A larger one would take megabytes for each response, here and at the client.
const ZSTD_WINDOW_LOG: u32 = 17;

/// What a compressor takes of the host: its tables and its window, the piece that it works on, and what waits to be handed on.
const GZIP_BYTES: usize = 512 << 10;
const ZSTD_BYTES: usize = 1536 << 10;

/// The compressors of the process, by tenant.
static COMPRESSORS: LazyLock<FairLimiter<Arc<str>>> =
    LazyLock::new(|| FairLimiter::new(COMPRESSORS_MAX, |own, free| own < free));

/// A body that is compressed while it is read.
pub(crate) struct Compressed {
    body: ResponseBody,
    compressor: Box<Compressor>,
    /// What the guest has sent and was not put in so far.
    input: Bytes,
    /// What was put in since other work has had its turn.
    turn_bytes: usize,
    /// Something was put in that may not have come out.
    unflushed: bool,
    /// What comes behind the last piece: trailers, or an error.
    last: Option<Result<Frame<Bytes>, HttpError>>,
    /// Nothing more is put in.
    finished: bool,
}

/// Something to compress a response with, and what it takes.
pub(crate) struct Compressor {
    encoder: Encoder,
    account: Arc<Account>,
    _memory: HostMemory,
    _permit: FairPermit<Arc<str>>,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Compressor {
    /// Sets one aside; `None` where there is no room for it.
    pub(crate) fn reserve(coding: Coding, account: &Arc<Account>) -> Option<Box<Self>> {
        let permit = COMPRESSORS.try_acquire(account.tenant())?;
        let bytes = match coding {
            Coding::Gzip => GZIP_BYTES,
            Coding::Zstd => ZSTD_BYTES,
        };
        let memory = account.charge_host_memory(bytes).ok()?;
        let encoder = Encoder::new(coding).ok()?;
        Some(Box::new(Self { encoder, account: account.clone(), _memory: memory, _permit: permit }))
    }

    /// Has the encoder do something, and charges the time.
    fn work(&mut self, work: impl FnOnce(&mut Encoder) -> io::Result<()>) -> Result<(), HttpError> {
        let start = Instant::now();
        let done = work(&mut self.encoder);
        self.account.charge_cpu(start.elapsed());
        done.map_err(|error| HttpError::InternalError(Some(format!("the response cannot be compressed: {error}"))))
    }

    /// What has come out, if something has.
    fn piece(&mut self) -> Option<Frame<Bytes>> {
        let waiting = self.encoder.waiting_mut();
        (!waiting.is_empty()).then(|| Frame::data(std::mem::take(waiting).into()))
    }
}

impl Compressed {
    /// Compresses `body`.
    pub(crate) fn new(body: ResponseBody, compressor: Box<Compressor>) -> Self {
        Self { body, compressor, input: Bytes::new(), turn_bytes: 0, unflushed: false, last: None, finished: false }
    }

    /// The guest's own body.
    pub(crate) fn body(&self) -> &ResponseBody {
        &self.body
    }

    /// Returns whether all of it was handed out.
    pub(crate) fn is_complete(&self) -> bool {
        self.finished && self.last.is_none() && self.compressor.encoder.waiting().is_empty()
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let polled = self.poll_piece(cx);
        if polled.is_pending() {
            self.turn_bytes = 0;
        }
        polled
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        loop {
            if !self.input.is_empty() {
                if self.turn_bytes >= TURN_BYTES {
                    // Also where pieces come out all the time, which a server asks for until its buffer is full.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let part = self.input.split_to(self.input.len().min(TURN_BYTES - self.turn_bytes));
                self.turn_bytes += part.len();
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
                // What came before it goes out first; it must not look finished.
                Some(Err(error)) => {
                    self.compressor.work(Encoder::flush)?;
                    (self.finished, self.last) = (true, Some(Err(error)));
                }
                None => self.finish(None)?,
            }
        }
    }

    fn finish(&mut self, last: Option<Result<Frame<Bytes>, HttpError>>) -> Result<(), HttpError> {
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

    /// Has everything come out that was put in.
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

    /// What has come out.
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
    fn what_goes_in_comes_out_again_and_smaller() {
        let text = "the same words again and again ".repeat(10_000);
        for coding in [Coding::Gzip, Coding::Zstd] {
            let mut encoder = Encoder::new(coding).expect("an encoder");
            let mut bytes = Vec::new();
            for piece in text.as_bytes().chunks(64 << 10) {
                encoder.write(piece).expect("it is written");
                encoder.flush().expect("it is flushed");
                assert!(!encoder.waiting().is_empty(), "what was flushed has come out");
                bytes.append(encoder.waiting_mut());
            }
            encoder.finish().expect("it is finished");
            bytes.append(encoder.waiting_mut());
            assert!(bytes.len() * 20 < text.len(), "{coding:?}: {} bytes", bytes.len());
            assert!(decoded(coding, &bytes) == text.as_bytes(), "{coding:?}");
        }
    }
}
