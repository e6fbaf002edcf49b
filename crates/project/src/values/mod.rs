//! Values for an app's config and secrets that do not come from its manifest: flags, files, `.env`.
//!
//! Precedence of config values, highest first: `--config`, `--config-file`, `--env-file` (or the app's `.env`),
//! isomer.toml. The process's environment is not used for config values, because variables such as `HOME` and `PATH`
//! describe the user and not the app. For secrets with `{ env = "NAME" }`, the process's environment takes precedence
//! over `--env-file` or `.env`.
//!
//! A file of variables may serve many programs, so variables that no component has in its `config` are ignored. In a
//! flag or in a file of config values, a key that no component has is an error, unless the app has only one component.

mod config_value;
mod dotenv;
mod manifest_text;
mod value_file;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use isomer_console::CliError;
use isomer_diagnostics::{Diagnostic, SourceFile};
use isomer_ids::ComponentName;
use isomer_manifest::App;

use config_value::{ConfigValue, assign, read_config};
use manifest_text::{ConfigOverrides, with_values};
use value_file::{parse_variables, read};

use crate::paths::shown;

pub use config_value::toml_to_json;
pub use value_file::ENV_FILE;

/// The flags that name sources of values.
#[derive(Debug, Clone, Default)]
pub struct ValueSources {
    /// The values of `--config`: `KEY=VALUE` or `COMPONENT.KEY=VALUE`. Later values replace earlier ones.
    pub config: Vec<String>,
    /// Files of config values: TOML, JSON or variables. Values of later files replace values of earlier ones.
    pub config_files: Vec<PathBuf>,
    /// Files of variables, which are read instead of the app's `.env`. Values of later files replace values of earlier
    /// ones.
    pub env_files: Vec<PathBuf>,
    /// Whether the app's `.env` is not read. It has values of this machine, which must not be in a file for other machines
    /// unless a flag names it.
    pub without_own_env: bool,
}

/// The path of a file of variables, and its variables.
type FileVariables = (PathBuf, BTreeMap<String, String>);

/// The values for an app that were read from all sources.
#[derive(Debug, Default)]
pub struct AppValues {
    /// Config values that differ from the manifest's, by component and key.
    pub config: BTreeMap<(ComponentName, String), String>,
    /// Variables from which secrets may take their values.
    pub environment: BTreeMap<String, String>,
    /// The paths of the files that were read. Contains the path of the app's `.env` even if that file does not exist.
    pub files: Vec<PathBuf>,
    /// Config keys whose values come from a file of variables, as `COMPONENT.KEY`, each with the path of that file.
    pub from_variables: Vec<(String, PathBuf)>,
    /// The path of the file of variables with the highest precedence. Contains the path of the app's `.env` even if that
    /// file does not exist. `None` for a component without a manifest.
    pub variables_file: Option<PathBuf>,
    /// Warnings about the values.
    pub warnings: Vec<Diagnostic>,
}

impl AppValues {
    /// Inserts these config values into `app`, in place of those with the same component and key.
    pub fn apply(&self, app: &mut App) {
        for ((component, key), value) in &self.config {
            if let Some(component) = app.components.get_mut(component) {
                component.grants.config.insert(key.clone(), value.clone());
            }
        }
    }

    /// Returns the manifest's text with these config values.
    ///
    /// # Errors
    /// If the text is not TOML.
    pub fn manifest(&self, source: &SourceFile) -> anyhow::Result<String> {
        if self.config.is_empty() {
            return Ok(source.text().to_owned());
        }
        Ok(with_values(source.text(), &self.config)?)
    }
}

impl ValueSources {
    /// Reads the values for `app`, whose folder is `dir`.
    ///
    /// # Errors
    /// If a source cannot be read, or has a key that no component has.
    pub fn read(&self, dir: &Path, app: &App) -> Result<AppValues, CliError> {
        let mut values = AppValues::default();
        let mut chosen = ConfigOverrides::new();
        let mut of_variables = BTreeMap::new();
        values.warnings.extend(self.unused_variables(dir, app)?);
        for (path, variables) in self.variables(Some(dir), &mut values.files)? {
            for (name, component) in &app.components {
                for key in component.grants.config.keys().filter(|key| variables.contains_key(*key)) {
                    let place = (name.clone(), key.clone());
                    of_variables.insert(place.clone(), (variables[key].clone(), path.clone()));
                    chosen.insert(place, variables[key].clone());
                }
            }
            values.environment.extend(variables);
        }
        values.variables_file = values.files.last().cloned();
        for path in &self.config_files {
            values.files.push(absolute(path));
            for config_value in read_config(path)? {
                assign(config_value, app, &mut chosen, &mut values.warnings)?;
            }
        }
        for text in &self.config {
            assign(ConfigValue::parse(text)?, app, &mut chosen, &mut values.warnings)?;
        }
        // Removes values that a flag or a file of config values has replaced.
        of_variables.retain(|place, (value, _)| chosen.get(place) == Some(&*value));
        let named = of_variables.into_iter().map(|((component, key), (_, path))| (format!("{component}.{key}"), path));
        values.from_variables = named.collect();
        chosen.retain(|(component, key), value| app.components[component].grants.config.get(key) != Some(value));
        values.config = chosen;
        Ok(values)
    }

