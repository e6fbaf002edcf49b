//! Formats records as JSON, one object per line, for other programs. Also parses these lines, which a supervisor
//! receives from the processes of an app.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use isomer_telemetry::{
    AccessRecord, AppIdentity, AttributeList, Level, RecordSource, RequestId, Severity, StandardStream, TraceContext,
};
use serde_json::{Value, json};

use crate::member::MemberName;
use crate::record::{LogRecord, StructuredRecord};

/// The value of the JSON field `event` in messages with the level [`Level::Info`]. In messages with another level, the
/// value is the name of the level.
const NOTE: &str = "note";

/// Returns the record as one line. `member` is the process that wrote the record, if several processes share the log.
pub(crate) fn to_json(record: &LogRecord, at: SystemTime, member: Option<&MemberName>) -> String {
    let mut value = match record {
        LogRecord::Output { component, stream, request, line, .. } => json!({
            "event": "output",
            "component": component,
            "stream": stream.name(),
            "request": request.map(|id| id.to_string()),
            "line": line,
        }),
        LogRecord::Structured(record) => json!({
            "event": "record",
            "component": record.component,
            "stream": record.source.name(),
            "request": record.request.map(|id| id.to_string()),
            "level": record.severity.map(Severity::name),
            "time_ns": record.time_ns,
            "message": record.message,
            "attributes": attributes(record),
        }),
        LogRecord::Access(access) => json!({
            "event": "access",
            "request": access.id.to_string(),
            "method": access.method,
            "target": access.target,
            "status": access.status,
            "body_bytes": access.body_bytes,
            "took_ms": access.took.as_secs_f64() * 1e3,
            "component": access.component.as_deref(),
            "host": access.host,
            "tenant": access.app.as_ref().map(|app| &*app.tenant),
            "app": access.app.as_ref().map(|app| &*app.app),
            "client": access.client.map(|client| client.to_string()),
            "cut_off": access.cut_off,
        }),
        LogRecord::Failed { component, request, reason, backtrace, response_cut_off, .. } => json!({
            "event": "failed",
            "component": component,
            "request": request.to_string(),
            "reason": reason,
            "backtrace": backtrace,
            "response_cut_off": response_cut_off,
        }),
        LogRecord::CallFailed { component, request, reason, backtrace, .. } => json!({
            "event": "call-failed",
            "component": component,
            "request": request.map(|id| id.to_string()),
            "reason": reason,
            "backtrace": backtrace,
        }),
        LogRecord::Message { level, target, text } => {
            let mut value = json!({ "event": event_name(*level), "text": text });
            if let Some(target) = target {
                value["target"] = json!(target);
            }
            value
        }
    };
    if let Value::Object(fields) = &mut value {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        fields.insert("time".to_owned(), json!(seconds));
        if let Some(trace) = record.trace() {
            fields.insert("trace_id".to_owned(), json!(trace.trace_id.to_string()));
            fields.insert("span_id".to_owned(), json!(trace.parent.to_string()));
            fields.insert("sampled".to_owned(), json!(trace.flags.is_sampled()));
        }
        if let Some(member) = member {
            fields.insert("group".to_owned(), json!(&*member.name));
        }
    }
    value.to_string()
}

/// Parses a line that [`to_json`] wrote. Returns `None` for any other text.
pub(crate) fn parse(line: &str) -> Option<(SystemTime, LogRecord)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |field: &str| value[field].as_str().map(str::to_owned);
    let request = || RequestId::from_raw(u64::from_str_radix(value["request"].as_str()?, 16).ok()?);
    let trace = || TraceContext::from_ids(value["trace_id"].as_str()?, value["span_id"].as_str()?);
    let trace = || Some(trace()?.with_sampled(value["sampled"] == true));
    let backtrace = || {
        let frames = value["backtrace"].as_array()?.iter();
        Some(frames.filter_map(|frame| Some(frame.as_str()?.to_owned())).collect())
    };
    let record = match value["event"].as_str()? {
        "output" => LogRecord::Output {
            component: text("component")?,
            stream: stream_of(value["stream"].as_str()?),
            request: request(),
            trace: trace(),
            line: text("line")?,
        },
        "record" => LogRecord::Structured(StructuredRecord {
            component: text("component")?,
            source: match value["stream"].as_str()? {
                RecordSource::INTERFACE => RecordSource::Interface,
                RecordSource::TAB => RecordSource::Tab,
                stream => RecordSource::Stream(stream_of(stream)),
            },
            request: request(),
            trace: trace(),
            severity: value["level"].as_str().and_then(Severity::from_name),
            time_ns: value["time_ns"].as_u64(),
            message: text("message")?,
            attributes: parse_attributes(&value["attributes"]),
        }),
        "access" => LogRecord::Access(AccessRecord {
            id: request()?,
            trace: trace(),
            method: text("method")?,
            target: text("target")?,
            status: value["status"].as_u64()?.try_into().ok()?,
            body_bytes: value["body_bytes"].as_u64()?,
            took: Duration::try_from_secs_f64(value["took_ms"].as_f64()? / 1e3).ok()?,
            component: text("component").map(Into::into),
            host: text("host"),
            app: text("tenant")
                .zip(text("app"))
                .map(|(tenant, app)| AppIdentity { tenant: tenant.into(), app: app.into() }),
            client: text("client").and_then(|client| client.parse().ok()),
            cut_off: text("cut_off"),
        }),
        "failed" => LogRecord::Failed {
            component: text("component")?,
            request: request()?,
            trace: trace(),
            reason: text("reason")?,
            backtrace: backtrace()?,
            response_cut_off: value["response_cut_off"].as_bool()?,
        },
        "call-failed" => LogRecord::CallFailed {
            component: text("component")?,
            request: request(),
            trace: trace(),
            reason: text("reason")?,
            backtrace: backtrace()?,
        },
        event => LogRecord::Message { level: level_of_event(event)?, target: text("target"), text: text("text")? },
    };
    let since = Duration::try_from_secs_f64(value["time"].as_f64()?).ok()?;
    Some((UNIX_EPOCH.checked_add(since)?, record))
}

