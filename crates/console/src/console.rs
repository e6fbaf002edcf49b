//! The terminal: messages, progress and questions on standard error, results on standard output.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use isomer_diagnostics::Renderer;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::cli_error::{CliError, FAILED};

/// The time between two frames of a spinner.
const SPIN_EVERY: Duration = Duration::from_millis(80);

/// Standard error as the output for messages to people.
#[derive(Clone, Copy)]
pub struct Console {
    colour: bool,
    terminal: bool,
}

impl Console {
    /// Creates the console. Standard error and the environment determine whether it shows colours and progress.
    pub fn open() -> Self {
        let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        Self { colour, terminal: std::io::stderr().is_terminal() }
    }

    /// Returns whether messages on standard error may have colours.
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// Returns whether standard output may have colours.
    pub fn stdout_colour(&self) -> bool {
        anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
    }

    /// Returns the renderer of diagnostics and errors.
    pub fn renderer(&self) -> Renderer {
        Renderer::new(self.colour)
    }

    /// Prints a message. Appends a newline if the message does not end with one. Ignores errors, such as a closed pipe.
    pub fn message(&self, text: &str) {
        let mut out = anstream::stderr().lock();
        let _ = out.write_all(text.as_bytes());
        if !text.ends_with('\n') {
            let _ = out.write_all(b"\n");
        }
    }

    /// Prints why a command failed. Returns the exit code.
    pub fn report(&self, error: &CliError) -> ExitCode {
        let (text, code) = error.render(&self.renderer());
        if !text.is_empty() {
            self.message(&text);
        }
        ExitCode::from(code)
    }

    /// Shows a line for the current step until the returned value is dropped. Shows nothing without a terminal.
    pub fn progress(&self) -> ProgressLine {
        if !self.terminal {
            return ProgressLine(None);
        }
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(SPIN_EVERY);
        ProgressLine(Some(bar))
    }

    /// Shows a progress bar for an upload of `bytes` bytes. Shows nothing without a terminal or if `bytes` is 0.
    pub fn upload(&self, bytes: u64) -> UploadBar {
        if !self.terminal || bytes == 0 {
            return UploadBar(None);
        }
        let bar = ProgressBar::new(bytes);
        let style = ProgressStyle::with_template("uploading {bar:30.cyan} {binary_bytes} of {binary_total_bytes}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        UploadBar(Some(Arc::new(Bar(bar))))
    }

    /// Returns whether messages are shown on a terminal. If not, they may be stored in a log, so they must not contain
    /// links that give access.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Returns whether the user can answer a question: standard error and standard input are terminals.
    pub fn is_interactive(&self) -> bool {
        self.terminal && std::io::stdin().is_terminal()
    }

    /// Asks a yes-or-no question, and returns whether the answer is yes. Returns `None` without a terminal.
    pub fn confirm(&self, question: &str) -> Option<bool> {
        if !self.is_interactive() {
            return None;
        }
        let mut out = anstream::stderr().lock();
        let _ = write!(out, "{question} [y/N] ").and_then(|()| out.flush());
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        Some(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// Asks for a line of text. Returns `None` without a terminal.
    pub fn ask(&self, question: &str) -> Option<String> {
        if !self.is_interactive() {
            return None;
        }
        let mut out = anstream::stderr().lock();
        let _ = write!(out, "{question}").and_then(|()| out.flush());
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.ok().map(|_| answer.trim().to_owned())
    }

    /// Asks for a text that is not shown while the user types it. Returns `None` without a terminal.
    pub fn ask_secret(&self, question: &str) -> Option<String> {
        if !self.is_interactive() {
            return None;
        }
        let _ = write!(anstream::stderr().lock(), "{question}");
        let shown = HiddenInput::start();
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        drop(shown);
        // The newline that the user has typed was not shown either.
        let _ = writeln!(anstream::stderr().lock());
        read.ok().map(|_| answer.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Asks for confirmation before data is removed. Does not ask if `yes` (the flag `--yes`) is set. `command` is the
    /// command line with that flag, which the error suggests if there is no terminal.
    ///
    /// # Errors
    /// If the user does not confirm, or if there is no terminal.
    pub fn confirm_removal(&self, question: &str, yes: bool, command: &str) -> Result<(), CliError> {
        if yes {
            return Ok(());
        }
        match self.confirm(question) {
            Some(true) => Ok(()),
            Some(false) => Err(CliError::ExitCode(FAILED)),
            None => Err(CliError::usage(
                "cannot ask for confirmation to remove data, because there is no terminal",
                command,
            )),
        }
    }
}

/// While this value exists, the terminal does not show what the user types.
struct HiddenInput(Option<Termios>);

impl HiddenInput {
    fn start() -> Self {
        let input = std::io::stdin();
        let Ok(before) = tcgetattr(&input) else { return Self(None) };
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        Self(tcsetattr(&input, OptionalActions::Flush, &hidden).is_ok().then_some(before))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// Prints a result on standard output. Ignores a closed pipe, because the reader needs no more output.
///
/// # Errors
/// If standard output cannot be written to.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output").into())
        }
        _ => Ok(()),
    }
}

/// The progress bar of an upload. The bar is removed when the last clone is dropped.
#[derive(Clone)]
pub struct UploadBar(Option<Arc<Bar>>);

struct Bar(ProgressBar);

impl UploadBar {
    /// Records that `bytes` more bytes were sent.
    pub fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.0.inc(bytes);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line that shows the current step. The line is removed when this value is dropped.
pub struct ProgressLine(Option<ProgressBar>);

impl ProgressLine {
    /// Shows `text` as the current step.
    pub fn step(&self, text: impl Into<String>) {
        if let Some(bar) = &self.0 {
            bar.set_message(text.into());
        }
    }

    /// Prints a line above the current step.
    pub fn line(&self, text: &str) {
        match &self.0 {
            Some(bar) => bar.println(text),
            None => {
                let _ = writeln!(anstream::stderr().lock(), "{text}");
            }
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
