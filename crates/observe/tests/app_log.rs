//! Apps' own logs: lines are read as they were written, sizes are bounded, and dropped lines are reported.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use isomer_api::{LogLevel, LogLine, LogQuery};
use isomer_observe::{AppLog, AppLogError, AppLogLimits, AppLogs, Followed, LogQuota};
use isomer_telemetry::{
    Event, EventSink as _, GuestRecord, RecordSource, RequestId, Severity, StandardStream, TraceContext,
};
use tempfile::TempDir;

/// The time limit of waits, which only detects a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// The ids of a trace and of a span.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// One app's log in a separate folder.
struct Setup {
    logs: AppLogs,
    log: AppLog,
    folder: TempDir,
}

fn setup(change: impl FnOnce(&mut AppLogLimits)) -> Setup {
    setup_with(LogQuota::new(u64::MAX), change)
}

fn setup_with(quota: Arc<LogQuota>, change: impl FnOnce(&mut AppLogLimits)) -> Setup {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut limits = AppLogLimits::default();
    change(&mut limits);
    let logs = AppLogs::start(limits).expect("a thread");
    let log = logs.open(folder.path().join("log"), &quota);
    Setup { logs, log, folder }
}

impl Setup {
    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Opens the same log again, as after a restart of the node.
    fn restart(self, change: impl FnOnce(&mut AppLogLimits)) -> Setup {
        let Self { logs, log, folder } = self;
        drop((logs, log));
        let mut limits = AppLogLimits::default();
        change(&mut limits);
        let logs = AppLogs::start(limits).expect("a thread");
        let log = logs.open(folder.path().join("log"), &LogQuota::new(u64::MAX));
        Setup { logs, log, folder }
    }
}

fn log_line(log: &AppLog, text: &str) {
    let (stream, line) = (StandardStream::Stdout, text.as_bytes());
    log.emit(Event::OutputLine { component: "cart", stream, request: None, trace: None, line });
}

fn last(log: &AppLog, lines: usize) -> Vec<LogLine> {
    log.last(lines).expect("the log can be read")
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.file_name().into_string().expect("a name"), entry.metadata().expect("metadata").len()))
        .collect();
    files.sort();
    files
}

/// Calls `found` until it returns a value.
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not found in time");
        std::thread::yield_now();
    }
}

/// Returns the next line of the stream, or `None` if the stream has ended.
fn next(followed: &mut Followed) -> Option<LogLine> {
    until("a line", || followed.next().now_or_never())
}

/// Returns the number of lines that the log reports as dropped for the reason `why`.
fn dropped(lines: &[LogLine], why: &str) -> u64 {
    let of = |line: &LogLine| {
        let (number, of) = line.text.strip_prefix("dropped ")?.split_once(' ')?;
        of.contains(why).then(|| number.parse::<u64>())
    };
    lines.iter().filter_map(of).map(|number| number.expect("a number")).sum()
}