    /// Reads the values for an app that consists of a component without a manifest. Like [`ValueSources::for_file`],
    /// returns all keys as config values.
    ///
    /// # Errors
    /// The errors of [`ValueSources::for_file`].
    pub fn read_for_component(&self, app: &App) -> Result<AppValues, CliError> {
        let component = app.components.keys().next().expect("it has the one component");
        let config = self.for_file()?.into_iter().map(|(key, value)| ((component.clone(), key), value)).collect();
        let files = self.env_files.iter().chain(&self.config_files).map(|path| absolute(path)).collect();
        Ok(AppValues { config, files, ..AppValues::default() })
    }

    /// Reads all keys of all sources, as config values for a component without a manifest.
    ///
    /// # Errors
    /// If a source cannot be read, or if a key names a component.
    pub fn for_file(&self) -> Result<BTreeMap<String, String>, CliError> {
        let mut values = BTreeMap::new();
        for (_, variables) in self.variables(None, &mut Vec::new())? {
            values.extend(variables);
        }
        let of_files = self.config_files.iter().map(|path| read_config(path)).collect::<Result<Vec<_>, _>>()?;
        let of_flags = self.config.iter().map(|text| ConfigValue::parse(text)).collect::<Result<Vec<_>, _>>()?;
        for ConfigValue { component, key, value } in of_files.into_iter().flatten().chain(of_flags) {
            if let Some(component) = component {
                return Err(CliError::usage(
                    format!("`{component}.{key}` names a component, but a component without a manifest has no name"),
                    format!("write `{key}={value}`"),
                ));
            }
            values.insert(key, value);
        }
        Ok(values)
    }

    /// Removes and returns the first value of `--config` that is not `KEY=VALUE`. With `--group`, this value is the
    /// path of the node file.
    pub fn take_node_file(&mut self) -> Option<PathBuf> {
        let at = self.config.iter().position(|text| ConfigValue::parse(text).is_err() && !text.contains('='))?;
        Some(self.config.remove(at).into())
    }

