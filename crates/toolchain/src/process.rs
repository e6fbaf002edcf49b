//! Runs programs and reports the command, its output and how it ended.

use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::error::ToolchainError;

/// The progress of an installation or a build. The caller shows it to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildProgress<'a> {
    /// A new step: a line for people, or the command that starts.
    Step(&'a str),
    /// A line that a running program printed.
    Output(&'a str),
}

/// A function that receives progress.
pub type ProgressReporter<'a> = &'a mut dyn FnMut(BuildProgress<'_>);

/// The maximum number of lines of a program's output that an error contains. The last lines are kept, because they
/// contain the cause.
const OUTPUT_LINES_MAX: usize = 400;

/// The interval at which a program that prints nothing is checked for its exit. Usually, the end of its output is
/// noticed first.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The maximum time to wait for another line after a program has ended. The wait is limited because a process that the
/// program started may keep its output open.
const LAST_LINE_MAX: Duration = Duration::from_millis(200);

/// The maximum time for which output is read after the program has ended.
const LAST_LINES_MAX: Duration = Duration::from_secs(2);

/// Runs a program until it ends, and reports its stdout and stderr line by line.
///
/// # Errors
/// If the program cannot be started, or if its exit status is not zero.
pub fn run(command: &mut Command, report: ProgressReporter<'_>) -> Result<(), ToolchainError> {
    run_within(command, None, report)
}

/// Runs a program as [`run`] does, but stops it after `time` and returns an error.
pub(crate) fn run_within(
    command: &mut Command,
    time: Option<Duration>,
    report: ProgressReporter<'_>,
) -> Result<(), ToolchainError> {
    let line = command_line(command);
    report(BuildProgress::Step(&format!("$ {line}")));
    let (status, output) = run_quietly(command, time, report)
        .map_err(|source| ToolchainError::CannotRun { command: line.clone(), source })?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(ToolchainError::CommandFailed { command: line, status, output }),
        None => Err(ToolchainError::TimedOut { command: line, seconds: time.unwrap_or_default().as_secs(), output }),
    }
}

/// Runs a program without reporting its command line. Returns its exit status (`None` if the time limit stopped it) and
/// its last lines of output.
pub(crate) fn run_quietly(
    command: &mut Command,
    time: Option<Duration>,
    report: ProgressReporter<'_>,
) -> std::io::Result<(Option<ExitStatus>, String)> {
    let (reader, writer) = std::io::pipe()?;
    let mut child = spawn(command.stdout(writer.try_clone()?).stderr(writer))?;
    let lines = lines(reader);
    let deadline = time.map(|time| Instant::now() + time);
    let (ended, output) = collect(&lines, &mut child, deadline, report)?;
    if !ended {
        stop(&mut child);
        return Ok((None, output));
    }
    Ok((Some(child.wait()?), output))
}

/// The result of a program whose standard output is captured.
pub(crate) struct Captured {
    pub status: ExitStatus,
    /// The complete stdout.
    pub stdout: String,
    /// The last lines of stderr. They have been reported already.
    pub stderr: String,
}

/// Runs a program, reports its stderr line by line, and returns its stdout.
pub(crate) fn capture(command: &mut Command, report: ProgressReporter<'_>) -> std::io::Result<Captured> {
    let (reader, writer) = std::io::pipe()?;
    let mut child = spawn(command.stdout(Stdio::piped()).stderr(writer))?;
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let lines = lines(reader);
    let (_, stderr) = collect(&lines, &mut child, None, report)?;
    let stdout = reading.join().expect("reading a pipe does not panic")?;
    let status = child.wait()?;
    Ok(Captured { status, stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr })
}

fn spawn(command: &mut Command) -> std::io::Result<Child> {
    // Building a component runs third-party code, which must not see a node's token.
    let child = command.env_remove("ISOMER_TOKEN").stdin(Stdio::null()).spawn();
    // `command` holds the write end of the pipe, which must be closed in this process: the reader would otherwise never
    // see the end of the output.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    child
}

/// Returns a channel with the lines of a pipe. A thread reads the pipe to its end even if the receiver is dropped,
/// because a process in the background must not fail when it writes.
fn lines(reader: PipeReader) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let _ = sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
        }
    });
    lines
}