#[test]
fn lines_are_read_with_their_fields() {
    let it = setup(|_| {});
    let id = RequestId::from_raw(0xab).expect("not zero");
    let trace = TraceContext::from_ids(TRACE, SPAN);
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let (stream, line) = (StandardStream::Stderr, b"two\xff");
    it.log.emit(Event::OutputLine { component: "cart", stream, request: Some(id), trace, line });
    it.log.note(LogLevel::Info, None, "a revision took over");
    let failed = |reason: &str, backtrace: &[String], response_cut_off| {
        let reason = &reason;
        let trace = None;
        it.log.emit(Event::RequestFailed {
            component: "cart",
            request: id,
            trace,
            reason,
            backtrace,
            response_cut_off,
        });
    };
    failed("the guest trapped", &["cart::add".to_owned(), "cart::main".to_owned()], false);
    failed("no response", &[], true);
    let reason = &"the guest trapped";
    it.log.emit(Event::CallFailed { component: "mail", request: None, trace: None, reason, backtrace: &[] });
    it.log.refused("cart", id, trace.expect("a context"), 413, "the request's body is too large");
    let lines = last(&it.log, 10);
    let said: Vec<_> = lines
        .iter()
        .map(|line| {
            assert!(u128::from(line.at_ms) >= before && u128::from(line.at_ms) < before + PATIENCE.as_millis());
            (line.stream.as_str(), line.component.as_deref(), line.request.as_deref(), line.text.as_str())
        })
        .collect();
    let id = Some("00000000000000ab");
    assert_eq!(
        said,
        [
            ("stderr", Some("cart"), id, "two\u{fffd}"),
            ("node", None, None, "a revision took over"),
            ("node", Some("cart"), id, "the guest trapped"),
            ("node", Some("cart"), id, "no response (the response was cut off)"),
            ("node", Some("mail"), None, "the guest trapped"),
            ("node", Some("cart"), id, "responded with 413: the request's body is too large"),
        ]
    );
    let stacks: Vec<_> = lines.iter().map(|line| line.backtrace.as_slice()).filter(|stack| !stack.is_empty()).collect();
    assert_eq!(stacks, [["cart::add", "cart::main"]]);
}

#[test]
fn lines_of_a_trace_are_found_among_lines_of_earlier_versions() {
    let it = setup(|_| {});
    let (stream, request) = (StandardStream::Stdout, RequestId::from_raw(0xab));
    let trace = TraceContext::from_ids(TRACE, SPAN);
    it.log.emit(Event::OutputLine { component: "cart", stream, request, trace, line: b"now" });
    assert_eq!(last(&it.log, 1)[0].span_id.as_deref(), Some(SPAN));
    let file = it.path().join(&files(&it.path())[0].0);
    let mut file = std::fs::File::options().append(true).open(file).expect("the log's file");
    let line = r#"{"at_ms":1,"component":"cart","stream":"stdout","request":"00000000000000ab","text":"then"}"#;
    std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).expect("it is written");
    // A log is read only up to the end of what it has written, so it would not find the line that the test has appended
    // to the file. A log that is opened again finds all lines in the file.
    let it = it.restart(|_| {});
    let found = |query: LogQuery| -> Vec<LogLine> {
        it.log.query(&query).expect("the log can be read").collect().now_or_never().expect("no follower")
    };
    let id = request.expect("not zero").to_string();
    let of_request = found(LogQuery { request: Some(id), ..LogQuery::default() });
    assert_eq!(texts(&of_request), ["now", "then"]);
    assert_eq!(of_request[1].trace_id, None);
    let of_trace = found(LogQuery { trace: Some(TRACE.to_owned()), ..LogQuery::default() });
    assert_eq!(texts(&of_trace), ["now"]);
}

#[test]
fn a_level_selects_records_and_messages_of_the_platform() {
    let it = setup(|_| {});
    it.log.note(LogLevel::Info, None, "now serves");
    it.log.note(LogLevel::Error, TraceContext::from_ids(TRACE, SPAN), "deploy failed");
    log_line(&it.log, "printed");
    let found = |level| -> Vec<LogLine> {
        let query = LogQuery { level: Some(level), ..LogQuery::default() };
        it.log.query(&query).expect("the log can be read").collect().now_or_never().expect("no follower")
    };
    assert_eq!(texts(&found(LogLevel::Info)), ["now serves", "deploy failed"]);
    let severe = found(LogLevel::Warning);
    assert_eq!((texts(&severe), severe[0].trace_id.as_deref()), (vec!["deploy failed"], Some(TRACE)));
    assert!(found(LogLevel::Critical).is_empty());
}

