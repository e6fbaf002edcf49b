//! One line of the log: its kinds and how each is written, for people and for machines.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anstyle::{AnsiColor, Style};
use isomer_display::{escaped, size};
use isomer_runtime::foreign::{NAME_BYTES_MAX, TEXT_BYTES_MAX, cut};
use isomer_runtime::output::Stream;
use isomer_runtime::{Failure, RequestId};
use serde_json::{Value, json};

use crate::app::AppLog;
use crate::member::MemberName;

/// Whose something is, on a node of several tenants.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The app of the tenant.
    pub app: Arc<str>,
    /// The app's own access log, where requests are told of besides.
    pub access: Option<AppLog>,
}

/// A served request, for the access log.
#[derive(Debug, Clone)]
pub struct Access {
    /// Its identity.
    pub id: RequestId,
    /// The request's method.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// The response's status code.
    pub status: u16,
    /// Bytes of the response's body that were handed to the connection.
    pub body_bytes: u64,
    /// From the request's head to the last byte of the answer.
    pub took: Duration,
    /// The component that answered; none if the front door did.
    pub component: Option<Arc<str>>,
    /// The host name that it was for, if it had one that is valid.
    pub host: Option<String>,
    /// Whose app answered, on a node of several tenants.
    pub owner: Option<Owner>,
    /// Who asked: the client's address, as far as it is known.
    pub client: Option<IpAddr>,
    /// Why the client did not get all of the response, if it did not.
    pub cut_off: Option<String>,
}

/// A line of the log.
#[derive(Debug)]
pub(crate) enum Record {
    Output {
        component: String,
        stream: Stream,
        request: Option<RequestId>,
        line: String,
    },
    Access(Access),
    Failed {
        component: String,
        request: RequestId,
        reason: String,
        backtrace: Vec<String>,
        broken: bool,
    },
    /// A component failed that was called across a seam. What became of the request is its caller's business.
    CallFailed {
        component: String,
        request: Option<RequestId>,
        reason: String,
        backtrace: Vec<String>,
    },
    /// What the platform says of itself.
    Note {
        level: Level,
        /// The module that says it; none where it is the process as a whole.
        target: Option<String>,
        text: String,
    },
}

/// How important a note of the platform is, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error,
    Warning,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// The names of lines of each level, for programs.
    const EVENTS: [(Self, &str); 5] = [
        (Self::Error, "error"),
        (Self::Warning, "warning"),
        (Self::Info, "note"),
        (Self::Debug, "debug"),
        (Self::Trace, "trace"),
    ];

    fn event(self) -> &'static str {
        Self::EVENTS.into_iter().find_map(|(level, event)| (level == self).then_some(event)).unwrap_or("note")
    }

    pub(crate) fn of_event(event: &str) -> Option<Self> {
        Self::EVENTS.into_iter().find_map(|(level, name)| (name == event).then_some(level))
    }

    /// What a person sees in front of the text.
    fn label(self) -> Option<(Style, &'static str)> {
        match self {
            Self::Error => Some((AnsiColor::Red.on_default().bold(), "error")),
            Self::Warning => Some((AnsiColor::Yellow.on_default().bold(), "warning")),
            Self::Info => None,
            Self::Debug => Some((AnsiColor::Blue.on_default(), "debug")),
            Self::Trace => Some((Style::new().dimmed(), "trace")),
        }
    }
}

impl Record {
    pub(crate) fn access(access: Access) -> Self {
        let shortened = |text: String, bytes_max| if text.len() > bytes_max { cut(&text, bytes_max) } else { text };
        Self::Access(Access {
            method: shortened(access.method, NAME_BYTES_MAX),
            target: shortened(access.target, TEXT_BYTES_MAX),
            cut_off: access.cut_off.map(|why| shortened(why, TEXT_BYTES_MAX)),
            ..access
        })
    }

    pub(crate) fn failed(component: &str, request: RequestId, failure: &Failure, broken: bool) -> Self {
        Self::Failed {
            component: component.to_owned(),
            request,
            reason: cut(failure, TEXT_BYTES_MAX),
            backtrace: failure.backtrace().to_vec(),
            broken,
        }
    }

    pub(crate) fn call_failed(component: &str, request: Option<RequestId>, failure: &Failure) -> Self {
        Self::CallFailed {
            component: component.to_owned(),
            request,
            reason: cut(failure, TEXT_BYTES_MAX),
            backtrace: failure.backtrace().to_vec(),
        }
    }

