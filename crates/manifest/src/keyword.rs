//! Values that are a keyword, or a list or table: `isolate = "all"` or `isolate = ["cart"]`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

/// A keyword that can be written instead of a list or table.
pub(crate) trait Keyword {
    const KEYWORD: &'static str;
}

/// Either a text, which must be the keyword of `W`, or a value. Deserializing accepts any text. Lowering refuses a
/// wrong text, because an error of lowering can suggest the intended keyword.
#[derive(Debug)]
pub(crate) enum KeywordOr<W, T> {
    Text(String, PhantomData<W>),
    Value(T),
}

impl<W, T: Default> Default for KeywordOr<W, T> {
    fn default() -> Self {
        Self::Value(T::default())
    }
}

/// Implemented by hand, because serde's untagged enums lose the location of the value in the file.
impl<'de, W: Keyword, T: Deserialize<'de>> Deserialize<'de> for KeywordOr<W, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<W, T>(PhantomData<(W, T)>);

        impl<'de, W: Keyword, T: Deserialize<'de>> Visitor<'de> for Reader<W, T> {
            type Value = KeywordOr<W, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"{}\" or a value", W::KEYWORD)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(KeywordOr::Text(text.to_owned(), PhantomData))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                T::deserialize(SeqAccessDeserializer::new(list)).map(KeywordOr::Value)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(table)).map(KeywordOr::Value)
            }
        }

        deserializer.deserialize_any(Reader(PhantomData))
    }
}

impl<W: Keyword, T: JsonSchema> JsonSchema for KeywordOr<W, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        W::KEYWORD.into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = T::json_schema(generator);
        let title = format!("`\"{}\"`", W::KEYWORD);
        json_schema!({ "anyOf": [value, { "type": "string", "title": title, "enum": [W::KEYWORD], "examples": [W::KEYWORD] }] })
    }
}
