//! Properties that many spans share.

use std::fmt;

use crate::span::{Attribute, SpanKind, Text, Value};

/// The properties that all spans of one kind share, such as the spans of all calls of one function across a seam.
///
/// Spans refer to their template, so beginning a span copies no names and no attributes. They are copied when the
/// request has ended, and only if its spans are kept.
#[derive(Clone, PartialEq)]
pub struct SpanTemplate {
    pub(crate) name: Text,
    pub(crate) kind: SpanKind,
    pub(crate) component: Option<Text>,
    pub(crate) attributes: Vec<Attribute>,
}

impl SpanTemplate {
    /// Returns a template without attributes.
    pub fn new(name: impl Into<Text>, kind: SpanKind) -> Self {
        Self { name: name.into().cut(), kind, component: None, attributes: Vec::new() }
    }

    /// Sets the component that does the work.
    #[must_use]
    pub fn component(self, component: impl Into<Text>) -> Self {
        Self { component: Some(component.into().cut()), ..self }
    }

    /// Adds an attribute. `key` is one of the keys in [`semantics`](crate::semantics), and must not be in the template
    /// yet.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(Attribute { key: key.into(), value: value.into().cut() });
        self
    }
}

impl fmt::Debug for SpanTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SpanTemplate").field(&self.name).finish()
    }
}
