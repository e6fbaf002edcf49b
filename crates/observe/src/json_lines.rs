//! Lines of JSON that components print. Logging libraries write such lines: each line is an object with a message, a
//! severity, a time and further fields. They become records; all other lines remain lines.
//!
//! A line also remains a line if its object exceeds a bound or has a key twice, so no part of it is lost.

use std::fmt;

use isomer_display::parse_instant;
use isomer_telemetry::{
    AttributeList, Event, GuestRecord, RecordSource, SPAN_TEXT_BYTES_MAX, Severity, Value, unix_ns,
};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;

/// The maximum number of objects that are nested in each other. An object in an object becomes attributes with keys such
/// as `http.status`.
const DEPTH_MAX: usize = 4;

/// The maximum number of fields of one line, including those of nested objects.
const FIELDS_MAX: usize = 64;

/// The keys of the message, in the order of preference.
const MESSAGE_KEYS: [&str; 5] = ["message", "msg", "@message", "body", "event"];

/// The keys of the severity.
const SEVERITY_KEYS: [&str; 9] =
    ["level", "severity", "lvl", "log.level", "levelname", "loglevel", "severityText", "severity_text", "@level"];

/// The keys of the time.
const TIME_KEYS: [&str; 4] = ["time", "timestamp", "ts", "@timestamp"];

/// The key of the object into which Rust's `tracing` writes the message and all fields of an event.
const TRACING_FIELDS: &str = "fields";

/// Passes `event` to `receive`: as a record if it is a line of JSON that a logging library wrote.
pub(crate) fn with_record(event: Event<'_>, receive: impl FnOnce(Event<'_>)) {
    if let Event::OutputLine { component, stream, request, trace, line } = event
        && let Some(JsonLine { severity, time_ns, message, attributes }) = parse(line)
    {
        return receive(Event::Record(GuestRecord {
            component,
            source: RecordSource::Stream(stream),
            request,
            trace,
            severity,
            time_ns,
            message: &message,
            attributes: attributes.as_slice(),
        }));
    }
    receive(event);
}

/// The content of a line.
struct JsonLine {
    severity: Option<Severity>,
    time_ns: Option<u64>,
    message: String,
    attributes: AttributeList,
}

/// Parses a line. Returns `None` if the line is not an object with a message or a severity, or if it exceeds a bound.
fn parse(line: &[u8]) -> Option<JsonLine> {
    let line = line.trim_ascii();
    if !(line.starts_with(b"{") && line.ends_with(b"}")) {
        return None;
    }
    let Fields(object) = serde_json::from_slice(line).ok()?;
    let mut fields = Vec::new();
    for (key, value) in object {
        match (key.as_str(), value) {
            (TRACING_FIELDS, Json::Object(inner)) => {
                for (key, value) in inner {
                    flatten(&mut fields, key, value, 1)?;
                }
            }
            (_, value) => flatten(&mut fields, key, value, 0)?,
        }
    }
    let severity = take(&mut fields, &SEVERITY_KEYS, severity);
    let message = take(&mut fields, &MESSAGE_KEYS, |value| value.as_str().map(str::to_owned));
    if severity.is_none() && message.is_none() {
        return None;
    }
    let time_ns = take(&mut fields, &TIME_KEYS, time_ns);
    let mut attributes = AttributeList::default();
    for (key, value) in fields {
        let text_bytes = value.as_str().map_or(0, str::len);
        // A text that would be cut off, or a key that occurs twice, is a reason to keep the line as it is.
        if text_bytes > SPAN_TEXT_BYTES_MAX || attributes.contains(&key) {
            return None;
        }
        if let Some(value) = to_value(value)
            && !attributes.push(&key, value)
        {
            return None;
        }
    }
    Some(JsonLine { severity, time_ns, message: message.unwrap_or_default(), attributes })
}

/// Adds the fields of `value` to `fields`. Returns `None` if there are too many, or if they are nested too deeply.
fn flatten(fields: &mut Vec<(String, Json)>, key: String, value: Json, depth: usize) -> Option<()> {
    match value {
        Json::Object(inner) if !inner.is_empty() => {
            if depth + 1 >= DEPTH_MAX {
                return None;
            }
            for (name, value) in inner {
                flatten(fields, format!("{key}.{name}"), value, depth + 1)?;
            }
        }
        value => fields.push((key, value)),
    }
    (fields.len() <= FIELDS_MAX).then_some(())
}

/// Removes and returns the first field that has one of `keys` and a value that `convert` accepts.
fn take<T>(fields: &mut Vec<(String, Json)>, keys: &[&str], convert: impl Fn(&Json) -> Option<T>) -> Option<T> {
    for key in keys {
        let index = fields.iter().position(|(name, _)| name == key);
        if let Some(index) = index
            && let Some(converted) = convert(&fields[index].1)
        {
            fields.remove(index);
            return Some(converted);
        }
    }
    None
}

fn severity(value: &Json) -> Option<Severity> {
    match value {
        Json::String(name) => Severity::from_name(name),
        Json::Number(number) => Severity::from_tens(number.as_i64()?),
        _ => None,
    }
}

/// Returns a time in nanoseconds since the Unix epoch: a text as in RFC 3339, or a number of seconds, milliseconds,
/// microseconds or nanoseconds. The unit of a number follows from its size.
fn time_ns(value: &Json) -> Option<u64> {
    /// The number of seconds from which a number has a smaller unit: in the year 5138.
    const SECONDS_MAX: f64 = 1e11;
    if let Json::String(text) = value {
        return parse_instant(text).map(unix_ns);
    }
    let number = value.as_f64().filter(|number| *number >= 0.0 && *number < 1e19)?;
    let unit_ns = match number {
        _ if number < SECONDS_MAX => 1_000_000_000,
        _ if number < SECONDS_MAX * 1e3 => 1_000_000,
        _ if number < SECONDS_MAX * 1e6 => 1000,
        _ => 1,
    };
    match value.as_u64() {
        Some(number) => number.checked_mul(unit_ns),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
        #[expect(clippy::cast_precision_loss, reason = "the units are exact")]
        None => Some((number * unit_ns as f64) as u64),
    }
}

