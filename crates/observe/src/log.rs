//! The queue between those who have something to say and the one thread that says it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use isomer_runtime::output::{OutputSink, Stream};
use isomer_runtime::{Failure, RequestId};

use crate::levels::Levels;
use crate::member::MemberName;
use crate::record::{Access, Level, Record};

/// Lines that may wait to be written. Past that they are dropped and counted.
const QUEUE_LINES_MAX: usize = 8192;

/// As many of them may be guests' output, so that what the platform says of a guest that prints without end is not lost in it.
const QUEUE_OUTPUT_MAX: usize = QUEUE_LINES_MAX / 2;

/// Bytes of the lines that may wait: a reader that is slow, or has stopped, makes the process hold no more. Past that, lines are
/// dropped and counted.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Of these, as many may be taken by what guests print, how requests ended and the access log.
const QUEUE_GUEST_BYTES_MAX: usize = QUEUE_BYTES_MAX / 2;

/// And by the lines about one tenant.
const QUEUE_TENANT_BYTES_MAX: usize = QUEUE_BYTES_MAX / 16;

/// Tenants are counted by a hash of their name, so that counting takes no lock; two may have to share.
const TENANT_COUNTERS: usize = 64;

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
    counted: Arc<Counted>,
    access: bool,
    levels: Arc<Levels>,
}

enum Message {
    /// When, from which process of several, what.
    Record(SystemTime, Option<MemberName>, Box<Record>),
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
        let counted = Arc::new(Counted::default());
        let counted_by_writer = counted.clone();
        std::thread::Builder::new()
            .name("isomer-log".into())
            .spawn(move || write_all(io::BufWriter::new(out), &records, &counted_by_writer, format))?;
        Ok(Self { queue, counted, access, levels: Arc::default() })
    }

    /// The same log, in which the platform says as much of itself as `levels` ask for.
    #[must_use]
    pub fn with_levels(self, levels: Levels) -> Self {
        Self { levels: Arc::new(levels), ..self }
    }

    /// How much the platform says of itself.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Is each served request to be told?
    pub fn wants_access(&self) -> bool {
        self.access
    }

    /// A served request; its app's own access log tells of it too, if it has one.
    pub fn access(&self, access: Access) {
        if !self.access {
            return;
        }
        let record = Record::access(access);
        if let Record::Access(access) = &record
            && let Some(log) = access.owner.as_ref().and_then(|owner| owner.access.as_ref())
        {
            log.answered(access);
        }
        self.push(record);
    }

    /// A request that got no answer from its guest.
    pub fn failed(&self, component: &str, request: RequestId, failure: &Failure) {
        self.push(Record::failed(component, request, failure, false));
    }

    /// Something a person should know.
    pub fn note(&self, text: impl Into<String>) {
        self.say(Level::Info, text.into());
    }

    /// Something a person should look at.
    pub fn warn(&self, text: impl Into<String>) {
        self.say(Level::Warning, text.into());
    }

    /// Something that does not work as it should.
    pub fn error(&self, text: impl Into<String>) {
        self.say(Level::Error, text.into());
    }

    fn say(&self, level: Level, text: String) {
        if self.levels.includes(level) {
            self.push(Record::note(level, text));
        }
    }

    /// Something that a part of the platform says, which was filtered already.
    pub(crate) fn event(&self, level: Level, target: &str, text: String) {
        self.push(Record::event(level, target, text));
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
        let weight = Weight::of(&record);
        let has_room = self.counted.add(&weight, matches!(record, Record::Output { .. }));
        if has_room && self.queue.try_send(Message::Record(at, member, Box::new(record))).is_ok() {
            return;
        }
        self.counted.subtract(&weight);
        self.counted.dropped.fetch_add(1, Ordering::Relaxed);
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

    fn denied(&self, component: &str, text: &str) {
        self.warn(format!("`{component}`: {text}"));
    }
}

/// What waits, and what was dropped.
struct Counted {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    guest_bytes: AtomicUsize,
    tenant_bytes: [AtomicUsize; TENANT_COUNTERS],
    dropped: AtomicU64,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            lines: 0.into(),
            bytes: 0.into(),
            guest_bytes: 0.into(),
            tenant_bytes: [const { AtomicUsize::new(0) }; TENANT_COUNTERS],
            dropped: 0.into(),
        }
    }
}

