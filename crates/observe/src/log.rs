//! The log of the process: the queue of records, and the one thread that writes them.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use isomer_display::count;
use isomer_telemetry::metrics::{MetricSource, Metrics};
use isomer_telemetry::{AccessRecord, Event, EventSink, Level, Levels, Span, TraceFragment};

use crate::app_copy::AppCopy;
use crate::app_log::AppLog;
use crate::json::to_json;
use crate::json_lines::with_record;
use crate::member::MemberName;
use crate::member_traces::to_line;
use crate::queue::{QueueCounters, RECORDS_MAX, RecordWeight};
use crate::record::LogRecord;
use crate::text::to_text;

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Text {
        /// Whether to use the terminal's colours.
        colour: bool,
    },
    /// One JSON object per line.
    Json,
}

/// The log of the process. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Message>,
    counters: Arc<QueueCounters>,
    access: bool,
    levels: Arc<Levels>,
    /// The app's own log on disk, which gets a copy of each record.
    copy: Arc<OnceLock<AppCopy>>,
    /// A sink that also receives the events of the app, such as an exporter.
    export: Arc<OnceLock<Arc<dyn EventSink>>>,
}

enum Message {
    /// A record, the time of the record, and the member that wrote it.
    Record(SystemTime, Option<MemberName>, Box<LogRecord>),
    /// A trace of a member, and its size in memory.
    Trace(Box<TraceFragment>, usize),
    /// A line with metrics of a member.
    Metrics(String),
    /// A request to send a signal after all earlier records are written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Starts the thread that writes records to `out`. If `access` is true, served requests are recorded.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(out: impl Write + Send + 'static, format: Format, access: bool) -> io::Result<Self> {
        let (queue, records) = sync_channel(RECORDS_MAX);
        let counters = Arc::new(QueueCounters::default());
        let writer = counters.clone();
        std::thread::Builder::new()
            .name("isomer-log".into())
            .spawn(move || write_all(io::BufWriter::new(out), &records, &writer, format))?;
        Ok(Self { queue, counters, access, levels: Arc::default(), copy: Arc::default(), export: Arc::default() })
    }

    /// Adds the number of dropped records to all later snapshots of `metrics`.
    pub fn report_to(&self, metrics: &Metrics) {
        let counters: Arc<dyn MetricSource> = self.counters.clone();
        metrics.add_source(Arc::downgrade(&counters));
    }

    /// Sets the levels of the platform's messages that are recorded.
    #[must_use]
    pub fn with_levels(self, levels: Levels) -> Self {
        Self { levels: Arc::new(levels), ..self }
    }

    /// From now on, also writes records to `output`, and served requests to `access`. `output` is the log of the app,
    /// and `access` its access log; the process must serve only this app. Only the first call has an effect.
    pub fn copy_to(&self, output: AppLog, access: Option<AppLog>) {
        let _ = self.copy.set(AppCopy::new(output, access));
    }

    /// From now on, also passes events to `sink`: the events of this process, which must serve only one app, and those
    /// of its members. Only the first call has an effect.
    pub fn export_to(&self, sink: Arc<dyn EventSink>) {
        let _ = self.export.set(sink);
    }

    /// Passes an event to the sink of [`export_to`](Self::export_to).
    pub(crate) fn export(&self, event: Event<'_>) {
        if let Some(sink) = self.export.get() {
            sink.emit(event);
        }
    }

    /// Returns the levels of the platform's messages that are recorded.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Returns whether served requests are recorded.
    pub fn wants_access(&self) -> bool {
        self.access
    }

    /// Records a served request. If `app_log`, the app's access log, is set, also writes the request to it. Does
    /// nothing if the log does not [want](Self::wants_access) served requests.
    pub fn access(&self, record: AccessRecord, app_log: Option<&AppLog>) {
        if !self.access {
            return;
        }
        let record = LogRecord::access(record);
        if let (LogRecord::Access(access), Some(app_log)) = (&record, app_log) {
            app_log.access(access);
        }
        self.push(SystemTime::now(), None, record);
    }

    /// Writes a message with the level [`Level::Info`].
    pub fn note(&self, text: impl Into<String>) {
        self.message(Level::Info, text.into());
    }

    /// Writes a message with the level [`Level::Warning`].
    pub fn warn(&self, text: impl Into<String>) {
        self.message(Level::Warning, text.into());
    }

    /// Writes a message with the level [`Level::Error`].
    pub fn error(&self, text: impl Into<String>) {
        self.message(Level::Error, text.into());
    }

    /// Writes a message only to the log of the process's app, if the app has one. Used for messages that the process
    /// prints in another way.
    pub fn copy_message(&self, level: Level, text: impl Into<String>) {
        if let Some(copy) = self.copy.get() {
            copy.write(SystemTime::now(), &LogRecord::message(level, None, text.into()));
        }
    }

    /// Writes a message of one module. The caller must have checked that the levels include the message.
    pub(crate) fn message_of(&self, target: &str, level: Level, text: String) {
        self.push(SystemTime::now(), None, LogRecord::message(level, Some(target), text));
    }

    /// Waits until all earlier records are written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    pub(crate) fn push(&self, at: SystemTime, member: Option<MemberName>, record: LogRecord) {
        if let Some(copy) = self.copy.get() {
            copy.write(at, &record);
        }
        let weight = RecordWeight::of(&record);
        let fits = self.counters.add(&weight);
        if fits && self.queue.try_send(Message::Record(at, member, Box::new(record))).is_ok() {
            return;
        }
        self.counters.subtract(&weight);
        self.counters.count_dropped();
    }

    /// Writes a trace for the supervisor, if this is the log of a member.
    pub(crate) fn push_trace(&self, fragment: TraceFragment) {
        let bytes = size_of::<TraceFragment>() + fragment.spans.iter().map(Span::bytes).sum::<usize>();
        if self.counters.add_trace(bytes) && self.queue.try_send(Message::Trace(Box::new(fragment), bytes)).is_err() {
            self.counters.subtract_trace(bytes);
            self.counters.count_dropped_trace();
        }
    }

    /// Writes a line with metrics for the supervisor, if this is the log of a member. Returns `false` if too many lines
    /// are waiting.
    pub(crate) fn push_metrics(&self, line: String) -> bool {
        let fits = self.counters.add_metrics();
        let sent = fits && self.queue.try_send(Message::Metrics(line)).is_ok();
        if fits && !sent {
            self.counters.subtract_metrics();
        }
        sent
    }

    fn message(&self, level: Level, text: String) {
        if self.levels.includes(level) {
            self.push(SystemTime::now(), None, LogRecord::message(level, None, text));
        }
    }
}

