//! Messages that all signals use: attributes, resources, scopes.

/// The value of an attribute, or the body of a log record.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AnyValue {
    #[prost(oneof = "any_value::Value", tags = "1, 2, 3, 4, 5")]
    pub(crate) value: Option<any_value::Value>,
}

/// The kinds of values.
pub(crate) mod any_value {
    /// A value.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Value {
        #[prost(string, tag = "1")]
        Text(String),
        #[prost(bool, tag = "2")]
        Bool(bool),
        #[prost(int64, tag = "3")]
        Int(i64),
        #[prost(double, tag = "4")]
        Float(f64),
        #[prost(message, tag = "5")]
        Array(super::ArrayValue),
    }
}

/// A list of values.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<AnyValue>,
}

/// An attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<AnyValue>,
}

/// The app and process that emitted the telemetry.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(crate) attributes: Vec<KeyValue>,
}

/// The library that emitted the telemetry.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InstrumentationScope {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

impl InstrumentationScope {
    /// Returns the scope of everything that the platform emits.
    pub(crate) fn platform() -> Self {
        Self { name: "isomer".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

impl KeyValue {
    /// Returns an attribute.
    pub(crate) fn new(key: impl Into<String>, value: impl Into<AnyValue>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }
}

impl From<any_value::Value> for AnyValue {
    fn from(value: any_value::Value) -> Self {
        Self { value: Some(value) }
    }
}

impl From<String> for AnyValue {
    fn from(text: String) -> Self {
        any_value::Value::Text(text).into()
    }
}

impl From<&str> for AnyValue {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<i64> for AnyValue {
    fn from(number: i64) -> Self {
        any_value::Value::Int(number).into()
    }
}

impl From<bool> for AnyValue {
    fn from(value: bool) -> Self {
        any_value::Value::Bool(value).into()
    }
}

impl From<&[String]> for AnyValue {
    fn from(texts: &[String]) -> Self {
        any_value::Value::Array(ArrayValue { values: texts.iter().map(|text| text.as_str().into()).collect() }).into()
    }
}
