//! Lowers the tables `[secrets]` and `[sql]`, and checks that they match the grants.

use std::collections::{BTreeMap, BTreeSet};

use isomer_diagnostics::{Diagnostic, Span, nearest};
use isomer_ids::{ComponentName, SecretName, StoreName, is_environment_name};

use super::Lowering;
use crate::model::{Component, SecretSource, SqlStoreSettings};
use crate::raw::{RawSecret, RawSqlStore};
use crate::spanned::Spanned;
use crate::texts::{NameText, SecretText};
use crate::units::parse_duration;

/// The sources of secrets by name. `None` if the source is invalid, which has been reported.
pub(super) type Secrets = BTreeMap<Spanned<String>, Option<SecretSource>>;

impl Lowering<'_> {
    pub(super) fn secrets(&mut self, raw: BTreeMap<Spanned<SecretText>, Spanned<RawSecret>>) -> Secrets {
        let mut secrets = BTreeMap::new();
        for (name, raw) in raw {
            let name = name.map(|text| text.0);
            let checked = SecretName::new(&name.value);
            self.valid(checked, "bad-name", name.span);
            let source = self.secret(&name.value, name.span, raw.value);
            secrets.insert(name, source);
        }
        secrets
    }

    fn secret(&mut self, name: &str, at: Span, raw: RawSecret) -> Option<SecretSource> {
        match (raw.env, raw.file) {
            (Some(variable), None) => {
                let text = variable.value.0;
                if is_environment_name(&text) {
                    return Some(SecretSource::Env(text));
                }
                self.report(
                    Diagnostic::error(format!("secret `{name}` does not name an environment variable"))
                        .code("bad-secret-source")
                        .at(variable.span, "letters, digits and `_`, and no digit first")
                        .hide(variable.span)
                        .hint("`env` is the name of the variable, not its value"),
                );
            }
            (None, Some(file)) if file.value.0.is_empty() => self.report(
                Diagnostic::error(format!("secret `{name}` names no file"))
                    .code("bad-secret-source")
                    .at(file.span, "it is empty")
                    .hint("write the file's path, relative to the manifest"),
            ),
            (None, Some(file)) => return Some(SecretSource::File(file.value.0.into())),
            (Some(variable), Some(file)) => self.report(
                Diagnostic::error(format!("secret `{name}` has two sources"))
                    .code("bad-secret-source")
                    .at(file.span.max(variable.span), "the second source")
                    .related(file.span.min(variable.span), "the first source")
                    .hint("keep `env` or `file`"),
            ),
            // The source was invalid: the structural check has removed and reported it.
            (None, None) if self.places.keys_of(&["secrets", name]).next().is_some() => {}
            (None, None) => {
                let variable = name.replace(['-', '.'], "_").to_ascii_uppercase();
                self.report(
                    Diagnostic::error(format!("secret `{name}` has no source"))
                        .code("bad-secret-source")
                        .at(at, "where does its value come from?")
                        .hint(format!("write `{name} = {{ env = \"{variable}\" }}` or `{{ file = \"PATH\" }}`")),
                );
            }
        }
        None
    }

    pub(super) fn sql(
        &mut self,
        raw: BTreeMap<Spanned<NameText>, RawSqlStore>,
    ) -> BTreeMap<Spanned<StoreName>, SqlStoreSettings> {
        let mut stores = BTreeMap::new();
        for (name, raw) in raw {
            let checked = StoreName::new(&name.value.0);
            let legal = self.valid(checked, "bad-name", name.span);
            if let Some(empty) = raw.migrations.as_ref().filter(|path| path.value.0.is_empty()) {
                self.report(
                    Diagnostic::error("`migrations` is empty")
                        .code("empty-path")
                        .at(empty.span, "which folder?")
                        .hint("write the folder's path, relative to the manifest, or remove the key"),
                );
            }
            let timeout = raw.statement_timeout.map(|text| text.map(|text| text.0));
            let store = SqlStoreSettings {
                migrations_at: raw.migrations.as_ref().map(|path| path.span).unwrap_or_default(),
                migrations: raw.migrations.map(|path| path.value.0.into()),
                statement_timeout: self.quantity("statement_timeout", timeout, parse_duration),
            };
            if let Some(legal) = legal {
                stores.insert(Spanned::new(legal, name.span), store);
            }
        }
        stores
    }

    /// Checks that every granted secret has a source, and that every secret is granted to a component.
    pub(super) fn check_secrets(&mut self, components: &BTreeMap<ComponentName, Component>, secrets: &Secrets) {
        let mut granted: BTreeSet<&String> = BTreeSet::new();
        for (component, secret) in components
            .iter()
            .flat_map(|(name, component)| component.grants.secrets.iter().map(move |secret| (name, secret)))
        {
            granted.insert(&secret.value);
            if secrets.contains_key(&secret.value) || self.places.has(&["secrets", &secret.value]) {
                continue;
            }
            let known = secrets.keys().map(|name| name.value.as_str());
            let mut diagnostic = Diagnostic::error(format!(
                "component `{component}` is granted the secret `{secret}`, which `[secrets]` does not define"
            ))
            .code("unknown-secret")
            .at(secret.span, "not in `[secrets]`");
            diagnostic = match nearest(&secret.value, known) {
                Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
                None => {
                    let variable = secret.value.replace(['-', '.'], "_").to_ascii_uppercase();
                    let line = format!("{} = {{ env = \"{variable}\" }}", toml_key(&secret.value));
                    let hint = if secrets.is_empty() {
                        format!("say where its value comes from:\n[secrets]\n{line}")
                    } else {
                        format!("say where its value comes from, under `[secrets]`:\n{line}")
                    };
                    diagnostic.hint(hint)
                }
            };
            self.report(diagnostic);
        }
        if !self.is_complete(components) {
            return;
        }
        for name in secrets.keys().filter(|name| SecretName::new(&name.value).is_ok() && !granted.contains(&name.value))
        {
            // If a component is granted an undefined secret with a similar name, the name was misspelt either here or
            // in the grant.
            let undefined = granted.iter().filter(|granted| !secrets.contains_key(**granted));
            let hint = match nearest(&name.value, undefined.map(|granted| granted.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("add `grants.secrets = [\"{name}\"]` to the component that needs it, or remove the secret")
                }
            };
            self.report(
                Diagnostic::warning(format!("the secret `{name}` is granted to no component"))
                    .code("unused-secret")
                    .at(name.span, "no component can read it")
                    .hint(hint),
            );
        }
    }

    /// Checks that every SQL store that has settings is granted to a component.
    pub(super) fn check_sql(
        &mut self,
        components: &BTreeMap<ComponentName, Component>,
        stores: &BTreeMap<Spanned<StoreName>, SqlStoreSettings>,
    ) {
        let granted: BTreeSet<&StoreName> =
            components.values().flat_map(|component| &component.grants.sql).map(|store| &store.value).collect();
        if !self.is_complete(components) {
            return;
        }
        for name in stores.keys().filter(|name| !granted.contains(&name.value)) {
            let near = nearest(name.value.as_str(), granted.iter().map(|store| store.as_str()));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `grants.sql = [\"{name}\"]` to the component that needs it, or remove the table"),
            };
            self.report(
                Diagnostic::warning(format!("the SQL store `{name}` is granted to no component"))
                    .code("unused-sql")
                    .at(name.span, "no component can open it")
                    .hint(hint),
            );
        }
    }
}

/// Returns a key as written in TOML: without quotes if TOML allows it.
fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if bare { key.to_owned() } else { format!("{key:?}") }
}