    /// Returns the flags as command-line arguments, for another process of this program.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        for text in &self.config {
            arguments.extend(["--config".into(), text.into()]);
        }
        for (flag, files) in [("--config-file", &self.config_files), ("--env-file", &self.env_files)] {
            for file in files {
                arguments.extend([flag.into(), file.into()]);
            }
        }
        arguments
    }

    /// Returns a warning if the app's `.env` has config values and is not read.
    fn unused_variables(&self, dir: &Path, app: &App) -> Result<Option<Diagnostic>, CliError> {
        let own = dir.join(ENV_FILE);
        if !self.without_own_env || !self.env_files.is_empty() || !own.is_file() {
            return Ok(None);
        }
        let variables = parse_variables(&own, &read(&own)?)?;
        let keys = app.components.values().flat_map(|component| component.grants.config.keys());
        let keys: BTreeSet<_> = keys.filter(|key| variables.contains_key(*key)).map(|key| format!("`{key}`")).collect();
        if keys.is_empty() {
            return Ok(None);
        }
        let keys = Vec::from_iter(keys).join(", ");
        let warning = Diagnostic::warning(format!("{} has values for {keys}, which are not used", shown(&own)))
            .code("unused-variables")
            .note("all users of the shipped file can read its config values, so the `.env` of this machine is not read")
            .hint(format!("to use these values: --env-file {}", shown(&own)));
        Ok(Some(warning))
    }

    /// Reads the variables of each file, in the order of increasing precedence.
    fn variables(&self, dir: Option<&Path>, files: &mut Vec<PathBuf>) -> Result<Vec<FileVariables>, CliError> {
        if !self.env_files.is_empty() {
            files.extend(self.env_files.iter().map(|path| absolute(path)));
            return self
                .env_files
                .iter()
                .map(|path| Ok((path.clone(), parse_variables(path, &read(path)?)?)))
                .collect();
        }
        let own = dir.filter(|_| !self.without_own_env).map(|dir| dir.join(ENV_FILE));
        let Some(own) = own else { return Ok(Vec::new()) };
        files.push(own.clone());
        // A missing file, and a folder called `.env`, have no variables.
        if !own.is_file() {
            return Ok(Vec::new());
        }
        let variables = parse_variables(&own, &read(&own)?)?;
        Ok(vec![(own, variables)])
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[app]\nname = \"a\"\nversion = \"1.0.0\"\n\
        [components.one]\nwasm = \"1.wasm\"\ngrants.config = { LEVEL = \"manifest\", OWN = \"1\" }\n\
        [components.two]\nwasm = \"2.wasm\"\ngrants.config = { LEVEL = \"manifest\" }\n";

    struct Case {
        dir: tempfile::TempDir,
        flags: ValueSources,
    }

    impl Case {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().expect("a folder"), flags: ValueSources::default() }
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        }

        fn values(&self) -> Result<(App, AppValues), CliError> {
            let source = SourceFile::new("isomer.toml", MANIFEST);
            let app = isomer_manifest::parse(&source).unwrap_or_else(|found| panic!("{found:?}")).app;
            let values = self.flags.read(self.dir.path(), &app)?;
            let mut changed = app;
            values.apply(&mut changed);
            let text = values.manifest(&source)?;
            let written = isomer_manifest::parse(&SourceFile::new("isomer.toml", text));
            assert_eq!(written.unwrap_or_else(|found| panic!("{found:?}")).app, changed);
            Ok((changed, values))
        }

        fn environment(&self) -> BTreeMap<String, String> {
            self.values().unwrap_or_else(|error| panic!("{}", message(&error))).1.environment
        }

        fn of(&self, component: &str, key: &str) -> String {
            let (app, _) = self.values().unwrap_or_else(|error| panic!("{}", message(&error)));
            app.components[component].grants.config.get(key).cloned().unwrap_or_default()
        }
    }

    fn message(error: &CliError) -> String {
        error.render(&isomer_diagnostics::Renderer::plain()).0
    }

    #[test]
    fn values_of_this_machine_stay_on_it() {
        let mut case = Case::new();
        let own = case.file(".env", "LEVEL=local\nOTHER=1\n");
        assert_eq!(case.of("one", "LEVEL"), "local");
        case.flags.without_own_env = true;
        assert_eq!(case.of("one", "LEVEL"), "manifest");
        assert!(case.environment().is_empty());
        let (_, values) = case.values().unwrap_or_else(|error| panic!("{}", message(&error)));
        let [warning] = values.warnings.as_slice() else { panic!("{:?}", values.warnings) };
        assert!(warning.message.contains(".env has values for `LEVEL`, which are not used"), "{warning:?}");
        // A file that a flag names is meant.
        case.flags.env_files = vec![own];
        assert_eq!(case.of("one", "LEVEL"), "local");
        let (_, values) = case.values().unwrap_or_else(|error| panic!("{}", message(&error)));
        assert!(values.warnings.is_empty(), "{:?}", values.warnings);
    }

    #[test]
    fn an_unclosed_list_is_reported_where_it_begins() {
        let mut case = Case::new();
        case.flags.config_files = vec![case.file("values.toml", "LEVEL = \"a\"\nOWN = [1,\n[two]\nLEVEL = \"b\"\n")];
        let shown = message(&case.values().expect_err("it is not TOML"));
        assert!(
            shown.contains("this list is not closed, expected `]`") && shown.contains("values.toml:2:7"),
            "{shown}"
        );
    }

    #[test]
    fn sources_have_their_precedence() {
        let mut case = Case::new();
        assert_eq!(case.of("one", "LEVEL"), "manifest");
        case.file(".env", "LEVEL=dotenv\nTOKEN=t\nUNKNOWN=x\n");
        assert_eq!((case.of("one", "LEVEL"), case.of("two", "LEVEL")), ("dotenv".to_owned(), "dotenv".to_owned()));
        assert_eq!(case.of("one", "UNKNOWN"), "", "a variable that no component has is ignored");
        assert_eq!(case.environment()["TOKEN"], "t");
        case.flags.env_files = vec![case.file("first.env", "LEVEL=1\n"), case.file("second.env", "LEVEL=2\n")];
        assert_eq!(case.of("one", "LEVEL"), "2");
        assert!(!case.environment().contains_key("TOKEN"), "`.env` is not read if there are `--env-file` flags");
        case.flags.config_files = vec![case.file("values.toml", "LEVEL = 3\n[two]\nLEVEL = \"own\"\n")];
        assert_eq!((case.of("one", "LEVEL"), case.of("two", "LEVEL")), ("3".to_owned(), "own".to_owned()));
        case.flags.config_files.push(case.file("values.json", "{\"one\": {\"LEVEL\": true}}"));
        assert_eq!((case.of("one", "LEVEL"), case.of("two", "LEVEL")), ("true".to_owned(), "own".to_owned()));
        case.flags.config = vec!["LEVEL=flag".to_owned(), "two.NEW=a=b".to_owned()];
        assert_eq!((case.of("one", "LEVEL"), case.of("two", "LEVEL")), ("flag".to_owned(), "flag".to_owned()));
        assert_eq!((case.of("two", "NEW"), case.of("one", "NEW")), ("a=b".to_owned(), String::new()));
        assert_eq!(case.of("one", "OWN"), "1");
    }

    #[test]
    fn the_file_of_each_value_is_known() {
        let mut case = Case::new();
        case.flags.env_files = vec![case.file("first.env", "LEVEL=1\nOWN=2\n"), case.file("second.env", "LEVEL=2\n")];
        case.flags.config = vec!["two.LEVEL=flag".to_owned()];
        let values = case.values().unwrap_or_else(|error| panic!("{}", message(&error))).1;
        let of = |file: usize| case.flags.env_files[file].clone();
        assert_eq!(values.from_variables, [("one.LEVEL".to_owned(), of(1)), ("one.OWN".to_owned(), of(0))]);
    }

    #[test]
    fn a_component_without_a_manifest_gets_all_values() {
        let mut case = Case::new();
        let app = App::single(Path::new("hello.wasm"), isomer_manifest::Grants::default());
        case.flags.env_files = vec![case.file("own.env", "A=1\nB=2\n")];
        case.flags.config_files = vec![case.file("values.toml", "B = 3\nDAY = 2026-01-01\n")];
        let values = case.flags.read_for_component(&app).unwrap_or_else(|error| panic!("{}", message(&error)));
        let config: Vec<_> = values.config.iter().map(|((_, key), value)| format!("{key}={value}")).collect();
        assert_eq!(config, ["A=1", "B=3", "DAY=2026-01-01"]);
        assert_eq!(values.files.len(), 2);
    }

    #[test]
    fn a_key_that_no_component_has_is_refused() {
        for (flag, problem) in [
            ("TYPO=1", "no component has `TYPO`"),
            ("LEVLE=1", "did you mean `LEVEL`?"),
            ("three.LEVEL=1", "`three.LEVEL` names a component"),
            ("thee.LEVEL=1", "the app's components are: one, two"),
            ("onee.LEVEL=1", "did you mean `one.LEVEL`?"),
            ("LEVEL", "`--config LEVEL` has no value"),
            ("A-B=1", "is not a config key"),
        ] {
            let mut case = Case::new();
            case.flags.config = vec![flag.to_owned()];
            let message = message(&case.values().err().unwrap_or(CliError::ExitCode(0)));
            assert!(message.contains(problem), "{flag}: {message}");
        }
        let mut case = Case::new();
        case.file(".env", "A=1\nnonsense\n");
        assert!(message(&case.values().err().unwrap_or(CliError::ExitCode(0))).contains("line 2"));
        case.flags.env_files = vec![case.dir.path().join("missing.env")];
        assert!(message(&case.values().err().unwrap_or(CliError::ExitCode(0))).contains("missing.env"));
        case.flags.env_files = Vec::new();
        case.flags.config_files = vec![case.file("list.toml", "LEVEL = [1]\n")];
        std::fs::remove_file(case.dir.path().join(".env")).expect("removed");
        assert!(message(&case.values().err().unwrap_or(CliError::ExitCode(0))).contains("`LEVEL` is not a string"));
    }

    #[test]
    fn a_new_key_of_a_component_is_accepted_with_a_warning_if_it_is_similar_to_another() {
        let text = "[app]\nname = \"a\"\nversion = \"1.0.0\"\n\
            [components.one]\nwasm = \"1.wasm\"\ngrants.config = { GREETING = \"hi\" }\n";
        let source = SourceFile::new("isomer.toml", text);
        let app = isomer_manifest::parse(&source).unwrap_or_else(|found| panic!("{found:?}")).app;
        let dir = tempfile::tempdir().expect("a folder");
        let near = &["did you mean `GREETING`?"][..];
        for (key, hints) in [("GRETING", near), ("one.GRETING", near), ("OTHER", &[]), ("GREETING", &[])] {
            let flags = ValueSources { config: vec![format!("{key}=x")], ..ValueSources::default() };
            let values = flags.read(dir.path(), &app).unwrap_or_else(|error| panic!("{}", message(&error)));
            assert_eq!(values.config.len(), 1, "{key}");
            let found: Vec<&str> = values.warnings.iter().flat_map(|it| &it.hints).map(String::as_str).collect();
            assert_eq!(found, hints, "{key}");
        }
    }

    #[test]
    fn a_node_file_is_distinguished_from_a_value() {
        let mut flags =
            ValueSources { config: vec!["A=1".to_owned(), "node.toml".to_owned()], ..ValueSources::default() };
        assert_eq!(flags.take_node_file(), Some("node.toml".into()));
        assert_eq!((flags.take_node_file(), flags.config), (None, vec!["A=1".to_owned()]));
    }
}