/// Returns the value of an attribute. Lists become JSON text; `null` is left out.
fn to_value(value: Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(value) => value.into(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) if !number.is_nan() => number.into(),
            _ => number.to_string().into(),
        },
        Json::String(text) => text.into(),
        other => other.to_string().into(),
    })
}

/// The fields of an object in the order of the text. An object that has a key twice is an error.
struct Fields(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Json)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Json>()? {
                    let is_twice = fields.iter().any(|(other, _)| *other == key);
                    if is_twice || fields.len() == FIELDS_MAX {
                        return Err(serde::de::Error::custom("a key occurs twice, or there are too many"));
                    }
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the severity, the time and the message of a line, followed by its attributes.
    fn parsed(line: &str) -> Option<String> {
        let JsonLine { severity, time_ns, message, attributes } = parse(line.as_bytes())?;
        let severity = severity.map_or("-", Severity::name);
        let time_s = time_ns.map_or_else(|| "-".to_owned(), |ns| (ns / 1_000_000_000).to_string());
        let attributes = attributes.as_slice().iter().map(|one| (&one.key, &one.value));
        Some(format!("{severity} {time_s} {message}{}", isomer_display::fields(attributes)))
    }

    #[test]
    fn lines_of_common_libraries_are_read() {
        let lines = [
            // tracing-subscriber
            (
                r#"{"timestamp":"2024-02-29T00:00:01.007Z","level":"WARN","fields":{"message":"slow","took_ms":7},"target":"cart"}"#,
                "warning 1709164801 slow took_ms=7 target=cart",
            ),
            // pino, bunyan
            (
                r#"{"level":50,"time":1709164801007,"pid":1,"msg":"failed","err":{"type":"Error","code":"E1"}}"#,
                "error 1709164801 failed pid=1 err.code=E1 err.type=Error",
            ),
            // slog, zap
            (
                r#"{"time":"2024-02-29T01:00:01+01:00","level":"INFO","msg":"paid","id":[1,2]}"#,
                "info 1709164801 paid id=[1,2]",
            ),
            (r#"{"level":"info","ts":1709164801.5,"msg":"paid","ok":true,"x":null}"#, "info 1709164801 paid ok=true"),
            // structlog
            (r#"{"event":"login","level":"debug","timestamp":"soon"}"#, "debug - login timestamp=soon"),
            // Elastic Common Schema, Google Cloud
            (
                r#"{"log":{"level":"fatal"},"message":"gone","@timestamp":"2024-02-29T00:00:01Z"}"#,
                "critical 1709164801 gone",
            ),
            (r#" {"severity":"NOTICE","message":"hi","n":1.5} "#, "info - hi n=1.5"),
        ];
        for (line, expected) in lines {
            assert_eq!(parsed(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn other_lines_remain_lines() {
        let deep = format!("{{\"msg\":\"x\",\"a\":{}1{}}}", "{\"a\":".repeat(4000), "}".repeat(4000));
        let many = (0..100).map(|number| format!("\"k{number}\":1")).collect::<Vec<_>>().join(",");
        let many = format!("{{\"msg\":\"x\",{many}}}");
        let long = format!("{{\"msg\":\"x\",\"text\":\"{}\"}}", "x".repeat(2000));
        let lines = [
            "plain",
            "{}",
            "{\"a\":1}",
            "{\"msg\":\"cut off",
            "[{\"msg\":\"x\"}]",
            "{\"msg\":\"x\"} {\"msg\":\"y\"}",
            "{\"msg\":\"x\",\"msg\":\"y\"}",
            "{\"msg\":\"x\",\"a.b\":1,\"a\":{\"b\":2}}",
            "{\"msg\":\"x\",\"isomer.component\":\"forged\"}",
            "{\"msg\":\"x\",\"a\":{\"b\":{\"c\":{\"d\":{\"e\":1}}}}}",
            "{\"msg\":1}",
            &deep,
            &many,
            &long,
        ];
        for line in lines {
            assert_eq!(parsed(line), None, "{line}");
        }
        assert!(parse(b"{\"msg\":\"\xff\"}").is_none());
    }

    #[test]
    fn fields_named_like_those_of_the_platform_are_attributes() {
        let line = r#"{"msg":"x\u001b[2J\n2024 node","component":"node","stream":"node","request":"0"}"#;
        let shown = parsed(line).unwrap();
        assert_eq!(shown, "- - x\u{1b}[2J\n2024 node component=node stream=node request=0");
    }

    #[test]
    fn an_event_is_passed_on_as_a_record_or_unchanged() {
        let stream = isomer_telemetry::StandardStream::Stderr;
        let seen = |line: &[u8]| {
            let mut seen = String::new();
            with_record(Event::OutputLine { component: "cart", stream, request: None, trace: None, line }, |event| {
                seen = match event {
                    Event::OutputLine { line, .. } => format!("line {}", String::from_utf8_lossy(line)),
                    Event::Record(record) => format!("{} {}", record.source.name(), record.message),
                    _ => panic!("another event"),
                };
            });
            seen
        };
        assert_eq!([seen(b"a"), seen(b"{\"msg\":\"b\"}")], ["line a", "stderr b"]);
    }
}
