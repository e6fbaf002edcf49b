//! Formats records as text for people.

use std::fmt::Write as _;
use std::time::SystemTime;

use anstyle::{AnsiColor, Style};
use isomer_display::{escaped, fields, size, time_of_day};
use isomer_telemetry::{AccessRecord, Level, RecordSource, Severity, StandardStream};

use crate::member::MemberName;
use crate::record::{LogRecord, StructuredRecord};

/// Returns the record as one line, or as several lines if the record has a call stack. `member` is the process that
/// wrote the record, if several processes share the log.
pub(crate) fn to_text(record: &LogRecord, at: SystemTime, member: Option<&MemberName>, colour: bool) -> String {
    let style = |style: Style| if colour { style } else { Style::new() };
    let dim = style(Style::new().dimmed());
    let mut text = format!("{dim}{}{dim:#} ", time_of_day(at));
    if let Some(member) = member {
        let name = style(colour_of(&member.name));
        push(&mut text, format_args!("{name}{}{name:#} ", member.padded()));
    }
    match record {
        LogRecord::Output { component, stream, request, line, .. } => {
            let name = style(colour_of(component));
            let mark = if *stream == StandardStream::Stderr { "!" } else { "|" };
            let request = request.map_or_else(String::new, |id| format!(" {dim}{id}{dim:#}"));
            push(&mut text, format_args!("{name}{component}{name:#}{request} {mark} {}", escaped(line)));
        }
        LogRecord::Structured(record) => push_structured(&mut text, record, colour),
        LogRecord::Access(access) => push_access(&mut text, access, colour),
        LogRecord::Failed { component, request, reason, backtrace, response_cut_off, .. } => {
            let error = style(AnsiColor::Red.on_default().bold());
            let cut = if *response_cut_off { " (the response was cut off)" } else { "" };
            let reason = escaped(reason);
            push(&mut text, format_args!("{error}error{error:#} request {request} in `{component}`: {reason}{cut}"));
            push_frames(&mut text, backtrace);
        }
        LogRecord::CallFailed { component, request, reason, backtrace, .. } => {
            let error = style(AnsiColor::Red.on_default().bold());
            let request = request.map_or_else(String::new, |id| format!(" of request {id}"));
            let reason = escaped(reason);
            push(&mut text, format_args!("{error}error{error:#} call{request} to `{component}`: {reason}"));
            push_frames(&mut text, backtrace);
        }
        LogRecord::Message { level, target, text: message } => {
            if let Some((of_level, label)) = label(*level) {
                let of_level = style(of_level);
                push(&mut text, format_args!("{of_level}{label}{of_level:#} "));
            }
            // Debug messages name their part of the platform, so that a reader can change the level of this part.
            if let Some(target) = target.as_deref().filter(|_| *level >= Level::Debug) {
                push(&mut text, format_args!("{target}: "));
            }
            text.push_str(&escaped(message));
        }
    }
    text
}

fn push_structured(text: &mut String, record: &StructuredRecord, colour: bool) {
    let style = |style: Style| if colour { style } else { Style::new() };
    let (name, dim) = (style(colour_of(&record.component)), style(Style::new().dimmed()));
    let mark = match record.source {
        RecordSource::Stream(StandardStream::Stderr) => "!",
        RecordSource::Stream(StandardStream::Stdout) | RecordSource::Interface => "|",
        RecordSource::Tab => "~",
    };
    let request = record.request.map_or_else(String::new, |id| format!(" {dim}{id}{dim:#}"));
    push(text, format_args!("{name}{}{name:#}{request} {mark} ", record.component));
    if let Some(severity) = record.severity {
        let of_severity = style(style_of_severity(severity));
        push(text, format_args!("{of_severity}{}{of_severity:#} ", severity.name()));
    }
    let attributes = fields(record.attributes.iter().map(|attribute| (&attribute.key, &attribute.value)));
    push(text, format_args!("{}{dim}{attributes}{dim:#}", escaped(&record.message)));
}

