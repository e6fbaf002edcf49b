//! The log of one process of several, in the stream of the process that started it.
//!
//! A member writes its log as JSON lines to a pipe; here each becomes the record that it was, with the time at which it was
//! said and the member's name. What is no such line (a panic's words) is shown as it is.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use isomer_runtime::RequestId;
use isomer_runtime::output::Stream;
use serde_json::Value;

use crate::log::Log;
use crate::record::{Access, Level, Owner, Record};

/// A member's name, and how wide names are in its company.
#[derive(Debug, Clone)]
pub(crate) struct MemberName {
    name: Arc<str>,
    width: usize,
}

impl MemberName {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn padded(&self) -> String {
        format!("{:<width$}", self.name, width = self.width)
    }
}

/// Says what one member says, under its name.
#[derive(Clone)]
pub struct MemberLog {
    log: Log,
    member: MemberName,
}

impl Log {
    /// The log of the member `name`, where the longest name of all members has `width` characters.
    pub fn member(&self, name: &str, width: usize) -> MemberLog {
        MemberLog { log: self.clone(), member: MemberName { name: name.into(), width } }
    }
}

impl MemberLog {
    /// A line of the member's log.
    pub fn relay(&self, line: &str) {
        match parse(line) {
            Some((at, record)) => self.log.push_of(at, Some(self.member.clone()), record),
            None => self.warn(line),
        }
    }

    /// Something about the member that a person should know.
    pub fn note(&self, text: impl Into<String>) {
        self.push(Level::Info, text.into());
    }

    /// Something about the member that a person should look at.
    pub fn warn(&self, text: impl Into<String>) {
        self.push(Level::Warning, text.into());
    }

    fn push(&self, level: Level, text: String) {
        if !self.log.levels().includes(level) {
            return;
        }
        self.log.push_of(SystemTime::now(), Some(self.member.clone()), Record::note(level, text));
    }
}

/// Reads a line that [`Record::to_json`] wrote.
fn parse(line: &str) -> Option<(SystemTime, Record)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |field: &str| value[field].as_str().map(str::to_owned);
    let request = || RequestId::from_raw(u64::from_str_radix(value["request"].as_str()?, 16).ok()?);
    let backtrace = || {
        let frames = value["backtrace"].as_array()?.iter();
        Some(frames.filter_map(|frame| Some(frame.as_str()?.to_owned())).collect())
    };
    let record = match value["event"].as_str()? {
        "output" => Record::Output {
            component: text("component")?,
            stream: if value["stream"] == "stdout" { Stream::Stdout } else { Stream::Stderr },
            request: request(),
            line: text("line")?,
        },
        "access" => Record::Access(Access {
            id: request()?,
            method: text("method")?,
            target: text("target")?,
            status: value["status"].as_u64()?.try_into().ok()?,
            body_bytes: value["body_bytes"].as_u64()?,
            took: Duration::try_from_secs_f64(value["took_ms"].as_f64()? / 1e3).ok()?,
            component: text("component").map(Into::into),
            host: text("host"),
            owner: text("tenant").zip(text("app")).map(|(tenant, app)| Owner {
                tenant: tenant.into(),
                app: app.into(),
                access: None,
            }),
            client: text("client").and_then(|client| client.parse().ok()),
            cut_off: text("cut_off"),
        }),
        "failed" => Record::Failed {
            component: text("component")?,
            request: request()?,
            reason: text("reason")?,
            backtrace: backtrace()?,
            broken: value["response_cut_off"].as_bool()?,
        },
        "call-failed" => Record::CallFailed {
            component: text("component")?,
            request: request(),
            reason: text("reason")?,
            backtrace: backtrace()?,
        },
        event => Record::Note { level: Level::of_event(event)?, target: text("target"), text: text("text")? },
    };
    let since = Duration::try_from_secs_f64(value["time"].as_f64()?).ok()?;
    Some((UNIX_EPOCH.checked_add(since)?, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_comes_out_as_it_went_in() {
        let at = UNIX_EPOCH + Duration::from_millis(3_723_004);
        let id = RequestId::from_raw(0xab).unwrap();
        let records = [
            Record::Output { component: "cart".into(), stream: Stream::Stderr, request: Some(id), line: "a\nb".into() },
            Record::Output { component: "cart".into(), stream: Stream::Stdout, request: None, line: "x".into() },
            Record::Access(Access {
                id,
                method: "GET".into(),
                target: "/?a=\"b\"".into(),
                status: 404,
                body_bytes: 12,
                took: Duration::from_micros(1500),
                component: None,
                host: Some("shop.example".into()),
                owner: Some(Owner { tenant: "acme".into(), app: "shop".into(), access: None }),
                client: Some([192, 0, 2, 7].into()),
                cut_off: Some("its body was not finished".into()),
            }),
            Record::Failed {
                component: "cart".into(),
                request: id,
                reason: "a trap".into(),
                backtrace: vec!["first".into(), "second".into()],
                broken: true,
            },
            Record::CallFailed {
                component: "cart".into(),
                request: Some(id),
                reason: "a trap".into(),
                backtrace: vec!["first".into()],
            },
            Record::Note { level: Level::Info, target: None, text: "hello".into() },
            Record::Note { level: Level::Warning, target: None, text: "oh".into() },
            Record::Note { level: Level::Error, target: Some("isomer_front".into()), text: "no".into() },
            Record::Note { level: Level::Debug, target: Some("isomer_node::host".into()), text: "so".into() },
            Record::Note { level: Level::Trace, target: None, text: "so".into() },
        ];
        // A new kind needs a number here, and a record above.
        let kind = |record: &Record| match record {
            Record::Output { .. } => 0,
            Record::Access(_) => 1,
            Record::Failed { .. } => 2,
            Record::CallFailed { .. } => 3,
            Record::Note { .. } => 4,
        };
        let mut kinds: Vec<usize> = records.iter().map(kind).collect();
        kinds.dedup();
        assert_eq!(kinds, [0, 1, 2, 3, 4]);
        for record in records {
            let line = record.to_json(at, None);
            let (when, read) = parse(&line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(
                (read.to_json(when, None), read.to_text(when, None, true)),
                (line, record.to_text(at, None, true))
            );
        }
        for none in
            ["", "thread 'main' panicked", "{}", "{\"event\":\"output\"}", "{\"event\":\"x\",\"text\":\"y\"}", "[1]"]
        {
            assert!(parse(none).is_none(), "{none}");
        }
    }

    #[test]
    fn the_name_stands_in_front_and_in_its_own_field() {
        let member = MemberName { name: "pages".into(), width: 8 };
        let record = Record::Note { level: Level::Info, target: None, text: "hello".into() };
        assert_eq!(record.to_text(UNIX_EPOCH, Some(&member), false), "00:00:00.000 pages    hello");
        let json: Value = serde_json::from_str(&record.to_json(UNIX_EPOCH, Some(&member))).unwrap();
        assert_eq!(json["group"], "pages");
    }
}
