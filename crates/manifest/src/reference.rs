//! Generates the reference of all keys from the schema.

use std::fmt::Write as _;

use serde_json::Value;

use crate::node_file::NODE_SCHEMA;
use crate::schema::{SCHEMA, any_property, choices, is_required, keys, text, type_name};
use crate::units::{DURATION_UNITS, SIZE_UNITS};

/// Returns the reference of all keys of `isomer.toml` as Markdown. The text ends with a newline.
#[must_use]
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "<!-- Generated from crates/manifest/src/raw.rs. Do not edit. -->\n\
         # Keys of `isomer.toml`\n\n\
         Paths are relative to the manifest's folder. Unknown keys are errors. Editors can check and complete manifests with the \
         [JSON Schema](isomer.schema.json) generated from the same source.\n\n",
    );
    let units =
        |units: &[(&str, u64)]| units.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "- A *size* is a whole number and a unit ({}), for example `\"64MiB\"`.", units(SIZE_UNITS));
    let _ = writeln!(
        out,
        "- A *duration* is a whole number and a unit ({}), for example `\"30s\"`.",
        units(DURATION_UNITS)
    );
    out.push_str(
        "- A *name* has lower-case letters and digits in parts joined by `-`, begins with a letter, and has at most 64 characters.\n",
    );
    for (key, schema) in keys(&SCHEMA) {
        section(&mut out, key, key, schema, text(schema, "description"));
    }
    out
}

/// Returns the reference of all keys of a node file as Markdown. The text ends with a newline.
#[must_use]
pub fn node_reference_markdown() -> String {
    let mut out = String::from(
        "<!-- Generated from crates/manifest/src/node_file/raw.rs. Do not edit. -->\n\
         # Keys of a node file\n\n\
         `isomer node --config FILE` reads the settings of a node from a node file. `isomer run --group GROUP --config FILE` reads the \
         settings of a group that runs on a separate machine ([guide](../guides/several-machines.md)). Both commands read `[outbound]`. Every \
         other table is for one of the commands; in a file for the other command, the table is an error. Paths are relative to the file's folder. Unknown keys are errors. \
         Editors can check and complete such files with the [JSON Schema](isomer.node.schema.json) generated from the same source.\n\n\
         - An *address* is `HOST:PORT`, or `unix:PATH` for a Unix socket.\n\
         - A *size* is a whole number and a unit, for example `\"64KiB\"`.\n\
         - A *duration* is a whole number and a unit, for example `\"30s\"`.\n",
    );
    for (key, schema) in keys(&NODE_SCHEMA) {
        section(&mut out, key, key, schema, text(schema, "description"));
    }
    out
}

/// Writes the keys of a table and of its inner tables. `path` is the table's path in the file, `title` the text of the
/// heading, and `meaning` the first paragraph below the heading.
fn section(out: &mut String, path: &str, title: &str, schema: &Value, meaning: Option<&str>) {
    if let Some(values) = any_property(schema) {
        if values.get("properties").is_some() {
            section(out, &format!("{path}.NAME"), &format!("{title}.NAME"), values, meaning);
        } else {
            let _ = writeln!(out, "\n## `[{title}]`\n\n{}\n", meaning.unwrap_or_default());
            out.push_str("| Key | Type | Default | Meaning |\n| --- | --- | --- | --- |\n");
            row(out, "NAME", &kind_of(values).0, "none".to_owned(), values);
        }
        return;
    }
    let level = if path.split('.').count() > 2 { "###" } else { "##" };
    let _ = writeln!(out, "\n{level} `[{title}]`\n");
    let own = text(schema, "description").filter(|own| Some(*own) != meaning);
    for paragraph in meaning.into_iter().chain(own) {
        let _ = writeln!(out, "{}\n", paragraph);
    }
    out.push_str("| Key | Type | Default | Meaning |\n| --- | --- | --- | --- |\n");
    let mut below: Vec<(&str, &Value)> = vec![];
    for (key, property) in keys(schema) {
        let (kind, inner) = kind_of(property);
        row(out, key, &kind, default_of(schema, key, property), property);
        match inner {
            Some(Inner::Table(table)) => below.push((key, table)),
            Some(Inner::Fields(table) | Inner::NamedFields(table)) => {
                let path = if matches!(inner, Some(Inner::Fields(_))) { key.to_owned() } else { format!("{key}.NAME") };
                for (field, property) in keys(table) {
                    row(
                        out,
                        &format!("{path}.{field}"),
                        &kind_of(property).0,
                        default_of(table, field, property),
                        property,
                    );
                }
            }
            None => {}
        }
    }
    for (key, table) in below {
        section(out, &format!("{path}.{key}"), &format!("{title}.{key}"), table, text(table, "description"));
    }
}

/// The inner keys of a key whose value contains tables. A `Table` gets its own section of the reference. For a list of
/// tables (`Fields`), each key of its tables gets a row `KEY.FIELD` below the row of the list. For a table of tables with
/// names that the author chooses (`NamedFields`), these rows are `KEY.NAME.FIELD`.
enum Inner<'a> {
    Table(&'a Value),
    Fields(&'a Value),
    NamedFields(&'a Value),
}

fn kind_of(schema: &Value) -> (String, Option<Inner<'_>>) {
    let inner = match text(schema, "type") {
        Some("object") if schema.get("properties").is_some() => Some(Inner::Table(schema)),
        Some("array") => {
            let items = schema.get("items").map(choices).unwrap_or_default();
            items.into_iter().find(|items| items.get("properties").is_some()).map(Inner::Fields)
        }
        _ => {
            let tables = choices(schema).into_iter().filter_map(any_property).flat_map(choices);
            tables.into_iter().find(|table| table.get("properties").is_some()).map(Inner::NamedFields)
        }
    };
    (type_name(schema), inner)
}

fn row(out: &mut String, key: &str, kind: &str, default: String, schema: &Value) {
    let meaning = text(schema, "description").unwrap_or_default().replace('|', "\\|");
    let _ = writeln!(out, "| `{key}` | {kind} | {default} | {meaning} |");
}

fn default_of(table: &Value, key: &str, schema: &Value) -> String {
    if is_required(table, key) {
        return "required".to_owned();
    }
    match schema.get("default") {
        Some(Value::Array(items)) if items.is_empty() => "none".to_owned(),
        Some(Value::Object(entries)) if entries.is_empty() => "none".to_owned(),
        Some(default) => format!("`{default}`"),
        None => "none".to_owned(),
    }
}
