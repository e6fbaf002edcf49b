//! Converts a manifest whose structure is valid to an [`App`], and reports every error that can be found without the
//! components.
//!
//! Each check continues after an error: the invalid part is reported and left out. So an app with errors must not be
//! used.

mod component;
mod exposed;
mod grants;
mod shapes;
mod stores;

use std::collections::{BTreeMap, BTreeSet};

use isomer_diagnostics::{Diagnostic, Span, nearest};
use isomer_ids::InvalidText;
use isomer_ids::{ComponentName, check_name};

use crate::bounds::Findings;
use crate::model::{App, Component, Route, Sampling};
use crate::raw::{RawApp, RawManifest, RawSampling};
use crate::route::FRONT_HEALTH_PATH;
use crate::spanned::Spanned;
use crate::texts::{HealthText, NameText};
use crate::units::parse_duration;

/// The name of a health check's path in error messages.
const HEALTH: &str = "the path of a request";

/// The maximum number of component names that a hint lists.
const NAMED_MAX: usize = 20;

/// The keys of the manifest, up to three levels deep, with their locations. Keys that the structural check removed are
/// included.
#[derive(Debug, Default)]
pub(crate) struct Places {
    keys: BTreeMap<String, Span>,
}

impl Places {
    pub(crate) fn add(&mut self, path: &[&str], span: Span) {
        self.keys.insert(path.join("\n"), span);
    }

    /// Returns the location of the key at `path` if the manifest contains it.
    fn get(&self, path: &[&str]) -> Option<Span> {
        self.keys.get(&path.join("\n")).copied()
    }

    fn has(&self, path: &[&str]) -> bool {
        self.get(path).is_some()
    }

    /// Returns the keys that the manifest contains in the table at `path`.
    fn keys_of(&self, path: &[&str]) -> impl Iterator<Item = &str> {
        let table = format!("{}\n", path.join("\n"));
        self.keys.keys().filter_map(move |key| key.strip_prefix(&table)).filter(|key| !key.contains('\n'))
    }
}

/// Returns the app and the problems. The app must not be used if a problem is an error.
pub(crate) fn lower(raw: RawManifest, places: &Places) -> (App, Findings) {
    let components = raw.components.unwrap_or_default();
    let declared = places.keys_of(&["components"]).map(str::to_owned).collect();
    let mut lowering = Lowering { declared, places, found: Findings::default() };
    let (name, version, health) = lowering.app(raw.app.unwrap_or_default());
    let secrets = lowering.secrets(raw.secrets);
    let sql = lowering.sql(raw.sql);
    let components = lowering.components(components);
    let shapes = lowering.shapes(raw.shapes, &components);
    let sampling = lowering.sampling(raw.telemetry.unwrap_or_default());
    let session = lowering.session(raw.session.unwrap_or_default());
    lowering.check_health(health.as_ref(), &components);
    lowering.check_secrets(&components, &secrets);
    lowering.check_sql(&components, &sql);
    let secrets = secrets.into_iter().filter_map(|(name, source)| Some((name.value, source?))).collect();
    let sql = sql.into_iter().map(|(name, store)| (name.value, store)).collect();
    (App { name, version, health, components, shapes, secrets, sql, sampling, session }, lowering.found)
}

struct Lowering<'a> {
    /// The names under `[components]`, including invalid ones, so that a reference to an invalid name is not reported
    /// as a second error.
    declared: BTreeSet<String>,
    places: &'a Places,
    found: Findings,
}

