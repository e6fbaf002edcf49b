//! The output that guests print. It is split into lines, each line is labelled with its component and request, and the
//! lines are sent to a sink.
//!
//! A guest cannot block the host by printing, and the host never holds more than [`LINE_BYTES_MAX`] bytes per stream,
//! because longer lines are cut into pieces.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use isomer_telemetry::{Event, EventSink, RequestId, StandardStream, TraceContext};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// The maximum length of a line in bytes. A longer line is emitted in pieces.
pub const LINE_BYTES_MAX: usize = 8 << 10;

/// The maximum number of bytes that a guest may write in one call.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The request that the output of an instance belongs to now, for the writers of its output.
#[derive(Debug, Default)]
pub(crate) struct CurrentRequest(Mutex<CurrentOutput>);

#[derive(Debug, Clone, Copy, Default)]
struct CurrentOutput {
    origin: OutputOrigin,
    /// Whether the origin is known only while a host function runs. If so, a stream that the guest opens now belongs to
    /// this origin until it is closed.
    is_of_call: bool,
}

/// The request that a line of output belongs to. The default is used if the guest works for no request: while it is
/// created, or in work that continues after its request has ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OutputOrigin {
    pub(crate) request: Option<RequestId>,
    /// The span of the request, or of the call, that the instance works for.
    pub(crate) trace: Option<TraceContext>,
}

impl CurrentRequest {
    /// Sets the origin of output until it is set again.
    pub(crate) fn set(&self, origin: OutputOrigin) {
        self.replace(CurrentOutput { origin, is_of_call: false });
    }

    /// Sets the origin of what the guest writes in the current call of a host function.
    pub(crate) fn set_for_call(&self, origin: OutputOrigin) {
        self.replace(CurrentOutput { origin, is_of_call: true });
    }

    fn replace(&self, current: CurrentOutput) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }

    fn get(&self) -> OutputOrigin {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).origin
    }

    /// Returns the origin if it is known only while the current host function runs.
    fn of_call(&self) -> Option<OutputOrigin> {
        let current = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.is_of_call.then_some(current.origin)
    }
}

/// The writer of one component's stdout or stderr in one instance. Clones share the unfinished line.
#[derive(Clone)]
pub(crate) struct LineWriter {
    buffer: Arc<LineBuffer>,
    /// The origin of everything that this writer writes; `None` if it belongs to the current request.
    origin: Option<OutputOrigin>,
}

struct LineBuffer {
    component: Arc<str>,
    stream: StandardStream,
    request: Arc<CurrentRequest>,
    sink: Arc<dyn EventSink>,
    line: Mutex<UnfinishedLine>,
}

/// The start of a line, and the request that has written it.
#[derive(Default)]
struct UnfinishedLine {
    bytes: Vec<u8>,
    origin: OutputOrigin,
}

impl LineWriter {
    pub(crate) fn new(
        component: Arc<str>,
        stream: StandardStream,
        request: Arc<CurrentRequest>,
        sink: Arc<dyn EventSink>,
    ) -> Self {
        let line = Mutex::default();
        Self { buffer: Arc::new(LineBuffer { component, stream, request, sink, line }), origin: None }
    }

