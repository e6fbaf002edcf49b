//! A manifest with other config values, as text: for other processes and for a node, which know an app by the text of its manifest.
//!
//! It says the same as the manifest otherwise, but is not laid out like it, and has no comments: what is wrong with an app is told with the
//! manifest itself. (`toml_edit` would keep the layout. It changes the features that the engine's dependencies are built with.)

use std::collections::BTreeMap;

use isomer_ids::ComponentName;
use toml::{Table, Value};

/// Config values by component and key.
pub(super) type Chosen = BTreeMap<(ComponentName, String), String>;

/// The manifest with these values in place of its own.
///
/// # Errors
/// When the text is not TOML.
pub(super) fn with_values(text: &str, values: &Chosen) -> Result<String, toml::de::Error> {
    let mut manifest: Table = text.parse()?;
    for ((component, key), value) in values {
        let mut place = Some(&mut manifest);
        for name in ["components", component.as_str(), "grants", "config"] {
            place = place.and_then(|table| table.entry(name).or_insert_with(|| Table::new().into()).as_table_mut());
        }
        // Else something in between is no table, which the manifest's checks tell.
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
    fn every_way_to_write_config_takes_a_value() {
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
            let values = Chosen::from([((name.clone(), "K".to_owned()), value.to_owned())]);
            let written = with_values(&text, &values).expect(component);
            let mut expected = app(&text);
            let grants = &mut expected.components.get_mut(&name).expect("it is there").grants;
            grants.config.insert("K".to_owned(), value.to_owned());
            // Places in the text are not compared.
            assert_eq!(app(&written), expected, "{written}");
        }
    }
}