/// Returns the attributes of a record as an object.
fn attributes(record: &StructuredRecord) -> serde_json::Map<String, Value> {
    record.attributes.iter().map(|attribute| (attribute.key.to_string(), json!(attribute.value))).collect()
}

/// Reads the object that [`attributes`] returned. The object may come from a member, which runs guests, so its size is
/// bounded again.
fn parse_attributes(value: &Value) -> Vec<isomer_telemetry::Attribute> {
    let mut list = AttributeList::default();
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Ok(value) = serde_json::from_value::<isomer_telemetry::Value>(value.clone()) {
            list.push(key, value);
        }
    }
    list.into_vec()
}

fn stream_of(name: &str) -> StandardStream {
    match name == StandardStream::Stdout.name() {
        true => StandardStream::Stdout,
        false => StandardStream::Stderr,
    }
}

fn event_name(level: Level) -> &'static str {
    match level {
        Level::Info => NOTE,
        other => other.name(),
    }
}

fn level_of_event(event: &str) -> Option<Level> {
    match event {
        NOTE => Some(Level::Info),
        name => Level::from_name(name).filter(|level| event_name(*level) == name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::to_text;

    #[test]
    fn a_record_is_one_line_with_all_fields() {
        let record = LogRecord::Output {
            component: "cart".into(),
            stream: StandardStream::Stdout,
            request: RequestId::from_raw(0x1234_5678_9abc_def0),
            trace: TraceContext::from_ids("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),
            line: "a\nb".into(),
        };
        let line = to_json(&record, UNIX_EPOCH, None);
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["component"], "cart");
        assert_eq!(value["request"], "123456789abcdef0");
        assert_eq!(value["line"], "a\nb");
        assert_eq!(value["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((&value["span_id"], &value["sampled"]), (&json!("b7ad6b7169203331"), &json!(false)));
    }

    #[test]
    fn the_member_is_a_field() {
        let member = MemberName { name: "pages".into(), width: 8 };
        let record = LogRecord::message(Level::Info, None, "hello".into());
        let json: Value = serde_json::from_str(&to_json(&record, UNIX_EPOCH, Some(&member))).unwrap();
        assert_eq!(json["group"], "pages");
    }

    #[test]
    fn every_kind_of_record_is_read_as_it_was_written() {
        let at = UNIX_EPOCH + Duration::from_millis(3_723_004);
        let id = RequestId::from_raw(0xab).unwrap();
        let trace = TraceContext::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let output = |stream, request, trace, line: &str| LogRecord::Output {
            component: "cart".into(),
            stream,
            request,
            trace,
            line: line.into(),
        };
        let records = [
            output(StandardStream::Stderr, Some(id), trace, "a\nb"),
            output(StandardStream::Stdout, None, None, "x"),
            LogRecord::Structured(StructuredRecord {
                component: "cart".into(),
                source: RecordSource::Interface,
                request: Some(id),
                trace,
                severity: Some(Severity::Critical),
                time_ns: Some(1),
                message: "a\nb".into(),
                attributes: parse_attributes(&json!({ "a": 1, "b": true, "c": 1.5, "d": "text" })),
            }),
            LogRecord::Access(AccessRecord {
                id,
                trace,
                method: "GET".into(),
                target: "/?a=\"b\"".into(),
                status: 404,
                body_bytes: 12,
                took: Duration::from_micros(1500),
                component: None,
                host: Some("shop.example".into()),
                app: Some(AppIdentity { tenant: "acme".into(), app: "shop".into() }),
                client: Some([192, 0, 2, 7].into()),
                cut_off: Some("its body was not finished".into()),
            }),
            LogRecord::Failed {
                component: "cart".into(),
                request: id,
                trace,
                reason: "a trap".into(),
                backtrace: vec!["first".into(), "second".into()],
                response_cut_off: true,
            },
            LogRecord::CallFailed {
                component: "cart".into(),
                request: Some(id),
                trace: None,
                reason: "a trap".into(),
                backtrace: vec!["first".into()],
            },
            LogRecord::message(Level::Info, None, "hello".into()),
            LogRecord::message(Level::Warning, None, "oh".into()),
            LogRecord::message(Level::Error, Some("isomer_front"), "no".into()),
            LogRecord::message(Level::Debug, Some("isomer_node::host"), "so".into()),
            LogRecord::message(Level::Trace, None, "so".into()),
        ];
        // If you add a kind of record, add its number here and an example above.
        let kind = |record: &LogRecord| match record {
            LogRecord::Output { .. } => 0,
            LogRecord::Access(_) => 1,
            LogRecord::Failed { .. } => 2,
            LogRecord::CallFailed { .. } => 3,
            LogRecord::Message { .. } => 4,
            LogRecord::Structured(_) => 5,
        };
        let mut kinds: Vec<usize> = records.iter().map(kind).collect();
        kinds.dedup();
        assert_eq!(kinds, [0, 5, 1, 2, 3, 4]);
        for record in records {
            let line = to_json(&record, at, None);
            let (when, read) = parse(&line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(
                (to_json(&read, when, None), to_text(&read, when, None, true)),
                (line, to_text(&record, at, None, true))
            );
        }
    }

    #[test]
    fn other_text_is_not_a_record() {
        let note = "{\"event\":\"info\",\"text\":\"y\",\"time\":1}";
        for text in ["", "thread 'main' panicked", "{}", "{\"event\":\"output\"}", note, "[1]"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