impl EventSink for Log {
    fn emit(&self, event: Event<'_>) {
        with_record(event, |event| {
            self.export(event);
            let is_warning = matches!(event, Event::AccessDenied { .. });
            if !is_warning || self.levels.includes(Level::Warning) {
                self.push(SystemTime::now(), None, LogRecord::from_event(event));
            }
        });
    }
}

/// Writes records until the last [`Log`] is dropped. After a write error, such as a closed pipe, further records are
/// discarded.
fn write_all(mut out: impl Write, queue: &Receiver<Message>, counters: &QueueCounters, format: Format) {
    let mut open = true;
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Record(at, member, record) => {
                    open = open && write_record(&mut out, at, member.as_ref(), &record, format).is_ok();
                    counters.subtract(&RecordWeight::of(&record));
                }
                Message::Trace(fragment, bytes) => {
                    let line = || to_line(&fragment, counters.take_dropped_traces());
                    open = open && (format != Format::Json || writeln!(out, "{}", line()).is_ok());
                    counters.subtract_trace(bytes);
                }
                Message::Metrics(line) => {
                    open = open && (format != Format::Json || writeln!(out, "{line}").is_ok());
                    counters.subtract_metrics();
                }
                Message::Flush(done) => {
                    // A dropped record is counted immediately. So the number that is written here includes all records
                    // that were dropped before the flush was requested.
                    open = open && write_dropped(&mut out, counters, format).and_then(|()| out.flush()).is_ok();
                    let _ = done.send(());
                }
            }
            next = queue.try_recv().ok();
        }
        open = open && write_dropped(&mut out, counters, format).and_then(|()| out.flush()).is_ok();
    }
}

