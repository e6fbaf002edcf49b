//! The properties of one span, in addition to those of its template.

use crate::span::{Attribute, SPAN_ATTRIBUTES_MAX, SpanKind, SpanStatus, Text, Value};

/// The name, the kind, the component, the outcome and the attributes of one span. They replace those of the span's
/// template.
#[derive(Debug, Default)]
pub struct SpanDetails {
    pub(crate) name: Option<Text>,
    pub(crate) kind: Option<SpanKind>,
    pub(crate) component: Option<Text>,
    pub(crate) status: SpanStatus,
    pub(crate) attributes: Vec<Attribute>,
}

impl SpanDetails {
    /// Replaces the name.
    pub fn rename(&mut self, name: impl Into<Text>) {
        self.name = Some(name.into().cut());
    }

    /// Sets which side of a call the span describes.
    pub fn set_kind(&mut self, kind: SpanKind) {
        self.kind = Some(kind);
    }

    /// Sets the component that does the work.
    pub fn set_component(&mut self, component: impl Into<Text>) {
        self.component = Some(component.into().cut());
    }

    /// Sets an attribute. `key` is one of the keys in [`semantics`](crate::semantics).
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        set(&mut self.attributes, Attribute { key: key.into(), value: value.into().cut() });
    }

    /// Marks the operation as failed.
    pub fn fail(&mut self, reason: impl Into<Text>) {
        self.status = SpanStatus::Failed(reason.into().cut());
    }

    /// Returns the number of bytes on the heap that belong to these details only.
    pub(crate) fn own_bytes(&self) -> usize {
        let texts = [self.name.as_ref(), self.component.as_ref(), self.status.reason()];
        let texts = texts.into_iter().flatten().map(Text::own_bytes).sum::<usize>();
        let attributes = self.attributes.iter().map(Attribute::own_bytes).sum::<usize>();
        texts + attributes + self.attributes.capacity() * size_of::<Attribute>()
    }
}

/// Adds `attribute`, or replaces the attribute with the same key. Drops `attribute` if the span has the maximum number
/// of attributes.
pub(crate) fn set(attributes: &mut Vec<Attribute>, attribute: Attribute) {
    if let Some(earlier) = attributes.iter_mut().find(|earlier| earlier.key == attribute.key) {
        earlier.value = attribute.value;
    } else if attributes.len() < SPAN_ATTRIBUTES_MAX {
        attributes.push(attribute);
    }
}
