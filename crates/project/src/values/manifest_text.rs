//! Replaces config values in the text of a manifest, because other processes and nodes receive an app as the text of
//! its manifest.
//!
//! Apart from these values, only the layout and the comments change. Errors in the manifest are reported with the
//! original text, because the user does not know the new one. (`toml_edit` would keep the layout, but it changes the
//! features with which the engine's dependencies are built.)

use std::collections::BTreeMap;

use isomer_ids::ComponentName;
use toml::{Table, Value};

/// Config values by component and key.
pub(super) type ConfigOverrides = BTreeMap<(ComponentName, String), String>;

/// Returns the manifest's text with `values` in place of its own config values.
///
/// # Errors
/// If the text is not TOML.
pub(super) fn with_values(text: &str, values: &ConfigOverrides) -> Result<String, toml::de::Error> {
    let mut manifest: Table = text.parse()?;
    for ((component, key), value) in values {
        let mut place = Some(&mut manifest);
        for name in ["components", component.as_str(), "grants", "config"] {
            place = place.and_then(|table| table.entry(name).or_insert_with(|| Table::new().into()).as_table_mut());
        }
        // If a parent key is not a table, `place` is `None` and the value is not written: the checks of the manifest
        // report the mistake.
        if let Some(config) = place {
            config.insert(key.clone(), Value::String(value.clone()));
        }
    }
    Ok(manifest.to_string())
}

#[cfg(test)]
mod tests {
    use isomer_diagnostics::SourceFile;
    use isomer_manifest::{App, parse};

    use super::*;

    fn app(text: &str) -> App {
        parse(&SourceFile::new("isomer.toml", text)).unwrap_or_else(|found| panic!("{text}: {found:?}")).app
    }

    #[test]
    fn every_form_of_config_can_be_overridden() {
        let rest = "[app]\nname = \"a\"\nversion = \"1.0.0\"\nhealth = \"/up\"\n\
            [shapes.apart]\nisolate = \"all\"\n[secrets]\nt = { env = \"T\" }\n[components.other]\nwasm = \"o.wasm\"\nroutes = [\"/...\"]\n";
        for component in [
            "[components.c]\nwasm = \"c.wasm\"\n",
            "[components.c]\nwasm = \"c.wasm\"\ngrants = { config = { K = \"old\" } } # a comment\n",
            "[components.c]\nwasm = \"c.wasm\"\ngrants = { kv = [\"s\"] }\n",
            "[components.c]\nwasm = \"c.wasm\"\ngrants.config.K = \"old\"\n",
            "[components.c]\nwasm = \"c.wasm\"\n[components.c.grants]\nhttp = [{ host = \"h\", private = true }]\n",
            "[components.c]\nwasm = \"c.wasm\"\nreuse = 3\n[components.c.grants.config]\nOTHER = \"o\"\nK = \"old\"\n",
        ] {
            let text = format!("{rest}{component}");
            let name = ComponentName::new("c").expect("a name");
            let value = "a \"quoted\"\nvalue = $x";
            let values = ConfigOverrides::from([((name.clone(), "K".to_owned()), value.to_owned())]);
            let written = with_values(&text, &values).expect(component);
            let mut expected = app(&text);
            let grants = &mut expected.components.get_mut(&name).expect("it is there").grants;
            grants.config.insert("K".to_owned(), value.to_owned());
            // The apps are compared instead of the texts. The comparison ignores the positions of values in the text.
            assert_eq!(app(&written), expected, "{written}");
        }
    }
}