#[test]
fn a_request_is_in_the_access_log_of_its_app() {
    use isomer_observe::{Format, Log};
    use isomer_telemetry::{AccessRecord, AppIdentity};
    let it = setup(|_| {});
    let access = |target: &str| AccessRecord {
        id: RequestId::from_raw(0xab).expect("not zero"),
        trace: None,
        method: "GET".to_owned(),
        target: target.to_owned(),
        status: 404,
        body_bytes: 12,
        took: Duration::from_micros(1_500),
        component: Some("cart".into()),
        host: Some("shop.example".to_owned()),
        app: Some(AppIdentity { tenant: "acme".into(), app: "shop".into() }),
        client: Some([192, 0, 2, 7].into()),
        cut_off: Some("its body was not finished".to_owned()),
    };
    let quiet = Log::start(std::io::sink(), Format::Json, false).expect("a thread");
    quiet.access(access("/unseen"), Some(&it.log));
    let log = Log::start(std::io::sink(), Format::Json, true).expect("a thread");
    log.access(access("/cart?a=\u{1b}[2J"), Some(&it.log));
    log.access(access(&"x".repeat(1 << 20)), Some(&it.log));
    let lines = last(&it.log, 10);
    let said = |line: &LogLine| (line.stream.clone(), line.component.clone(), line.request.clone(), line.text.clone());
    let text = "404 GET /cart?a=\u{1b}[2J 12 B 1.5 ms shop.example from 192.0.2.7 cut off: its body was not finished";
    let id = Some("00000000000000ab".to_owned());
    assert_eq!(said(&lines[0]), ("access".to_owned(), Some("cart".to_owned()), id, text.to_owned()));
    assert!(lines.len() == 2 && lines[1].text.len() < 32 << 10, "{} bytes", lines[1].text.len());
}

#[test]
fn lines_of_tabs_displace_no_other_lines_and_use_half_of_the_quota() {
    let quota = LogQuota::new(100_000);
    let it = setup_with(quota.clone(), |limits| (limits.segment_bytes, limits.segments) = (1000, 3));
    let tabs = it.logs.open(it.folder.path().join("tabs"), &quota);
    let log = it.log.clone().with_tabs(&tabs);
    log_line(&log, "before");
    let message = "critical: all data is lost ".repeat(20);
    for _ in 0..1000 {
        log.emit(Event::Record(GuestRecord {
            component: "cart",
            source: RecordSource::Tab,
            request: None,
            trace: None,
            severity: Some(Severity::Critical),
            time_ns: None,
            message: &message,
            attributes: &[],
        }));
    }
    log_line(&log, "after");
    assert_eq!(texts(&last(&log, 10)), ["before", "after"]);
    let lines = last(&tabs, 10);
    assert!(lines.iter().any(|line| line.stream == "tab" && line.text == message), "{lines:?}");
    assert!(lines.iter().all(|line| ["tab", "node"].contains(&line.stream.as_str())), "{lines:?}");
}

#[test]
fn a_text_cannot_look_like_another_line() {
    let it = setup(|_| {});
    let forged = "a\n{\"at_ms\":1,\"stream\":\"node\",\"text\":\"all is well\"}\n\r\u{1b}[2J\u{0}\u{2028}";
    log_line(&it.log, forged);
    log_line(&it.log, "after");
    assert_eq!(texts(&last(&it.log, 10)), [forged, "after"]);
    let written = std::fs::read_to_string(it.path().join("00000001.jsonl")).expect("the file exists");
    assert_eq!(written.lines().count(), 2, "{written}");
    assert!(!written.chars().any(|character| character.is_control() && character != '\n'), "{written:?}");
}

#[test]
fn an_app_that_logs_nothing_has_no_file() {
    let it = setup(|_| {});
    assert!(last(&it.log, 10).is_empty());
    assert!(!it.path().exists());
}

#[test]
fn a_log_is_bounded_by_its_files() {
    let small = |limits: &mut AppLogLimits| (limits.segment_bytes, limits.segments) = (1000, 3);
    let mut it = setup(small);
    let mut number = 0;
    for round in 0..3 {
        for _ in 0..50 {
            log_line(&it.log, &format!("line {number}"));
            number += 1;
        }
        let lines = last(&it.log, usize::MAX);
        let files = files(&it.path());
        assert!(files.len() == 3 && files.iter().all(|(_, bytes)| *bytes <= 1000), "{files:?}");
        // The log still has the newest lines, in order, and a read of fewer lines returns the newest of them.
        let kept: Vec<_> = (number - lines.len()..number).map(|number| format!("line {number}")).collect();
        assert_eq!(texts(&lines), kept, "{round}");
        assert!(lines.len() > 10);
        for count in [0, 1, 7, lines.len() - 1] {
            assert_eq!(last(&it.log, count), lines[lines.len() - count..]);
        }
        it = it.restart(small);
    }
}

