//! The schema of manifests, made from the types of `raw.rs`, and functions that read keys and types from a schema.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use crate::raw::RawManifest;

/// The schema of a manifest.
pub(crate) static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<RawManifest>);

/// Returns the JSON Schema (draft 7) of a type. The schema contains no references: every subschema is inlined.
///
/// Draft 7 is the version that TOML extensions of editors support.
pub(crate) fn schema_of<T: schemars::JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.transforms.push(Box::new(RecursiveTransform(for_toml as fn(&mut schemars::Schema))));
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    // Maps of `serde_json` keep the insertion order if any crate enables the feature `preserve_order`. The generated
    // documents must not depend on features that other crates enable, so the keys are sorted.
    schema.sort_all_objects();
    schema
}

/// Returns the JSON Schema of `isomer.toml`, for editors. The text ends with a newline.
#[must_use]
pub fn schema_json() -> String {
    as_text(&SCHEMA)
}

/// Returns a schema as indented JSON that ends with a newline.
pub(crate) fn as_text(schema: &Value) -> String {
    let mut text = serde_json::to_string_pretty(schema).expect("a schema is JSON");
    text.push('\n');
    text
}

/// Adapts a schema to TOML, which has no null: an optional value has the schema of the value, without null. Also
/// replaces line breaks in descriptions with spaces.
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
    // `format` is the width of the Rust integer, which is irrelevant to authors of manifests.
    object.remove("format");
}

/// Returns the alternatives that `schema` allows, or `schema` itself if it has no alternatives.
pub(crate) fn choices(schema: &Value) -> Vec<&Value> {
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(choices) => choices.iter().collect(),
        None => vec![schema],
    }
}

/// Returns the schema of the value under `key` in a table, or `None` if the table cannot have this key.
pub(crate) fn property<'a>(table: &'a Value, key: &str) -> Option<&'a Value> {
    table.get("properties").and_then(|properties| properties.get(key)).or_else(|| any_property(table))
}

/// Returns the schema of the values of a table in which the user chooses the keys.
pub(crate) fn any_property(table: &Value) -> Option<&Value> {
    let by_pattern =
        table.get("patternProperties").and_then(Value::as_object).and_then(|patterns| patterns.values().next());
    by_pattern.or_else(|| table.get("additionalProperties").filter(|schema| schema.is_object()))
}

/// Returns the predefined keys of a table with the schemas of their values. Empty if the user chooses the keys.
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

/// Returns the value of a field of the schema if it is a string.
pub(crate) fn text<'a>(schema: &'a Value, field: &str) -> Option<&'a str> {
    schema.get(field).and_then(Value::as_str)
}

/// Returns the name of the value's type without an article: `list of routes`.
pub(crate) fn type_name(schema: &Value) -> String {
    let names: Vec<String> = choices(schema).into_iter().map(|choice| name_of_one(choice, false)).collect();
    names.join(" or ")
}

/// Returns the [`type_name`] with its article: `a list of routes`.
pub(crate) fn a_type_name(schema: &Value) -> String {
    let names: Vec<String> = choices(schema)
        .into_iter()
        .map(|choice| {
            let name = name_of_one(choice, false);
            match name.as_str() {
                "true or false" => name,
                // A keyword is written without an article.
                _ if name.starts_with('`') => name,
                _ if name.starts_with(['a', 'e', 'i', 'o', 'u', 'S']) => format!("an {name}"),
                _ => format!("a {name}"),
            }
        })
        .collect();
    names.join(" or ")
}

/// Returns the bounds of a number as a phrase that follows the type's name.
fn bounds(schema: &Value) -> String {
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(minimum), Some(maximum)) => format!(" from {minimum} to {maximum}"),
        (Some(minimum), None) => format!(" of {minimum} or more"),
        _ => String::new(),
    }
}

fn name_of_one(schema: &Value, plural: bool) -> String {
    let s = if plural { "s" } else { "" };
    match text(schema, "type") {
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => format!("whole number{s}{}", bounds(schema)),
        Some("number") => format!("number{s}{}", bounds(schema)),
        Some("array") => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            let items: Vec<String> = choices(items).into_iter().map(|choice| name_of_one(choice, true)).collect();
            format!("list{s} of {}", items.join(" or "))
        }
        Some("object") => match any_property(schema) {
            Some(values) => {
                let values: Vec<String> = choices(values).into_iter().map(|choice| name_of_one(choice, true)).collect();
                format!("table{s} of {}", values.join(" or "))
            }
            None => format!("table{s}"),
        },
        _ => match text(schema, "title").unwrap_or("string") {
            title if plural && title.ends_with('s') => format!("{title}es"),
            title => format!("{title}{s}"),
        },
    }
}