    fn push(&self, bytes: &[u8]) {
        if !self.buffer.sink.is_enabled() {
            return;
        }
        let origin = self.origin.unwrap_or_else(|| self.buffer.request.get());
        let mut line = self.buffer.line.lock().unwrap_or_else(PoisonError::into_inner);
        // An instance may serve several requests at a time. The end of one request's line is not the end of another's.
        if line.origin.request.is_some() && line.origin.request != origin.request {
            self.finish(&mut line);
        }
        if line.bytes.is_empty() || line.origin.request.is_none() {
            line.origin = origin;
        }
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) if line.bytes.is_empty() && end.len() <= LINE_BYTES_MAX => self.emit(end, origin),
                Some(end) => {
                    self.append(&mut line, end);
                    self.emit(&line.bytes, line.origin);
                    line.bytes.clear();
                }
                None => self.append(&mut line, piece),
            }
        }
    }

    /// Appends `bytes` to the unfinished `line`, and emits a piece whenever the line is full.
    fn append(&self, line: &mut UnfinishedLine, mut bytes: &[u8]) {
        while line.bytes.len() + bytes.len() > LINE_BYTES_MAX {
            let (now, later) = bytes.split_at(LINE_BYTES_MAX - line.bytes.len());
            line.bytes.extend_from_slice(now);
            self.finish(line);
            bytes = later;
        }
        line.bytes.extend_from_slice(bytes);
    }

    /// Emits the unfinished line, if any, because the request that wrote it has ended.
    pub(crate) fn finish_line(&self) {
        self.finish(&mut self.buffer.line.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn finish(&self, line: &mut UnfinishedLine) {
        if !line.bytes.is_empty() {
            self.emit(&line.bytes, line.origin);
            line.bytes.clear();
        }
    }

    fn emit(&self, line: &[u8], OutputOrigin { request, trace }: OutputOrigin) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let LineBuffer { component, stream, sink, .. } = &*self.buffer;
        sink.emit(Event::OutputLine { component, stream: *stream, request, trace, line });
    }
}

impl IsTerminal for LineWriter {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineWriter {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // WASI 0.3 opens a stream for each write, and reads it later.
        Box::new(Self { origin: self.buffer.request.of_call(), ..self.clone() })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for LineWriter {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LineWriter {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for LineWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl EventSink for Lines {
        fn emit(&self, event: Event<'_>) {
            let Event::OutputLine { component, request, trace, line, .. } = event else { return };
            let request = request.map_or_else(|| "-".to_owned(), |id| id.to_string());
            let request = request + &trace.map_or_else(String::new, |trace| format!("/{}", trace.parent));
            self.0.lock().unwrap().push(format!("{component} {request} {}", String::from_utf8_lossy(line)));
        }
    }

    fn writer() -> (LineWriter, Arc<Lines>, Arc<CurrentRequest>) {
        let (sink, request) = (Arc::new(Lines::default()), Arc::new(CurrentRequest::default()));
        (LineWriter::new("cart".into(), StandardStream::Stdout, request.clone(), sink.clone()), sink, request)
    }

    #[test]
    fn lines_are_assembled_from_pieces() {
        let (writer, sink, request) = writer();
        writer.push(b"one\r\ntw");
        let trace = TraceContext::from_ids("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        request.set(OutputOrigin { request: RequestId::from_raw(0xab), trace });
        writer.push(b"o\n\nthree");
        writer.finish_line();
        writer.finish_line();
        let id = "00000000000000ab/b7ad6b7169203331";
        assert_eq!(
            *sink.0.lock().unwrap(),
            ["cart - one".to_owned(), format!("cart {id} two"), format!("cart {id} "), format!("cart {id} three")]
        );
    }

    #[test]
    fn an_unfinished_line_belongs_to_the_request_that_has_written_it() {
        let (writer, sink, request) = writer();
        let of = |number| OutputOrigin { request: RequestId::from_raw(number), trace: None };
        request.set_for_call(of(1));
        writer.push(b"first");
        request.set_for_call(of(2));
        writer.push(b"second");
        request.set(OutputOrigin::default());
        writer.finish_line();
        let lines = [1, 2].map(|number| format!("cart {number:016x} {}", ["first", "second"][number - 1]));
        assert_eq!(*sink.0.lock().unwrap(), lines);
        // A line of no request is finished by the request that continues it.
        writer.push(b"a");
        request.set_for_call(of(3));
        writer.push(b"b\n");
        assert_eq!(sink.0.lock().unwrap()[2], format!("cart {:016x} ab", 3));
    }

    #[test]
    fn a_flood_without_newlines_is_cut_into_bounded_pieces() {
        let (writer, sink, _) = writer();
        writer.push(&vec![b'x'; LINE_BYTES_MAX * 3 + 5]);
        assert_eq!(sink.0.lock().unwrap().len(), 3);
        assert!(writer.buffer.line.lock().unwrap().bytes.capacity() <= LINE_BYTES_MAX * 2);
        writer.push(b"\n");
        assert_eq!(sink.0.lock().unwrap().last().unwrap(), "cart - xxxxx");
    }
}
