//! Checks that an app's secrets have values. The check needs no components, so commands make it before they build the
//! app.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use isomer_console::CliError;
use isomer_diagnostics::{Diagnostic, Span};
use isomer_ids::ComponentName;
use isomer_manifest::{ComponentSource, SecretSource};

use crate::app_dir::AppDir;
use crate::paths::shown;
use crate::values::ENV_FILE;

/// The granted secrets of an app that have no value.
#[derive(Debug)]
pub struct MissingSecrets {
    /// An error for each secret without a value, at the first grant of the secret.
    pub findings: Vec<Diagnostic>,
    /// The environment variables that must be set, without duplicates.
    pub variables: Vec<String>,
    /// The file in which the variables may be set instead, as text for messages.
    pub variables_file: String,
}

impl AppDir {
    /// Checks that all granted secrets have values.
    ///
    /// # Errors
    /// If a secret has no value.
    pub fn check_secrets(&self) -> Result<(), CliError> {
        match self.missing_secrets(|_| true) {
            None => Ok(()),
            Some(missing) => Err(CliError::findings(missing.findings, &self.source)),
        }
    }

    /// Returns the granted secrets without a value, or `None` if every secret has one. Only secrets for which
    /// `is_needed` returns true are checked.
    ///
    /// A secret whose file does not exist is left out if a component has a build command, which may create the file.
    pub fn missing_secrets(&self, is_needed: impl Fn(&str) -> bool) -> Option<MissingSecrets> {
        self.missing_from(is_needed, |variable| self.is_in_environment(variable))
    }

    /// Returns whether secrets may take the variable from the process's environment. Those of an app from a registry or an
    /// archive may not, because the user has not chosen the variables that its manifest names.
    fn is_in_environment(&self, variable: &str) -> bool {
        !self.is_unpacked() && std::env::var_os(variable).is_some()
    }

    fn missing_from(&self, is_needed: impl Fn(&str) -> bool, is_set: impl Fn(&str) -> bool) -> Option<MissingSecrets> {
        let mut components = self.app.components.values();
        let has_command = components.any(|it| matches!(it.source.value, ComponentSource::Command { .. }));
        let file = self.values.variables_file.as_deref().map_or_else(|| ENV_FILE.to_owned(), shown);
        let mut missing = MissingSecrets { findings: Vec::new(), variables: Vec::new(), variables_file: file.clone() };
        for (secret, (component, at)) in self.granted_secrets() {
            let Some(source) = self.app.secrets.get(secret).filter(|_| is_needed(secret)) else { continue };
            let (problem, hint) = match source {
                SecretSource::Env(variable) => {
                    if is_set(variable) || self.values.environment.contains_key(variable) {
                        continue;
                    }
                    if !missing.variables.contains(variable) {
                        missing.variables.push(variable.clone());
                    }
                    match self.is_unpacked() {
                        true => (
                            format!("the variable `{variable}`, which is in no file of variables"),
                            format!("write {variable}=… into a file, and name the file: --env-file FILE"),
                        ),
                        false => (
                            format!("the environment variable `{variable}`, which is not set"),
                            format!(
                                "start again with {variable}=… before the command, or write {variable}=… into {file}"
                            ),
                        ),
                    }
                }
                SecretSource::File(file) if self.is_unpacked() && !is_inside(file) => (
                    format!("the file `{}`, which is not one of the app's own files", file.display()),
                    "an app that was built elsewhere cannot read other files of this machine".to_owned(),
                ),
                SecretSource::File(file) => {
                    let path = self.dir.join(file);
                    if has_command || !is_missing(&path) {
                        continue;
                    }
                    (
                        format!("the file `{}`, which does not exist", shown(&path)),
                        "create the file, or correct `file` in `[secrets]`, which is relative to isomer.toml"
                            .to_owned(),
                    )
                }
            };
            let finding =
                Diagnostic::error(format!("the secret `{secret}` comes from {problem}")).code("missing-secret");
            let finding = finding.at(at, format!("component `{component}` needs the secret"));
            missing.findings.push(finding.hint(hint));
        }
        (!missing.findings.is_empty()).then_some(missing)
    }

