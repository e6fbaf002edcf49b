//! Config values from flags and files: parsing them, and finding the components that receive them.

use std::path::Path;

use isomer_console::CliError;
use isomer_diagnostics::{Diagnostic, SourceFile, nearest};
use isomer_ids::{ComponentName, is_environment_name};
use isomer_manifest::{App, unclosed_value};

use super::manifest_text::ConfigOverrides;
use super::value_file::{ENV_FILE, parse_variables, read};
use crate::paths::shown;

/// A config value for one component, or for all components that have the key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConfigValue {
    pub(super) component: Option<String>,
    pub(super) key: String,
    pub(super) value: String,
}

impl ConfigValue {
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        let hint = "write `--config KEY=VALUE`, or `--config COMPONENT.KEY=VALUE` for one component; a file of values is `--config-file FILE`";
        let Some((name, value)) = text.split_once('=') else {
            return Err(CliError::usage(format!("`--config {text}` has no value"), hint));
        };
        let (component, key) = match name.split_once('.') {
            Some((component, key)) => (Some(component.to_owned()), key),
            None => (None, name),
        };
        Self::checked(component, key, value.to_owned()).map_err(|problem| CliError::usage(problem, hint))
    }

    fn checked(component: Option<String>, key: &str, value: String) -> Result<Self, String> {
        if !is_environment_name(key) {
            return Err(format!(
                "`{key}` is not a config key: it must have only letters, digits and `_`, and must not start with a digit"
            ));
        }
        if value.contains('\0') {
            return Err(format!("the value of `{key}` contains a NUL character"));
        }
        Ok(Self { component, key: key.to_owned(), value })
    }
}

/// Assigns a config value. If it names a component, the value is for this component, and a warning is added if the
/// component lacks the key but has a similar one. Otherwise, the value is for each component that has the key, or for
/// the app's only component.
pub(super) fn assign(
    config_value: ConfigValue,
    app: &App,
    chosen: &mut ConfigOverrides,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), CliError> {
    let ConfigValue { component, key, value } = config_value;
    if let Some(component) = component {
        let known = app.components.keys().find(|name| name.as_str() == component);
        let known = known.ok_or_else(|| {
            let names: Vec<&str> = app.components.keys().map(ComponentName::as_str).collect();
            let hint = match nearest(&component, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}.{key}`?"),
                None => format!("the app's components are: {}", names.join(", ")),
            };
            CliError::usage(format!("`{component}.{key}` names a component that the app does not have"), hint)
        })?;
        warn_of_similar_key(app, known, &key, warnings);
        chosen.insert((known.clone(), key), value);
        return Ok(());
    }
    let has_key = |name: &&ComponentName| app.components[*name].grants.config.contains_key(&key);
    let mut receivers: Vec<&ComponentName> = app.components.keys().filter(has_key).collect();
    if receivers.is_empty() && app.components.len() == 1 {
        receivers.extend(app.components.keys());
        receivers.iter().for_each(|only| warn_of_similar_key(app, only, &key, warnings));
    }
    if receivers.is_empty() {
        let keys = app.components.values().flat_map(|component| component.grants.config.keys());
        let hint = match nearest(&key, keys.map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let example = app.components.keys().next().map_or("COMPONENT", ComponentName::as_str);
                format!(
                    "name the component: `{example}.{key}=…`, or set the value in isomer.toml: grants.config.{key} = \"…\""
                )
            }
        };
        return Err(CliError::usage(format!("no component has `{key}` in its `config`"), hint));
    }
    for receiver in receivers {
        chosen.insert((receiver.clone(), key.clone()), value.clone());
    }
    Ok(())
}

/// Adds a warning if the `config` of the component lacks `key` and has a similar key. This is not an error, because a
/// component may read keys that the manifest does not list.
fn warn_of_similar_key(app: &App, component: &ComponentName, key: &str, warnings: &mut Vec<Diagnostic>) {
    let config = &app.components[component].grants.config;
    if config.contains_key(key) {
        return;
    }
    if let Some(near) = nearest(key, config.keys().map(String::as_str)) {
        let warning = Diagnostic::warning(format!("component `{component}` has no `{key}` in its `config`"));
        warnings.push(warning.code("unknown-config-key").hint(format!("did you mean `{near}`?")));
    }
}

/// Reads a file of config values.
pub(super) fn read_config(path: &Path) -> Result<Vec<ConfigValue>, CliError> {
    let text = read(path)?;
    let invalid = |problem: String| {
        CliError::failed(
            format!("`{}` is not a file of config values: {problem}", shown(path)),
            "write `KEY = \"VALUE\"` lines, and a table `[COMPONENT]` for the values of one component",
        )
    };
    let is_variables = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ENV_FILE));
    let table: serde_json::Value = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?,
        Some("env") => serde_json::to_value(parse_variables(path, &text)?)?,
        _ if is_variables => serde_json::to_value(parse_variables(path, &text)?)?,
        _ => {
            let table: toml::Table = text.parse().map_err(|error: toml::de::Error| match unclosed_value(&text) {
                Some(unclosed) => {
                    CliError::Findings(vec![unclosed.in_source(&SourceFile::new(shown(path), text.as_str()))])
                }
                None => invalid(error.to_string()),
            })?;
            toml_to_json(&toml::Value::Table(table))
        }
    };
    let serde_json::Value::Object(table) = table else { return Err(invalid("expected a JSON object".to_owned())) };
    let mut values = Vec::new();
    for (name, value) in table {
        let serde_json::Value::Object(own) = value else {
            let value = config_text(&name, &value).map_err(&invalid)?;
            values.push(ConfigValue::checked(None, &name, value).map_err(&invalid)?);
            continue;
        };
        for (key, value) in own {
            let value = config_text(&key, &value).map_err(&invalid)?;
            values.push(ConfigValue::checked(Some(name.clone()), &key, value).map_err(&invalid)?);
        }
    }
    Ok(values)
}

/// Converts a TOML value to JSON. Dates and times become strings, because JSON has no such types.
pub fn toml_to_json(value: &toml::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        toml::Value::String(text) => Value::from(text.as_str()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => Value::from(*number),
        toml::Value::Boolean(truth) => Value::from(*truth),
        toml::Value::Datetime(time) => Value::from(time.to_string()),
        toml::Value::Array(items) => items.iter().map(toml_to_json).collect(),
        toml::Value::Table(fields) => fields.iter().map(|(key, value)| (key.clone(), toml_to_json(value))).collect(),
    }
}

/// Returns the text of a config value. Refuses values that are not strings, numbers or booleans.
fn config_text(key: &str, value: &serde_json::Value) -> Result<String, String> {
    match value {
        serde_json::Value::String(text) => Ok(text.clone()),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        serde_json::Value::Bool(is) => Ok(is.to_string()),
        _ => Err(format!("`{key}` is not a string, number or boolean")),
    }
}
