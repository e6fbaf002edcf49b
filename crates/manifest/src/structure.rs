//! Checks that a file has the structure of its schema: only known keys, values of the right types, no missing keys.
//!
//! Invalid parts are reported and removed, so that the rest can be read and checked. All keys come from the schema of
//! `raw.rs` or `node_file/raw.rs`.

use std::collections::BTreeMap;

use isomer_diagnostics::{Diagnostic, Span, nearest};
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::bounds::Findings;
use crate::schema::{a_type_name, any_property, choices, keys, property, required, text};

/// Reports the parts of `table` that do not match `schema`, and removes them. `table` was parsed from `source`. `file`
/// names the file in messages, for example `the manifest`.
pub(crate) fn check(source: &str, table: &mut DeTable<'_>, schema: &Value, file: &'static str) -> Findings {
    let mut check = Check { source, file, path: vec![], found: Findings::default() };
    check.table(table, schema, Span::NONE);
    check.found
}

struct Check<'a> {
    source: &'a str,
    file: &'static str,
    path: Vec<String>,
    found: Findings,
}

impl Check<'_> {
    /// Checks the keys and values of a table. `at` is the location of the table's key.
    fn table(&mut self, table: &mut DeTable<'_>, schema: &Value, at: Span) {
        let mut meant_keys: Vec<String> = vec![];
        if table.is_empty() && schema.get("minProperties").is_some() {
            self.empty(schema, at);
        }
        let entries = entries_of_tables(table, schema);
        for (key, mut value) in std::mem::take(table) {
            let name = key.get_ref().to_string();
            let key_span = Span::from(key.span());
            match property(schema, &name) {
                Some(schema) => {
                    self.path.push(name);
                    if self.value(&mut value, schema, key_span) {
                        table.insert(key, value);
                    }
                    self.path.pop();
                }
                None => meant_keys.extend(self.unknown(&name, key_span, &value, schema, &entries)),
            }
        }
        for key in required(schema) {
            let there = table.contains_key(key);
            if !there && !meant_keys.iter().any(|meant| meant == key) && !self.reported_below(key) {
                self.missing(key, schema, at);
            }
        }
    }

    /// Returns whether `key` is missing only because its value had a wrong type and was removed, which has been
    /// reported.
    fn reported_below(&self, key: &str) -> bool {
        let path = self.path_to(key);
        self.found.iter().any(|diagnostic| {
            diagnostic.code == Some("wrong-type") && diagnostic.message.starts_with(&format!("`{path}` "))
        })
    }

    /// Checks a value, and returns whether it matches the schema. `at` is the location of the value's key.
    fn value(&mut self, value: &mut Spanned<DeValue<'_>>, schema: &Value, at: Span) -> bool {
        let span = Span::from(value.span());
        let Some(choice) = choices(schema).into_iter().find(|choice| fits(value.get_ref(), choice)) else {
            self.wrong_type(value.get_ref(), span, schema);
            return false;
        };
        match value.get_mut() {
            DeValue::Table(table) => self.table(table, choice, at),
            DeValue::Array(array) => self.array(array, choice),
            _ => {}
        }
        true
    }

    fn array(&mut self, array: &mut DeArray<'_>, schema: &Value) {
        let items = schema.get("items").unwrap_or(&Value::Null);
        let mut checked = DeArray::new();
        for (index, mut item) in std::mem::replace(array, DeArray::new()).into_iter().enumerate() {
            let span = Span::from(item.span());
            let last = self.path.last().cloned().unwrap_or_default();
            self.path.push(format!("{last}[{index}]"));
            if self.value(&mut item, items, span) {
                checked.push(item);
            }
            self.path.pop();
        }
        *array = checked;
    }

    /// Reports an unknown key. Returns the known key with the most similar name, if one is similar enough.
    /// `entries` are the [`entries_of_tables`] of the table that contains the key.
    fn unknown(
        &mut self,
        name: &str,
        at: Span,
        value: &Spanned<DeValue<'_>>,
        schema: &Value,
        entries: &BTreeMap<String, String>,
    ) -> Option<String> {
        let place = self.place();
        let known: Vec<&str> = keys(schema).map(|(key, _)| key).collect();
        let near = nearest(name, known.iter().copied());
        let mut diagnostic = Diagnostic::error(format!("unknown key `{name}` in {place}"))
            .code("unknown-key")
            .at(at, "")
            .hint_if(near.map(|near| format!("did you mean `{near}`?")));
        let below = keys(schema)
            .find(|(_, below)| below.get("properties").is_some_and(|keys| keys.get(name).is_some()))
            .map(|(table, _)| table)
            .or_else(|| entries.get(name).map(String::as_str));
        if near.is_none() {
            diagnostic = match below {
                Some(table) => diagnostic.hint(format!("the key belongs to `{table}`: write `{table}.{name}`")),
                None => diagnostic.hint(format!("{place} can have `{}`", known.join("`, `"))),
            };
        }
        if self.is_secret() {
            diagnostic = diagnostic.hide(value.span().into());
        }
        self.found.push(diagnostic);
        near.map(str::to_owned)
    }

    fn missing(&mut self, key: &str, schema: &Value, at: Span) {
        let property = property(schema, key).unwrap_or(&Value::Null);
        let place = self.place();
        let diagnostic = if self.path.is_empty() {
            let (table, example) = example_of_table(key, property);
            Diagnostic::error(format!("{} has no `{table}`", self.file)).in_file().hint(format!("add it:\n{example}"))
        } else {
            Diagnostic::error(format!("{place} has no `{key}`"))
                .at(at, format!("`{key}` is missing"))
                .hint(format!("add `{key} = {}`", example_of(property)))
        };
        self.found.push(diagnostic.code("missing-key"));
    }

    fn empty(&mut self, schema: &Value, at: Span) {
        let (table, example) = example_of_table(&self.path_to(""), schema);
        let diagnostic = Diagnostic::error(format!("{} has no `{table}`", self.file))
            .code("missing-key")
            .at(at, "this is empty")
            .hint(format!("add one:\n{example}"));
        self.found.push(diagnostic);
    }

    fn wrong_type(&mut self, value: &DeValue<'_>, span: Span, schema: &Value) {
        let path = self.path_to("");
        let found = match value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let takes = |name: &str| choices(schema).into_iter().any(|choice| text(choice, "type") == Some(name));
        let out_of_bounds = match value {
            DeValue::Integer(_) => takes("integer") || takes("number"),
            DeValue::Float(_) => takes("number"),
            _ => false,
        };
        let written = self.source.get(span.start..span.end).unwrap_or_default();
        let label = if out_of_bounds { format!("`{written}` is out of bounds") } else { format!("this is {found}") };
        let mut diagnostic = Diagnostic::error(format!("`{path}` must be {}", a_type_name(schema)))
            .code(if out_of_bounds { "out-of-bounds" } else { "wrong-type" })
            .at(span, label);
        if self.is_secret() {
            let name = self.path.last().cloned().unwrap_or_default();
            diagnostic = diagnostic.hide(span);
            if name == "env" || name == "file" {
                diagnostic = diagnostic.hint(format!("for example `{}`", example_of(schema)));
            } else {
                let variable = name.replace(['-', '.'], "_").to_ascii_uppercase();
                let is_manifest = self.path.first().is_some_and(|first| first == "secrets");
                diagnostic = diagnostic.hint(format!(
                    "a secret's value does not belong in {}; say where it comes from:\n\
                     {name} = {{ env = \"{variable}\" }}",
                    if is_manifest { "the manifest" } else { self.file },
                ));
            }
        } else if !out_of_bounds {
            diagnostic = diagnostic.hint_if(way_out(value, written, schema));
        }
        self.found.push(diagnostic);
    }

    /// Returns whether the values at the current path may be secrets: in `[secrets]` of a manifest, or in the header
    /// fields for a collector in a node file. Messages do not show these values.
    fn is_secret(&self) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        path.starts_with(&["secrets"]) || path.starts_with(&["telemetry", "otlp", "headers"])
    }

    /// Returns the name of the current table for messages.
    fn place(&self) -> String {
        if self.path.is_empty() { self.file.to_owned() } else { format!("`{}`", self.path_to("")) }
    }

    /// Returns the path of `key` in the current table, or the path of the table if `key` is empty.
    fn path_to(&self, key: &str) -> String {
        let mut shown = String::new();
        for part in self.path.iter().map(String::as_str).chain((!key.is_empty()).then_some(key)) {
            if part.ends_with(']') {
                // A list and its element are two segments (`routes`, `routes[0]`). The second one contains the first
                // one, so the first one is removed.
                shown.truncate(shown.rfind('.').map_or(0, |dot| dot + 1));
                shown.push_str(part);
            } else {
                if !shown.is_empty() {
                    shown.push('.');
                }
                shown.push_str(part);
            }
        }
        shown
    }
}

