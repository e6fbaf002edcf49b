//! One member as the supervisor sees it: a process, what it says, what it writes, and its end.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use isomer_display::Ended;
use isomer_observe::MemberLog;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::{Child as Process, Command as Program};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::control::send_listener;
use super::order::{Command, Order, Word};

/// A longer line is cut into pieces: the log's own lines are far below.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Lines of standard error that are kept, to be shown if the member dies too often.
const LAST_LINES_MAX: usize = 20;

/// How long a dead member's pipes are read on: somebody else may hold them.
const PIPES_WAIT_MAX: Duration = Duration::from_secs(1);

/// What the supervisor learns of a member.
pub(super) enum Event {
    Ready,
    Ended(End),
}

/// How a member's process ended.
pub(super) struct End {
    pub(super) status: io::Result<ExitStatus>,
    /// What it said itself: words for people, an exit code.
    pub(super) failed: Option<(String, u8)>,
    /// The last lines of its standard error.
    pub(super) last_lines: Vec<String>,
}

/// A member that runs. Dropping it kills the process.
pub(super) struct Child {
    pub(super) pid: u32,
    requests: UnboundedSender<Request>,
}

enum Request {
    Say(Command),
    Kill,
}

impl Child {
    /// Starts the process. `events` get this `number` with everything that happens to it, the end last.
    pub(super) fn start(
        order: &Order,
        listener: Option<&TcpListener>,
        number: usize,
        log: MemberLog,
        events: UnboundedSender<(usize, Event)>,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut process = Program::new(this_program()?)
            .arg0("isomer")
            .args(["run", "--member", "--shape", &order.shape, "--group", &order.group])
            .arg(&order.app_dir)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Not in the terminal's foreground group: its Ctrl-C is for the supervisor.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id().expect("it was not waited for yet");
        send_listener(&ours, listener)?;
        ours.set_nonblocking(true)?;
        let (said, control) = UnixStream::from_std(ours)?.into_split();
        let (requests, requested) = unbounded_channel();
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let order = serde_json::to_vec(order).expect("an order is plain data");
        tokio::spawn(async move {
            let words = words(BufReader::new(said), |word| match word {
                Word::Ready => {
                    let _ = events.send((number, Event::Ready));
                }
                Word::Failed { .. } => {}
            });
            let relayed = async {
                let log = &log;
                let out = lines(stdout, |line| log.relay(&line));
                let mut last_lines = VecDeque::new();
                let err = lines(stderr, |line| {
                    log.warn(line.as_str());
                    last_lines.truncate(LAST_LINES_MAX - 1);
                    last_lines.push_front(line);
                });
                let (failed, (), ()) = futures::join!(words, out, err);
                (failed, last_lines.into_iter().rev().collect::<Vec<_>>())
            };
            let mut relayed = std::pin::pin!(relayed);
            let mut ended = std::pin::pin!(run(&mut process, control, order, requested));
            // Both at once, until the process is gone; then what is left in the pipes.
            let (status, rest) = tokio::select! {
                status = &mut ended => (status, tokio::time::timeout(PIPES_WAIT_MAX, relayed).await.ok()),
                rest = &mut relayed => (ended.await, Some(rest)),
            };
            let (failed, last_lines) = rest.unwrap_or_default();
            let _ = events.send((number, Event::Ended(End { status, failed, last_lines })));
        });
        Ok(Self { pid, requests })
    }

    /// Asks it to finish what runs and end.
    pub(super) fn stop(&self) {
        let _ = self.requests.send(Request::Say(Command::Stop));
    }

    pub(super) fn kill(&self) {
        let _ = self.requests.send(Request::Kill);
    }
}

/// Tells the process what it is to do, until it ends.
async fn run(
    process: &mut Process,
    mut control: OwnedWriteHalf,
    mut line: Vec<u8>,
    mut requests: UnboundedReceiver<Request>,
) -> io::Result<ExitStatus> {
    line.push(b'\n');
    // Who does not read has ended or is about to be killed.
    let mut unsent = line;
    loop {
        tokio::select! {
            status = process.wait() => return status,
            written = control.write(&unsent), if !unsent.is_empty() => {
                let written = written.unwrap_or(unsent.len());
                unsent.drain(..written);
            }
            request = requests.recv() => match request {
                Some(Request::Say(command)) => {
                    unsent.extend(serde_json::to_vec(&command).expect("a command is plain data"));
                    unsent.push(b'\n');
                }
                // Dropped: nobody wants it any more.
                Some(Request::Kill) | None => {
                    process.kill().await?;
                }
            },
        }
    }
}

/// The words that a member says; its last words, if it had to end.
async fn words(mut said: impl AsyncBufRead + Unpin, mut heard: impl FnMut(&Word)) -> Option<(String, u8)> {
    let mut failed = None;
    let mut line = String::new();
    while let Ok(1..) = (&mut said).take(LINE_BYTES_MAX).read_line(&mut line).await {
        if let Ok(word) = serde_json::from_str(&line) {
            heard(&word);
            if let Word::Failed { text, code } = word {
                failed = Some((text, code));
            }
        }
        line.clear();
    }
    failed
}

/// Hands on a pipe's lines.
async fn lines(pipe: Option<impl AsyncRead + Unpin>, mut each: impl FnMut(String)) {
    let Some(pipe) = pipe else { return };
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut pipe).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        each(text.trim_end_matches(['\n', '\r']).to_owned());
        line.clear();
    }
}

/// This very program, also where its file was replaced meanwhile: a member must be what its supervisor is.
fn this_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

/// How a process ended, from the verb on.
pub(super) fn in_words(status: &io::Result<ExitStatus>) -> Arc<str> {
    match status {
        Ok(status) => Ended::from(*status).to_string().into(),
        Err(error) => format!("ended, and it is not known how ({error})").into(),
    }
}