/// Reports lines until the pipe is closed or the program has ended (returns true), or until the deadline (returns
/// false). The end of the program is checked because a process that it left in the background may keep the pipe open.
/// Also returns the last lines.
fn collect(
    lines: &Receiver<String>,
    child: &mut Child,
    deadline: Option<Instant>,
    report: ProgressReporter<'_>,
) -> std::io::Result<(bool, String)> {
    let mut last = std::collections::VecDeque::new();
    // The time at which reading stops. It is set when the program has ended.
    let mut read_until = None;
    let ended = loop {
        let now = Instant::now();
        let left = |until: Instant| until.saturating_duration_since(now);
        let wait = match (read_until, deadline) {
            (Some(read_until), _) => LAST_LINE_MAX.min(left(read_until)),
            (None, Some(deadline)) => CHECK_INTERVAL.min(left(deadline)),
            (None, None) => CHECK_INTERVAL,
        };
        match lines.recv_timeout(wait) {
            Ok(line) => {
                report(BuildProgress::Output(&line));
                if last.len() == OUTPUT_LINES_MAX {
                    last.pop_front();
                }
                last.push_back(line);
                if read_until.is_some_and(|read_until| now >= read_until) {
                    break true;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) if read_until.is_some() => break true,
            Err(RecvTimeoutError::Timeout) => {
                if child.try_wait()?.is_some() {
                    read_until = Some(now + LAST_LINES_MAX);
                } else if deadline.is_some_and(|deadline| now >= deadline) {
                    break false;
                }
            }
        }
    };
    Ok((ended, Vec::from(last).join("\n")))
}

fn stop(child: &mut Child) {
    // Both calls fail only if the program has ended by itself.
    let _killed = child.kill();
    let _waited = child.wait();
}

/// Returns the command as a user would type it.
pub(crate) fn command_line(command: &Command) -> String {
    let quote = |text: &std::ffi::OsStr| {
        let text = text.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%~".contains(c);
        if !text.is_empty() && text.chars().all(plain) { text.into_owned() } else { format!("'{text}'") }
    };
    let mut words = vec![quote(command.get_program())];
    words.extend(command.get_args().map(quote));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_are_reported_in_order() {
        let mut lines = Vec::new();
        let result = run(&mut shell("echo one; echo two >&2; printf three"), &mut |progress| {
            if let BuildProgress::Output(line) = progress {
                lines.push(line.to_owned());
            }
        });
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn a_failure_names_the_command_and_keeps_its_output() {
        let error = run(&mut shell("echo broken; exit 3"), &mut |_| {}).expect_err("the status is 3");
        assert_eq!(error.to_string(), "`sh -c 'echo broken; exit 3'` ended with exit code 3");
        let ToolchainError::CommandFailed { output, .. } = error else { panic!("{error:?}") };
        assert_eq!(output, "broken");
    }

    #[test]
    fn a_killed_program_may_have_run_out_of_memory() {
        let error = run(&mut shell("kill -KILL $$"), &mut |_| {}).expect_err("the command is killed");
        assert_eq!(error.to_string(), "`sh -c 'kill -KILL $$'` was killed by SIGKILL (possibly out of memory)");
    }

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let time = Some(Duration::from_millis(50));
        let error =
            run_within(&mut shell("echo started; exec sleep 600"), time, &mut |_| {}).expect_err("the program hangs");
        assert!(matches!(error, ToolchainError::TimedOut { .. }), "{error:?}");
    }

    #[test]
    fn a_process_in_the_background_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let lives = dir.path().join("lives");
        std::fs::write(&lives, "").expect("written");
        // The loop in the background keeps the output open. It ends when the test removes the file.
        let script = format!("while [ -e '{}' ]; do sleep 0.02; done & echo started", lives.display());
        let mut lines = Vec::new();
        let time = Some(Duration::from_secs(60));
        let ran = run_within(&mut shell(&script), time, &mut |progress| {
            if let BuildProgress::Output(line) = progress {
                lines.push(line.to_owned());
            }
        });
        assert!(ran.is_ok() && lines == ["started"], "{ran:?} {lines:?}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-here"), &mut |_| {}).expect_err("there is none");
        assert_eq!(error.to_string(), "`no-such-program-here` cannot be run");
    }
}
