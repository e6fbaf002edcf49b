//! The checks of `isomer doctor`, each a [`Finding`]: what was looked at, what was found, and what to do about it. They change
//! nothing.

pub(crate) mod disk;
pub(crate) mod port;
pub(crate) mod system;
pub(crate) mod toolchain;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Something will not work, or only up to a point.
    Warn,
    /// Apps cannot be built or run.
    Fail,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) state: State,
    pub(crate) about: &'static str,
    pub(crate) found: String,
    pub(crate) hint: Option<String>,
}

impl Finding {
    pub(crate) fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { state: State::Ok, about, found: found.into(), hint: None }
    }

    pub(crate) fn warn(about: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { state: State::Warn, about, found: found.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn fail(about: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { state: State::Fail, about, found: found.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn to_json(&self) -> Value {
        let state = self.state.word();
        let Self { about, found, hint, .. } = self;
        json!({ "state": state, "about": about, "found": found, "hint": hint })
    }

    /// The finding for people, with the names of all padded to `widest`.
    pub(crate) fn line(&self, widest: usize, colour: bool) -> String {
        let word = self.state.word();
        let word = match (colour, self.state.style()) {
            (true, style) => format!("{style}{word:<4}{style:#}"),
            (false, _) => format!("{word:<4}"),
        };
        let hint = self.hint.as_ref().map(|hint| format!("      {:widest$}  hint: {hint}\n", "")).unwrap_or_default();
        format!("{word}  {:<widest$}  {}\n{hint}", self.about, self.found)
    }
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => AnsiColor::Green,
            Self::Warn => AnsiColor::Yellow,
            Self::Fail => AnsiColor::Red,
        }
        .on_default()
        .bold()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_the_way_out_stands_below() {
        let found = Finding::warn("port", "`127.0.0.1:1` is taken", "isomer run --listen 127.0.0.1:0");
        assert_eq!(
            found.line(6, false),
            "warn  port    `127.0.0.1:1` is taken\n              hint: isomer run --listen 127.0.0.1:0\n"
        );
        assert!(found.line(6, true).contains("\u{1b}["));
        assert_eq!(found.to_json()["state"], "warn");
    }
}
