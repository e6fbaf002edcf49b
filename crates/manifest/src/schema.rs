//! The schema of manifests, made from the types of `raw.rs`, and how other modules read a schema: keys, types and their
//! names.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use crate::raw::RawManifest;

/// The schema of a manifest.
pub(crate) static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<RawManifest>);

/// Returns the schema of a type without references: every subschema is written where it is used.
///
/// The TOML extensions of editors read draft 7.
pub(crate) fn schema_of<T: schemars::JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.transforms.push(Box::new(RecursiveTransform(for_toml as fn(&mut schemars::Schema))));
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    // Features that other crates enable decide whether maps of `serde_json` keep their order. The documents that are
    // generated from the schema must not depend on them.
    schema.sort_all_objects();
    schema
}

/// Returns the JSON Schema of `isomer.toml`, for editors; it ends with a line ending.
#[must_use]
pub fn schema_json() -> String {
    as_text(&SCHEMA)
}

/// Returns a schema as text that ends with a line ending.
pub(crate) fn as_text(schema: &Value) -> String {
    let mut text = serde_json::to_string_pretty(schema).expect("a schema is JSON");
    text.push('\n');
    text
}

/// Adapts a schema to TOML: an optional key is left out, since TOML has no null. Line breaks of doc comments are
/// removed from descriptions.
fn for_toml(schema: &mut schemars::Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if choices.len() == 1 {
            let only = choices.remove(0);
            object.remove("anyOf");
            if let Value::Object(only) = only {
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
        }
    }
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    // The width of a number in memory means nothing to authors of manifests.
    object.remove("format");
}

/// Returns the alternatives of a value.
pub(crate) fn choices(schema: &Value) -> Vec<&Value> {
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(choices) => choices.iter().collect(),
        None => vec![schema],
    }
}

/// Returns the schema of the value under `key` of a table, if the table may have this key.
pub(crate) fn property<'a>(table: &'a Value, key: &str) -> Option<&'a Value> {
    table.get("properties").and_then(|properties| properties.get(key)).or_else(|| any_property(table))
}

/// Returns the schema of the values of a table whose keys the user chooses.
pub(crate) fn any_property(table: &Value) -> Option<&Value> {
    let by_pattern =
        table.get("patternProperties").and_then(Value::as_object).and_then(|patterns| patterns.values().next());
    by_pattern.or_else(|| table.get("additionalProperties").filter(|schema| schema.is_object()))
}

/// Returns the keys of a table, unless the user chooses them.
pub(crate) fn keys(table: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = table.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(key, schema)| (key.as_str(), schema))
}

/// Returns whether a table requires this key.
pub(crate) fn is_required(table: &Value, key: &str) -> bool {
    required(table).any(|required| required == key)
}

/// Returns the keys that a table requires.
pub(crate) fn required(table: &Value) -> impl Iterator<Item = &str> {
    table.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Returns a text field of a schema.
pub(crate) fn text<'a>(schema: &'a Value, field: &str) -> Option<&'a str> {
    schema.get(field).and_then(Value::as_str)
}

/// Returns the name of a value's type without an article: `list of routes`.
pub(crate) fn type_name(schema: &Value) -> String {
    let names: Vec<String> = choices(schema).into_iter().map(|choice| name_of_one(choice, false)).collect();
    names.join(" or ")
}

/// Returns [`type_name`] with its article: `a list of routes`.
pub(crate) fn a_type_name(schema: &Value) -> String {
    let names: Vec<String> = choices(schema)
        .into_iter()
        .map(|choice| {
            let name = name_of_one(choice, false);
            match name.as_str() {
                "true or false" => name,
                // A keyword, which is written as it is.
                _ if name.starts_with('`') => name,
                _ if name.starts_with(['a', 'e', 'i', 'o', 'u', 'S']) => format!("an {name}"),
                _ => format!("a {name}"),
            }
        })
        .collect();
    names.join(" or ")
}

fn name_of_one(schema: &Value, plural: bool) -> String {
    let s = if plural { "s" } else { "" };
    match text(schema, "type") {
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => {
            let bounds = match (schema.get("minimum"), schema.get("maximum")) {
                (Some(minimum), Some(maximum)) => format!(" from {minimum} to {maximum}"),
                (Some(minimum), None) => format!(" of {minimum} or more"),
                _ => String::new(),
            };
            format!("whole number{s}{bounds}")
        }
        Some("array") => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            let items: Vec<String> = choices(items).into_iter().map(|choice| name_of_one(choice, true)).collect();
            format!("list{s} of {}", items.join(" or "))
        }
        Some("object") => match any_property(schema) {
            Some(values) => format!("table{s} of {}", name_of_one(values, true)),
            None => format!("table{s}"),
        },
        _ => match text(schema, "title").unwrap_or("string") {
            title if plural && title.ends_with('s') => format!("{title}es"),
            title => format!("{title}{s}"),
        },
    }
}
