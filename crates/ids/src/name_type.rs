//! The macro that makes a type of checked text.

/// Defines a type of text that is checked whenever a value is created.
///
/// `$check` is a function that takes the text, and returns the text to store (`Arc<str>`) or an `InvalidText`.
/// `$schema` lists the keywords of the type's JSON Schema.
macro_rules! name_type {
    ($(#[doc = $doc:literal])+ $type:ident, $check:expr, { $($schema:tt)* }) => {
        $(#[doc = $doc])+
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(std::sync::Arc<str>);

        impl $type {
            /// Creates a value from `text`.
            ///
            /// # Errors
            /// If `text` breaks the rule of this type.
            pub fn new(text: &str) -> Result<Self, $crate::InvalidText> {
                let check: fn(&str) -> Result<std::sync::Arc<str>, $crate::InvalidText> = $check;
                check(text).map(Self)
            }

            /// Returns the checked text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Returns the checked text as a reference-counted pointer. Does not copy the text.
            #[must_use]
            pub fn shared(&self) -> std::sync::Arc<str> {
                self.0.clone()
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::InvalidText;

            fn from_str(text: &str) -> Result<Self, $crate::InvalidText> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let about = [$($doc),+].map(str::trim).join(" ");
                schemars::json_schema!({ "description": about, "type": "string", $($schema)* })
            }
        }
    };
}

pub(crate) use name_type;