/// Writes how many records were dropped since the last call, if any.
fn write_dropped(out: &mut impl Write, counters: &QueueCounters, format: Format) -> io::Result<()> {
    match counters.take_dropped() {
        0 => Ok(()),
        dropped => {
            let lines = count(dropped, "line");
            let text = format!("dropped {lines} of the log: lines were logged faster than they could be written");
            let record = LogRecord::message(Level::Warning, None, text);
            write_record(out, SystemTime::now(), None, &record, format)
        }
    }
}

fn write_record(
    out: &mut impl Write,
    at: SystemTime,
    member: Option<&MemberName>,
    record: &LogRecord,
    format: Format,
) -> io::Result<()> {
    match format {
        Format::Text { colour } => writeln!(out, "{}", to_text(record, at, member, colour)),
        Format::Json => writeln!(out, "{}", to_json(record, at, member)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use isomer_telemetry::StandardStream;

    use super::*;
    use crate::queue::{BYTES_MAX, GUEST_BYTES_MAX, OUTPUT_RECORDS_MAX};

    /// A pipe whose writer blocks until the pipe is opened.
    #[derive(Clone, Default)]
    struct BlockedPipe(Arc<Pipe>);

    #[derive(Default)]
    struct Pipe {
        /// Whether the pipe is open, and the bytes that were written to it.
        state: Mutex<(bool, Vec<u8>)>,
        changed: Condvar,
    }

    impl BlockedPipe {
        fn open(&self) {
            self.0.state.lock().unwrap().0 = true;
            self.0.changed.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.state.lock().unwrap().1.clone()).unwrap()
        }
    }

    impl Write for BlockedPipe {
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

    fn log_to(pipe: &BlockedPipe) -> Log {
        Log::start(pipe.clone(), Format::Text { colour: false }, true).unwrap()
    }

    fn output(line: &[u8]) -> Event<'_> {
        Event::OutputLine { component: "noisy", stream: StandardStream::Stdout, request: None, trace: None, line }
    }

    #[test]
    fn a_guest_that_prints_without_end_does_not_crowd_out_messages() {
        let pipe = BlockedPipe::default();
        let log = log_to(&pipe);
        for _ in 0..RECORDS_MAX * 3 {
            log.emit(output(b"noise"));
        }
        log.note("it was stopped");
        pipe.open();
        log.flush();
        log.emit(output(b"again"));
        log.flush();
        let text = pipe.text();
        assert!(text.contains("it was stopped\n") && text.contains("| again\n"), "{text}");
        // The writer's thread takes lines from the queue until its buffer of 8 KiB is full, and then blocks. A line has
        // more than 8 bytes, so it has taken at most this number of lines.
        let taken_max = (8 << 10) / 8;
        assert!(text.matches("| noise\n").count() <= OUTPUT_RECORDS_MAX + taken_max);
    }

    #[test]
    fn waiting_records_are_bounded_in_bytes() {
        let pipe = BlockedPipe::default();
        let log = log_to(&pipe);
        for _ in 0..RECORDS_MAX {
            log.warn("x".repeat(1 << 20));
        }
        let waiting = log.counters.bytes();
        assert!(waiting <= BYTES_MAX, "{waiting} bytes wait");
        let line = "x".repeat(8 << 10);
        for _ in 0..RECORDS_MAX {
            log.emit(output(line.as_bytes()));
        }
        let of_guests = log.counters.guest_bytes();
        assert!(of_guests <= GUEST_BYTES_MAX, "{of_guests} bytes of guests wait");
        pipe.open();
        log.flush();
        assert_eq!((log.counters.bytes(), log.counters.guest_bytes()), (0, 0));
        let text = pipe.text();
        assert!(text.contains("lines of the log: lines were logged faster"));
        assert!(text.lines().all(|line| line.len() < 10 << 10));
    }

    #[test]
    fn a_blocked_pipe_blocks_no_writer_and_losses_are_logged() {
        let pipe = BlockedPipe::default();
        let log = log_to(&pipe);
        for number in 0..RECORDS_MAX * 3 {
            log.note(format!("line {number}"));
        }
        pipe.open();
        log.flush();
        log.note("after");
        log.flush();
        let text = pipe.text();
        assert!(text.contains("line 0\n"));
        assert!(text.contains("lines of the log: lines were logged faster"), "{text}");
    }
}
