//! The schema of manifests, made from the types of `raw.rs`; and what messages read from any schema: keys, types and their names.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use crate::raw::RawManifest;

/// The schema of a manifest.
pub(crate) static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<RawManifest>);

/// A schema without references: every subschema stands where it is used.
///
/// Draft 7 is what the editors' TOML extensions read.
pub(crate) fn schema_of<T: schemars::JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.transforms.push(Box::new(RecursiveTransform(for_toml as fn(&mut schemars::Schema))));
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    // Whether maps of `serde_json` keep their order is up to the features that other crates ask for; what is generated
    // from this must not be.
    schema.sort_all_objects();
    schema
}

/// The JSON Schema of `isomer.toml`, for editors; ends with a line ending.
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

/// An optional key is left out, never null: TOML has no null. Descriptions are text, not lines of a source file.
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
    // The width of a number in memory says nothing to whoever writes a manifest.
    object.remove("format");
}

/// The schemas among which a value may choose.
pub(crate) fn choices(schema: &Value) -> Vec<&Value> {
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(choices) => choices.iter().collect(),
        None => vec![schema],
    }
}

/// The schema of the value under `key` of a table with this schema, if it has such a key.
pub(crate) fn property<'a>(table: &'a Value, key: &str) -> Option<&'a Value> {
    table.get("properties").and_then(|properties| properties.get(key)).or_else(|| any_property(table))
}

/// The schema of the values of a table whose keys are names that the user chooses.
pub(crate) fn any_property(table: &Value) -> Option<&Value> {
    let by_pattern =
        table.get("patternProperties").and_then(Value::as_object).and_then(|patterns| patterns.values().next());
    by_pattern.or_else(|| table.get("additionalProperties").filter(|schema| schema.is_object()))
}

/// The keys of a table with this schema, where the manifest does not choose them.
pub(crate) fn keys(table: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = table.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(key, schema)| (key.as_str(), schema))
}

/// Does a table with this schema need this key?
pub(crate) fn is_required(table: &Value, key: &str) -> bool {
    required(table).any(|required| required == key)
}

/// The keys that a table with this schema needs.
pub(crate) fn required(table: &Value) -> impl Iterator<Item = &str> {
    table.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// A text field of a schema.
pub(crate) fn text<'a>(schema: &'a Value, field: &str) -> Option<&'a str> {
    schema.get(field).and_then(Value::as_str)
}

/// What a value with this schema is called, without an article: `list of routes`.
pub(crate) fn type_name(schema: &Value) -> String {
    let names: Vec<String> = choices(schema).into_iter().map(|choice| name_of_one(choice, false)).collect();
    names.join(" or ")
}

/// [`type_name`] with its article: `a list of routes`.
pub(crate) fn a_type_name(schema: &Value) -> String {
    let names: Vec<String> = choices(schema)
        .into_iter()
        .map(|choice| {
            let name = name_of_one(choice, false);
            match name.as_str() {
                "true or false" => name,
                // A word that stands for itself.
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