    pub(crate) fn note(level: Level, text: String) -> Self {
        let text = if text.len() > TEXT_BYTES_MAX { cut(text, TEXT_BYTES_MAX) } else { text };
        Self::Note { level, target: None, text }
    }

    pub(crate) fn event(level: Level, target: &str, text: String) -> Self {
        match Self::note(level, text) {
            Self::Note { level, text, .. } => Self::Note { level, target: Some(target.to_owned()), text },
            other => other,
        }
    }

    /// Bytes that it takes while it waits to be written.
    pub(crate) fn bytes(&self) -> usize {
        let frames = |frames: &[String]| frames.iter().map(|frame| size_of::<String>() + frame.len()).sum::<usize>();
        let text = match self {
            Self::Output { component, line, .. } => component.len() + line.len(),
            Self::Access(access) => {
                let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                access.method.len() + access.target.len() + length(&access.host) + length(&access.cut_off)
            }
            Self::Failed { component, reason, backtrace, .. }
            | Self::CallFailed { component, reason, backtrace, .. } => {
                component.len() + reason.len() + frames(backtrace)
            }
            Self::Note { target, text, .. } => target.as_ref().map_or(0, String::len) + text.len(),
        };
        size_of::<Self>() + text
    }

    /// Does its number depend on what guests and clients do, rather than on what the platform does?
    pub(crate) fn is_of_guest(&self) -> bool {
        !matches!(self, Self::Note { level: Level::Error | Level::Warning | Level::Info, .. })
    }

    /// The tenant that it is about.
    pub(crate) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Access(access) => access.owner.as_ref().map(|owner| &*owner.tenant),
            _ => None,
        }
    }

    /// One line of JSON. `member` is the process of several that said it.
    pub(crate) fn to_json(&self, at: SystemTime, member: Option<&MemberName>) -> String {
        let mut value = match self {
            Self::Output { component, stream, request, line } => json!({
                "event": "output",
                "component": component,
                "stream": if *stream == Stream::Stdout { "stdout" } else { "stderr" },
                "request": request.map(|id| id.to_string()),
                "line": line,
            }),
            Self::Access(access) => json!({
                "event": "access",
                "request": access.id.to_string(),
                "method": access.method,
                "target": access.target,
                "status": access.status,
                "body_bytes": access.body_bytes,
                "took_ms": access.took.as_secs_f64() * 1e3,
                "component": access.component.as_deref(),
                "host": access.host,
                "tenant": access.owner.as_ref().map(|owner| &*owner.tenant),
                "app": access.owner.as_ref().map(|owner| &*owner.app),
                "client": access.client.map(|client| client.to_string()),
                "cut_off": access.cut_off,
            }),
            Self::Failed { component, request, reason, backtrace, broken } => json!({
                "event": "failed",
                "component": component,
                "request": request.to_string(),
                "reason": reason,
                "backtrace": backtrace,
                "response_cut_off": broken,
            }),
            Self::CallFailed { component, request, reason, backtrace } => json!({
                "event": "call-failed",
                "component": component,
                "request": request.map(|id| id.to_string()),
                "reason": reason,
                "backtrace": backtrace,
            }),
            Self::Note { level, target, text } => {
                let mut value = json!({ "event": level.event(), "text": text });
                if let Some(target) = target {
                    value["target"] = json!(target);
                }
                value
            }
        };
        if let Value::Object(fields) = &mut value {
            let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            fields.insert("time".to_owned(), json!(seconds));
            if let Some(member) = member {
                fields.insert("group".to_owned(), json!(member.name()));
            }
        }
        value.to_string()
    }

    /// A line (for failures, several) that people read.
    pub(crate) fn to_text(&self, at: SystemTime, member: Option<&MemberName>, colour: bool) -> String {
        let style = |style: Style| if colour { style } else { Style::new() };
        let dim = style(Style::new().dimmed());
        let mut text = format!("{dim}{}{dim:#} ", time_of_day(at));
        if let Some(member) = member {
            let name = style(colour_of(member.name()));
            let written = write!(text, "{name}{}{name:#} ", member.padded());
            debug_assert!(written.is_ok(), "writing to a string cannot fail");
        }
        let printed = match self {
            Self::Output { component, stream, request, line } => {
                let name = style(colour_of(component));
                let mark = if *stream == Stream::Stderr { "!" } else { "|" };
                let request = request.map_or_else(String::new, |id| format!(" {dim}{id}{dim:#}"));
                write!(text, "{name}{component}{name:#}{request} {mark} {}", escaped(line))
            }
            Self::Access(access) => {
                let status = style(colour_of_status(access.status));
                let took = access.took.as_secs_f64() * 1e3;
                if let Some(Owner { tenant, app, .. }) = &access.owner {
                    let name = style(colour_of(app));
                    let written = write!(text, "{name}{tenant}/{app}{name:#} ");
                    debug_assert!(written.is_ok(), "writing to a string cannot fail");
                }
                write!(
                    text,
                    "{status}{}{status:#} {} {} {dim}{} {took:.1} ms {}{dim:#}",
                    access.status,
                    access.method,
                    escaped(&access.target),
                    size(access.body_bytes),
                    access.id,
                )
                .and_then(|()| match &access.cut_off {
                    Some(why) => {
                        let error = style(AnsiColor::Red.on_default());
                        write!(text, " {error}cut off{error:#}: {}", escaped(why))
                    }
                    None => Ok(()),
                })
            }
            Self::Failed { component, request, reason, backtrace, broken } => {
                let error = style(AnsiColor::Red.on_default().bold());
                let cut = if *broken { " (its response was cut off)" } else { "" };
                let reason = escaped(reason);
                write!(text, "{error}error{error:#} request {request} in `{component}`: {reason}{cut}")
                    .and_then(|()| write_frames(&mut text, backtrace))
            }
            Self::CallFailed { component, request, reason, backtrace } => {
                let error = style(AnsiColor::Red.on_default().bold());
                let request = request.map_or_else(String::new, |id| format!(" of request {id}"));
                let reason = escaped(reason);
                write!(text, "{error}error{error:#} call{request} to `{component}`: {reason}")
                    .and_then(|()| write_frames(&mut text, backtrace))
            }
            Self::Note { level, target, text: note } => {
                let label = level.label().map_or(Ok(()), |(of_level, label)| {
                    let of_level = style(of_level);
                    write!(text, "{of_level}{label}{of_level:#} ")
                });
                // Who looks at these wants to know which part to ask for more or less of.
                let target = target.as_deref().filter(|_| *level >= Level::Debug);
                let target = target.map_or_else(String::new, |target| format!("{target}: "));
                label.and_then(|()| write!(text, "{target}{}", escaped(note)))
            }
        };
        debug_assert!(printed.is_ok(), "writing to a string cannot fail");
        text
    }
}