/// Returns the names that the author has chosen as keys, such as the components in `components`. Each name is mapped to
/// the key of the table that contains it. `schema` states in which tables of `table` the author chooses the keys.
fn entries_of_tables(table: &DeTable<'_>, schema: &Value) -> BTreeMap<String, String> {
    let named = keys(schema).filter(|(_, below)| any_property(below).is_some());
    let entries = named.filter_map(|(key, _)| Some((key, table.get(key)?.get_ref().as_table()?)));
    entries
        .flat_map(|(key, table)| table.keys().map(move |name| (name.get_ref().to_string(), key.to_owned())))
        .collect()
}

/// Returns whether the value has the type that `schema` requires and, if it is a whole number, is within the bounds
/// that `schema` sets.
fn fits(value: &DeValue<'_>, schema: &Value) -> bool {
    match (text(schema, "type"), value) {
        (Some("string"), DeValue::String(_))
        | (Some("boolean"), DeValue::Boolean(_))
        | (Some("array"), DeValue::Array(_))
        | (Some("object"), DeValue::Table(_)) => true,
        (Some("integer"), DeValue::Integer(number)) => {
            let Ok(number) = i64::from_str_radix(number.as_str(), number.radix()) else { return false };
            let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
            bound("minimum").is_none_or(|minimum| number >= minimum)
                && bound("maximum").is_none_or(|maximum| number <= maximum)
        }
        (Some("number"), DeValue::Float(number)) => {
            let number = number.as_str().replace('_', "").parse::<f64>().ok();
            number.is_some_and(|number| is_within(number, schema))
        }
        (Some("number"), DeValue::Integer(number)) => {
            let number = i32::from_str_radix(number.as_str(), number.radix()).ok();
            number.is_some_and(|number| is_within(f64::from(number), schema))
        }
        _ => false,
    }
}

