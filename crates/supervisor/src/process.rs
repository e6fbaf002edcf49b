//! One member as seen from the supervisor: its process, its messages, its output, and its exit.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use isomer_display::ProcessExit;
use isomer_observe::MemberLog;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::control::send_listener;
use crate::messages::{MemberMessage, SupervisorMessage};
use crate::trace_orders::{self, TraceOrders};

/// The maximum length in bytes of a line of a member's output. Longer lines are split. Log lines are far shorter.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The maximum number of lines that are kept from the end of a member's standard error. They are shown if the member
/// ends too often.
const LAST_LINES_MAX: usize = 20;

/// The maximum time for which the pipes of a member are still read after its process has exited. A limit is needed
/// because a process that the member started may keep the pipes open.
const PIPES_WAIT_MAX: Duration = Duration::from_secs(1);

/// An event of a member.
pub(crate) enum MemberEvent {
    Prepared,
    Ready,
    Drained(u64),
    Ended(ProcessEnd),
}

/// How a member's process ended, and what the member reported before it ended.
#[derive(Debug)]
pub struct ProcessEnd {
    /// The process's exit status, or the error of reading the status.
    pub status: io::Result<ExitStatus>,
    /// The error that the member reported before it ended, rendered for people, and the error's exit code.
    pub error: Option<(String, u8)>,
    /// The last lines of the member's standard error.
    pub last_lines: Vec<String>,
}

impl ProcessEnd {
    /// Describes for people how the process ended, as a phrase that begins with a verb.
    pub fn describe(&self) -> String {
        match &self.status {
            Ok(status) => ProcessExit::from(*status).to_string(),
            Err(error) => format!("ended with an unknown status ({error})"),
        }
    }
}

/// A member's running process. Dropping this value kills the process.
pub(crate) struct MemberProcess {
    pub(crate) pid: u32,
    requests: UnboundedSender<ProcessRequest>,
}

enum ProcessRequest {
    Send(SupervisorMessage),
    Kill,
}

impl MemberProcess {
    /// Starts this program with `arguments`. Sends it the member's task and, if `listener` is set, the front door's
    /// socket. If `orders` is set, the process receives the orders to trace requests while it accepts connections.
    /// `events` receives all events of the process, each with the member's `number`. The last event is
    /// [`MemberEvent::Ended`].
    pub(crate) fn start(
        arguments: &[OsString],
        task: &[u8],
        listener: Option<&TcpListener>,
        number: usize,
        log: MemberLog,
        orders: Option<TraceOrders>,
        events: UnboundedSender<(usize, MemberEvent)>,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut process = Command::new(this_program()?)
            .arg0("isomer")
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Moves the member out of the terminal's foreground process group, because only the supervisor handles
            // Ctrl-C.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id().expect("it was not waited for yet");
        send_listener(&ours, listener)?;
        ours.set_nonblocking(true)?;
        let (messages, control) = UnixStream::from_std(ours)?.into_split();
        let (requests, requested) = unbounded_channel();
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let task = [task, b"\n"].concat();
        tokio::spawn(async move {
            let messages = read_messages(BufReader::new(messages), |event| {
                let _ = events.send((number, event));
            });
            let relayed = async {
                let log = &log;
                let out = read_lines(stdout, |line| log.relay(&line));
                let mut last_lines = VecDeque::new();
                let err = read_lines(stderr, |line| {
                    log.warn(line.as_str());
                    last_lines.truncate(LAST_LINES_MAX - 1);
                    last_lines.push_front(line);
                });
                let (error, (), ()) = futures::join!(messages, out, err);
                (error, last_lines.into_iter().rev().collect::<Vec<_>>())
            };
            let mut relayed = std::pin::pin!(relayed);
            let mut ended = std::pin::pin!(run(&mut process, control, task, requested, orders));
            // Reads the pipes while the process runs. After the process has ended, reads the rest of the pipes.
            let (status, rest) = tokio::select! {
                status = &mut ended => (status, tokio::time::timeout(PIPES_WAIT_MAX, relayed).await.ok()),
                rest = &mut relayed => (ended.await, Some(rest)),
            };
            let (error, last_lines) = rest.unwrap_or_default();
            log.end_process();
            let _ = events.send((number, MemberEvent::Ended(ProcessEnd { status, error, last_lines })));
        });
        Ok(Self { pid, requests })
    }

    pub(crate) fn send(&self, message: SupervisorMessage) {
        let _ = self.requests.send(ProcessRequest::Send(message));
    }

    pub(crate) fn kill(&self) {
        let _ = self.requests.send(ProcessRequest::Kill);
    }
}

/// Sends `unsent` and further messages to the process until the process exits.
async fn run(
    process: &mut Child,
    mut control: OwnedWriteHalf,
    mut unsent: Vec<u8>,
    mut requests: UnboundedReceiver<ProcessRequest>,
    orders: Option<TraceOrders>,
) -> io::Result<ExitStatus> {
    let mut received = None;
    loop {
        tokio::select! {
            status = process.wait() => return status,
            written = control.write(&unsent), if !unsent.is_empty() => {
                // A process whose channel cannot be written to has exited or is about to be killed, so the messages are
                // discarded.
                let written = written.unwrap_or(unsent.len());
                unsent.drain(..written);
            }
            // Orders are not sent while the member does not read its messages.
            next = trace_orders::next(&mut received), if unsent.is_empty() => {
                append(&mut unsent, &SupervisorMessage::Trace(next));
            }
            request = requests.recv() => match request {
                Some(ProcessRequest::Send(message)) => {
                    match message {
                        SupervisorMessage::Accept => received = orders.as_ref().map(TraceOrders::receiver),
                        SupervisorMessage::Pause { .. } | SupervisorMessage::Stop => received = None,
                        SupervisorMessage::Start { .. } | SupervisorMessage::Trace(_) => {}
                    }
                    append(&mut unsent, &message);
                }
                // `None` means that the [`MemberProcess`] was dropped.
                Some(ProcessRequest::Kill) | None => {
                    process.kill().await?;
                }
            },
        }
    }
}

/// Appends a message to the bytes that wait to be sent.
fn append(unsent: &mut Vec<u8>, message: &SupervisorMessage) {
    unsent.extend(serde_json::to_vec(message).expect("a message is plain data"));
    unsent.push(b'\n');
}

/// Reads a member's messages to the end, and calls `report` for each change of its state. Returns the error that the
/// member reported, if any.
async fn read_messages(
    mut channel: impl AsyncBufRead + Unpin,
    mut report: impl FnMut(MemberEvent),
) -> Option<(String, u8)> {
    let mut error = None;
    let mut line = String::new();
    while let Ok(1..) = (&mut channel).take(LINE_BYTES_MAX).read_line(&mut line).await {
        match serde_json::from_str(&line) {
            Ok(MemberMessage::Prepared) => report(MemberEvent::Prepared),
            Ok(MemberMessage::Ready) => report(MemberEvent::Ready),
            Ok(MemberMessage::Drained { number }) => report(MemberEvent::Drained(number)),
            Ok(MemberMessage::Failed { text, code }) => error = Some((text, code)),
            Err(_) => {}
        }
        line.clear();
    }
    error
}

/// Calls `each` for every line that is read from `pipe`.
async fn read_lines(pipe: Option<impl AsyncRead + Unpin>, mut each: impl FnMut(String)) {
    let Some(pipe) = pipe else { return };
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut pipe).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        each(text.trim_end_matches(['\n', '\r']).to_owned());
        line.clear();
    }
}

/// Returns the executable of this process, even if the file at its path has been replaced since this process started:
/// member and supervisor must be the same version.
fn this_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}
