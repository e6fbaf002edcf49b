//! The queue between those who have something to say and the one thread that says it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use isomer_runtime::output::{OutputSink, Stream};
use isomer_runtime::{Failure, RequestId};

use crate::member::MemberName;
use crate::record::{Access, Level, Record};

/// Lines that may wait to be written. Past that they are dropped and counted.
const QUEUE_LINES_MAX: usize = 8192;

/// As many of them may be guests' output, so that what the platform says of a guest that prints without end is not lost in it.
const QUEUE_OUTPUT_MAX: usize = QUEUE_LINES_MAX / 2;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text {
        /// With colours?
        colour: bool,
    },
    /// One JSON object a line.
    Json,
}

/// Where everything is said. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Message>,
    /// Lines that wait.
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    access: bool,
}

enum Message {
    /// When, from which process of several, what.
    Record(SystemTime, Option<MemberName>, Record),
    /// Answer when all before it has been written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Starts the thread that writes to `out`. With `access`, each served request is a line.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(out: impl Write + Send + 'static, format: Format, access: bool) -> io::Result<Self> {
        let (queue, records) = sync_channel(QUEUE_LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Counted { waiting: waiting.clone(), dropped: dropped.clone() };
        std::thread::Builder::new()
            .name("isomer-log".into())
            .spawn(move || write_all(io::BufWriter::new(out), &records, &counted, format))?;
        Ok(Self { queue, waiting, dropped, access })
    }

    /// Is each served request to be told?
    pub fn wants_access(&self) -> bool {
        self.access
    }

    /// A served request.
    pub fn access(&self, access: Access) {
        if self.access {
            self.push(Record::access(access));
        }
    }

    /// A request that got no answer from its guest.
    pub fn failed(&self, component: &str, request: RequestId, failure: &Failure) {
        self.push(Record::failed(component, request, failure, false));
    }

    /// Something a person should know.
    pub fn note(&self, text: impl Into<String>) {
        self.push(Record::Note { level: Level::Info, text: text.into() });
    }

    /// Something a person should look at.
    pub fn warn(&self, text: impl Into<String>) {
        self.push(Record::Note { level: Level::Warning, text: text.into() });
    }

    /// Waits until all that was said before has been written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    fn push(&self, record: Record) {
        self.push_of(SystemTime::now(), None, record);
    }

    pub(crate) fn push_of(&self, at: SystemTime, member: Option<MemberName>, record: Record) {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let has_room = waiting < QUEUE_OUTPUT_MAX || !matches!(record, Record::Output { .. });
        if has_room && self.queue.try_send(Message::Record(at, member, record)).is_ok() {
            return;
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl OutputSink for Log {
    fn line(&self, component: &str, stream: Stream, request: Option<RequestId>, line: &[u8]) {
        let line = String::from_utf8_lossy(line).into_owned();
        self.push(Record::Output { component: component.to_owned(), stream, request, line });
    }

    fn broken(&self, component: &str, request: RequestId, failure: &Failure) {
        self.push(Record::failed(component, request, failure, true));
    }

    fn call_failed(&self, component: &str, request: Option<RequestId>, failure: &Failure) {
        self.push(Record::call_failed(component, request, failure));
    }
}

/// What the writing thread counts, too.
struct Counted {
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

/// Writes until the last [`Log`] is gone. A closed pipe ends the writing, not the app.
fn write_all(mut out: impl Write, queue: &Receiver<Message>, counted: &Counted, format: Format) {
    let dropped = &counted.dropped;
    let mut open = true;
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Record(at, member, record) => {
                    counted.waiting.fetch_sub(1, Ordering::Relaxed);
                    open = open && write_line(&mut out, at, member.as_ref(), &record, format).is_ok();
                }
                Message::Flush(done) => {
                    // What was lost was said before, too.
                    open = open && write_losses(&mut out, dropped, format).and_then(|()| out.flush()).is_ok();
                    let _ = done.send(());
                }
            }
            next = queue.try_recv().ok();
        }
        open = open && write_losses(&mut out, dropped, format).and_then(|()| out.flush()).is_ok();
    }
}

/// Tells how many lines were dropped since it was told last, if any were.
fn write_losses(out: &mut impl Write, dropped: &AtomicU64, format: Format) -> io::Result<()> {
    let lost = dropped.swap(0, Ordering::Relaxed);
    if lost == 0 {
        return Ok(());
    }
    let text = format!("{lost} lines of the log were dropped: too many at once");
    write_line(out, SystemTime::now(), None, &Record::Note { level: Level::Warning, text }, format)
}

fn write_line(
    out: &mut impl Write,
    at: SystemTime,
    member: Option<&MemberName>,
    record: &Record,
    format: Format,
) -> io::Result<()> {
    match format {
        Format::Text { colour } => writeln!(out, "{}", record.to_text(at, member, colour)),
        Format::Json => writeln!(out, "{}", record.to_json(at, member)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// A pipe that nobody empties until told.
    #[derive(Clone, Default)]
    struct Stuck(Arc<Pipe>);

    #[derive(Default)]
    struct Pipe {
        /// Is it emptied, and what has come out of it?
        state: Mutex<(bool, Vec<u8>)>,
        changed: Condvar,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.state.lock().unwrap();
            while !state.0 {
                state = self.0.changed.wait(state).unwrap();
            }
            state.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_guest_that_prints_without_end_does_not_drown_what_is_said_of_it() {
        let pipe = Stuck::default();
        let log = Log::start(pipe.clone(), Format::Text { colour: false }, true).unwrap();
        for _ in 0..QUEUE_LINES_MAX * 3 {
            log.line("noisy", Stream::Stdout, None, b"noise");
        }
        log.note("it was stopped");
        pipe.0.state.lock().unwrap().0 = true;
        pipe.0.changed.notify_all();
        log.flush();
        log.line("noisy", Stream::Stdout, None, b"again");
        log.flush();
        let text = String::from_utf8(pipe.0.state.lock().unwrap().1.clone()).unwrap();
        assert!(text.contains("it was stopped\n") && text.contains("| again\n"), "{text}");
        // The writer has taken a buffer full of lines before it is stuck; each has more than 8 bytes.
        let taken_max = (8 << 10) / 8;
        assert!(text.matches("| noise\n").count() <= QUEUE_OUTPUT_MAX + taken_max);
    }

    #[test]
    fn a_stuck_pipe_blocks_nobody_and_losses_are_told() {
        let pipe = Stuck::default();
        let log = Log::start(pipe.clone(), Format::Text { colour: false }, true).unwrap();
        for number in 0..QUEUE_LINES_MAX * 3 {
            log.note(format!("line {number}"));
        }
        pipe.0.state.lock().unwrap().0 = true;
        pipe.0.changed.notify_all();
        log.flush();
        log.note("after");
        log.flush();
        let text = String::from_utf8(pipe.0.state.lock().unwrap().1.clone()).unwrap();
        assert!(text.contains("line 0\n"));
        assert!(text.contains("lines of the log were dropped"), "{text}");
    }
}