/// Returns whether the number is finite and within the bounds that `schema` sets.
fn is_within(number: f64, schema: &Value) -> bool {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    number.is_finite()
        && bound("minimum").is_none_or(|minimum| number >= minimum)
        && bound("maximum").is_none_or(|maximum| number <= maximum)
}

/// Returns a hint that shows how to write the value with the required type.
fn way_out(value: &DeValue<'_>, written: &str, schema: &Value) -> Option<String> {
    let choice = *choices(schema).first()?;
    match (text(choice, "type")?, value) {
        ("string", DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_)) => {
            if text(choice, "title").is_none() {
                Some(format!("put the value in quotes: `\"{written}\"`"))
            } else {
                Some(format!("for example `{}`", example_of(choice)))
            }
        }
        ("array", DeValue::String(_)) => Some(format!("put the value in brackets: `[{written}]`")),
        ("array", DeValue::Table(_)) if !written.contains('\n') && written.starts_with('{') => {
            Some(format!("put the value in brackets: `[{written}]`"))
        }
        ("integer" | "number" | "boolean", DeValue::String(text))
            if text.parse::<f64>().is_ok() || text.parse::<bool>().is_ok() =>
        {
            Some(format!("leave out the quotes: `{text}`"))
        }
        _ => Some(format!("for example `{}`", example_of(choice))),
    }
}

/// Returns an example of a value that matches the schema, as TOML.
fn example_of(schema: &Value) -> String {
    match text(schema, "type") {
        Some("array") => format!("[{}]", example_of(schema.get("items").unwrap_or(&Value::Null))),
        Some("boolean") => "true".to_owned(),
        Some("integer") => "1".to_owned(),
        Some("number") => "0.5".to_owned(),
        Some("object") => {
            let entries = match any_property(schema) {
                Some(values) => vec![format!("NAME = {}", example_of(values))],
                None => example_of_keys(schema),
            };
            if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
        }
        _ => {
            let first = choices(schema)[0];
            if text(schema, "type").is_none() && text(first, "type").is_some_and(|kind| kind != "string") {
                return example_of(first);
            }
            let schema = first;
            let example = schema.get("examples").and_then(|examples| examples.get(0));
            example.map_or_else(|| "\"…\"".to_owned(), Value::to_string)
        }
    }
}

/// Returns the header of the table at `key`, and an example of the table with all required keys.
fn example_of_table(key: &str, schema: &Value) -> (String, String) {
    let (table, inner) = match any_property(schema) {
        Some(inner) => (format!("[{key}.NAME]"), inner),
        None => (format!("[{key}]"), schema),
    };
    let lines = example_of_keys(inner).join("\n");
    (table.clone(), format!("{table}\n{lines}"))
}

/// Returns the required keys of a table, each with an example value. If the table requires one of several keys, the
/// first of these keys is used.
fn example_of_keys(schema: &Value) -> Vec<String> {
    let one_of = schema.get("oneOf").and_then(|choices| choices.get(0)).map(required);
    let needed: Vec<&str> = required(schema).chain(one_of.into_iter().flatten()).collect();
    let needed = keys(schema).filter(|(key, _)| needed.contains(key));
    needed.map(|(key, schema)| format!("{key} = {}", example_of(schema))).collect()
}
