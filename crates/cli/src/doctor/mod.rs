//! The checks of `isomer doctor`. Each check returns a [`Finding`]: the subject of the check, its result, and a hint.
//! The checks change nothing.

pub(crate) mod disk;
pub(crate) mod port;
pub(crate) mod system;
pub(crate) mod toolchain;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

/// The result of a check, without details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckState {
    /// No problem was found.
    Ok,
    /// Something does not work, or works only with restrictions, but apps that are already built can be run.
    Warn,
    /// The check failed: apps cannot be run, or cannot be built because `rustc` fails or `ISOMER_GUEST_TOOLCHAIN` has
    /// an invalid value.
    Fail,
}

/// The result of one check, with details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) state: CheckState,
    /// The subject of the check.
    pub(crate) about: &'static str,
    pub(crate) found: String,
    pub(crate) hint: Option<String>,
}

impl Finding {
    pub(crate) fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { state: CheckState::Ok, about, found: found.into(), hint: None }
    }

    pub(crate) fn warn(about: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { state: CheckState::Warn, about, found: found.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn fail(about: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { state: CheckState::Fail, about, found: found.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn to_json(&self) -> Value {
        let state = self.state.name();
        let Self { about, found, hint, .. } = self;
        json!({ "state": state, "about": about, "found": found, "hint": hint })
    }

    /// Returns the finding as a line for people. The subject is padded to `widest` characters.
    pub(crate) fn line(&self, widest: usize, colour: bool) -> String {
        let name = self.state.name();
        let name = match (colour, self.state.style()) {
            (true, style) => format!("{style}{name:<4}{style:#}"),
            (false, _) => format!("{name:<4}"),
        };
        let hint = self.hint.as_ref().map(|hint| format!("      {:widest$}  hint: {hint}\n", "")).unwrap_or_default();
        format!("{name}  {:<widest$}  {}\n{hint}", self.about, self.found)
    }
}

impl CheckState {
    fn name(self) -> &'static str {
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
    fn lines_are_aligned_and_the_hint_is_below() {
        let found = Finding::warn("port", "`127.0.0.1:1` is taken", "isomer run --listen 127.0.0.1:0");
        assert_eq!(
            found.line(6, false),
            "warn  port    `127.0.0.1:1` is taken\n              hint: isomer run --listen 127.0.0.1:0\n"
        );
        assert!(found.line(6, true).contains("\u{1b}["));
        assert_eq!(found.to_json()["state"], "warn");
    }
}
