//! Talking to the person in front: standard error, with colours and progress where it is a terminal.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use isomer_manifest::Renderer;

use crate::fail::{FAILED, Fail};

/// How often a spinner turns.
const SPIN_EVERY: Duration = Duration::from_millis(80);

/// Standard error, as a place to talk to people.
#[derive(Clone, Copy)]
pub(crate) struct Console {
    colour: bool,
    terminal: bool,
}

impl Console {
    pub(crate) fn new() -> Self {
        let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        Self { colour, terminal: std::io::stderr().is_terminal() }
    }

    /// May colours be used?
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// May colours be used on standard output?
    pub(crate) fn stdout_colour(&self) -> bool {
        anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
    }

    /// The one renderer of errors.
    pub(crate) fn renderer(&self) -> Renderer {
        Renderer::new(self.colour)
    }

    /// Says something, with a newline if it has none. A closed pipe is nobody listening.
    pub(crate) fn say(&self, text: &str) {
        let mut out = anstream::stderr().lock();
        let _ = out.write_all(text.as_bytes());
        if !text.ends_with('\n') {
            let _ = out.write_all(b"\n");
        }
    }

    /// A line that shows what is being done, and goes away with what it returns. Nothing where there is no terminal.
    pub(crate) fn progress(&self) -> Progress {
        if !self.terminal {
            return Progress(None);
        }
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(SPIN_EVERY);
        Progress(Some(bar))
    }

    /// A bar that shows how much of so many bytes has gone. Nothing where there is no terminal, or nothing to send.
    pub(crate) fn upload(&self, bytes: u64) -> Upload {
        if !self.terminal || bytes == 0 {
            return Upload(None);
        }
        let bar = ProgressBar::new(bytes);
        let style = ProgressStyle::with_template("uploading {bar:30.cyan} {binary_bytes} of {binary_total_bytes}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Upload(Some(std::sync::Arc::new(Bar(bar))))
    }

    /// Is there a terminal on which a question can be answered?
    pub(crate) fn is_interactive(&self) -> bool {
        self.terminal && std::io::stdin().is_terminal()
    }

    /// Asks a question that is answered with yes or no. `None` where nobody is there to answer.
    pub(crate) fn confirm(&self, question: &str) -> Option<bool> {
        if !self.is_interactive() {
            return None;
        }
        let mut out = anstream::stderr().lock();
        let _ = write!(out, "{question} [y/N] ").and_then(|()| out.flush());
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        Some(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// Goes on only if a person agrees to lose what cannot be recovered, now or by `--yes`, which `command` has.
    ///
    /// # Errors
    /// When they do not, or where there is no terminal to ask.
    pub(crate) fn agree(&self, question: &str, yes: bool, command: &str) -> Result<(), Fail> {
        if yes {
            return Ok(());
        }
        match self.confirm(question) {
            Some(true) => Ok(()),
            Some(false) => Err(Fail::Exit(FAILED)),
            None => Err(Fail::usage("removing data has to be confirmed, and there is no terminal", command)),
        }
    }
}

/// Prints what was asked for on standard output. A closed pipe is a reader who has seen enough.
pub(crate) fn print(text: &str) -> Result<(), Fail> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output").into())
        }
        _ => Ok(()),
    }
}

/// A bar that shows how much has gone. It goes away with its last clone.
#[derive(Clone)]
pub(crate) struct Upload(Option<std::sync::Arc<Bar>>);

struct Bar(ProgressBar);

impl Upload {
    /// So many bytes more have gone.
    pub(crate) fn advance(&self, bytes: u64) {
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

/// A line that shows what is being done.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// What is being done now.
    pub(crate) fn step(&self, text: impl Into<String>) {
        if let Some(bar) = &self.0 {
            bar.set_message(text.into());
        }
    }

    /// Prints a line above it.
    pub(crate) fn line(&self, text: &str) {
        match &self.0 {
            Some(bar) => bar.println(text),
            None => {
                let _ = writeln!(anstream::stderr().lock(), "{text}");
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