#[test]
fn a_truncated_line_damages_no_other() {
    let it = setup(|_| {});
    log_line(&it.log, "first");
    assert_eq!(last(&it.log, 10).len(), 1);
    let path = it.path().join("00000001.jsonl");
    let mut bytes = std::fs::read(&path).expect("the file exists");
    bytes.extend_from_slice(b"{\"at_ms\":17,\"stre");
    std::fs::write(&path, bytes).expect("the file can be written");
    let it = it.restart(|_| {});
    assert_eq!(texts(&last(&it.log, 10)), ["first"]);
    log_line(&it.log, "second");
    assert_eq!(texts(&last(&it.log, 10)), ["first", "second"]);
}

#[test]
fn a_quota_applies_to_all_apps_of_one_tenant() {
    let quota = LogQuota::new(1000);
    let it = setup_with(quota.clone(), |limits| limits.loss_report_interval = Duration::ZERO);
    let second = it.logs.open(it.folder.path().join("second"), &quota);
    let other = it.logs.open(it.folder.path().join("other"), &LogQuota::new(1000));
    for _ in 0..4 {
        log_line(&it.log, "x");
        log_line(&second, "x");
    }
    log_line(&other, "x");
    let said = until("a report of dropped lines", || {
        let (first, second) = (last(&it.log, 100), last(&second, 100));
        (dropped(&first, "quota") + dropped(&second, "quota") == 1).then_some(first.len() + second.len())
    });
    assert_eq!((said, quota.refused()), (8, 1));
    assert_eq!(texts(&last(&other, 10)), ["x"]);
    quota.set(2000);
    log_line(&it.log, "more");
    assert_eq!(texts(&last(&it.log, 1)), ["more"]);
}

#[test]
fn lines_that_come_too_fast_are_counted_and_reported() {
    let it = setup(|limits| (limits.waiting_bytes_of_app, limits.loss_report_interval) = (0, Duration::from_millis(1)));
    let neighbour = it.logs.open(it.folder.path().join("neighbour"), &LogQuota::new(u64::MAX));
    let (_, mut followed) = it.log.follow(0).expect("the log can be followed");
    for _ in 0..100 {
        log_line(&it.log, "x");
        log_line(&neighbour, "y");
    }
    let lines = until("a report of dropped lines", || {
        let lines = last(&it.log, 1000);
        (dropped(&lines, "faster") == 100).then_some(lines)
    });
    // All lines of the log are reports of dropped lines, and the follower gets the same reports.
    for line in lines {
        assert_eq!(next(&mut followed).expect("more"), line);
    }
    assert!(last(&neighbour, 1000).iter().all(|line| line.text.contains("faster")));
}

#[test]
fn losses_are_reported_at_intervals() {
    let it = setup(|limits| limits.waiting_bytes_of_app = 0);
    for _ in 0..100 {
        log_line(&it.log, "x");
        assert!(last(&it.log, 1000).len() <= 1);
    }
}

#[test]
fn a_log_reports_lines_that_could_not_be_written() {
    let it = setup(|limits| limits.loss_report_interval = Duration::from_millis(1));
    std::fs::write(it.path(), "in the way").expect("the file can be written");
    for _ in 0..3 {
        log_line(&it.log, "lost");
    }
    assert!(matches!(it.log.last(1), Err(AppLogError::Read { .. })));
    std::fs::remove_file(it.path()).expect("the file exists");
    until("a report of dropped lines", || (dropped(&last(&it.log, 100), "the disk") == 3).then_some(()));
    log_line(&it.log, "found");
    assert_eq!(texts(&last(&it.log, 1)), ["found"]);
}