    /// Returns the granted secrets whose values come from a file of variables.
    pub fn secrets_from_variables(&self) -> Vec<&str> {
        let is_from_file = |secret: &&str| match self.app.secrets.get(*secret) {
            Some(SecretSource::Env(variable)) => {
                self.values.environment.contains_key(variable) && !self.is_in_environment(variable)
            }
            _ => false,
        };
        self.granted_secrets().into_keys().filter(is_from_file).collect()
    }

    /// Returns the granted secrets by name, each with the first component to which it is granted and the place of that
    /// grant.
    fn granted_secrets(&self) -> BTreeMap<&str, (&ComponentName, Span)> {
        let mut granted = BTreeMap::new();
        for (name, component) in &self.app.components {
            for secret in &component.grants.secrets {
                granted.entry(secret.value.as_str()).or_insert((name, secret.span));
            }
        }
        granted
    }
}

/// Returns whether a relative path stays in the folder against which it is resolved.
fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Returns whether there is no file at `path`. Other errors are reported when the file is read.
fn is_missing(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[app]\nname = \"a\"\nversion = \"1.0.0\"\n\
        [components.one]\nwasm = \"1.wasm\"\ngrants.secrets = [\"key\", \"token\"]\n\
        [components.two]\nwasm = \"2.wasm\"\ngrants.secrets = [\"file\", \"key\"]\n\
        [secrets]\nkey = { env = \"KEY\" }\ntoken = { env = \"KEY\" }\nfile = { file = \"file.txt\" }\n\
        unused = { env = \"UNUSED\" }\n";

    struct Case(tempfile::TempDir);

    impl Case {
        fn new(manifest: &str) -> Self {
            let case = Self(tempfile::tempdir().expect("a folder"));
            case.write("isomer.toml", manifest);
            case
        }

        fn write(&self, file: &str, text: &str) {
            std::fs::write(self.0.path().join(file), text).expect("written");
        }

        /// Returns the secrets that are reported as missing, and the variables that must be set, in an environment that
        /// has only the variables `variables`.
        fn missing(&self, variables: &[&str], is_needed: fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
            let app = AppDir::open_with(self.0.path(), &crate::ValueSources::default());
            let app = app.unwrap_or_else(|error| panic!("{}", error.render(&isomer_diagnostics::Renderer::plain()).0));
            let Some(missing) = app.missing_from(is_needed, |variable| variables.contains(&variable)) else {
                return (Vec::new(), Vec::new());
            };
            let name = |finding: &Diagnostic| finding.message.split('`').nth(1).unwrap_or_default().to_owned();
            (missing.findings.iter().map(name).collect(), missing.variables)
        }
    }

    #[test]
    fn all_secrets_without_a_value_are_reported() {
        let case = Case::new(MANIFEST);
        let all = |_: &str| true;
        assert_eq!(
            case.missing(&[], all),
            (["file", "key", "token"].map(str::to_owned).to_vec(), vec!["KEY".to_owned()])
        );
        assert_eq!(case.missing(&["KEY"], all), (vec!["file".to_owned()], vec![]));
        assert_eq!(case.missing(&["KEY"], |secret| secret != "file"), (vec![], vec![]));
        case.write("file.txt", "x");
        case.write(".env", "KEY=1\n");
        assert_eq!(case.missing(&[], all), (vec![], vec![]));
    }

    #[test]
    fn a_build_command_may_make_the_file_of_a_secret() {
        let case = Case::new(&MANIFEST.replace("wasm = \"2.wasm\"", "wasm = \"2.wasm\"\ncommand = \"make\""));
        assert_eq!(case.missing(&["KEY"], |_| true), (vec![], vec![]));
    }
}