/// What a line counts for while it waits.
struct Weight {
    bytes: usize,
    is_of_guest: bool,
    tenant: Option<usize>,
}

impl Weight {
    fn of(record: &Record) -> Self {
        let counter = |name: &str| name.bytes().fold(7, |sum: usize, byte| sum.wrapping_mul(31) + usize::from(byte));
        Self {
            bytes: record.bytes(),
            is_of_guest: record.is_of_guest(),
            tenant: record.tenant().map(|tenant| counter(tenant) % TENANT_COUNTERS),
        }
    }
}

impl Counted {
    /// Counts a line, and says whether there is room for it. One that gets none has to be subtracted again.
    fn add(&self, weight: &Weight, is_output: bool) -> bool {
        let add = |counter: &AtomicUsize| counter.fetch_add(weight.bytes, Ordering::Relaxed) + weight.bytes;
        let mut fits = self.lines.fetch_add(1, Ordering::Relaxed) < QUEUE_OUTPUT_MAX || !is_output;
        fits &= add(&self.bytes) <= QUEUE_BYTES_MAX;
        if weight.is_of_guest {
            fits &= add(&self.guest_bytes) <= QUEUE_GUEST_BYTES_MAX;
        }
        if let Some(tenant) = weight.tenant {
            fits &= add(&self.tenant_bytes[tenant]) <= QUEUE_TENANT_BYTES_MAX;
        }
        fits
    }

    fn subtract(&self, weight: &Weight) {
        let subtract = |counter: &AtomicUsize| counter.fetch_sub(weight.bytes, Ordering::Relaxed);
        self.lines.fetch_sub(1, Ordering::Relaxed);
        subtract(&self.bytes);
        if weight.is_of_guest {
            subtract(&self.guest_bytes);
        }
        if let Some(tenant) = weight.tenant {
            subtract(&self.tenant_bytes[tenant]);
        }
    }
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
                    open = open && write_line(&mut out, at, member.as_ref(), &record, format).is_ok();
                    counted.subtract(&Weight::of(&record));
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
    write_line(out, SystemTime::now(), None, &Record::Note { level: Level::Warning, target: None, text }, format)
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
    fn long_lines_wait_up_to_so_many_bytes() {
        let pipe = Stuck::default();
        let log = Log::start(pipe.clone(), Format::Text { colour: false }, true).unwrap();
        for _ in 0..QUEUE_LINES_MAX {
            log.warn("x".repeat(1 << 20));
        }
        let waiting = log.counted.bytes.load(Ordering::Relaxed);
        assert!(waiting <= QUEUE_BYTES_MAX, "{waiting} bytes wait");
        let line = "x".repeat(isomer_runtime::output::LINE_BYTES_MAX);
        for _ in 0..QUEUE_LINES_MAX {
            log.line("noisy", Stream::Stdout, None, line.as_bytes());
        }
        let of_guests = log.counted.guest_bytes.load(Ordering::Relaxed);
        assert!(of_guests <= QUEUE_GUEST_BYTES_MAX, "{of_guests} bytes of guests wait");
        pipe.0.state.lock().unwrap().0 = true;
        pipe.0.changed.notify_all();
        log.flush();
        assert_eq!(log.counted.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(log.counted.guest_bytes.load(Ordering::Relaxed), 0);
        let text = String::from_utf8(pipe.0.state.lock().unwrap().1.clone()).unwrap();
        assert!(text.contains("lines of the log were dropped"));
        assert!(text.lines().all(|line| line.len() < 10 << 10));
    }

    #[test]
    fn the_lines_about_one_tenant_leave_room_for_those_about_others() {
        let counted = Counted::default();
        let of = |tenant: usize| Weight { bytes: 4 << 10, is_of_guest: true, tenant: Some(tenant) };
        let fill = |tenant: usize| (0..QUEUE_LINES_MAX).take_while(|_| counted.add(&of(tenant), false)).count();
        assert_eq!(fill(1), QUEUE_TENANT_BYTES_MAX / (4 << 10));
        assert_eq!(fill(2), QUEUE_TENANT_BYTES_MAX / (4 << 10));
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