/// A call stack, a frame a line.
fn write_frames(text: &mut String, frames: &[String]) -> std::fmt::Result {
    frames.iter().enumerate().try_for_each(|(number, frame)| write!(text, "\n    {number:>3}: {}", escaped(frame)))
}

fn colour_of_status(status: u16) -> Style {
    match status {
        500.. => AnsiColor::Red.on_default(),
        400..=499 => AnsiColor::Yellow.on_default(),
        _ => AnsiColor::Green.on_default(),
    }
}

/// The same component always has the same colour.
fn colour_of(component: &str) -> Style {
    const COLOURS: [AnsiColor; 6] = [
        AnsiColor::Cyan,
        AnsiColor::Magenta,
        AnsiColor::Blue,
        AnsiColor::BrightCyan,
        AnsiColor::BrightMagenta,
        AnsiColor::BrightBlue,
    ];
    let sum = component.bytes().fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    COLOURS[sum % COLOURS.len()].on_default()
}

/// `HH:MM:SS.mmm`, in UTC.
fn time_of_day(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(line: &str) -> Record {
        Record::Output {
            component: "cart".into(),
            stream: Stream::Stdout,
            request: RequestId::from_raw(0x1234_5678_9abc_def0),
            line: line.into(),
        }
    }

    #[test]
    fn a_guest_cannot_write_to_the_terminal() {
        let at = UNIX_EPOCH + Duration::from_millis(3_723_004);
        let text = output("a\u{1b}[2Jb\rc").to_text(at, None, false);
        assert_eq!(text, "01:02:03.004 cart 123456789abcdef0 | a\\u{1b}[2Jb\\rc");
    }

    #[test]
    fn what_a_guest_gives_as_its_reason_is_cut() {
        let id = RequestId::from_raw(1).unwrap();
        let failure = Failure::Handler { code: "é".repeat(1 << 20), body_too_large: false };
        let text = Record::failed("cart", id, &failure, false).to_text(UNIX_EPOCH, None, false);
        assert!(text.len() < TEXT_BYTES_MAX * 2 && text.ends_with("é…"), "{} bytes", text.len());
    }

    #[test]
    fn json_is_one_line_with_all_fields() {
        let line = output("a\nb").to_json(UNIX_EPOCH, None);
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["component"], "cart");
        assert_eq!(value["request"], "123456789abcdef0");
        assert_eq!(value["line"], "a\nb");
    }
}
