//! The attributes that guests choose, with bounds on their number and size.

use crate::span::{Attribute, SPAN_ATTRIBUTES_MAX, Value};

/// The maximum length in bytes of a key that a guest chooses.
pub const ATTRIBUTE_KEY_BYTES_MAX: usize = 128;

/// The maximum size in bytes of all keys and texts of one list.
pub const ATTRIBUTE_LIST_BYTES_MAX: usize = 8 << 10;

/// The start of keys that only the platform sets.
const PLATFORM_PREFIX: &str = "isomer.";

/// Attributes that a guest chooses. The number of attributes and their sizes are bounded. The list contains no key twice,
/// and no key of the platform, so that a guest cannot imitate the platform's data.
#[derive(Debug, Default)]
pub struct AttributeList {
    attributes: Vec<Attribute>,
    bytes: usize,
    dropped: u64,
}

impl AttributeList {
    /// Adds an attribute, or replaces the attribute with the same key. The text of a value is cut off after
    /// [`SPAN_TEXT_BYTES_MAX`](crate::SPAN_TEXT_BYTES_MAX) bytes. Returns `false`, and counts the attribute as dropped,
    /// if the list is full, or if the key is empty, too long or one of the platform's.
    pub fn push(&mut self, key: &str, value: impl Into<Value>) -> bool {
        let value = value.into().cut();
        let bytes = key.len() + value.own_bytes();
        let earlier = self.attributes.iter().position(|attribute| attribute.key == *key);
        let is_valid = !key.is_empty() && key.len() <= ATTRIBUTE_KEY_BYTES_MAX && !key.starts_with(PLATFORM_PREFIX);
        let has_room = earlier.is_some() || self.attributes.len() < SPAN_ATTRIBUTES_MAX;
        if !is_valid || !has_room || self.bytes + bytes > ATTRIBUTE_LIST_BYTES_MAX {
            self.dropped += 1;
            return false;
        }
        self.bytes += bytes;
        match earlier {
            Some(index) => self.attributes[index].value = value,
            None => self.attributes.push(Attribute { key: key.to_owned().into(), value }),
        }
        true
    }

    /// Counts attributes as dropped that were not passed to [`push`](Self::push).
    pub fn count_dropped(&mut self, count: usize) {
        self.dropped += count as u64;
    }

    /// Returns whether the list contains an attribute with the key `key`.
    pub fn contains(&self, key: &str) -> bool {
        self.attributes.iter().any(|attribute| attribute.key == *key)
    }

    /// Returns the number of attributes that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns the attributes, in the order in which they were added.
    pub fn as_slice(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Returns the attributes, in the order in which they were added.
    pub fn into_vec(self) -> Vec<Attribute> {
        self.attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SPAN_TEXT_BYTES_MAX;

    #[test]
    fn a_list_is_bounded_and_has_no_keys_of_the_platform() {
        let mut list = AttributeList::default();
        assert!(list.push("order", 7_i64) && list.push("order", 8_i64));
        assert!(!list.push("isomer.component", "forged".to_owned()) && !list.push("", true));
        assert!(!list.push(&"k".repeat(ATTRIBUTE_KEY_BYTES_MAX + 1), true));
        assert_eq!((list.as_slice().len(), list.dropped()), (1, 3));
        assert_eq!(list.as_slice()[0].value, Value::Int(8));
        for number in 0..2 * SPAN_ATTRIBUTES_MAX {
            list.push(&format!("key{number}"), "é".repeat(SPAN_TEXT_BYTES_MAX));
        }
        let bytes: usize = list.as_slice().iter().map(Attribute::own_bytes).sum();
        assert!(bytes <= ATTRIBUTE_LIST_BYTES_MAX && bytes > ATTRIBUTE_LIST_BYTES_MAX / 2, "{bytes}");
        assert!(!list.contains("key31"));
    }
}