fn style_of_severity(severity: Severity) -> Style {
    match severity {
        Severity::Critical | Severity::Error => AnsiColor::Red.on_default().bold(),
        Severity::Warning => AnsiColor::Yellow.on_default().bold(),
        Severity::Info => AnsiColor::Green.on_default(),
        Severity::Debug => AnsiColor::Blue.on_default(),
        Severity::Trace => Style::new().dimmed(),
    }
}

fn push_access(text: &mut String, access: &AccessRecord, colour: bool) {
    let style = |style: Style| if colour { style } else { Style::new() };
    let dim = style(Style::new().dimmed());
    if let Some(app) = &access.app {
        let name = style(colour_of(&app.app));
        push(text, format_args!("{name}{}/{}{name:#} ", app.tenant, app.app));
    }
    let status = style(colour_of_status(access.status));
    let took = access.took.as_secs_f64() * 1e3;
    push(
        text,
        format_args!(
            "{status}{}{status:#} {} {} {dim}{} {took:.1} ms {}{dim:#}",
            access.status,
            access.method,
            escaped(&access.target),
            size(access.body_bytes),
            access.id,
        ),
    );
    if let Some(reason) = &access.cut_off {
        let error = style(AnsiColor::Red.on_default());
        push(text, format_args!(" {error}cut off{error:#}: {}", escaped(reason)));
    }
}

/// Appends a call stack, one frame per line.
fn push_frames(text: &mut String, frames: &[String]) {
    for (number, frame) in frames.iter().enumerate() {
        push(text, format_args!("\n    {number:>3}: {}", escaped(frame)));
    }
}

fn push(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece).expect("writing to a string cannot fail");
}

/// Returns the label in front of messages of this level, and the style of the label.
fn label(level: Level) -> Option<(Style, &'static str)> {
    let style = match level {
        Level::Error => AnsiColor::Red.on_default().bold(),
        Level::Warning => AnsiColor::Yellow.on_default().bold(),
        Level::Info => return None,
        Level::Debug => AnsiColor::Blue.on_default(),
        Level::Trace => Style::new().dimmed(),
    };
    Some((style, level.name()))
}

fn colour_of_status(status: u16) -> Style {
    match status {
        500.. => AnsiColor::Red.on_default(),
        400..=499 => AnsiColor::Yellow.on_default(),
        _ => AnsiColor::Green.on_default(),
    }
}

/// Returns the colour of a component's or member's name. The same name always has the same colour.
fn colour_of(name: &str) -> Style {
    const COLOURS: [AnsiColor; 6] = [
        AnsiColor::Cyan,
        AnsiColor::Magenta,
        AnsiColor::Blue,
        AnsiColor::BrightCyan,
        AnsiColor::BrightMagenta,
        AnsiColor::BrightBlue,
    ];
    let sum = name.bytes().fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    COLOURS[sum % COLOURS.len()].on_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use isomer_telemetry::RequestId;

    use super::*;

    #[test]
    fn a_guest_cannot_control_the_terminal() {
        let record = LogRecord::Output {
            component: "cart".into(),
            stream: StandardStream::Stdout,
            request: RequestId::from_raw(0x1234_5678_9abc_def0),
            trace: None,
            line: "a\u{1b}[2Jb\rc".into(),
        };
        let text = to_text(&record, UNIX_EPOCH + Duration::from_millis(3_723_004), None, false);
        assert_eq!(text, "01:02:03.004 cart 123456789abcdef0 | a\\u{1b}[2Jb\\rc");
    }

    #[test]
    fn the_member_stands_in_front() {
        let member = MemberName { name: "pages".into(), width: 8 };
        let record = LogRecord::message(Level::Info, None, "hello".into());
        assert_eq!(to_text(&record, UNIX_EPOCH, Some(&member), false), "00:00:00.000 pages    hello");
    }
}