impl Lowering<'_> {
    fn report(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// Returns the value, or reports the rule that its text breaks and returns `None`.
    fn valid<T>(&mut self, result: Result<T, InvalidText>, code: &'static str, at: Span) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(invalid) => {
                let hint = invalid.hint();
                let message = if invalid.text.is_empty() {
                    format!("this is not {}: {}", invalid.kind, invalid.problem)
                } else {
                    invalid.to_string()
                };
                self.report(Diagnostic::error(message).code(code).at(at, "").hint(hint));
                None
            }
        }
    }

    fn app(&mut self, raw: RawApp) -> (String, semver::Version, Option<Spanned<String>>) {
        let mut version = semver::Version::new(0, 0, 0);
        if let Some(written) = raw.version {
            match written.value.0.parse() {
                Ok(parsed) => version = parsed,
                Err(error) => {
                    let text = &written.value.0;
                    let longer = [".0", ".0.0"].map(|end| format!("{text}{end}"));
                    let suggestion = longer.into_iter().find(|text| text.parse::<semver::Version>().is_ok());
                    // If adding `.0` or `.0.0` makes the version valid, the hint suggests that, and the parser's
                    // message is not shown.
                    let problem =
                        if suggestion.is_some() || text.is_empty() { String::new() } else { error.to_string() };
                    self.report(
                        Diagnostic::error(format!(
                            "`{text}` is not a version: a version has three numbers, for example `0.1.0`"
                        ))
                        .code("bad-version")
                        .at(written.span, problem)
                        .hint_if(suggestion.map(|suggestion| format!("write `{suggestion}`"))),
                    );
                }
            }
        }
        let name = raw.name.unwrap_or_else(|| Spanned::unwritten(NameText("app".to_owned())));
        let checked = check_name("an app name", &name.value.0);
        self.valid(checked, "bad-name", name.span);
        let health = raw.health.and_then(|text| self.health(text));
        (name.value.0, version, health)
    }

    fn sampling(&mut self, raw: RawSampling) -> Sampling {
        let slow = raw.slow.and_then(|text| self.valid(parse_duration(&text.value.0), "bad-duration", text.span));
        Sampling { fraction: raw.sample.map(|sample| sample.value), per_second_max: raw.samples_per_second, slow }
    }

    /// Parses the path of the health check, which is written like an exact route.
    fn health(&mut self, text: Spanned<HealthText>) -> Option<Spanned<String>> {
        let path = match text.value.0.parse() {
            Ok(Route::Exact(path)) => Ok(path),
            Ok(Route::Prefix(path)) => {
                let suggestion = if path.is_empty() { "/".to_owned() } else { path };
                Err(InvalidText::new(HEALTH, "/health", &text.value.0, "it must be one path").suggest(Some(suggestion)))
            }
            Err(mut invalid) => {
                (invalid.kind, invalid.example) = (HEALTH, "/health");
                Err(invalid)
            }
        };
        Some(Spanned::new(self.valid(path, "bad-health", text.span)?, text.span))
    }

    fn check_health(&mut self, health: Option<&Spanned<String>>, components: &BTreeMap<ComponentName, Component>) {
        let Some(health) = health else { return };
        if health.value == FRONT_HEALTH_PATH {
            self.report(
                Diagnostic::warning(format!("`{}` is the path of the front door's own health check", health.value))
                    .code("health-of-front-door")
                    .at(health.span, "a deployment needs a response of the app, but clients get that of the front door")
                    .hint("choose another path that the app serves, for example `/health`"),
            );
        }
        let mut routes = components.values().flat_map(|component| &component.routes);
        let is_served = routes.any(|route| route.value.matches(&health.value));
        if !is_served && self.is_complete(components) {
            self.report(
                Diagnostic::error(format!("no component has a route for `{}`", health.value))
                    .code("health-without-route")
                    .at(health.span, "no component serves this path")
                    .hint("use a path that a route matches"),
            );
        }
    }

    /// Returns whether the app contains all components of the manifest. If a component was left out because of an
    /// error, its grants and routes are missing as well, so the caller must not report that grants or routes are
    /// missing.
    fn is_complete(&self, components: &BTreeMap<ComponentName, Component>) -> bool {
        components.len() == self.declared.len()
    }

    /// Resolves a reference to a component, or reports that the component does not exist. `what` describes the entry
    /// that contains the reference.
    fn component_named(&mut self, name: Spanned<NameText>, what: &str) -> Option<Spanned<ComponentName>> {
        let text = name.value.0;
        if !self.declared.contains(&text) {
            if self.found.is_full() {
                self.report(Diagnostic::error("unknown component"));
                return None;
            }
            let mut diagnostic = Diagnostic::error(format!("{what} names `{text}`, which is not a component"))
                .code("unknown-component")
                .at(name.span, "not a component of this app");
            let near = nearest(&text, self.declared.iter().map(String::as_str));
            diagnostic = match near {
                Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
                None if self.declared.is_empty() => diagnostic,
                None => {
                    let known: Vec<&str> = self.declared.iter().map(String::as_str).take(NAMED_MAX).collect();
                    let more = if self.declared.len() > NAMED_MAX { ", …" } else { "" };
                    diagnostic.hint(format!("the components are `{}`{more}", known.join("`, `")))
                }
            };
            self.report(diagnostic);
            return None;
        }
        // An invalid name was reported where the component is defined.
        ComponentName::new(&text).ok().map(|component| Spanned::new(component, name.span))
    }
}
