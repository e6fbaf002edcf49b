//! A terminal whose content is replaced in place, until the user quits.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use isomer_console::CliError;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

use super::screen;

/// The control sequences that switch to the alternate screen and hide the cursor (`ENTER`), and that restore both
/// (`LEAVE`).
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// The control sequences that move the cursor to the first line (`HOME`), erase the rest of a line (`ERASE_LINE`), and
/// erase the rest of the screen (`ERASE_BELOW`).
const HOME: &str = "\u{1b}[H";
const ERASE_LINE: &str = "\u{1b}[K";
const ERASE_BELOW: &str = "\u{1b}[J";

/// The terminal on standard output. Dropping it restores the terminal.
pub(crate) struct LiveScreen {
    /// The settings of the terminal on standard input before this program changed them; `None` if standard input is not
    /// a terminal.
    settings: Option<Termios>,
    keys: Receiver<u8>,
    colour: bool,
}

impl LiveScreen {
    /// Takes over the terminal; returns `None` if standard output is not a terminal. `colour` states whether the terminal
    /// shows colours.
    pub(crate) fn open(colour: bool) -> Option<Self> {
        if !std::io::stdout().is_terminal() {
            return None;
        }
        let settings = tcgetattr(std::io::stdin()).ok();
        if let Some(settings) = &settings {
            let mut changed = settings.clone();
            // Deliver each key immediately, and do not print it. Ctrl-C still sends its signal.
            changed.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &changed);
        }
        let keys = if settings.is_some() { read_keys() } else { channel(1).1 };
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(ENTER.as_bytes()).and_then(|()| out.flush());
        Some(Self { settings, keys, colour })
    }

    /// Replaces the content of the screen. Lines that do not fit are left out.
    ///
    /// # Errors
    /// If the terminal cannot be written to.
    pub(crate) fn show(&mut self, text: &str) -> Result<(), CliError> {
        let height = screen::height().unwrap_or(usize::MAX);
        let lines: Vec<_> = text.lines().take(height).collect();
        let frame = format!("{HOME}{}{ERASE_LINE}{ERASE_BELOW}", lines.join(&format!("{ERASE_LINE}\r\n")));
        let frame = if self.colour { frame } else { without_styles(&frame) };
        let mut out = std::io::stdout().lock();
        let written = out.write_all(frame.as_bytes()).and_then(|()| out.flush());
        Ok(written.context("cannot write to the terminal")?)
    }

    /// Waits for `period`. Returns `true` as soon as the user presses `q` or Ctrl-C, or another process ends this one, and
    /// `false` at the end of the period.
    pub(crate) async fn quits_within(&mut self, period: Duration) -> bool {
        let end = tokio::time::sleep(period);
        let mut end = std::pin::pin!(end);
        // Without these, the terminal would stay on the alternate screen.
        let (mut terminated, mut hung_up) = (signal(SignalKind::terminate()).ok(), signal(SignalKind::hangup()).ok());
        loop {
            tokio::select! {
                () = &mut end => return false,
                _ = tokio::signal::ctrl_c() => return true,
                Some(()) = received(&mut terminated) => return true,
                Some(()) = received(&mut hung_up) => return true,
                Some(key) = self.keys.recv() => if matches!(key, b'q' | b'Q') { return true },
            }
        }
    }
}

impl Drop for LiveScreen {
    fn drop(&mut self) {
        if let Some(settings) = &self.settings {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, settings);
        }
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
    }
}

/// Waits for a signal. Never returns if this process cannot receive it.
async fn received(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Removes the control sequences for colours and styles from `text`. Those that move the cursor stay.
fn without_styles(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character: char| !character.is_ascii_digit() && character != ';');
        match end {
            Some(end) if part[end..].starts_with('m') => plain.push_str(&part[end + 1..]),
            _ => {
                plain.push_str("\u{1b}[");
                plain.push_str(part);
            }
        }
    }
    plain
}

/// Returns the keys that the user types. The thread that reads them ends with the process, or when standard input ends.
fn read_keys() -> Receiver<u8> {
    let (sender, keys) = channel(16);
    std::thread::spawn(move || {
        for byte in std::io::stdin().lock().bytes() {
            match byte {
                Ok(byte) if sender.blocking_send(byte).is_ok() => {}
                _ => return,
            }
        }
    });
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_styles_are_removed() {
        assert_eq!(without_styles("\u{1b}[Ha\u{1b}[1;31mb\u{1b}[0m\u{1b}[Kc\u{1b}[m"), "\u{1b}[Hab\u{1b}[Kc");
        assert_eq!(without_styles("plain"), "plain");
    }
}