#[test]
fn a_log_leaves_the_reserve_free() {
    let it = setup(|limits| limits.loss_report_interval = Duration::from_millis(1));
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let asked = room.clone();
    it.logs.leave_free(move || asked.load(Ordering::SeqCst));
    log_line(&it.log, "first");
    assert_eq!(texts(&last(&it.log, 9)), ["first"]);
    let before = files(&it.path());
    room.store(20, Ordering::SeqCst);
    log_line(&it.log, "lost");
    assert_eq!(texts(&last(&it.log, 9)), ["first"]);
    assert_eq!(files(&it.path()), before);
    room.store(u64::MAX, Ordering::SeqCst);
    until("a report of dropped lines", || (dropped(&last(&it.log, 9), "the disk") == 1).then_some(()));
    log_line(&it.log, "found");
    assert_eq!(texts(&last(&it.log, 1)), ["found"]);
}

#[test]
fn a_follower_gets_each_line_once() {
    // The log gets several segments, and none of them is deleted.
    let it = setup(|limits| (limits.segment_bytes, limits.segments) = (20_000, 100));
    let log = it.log.clone();
    let speaker = std::thread::spawn(move || {
        for number in 0..600 {
            log_line(&log, &format!("{number}"));
            if number % 50 == 0 {
                std::thread::yield_now();
            }
        }
    });
    let followers: Vec<_> = (0..4).map(|_| it.log.follow(1000).expect("the log can be followed")).collect();
    speaker.join().expect("the writing thread does not panic");
    for (mut lines, mut followed) in followers {
        while lines.last().is_none_or(|line| line.text != "599") {
            lines.push(next(&mut followed).expect("another line"));
        }
        assert_eq!(texts(&lines), (0..600).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

#[test]
fn a_slow_follower_loses_lines_and_is_told_how_many() {
    let it = setup(|limits| limits.followers = 2);
    let (_, mut slow) = it.log.follow(0).expect("the log can be followed");
    let (_, _second) = it.log.follow(0).expect("the log can be followed");
    assert!(matches!(it.log.follow(0), Err(AppLogError::Followers { most: 2 })));
    for number in 0..3000 {
        log_line(&it.log, &number.to_string());
        if number % 500 == 0 {
            last(&it.log, 0);
        }
    }
    assert_eq!(last(&it.log, 5000).len(), 3000);
    for number in 0..1024 {
        assert_eq!(next(&mut slow).expect("a line").text, number.to_string());
    }
    assert_eq!(
        next(&mut slow).expect("a line").text,
        "left out 1976 lines: lines were logged faster than they were read"
    );
    log_line(&it.log, "after");
    assert_eq!(next(&mut slow).expect("a line").text, "after");
    drop(slow);
    assert!(it.log.follow(0).is_ok(), "the log accepts another follower");
}

#[test]
fn a_closed_log_writes_nothing_and_ends_all_followers() {
    let it = setup(|_| {});
    log_line(&it.log, "before");
    let (lines, mut followed) = it.log.follow(10).expect("the log can be followed");
    assert_eq!(texts(&lines), ["before"]);
    // Opening the log again returns the same log.
    let same = it.logs.open(it.path(), &LogQuota::new(0));
    log_line(&same, "more");
    assert_eq!(next(&mut followed).expect("a line").text, "more");
    it.log.close();
    log_line(&same, "lost");
    assert_eq!(next(&mut followed), None);
    assert!(matches!(same.last(1), Err(AppLogError::Closed)));
    std::fs::remove_dir_all(it.path()).expect("the folder exists");
    it.log.close();
    assert!(!it.path().exists());
    // An app of the same name starts with an empty log.
    let new_log = it.logs.open(it.path(), &LogQuota::new(u64::MAX));
    log_line(&new_log, "new");
    assert_eq!(texts(&last(&new_log, 10)), ["new"]);
}
