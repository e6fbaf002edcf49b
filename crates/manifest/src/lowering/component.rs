//! Lowers components: source, routes, limits, links.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use isomer_diagnostics::{Diagnostic, Span, nearest};
use isomer_ids::{ComponentName, InvalidText, OciReference};

use super::Lowering;
use crate::model::{Component, ComponentLimits, ComponentSource, Reuse, Route};
use crate::raw::{RawComponent, RawLimits, RawReuse, RawStream};
use crate::route::FRONT_HEALTH_PATH;
use crate::spanned::Spanned;
use crate::texts::{DurationText, FunctionText, ImportText, NameText, PathText, RouteText};
use crate::units::{parse_duration, parse_size};

impl Lowering<'_> {
    pub(super) fn components(
        &mut self,
        raw: BTreeMap<Spanned<NameText>, RawComponent>,
    ) -> BTreeMap<ComponentName, Component> {
        let mut components = BTreeMap::new();
        for (name, raw) in raw {
            let at = name.span;
            let checked = ComponentName::new(&name.value.0);
            let legal = self.valid(checked, "bad-name", at);
            let component = self.component(&name.value.0, at, raw);
            if let (Some(name), Some(component)) = (legal, component) {
                components.insert(name, component);
            }
        }
        components
    }

    fn component(&mut self, name: &str, at: Span, raw: RawComponent) -> Option<Component> {
        let place = |key: &str| Spanned::new((), self.places.get(&["components", name, key]).unwrap_or(at));
        let (grants_at, limits_at) = (place("grants"), place("limits"));
        let source = self.source(name, at, &raw);
        let routes = self.routes(raw.routes);
        let grants = self.grants(name, raw.grants.unwrap_or_default(), grants_at);
        let limits = self.limits(raw.limits.unwrap_or_default(), limits_at);
        let links = self.links(name, raw.links);
        let idempotent = self.idempotent(name, raw.idempotent);
        let exposed = self.exposed(name, raw.exposed);
        Some(Component {
            source: source?,
            routes,
            grants,
            limits,
            links,
            isolate: raw.isolate,
            idempotent,
            exposed,
            concurrency: raw.concurrency.unwrap_or(1),
            reuse: raw.reuse.map(|reuse| match reuse {
                RawReuse::Switch(true) => Reuse::Unbounded,
                RawReuse::Switch(false) => Reuse::FRESH,
                RawReuse::Times(times) => Reuse::Times(times),
            }),
            compress: raw.compress,
            at: Spanned::new((), at),
        })
    }

    /// Lowers `wasm` without a command: a file, or a component in a registry.
    fn wasm(&mut self, wasm: Spanned<String>) -> Option<Spanned<ComponentSource>> {
        if !OciReference::is_marked(&wasm.value) {
            return Some(wasm.map(|path| ComponentSource::Wasm(path.into())));
        }
        let reference = self.valid(wasm.value.parse::<OciReference>(), "bad-reference", wasm.span)?;
        Some(Spanned::new(ComponentSource::Registry(reference), wasm.span))
    }

    fn source(&mut self, name: &str, at: Span, raw: &RawComponent) -> Option<Spanned<ComponentSource>> {
        let given = |path: &Option<Spanned<PathText>>| path.clone().map(|path| path.map(|text| text.0));
        let (cargo, wasm) = (given(&raw.cargo), given(&raw.wasm));
        let command = raw.command.clone().map(|command| command.map(|text| text.0));
        for text in [&cargo, &wasm, &command].into_iter().flatten() {
            if text.value.trim().is_empty() {
                self.report(
                    Diagnostic::error(format!("a source of component `{name}` is empty"))
                        .code("empty-source")
                        .at(text.span, "")
                        .hint("write a path or a command, or remove the key"),
                );
                return None;
            }
        }
        // The structural check removes and reports an invalid `command`. So `inputs` without `command` is an error here
        // only if the manifest contains no `command`.
        let lacks_command = command.is_none() && !self.places.has(&["components", name, "command"]);
        if let Some(inputs) = raw.inputs.as_ref().filter(|_| lacks_command) {
            let at = inputs.first().map_or(at, |input| input.span);
            self.report(
                Diagnostic::error(format!("component `{name}` has `inputs` without `command`"))
                    .code("inputs-without-command")
                    .at(at, "which command reads them?")
                    .hint("remove `inputs`: for a Cargo package, Cargo knows the inputs"),
            );
        }
        let inputs = raw.inputs.as_ref().map(|inputs| self.inputs(name, inputs));
        // The structural check removes and reports an invalid source. So a missing source is an error here only if the
        // manifest contains no source.
        let was_there = |key: &str| self.places.has(&["components", name, key]);
        let problem = match (cargo, wasm, command) {
            (None, None, Some(_)) if was_there("wasm") => return None,
            (None, None, None) if ["cargo", "wasm", "command"].into_iter().any(was_there) => return None,
            (Some(cargo), None, None) => return Some(cargo.map(|path| ComponentSource::Cargo(path.into()))),
            (None, Some(wasm), None) => return self.wasm(wasm),
            (None, Some(wasm), Some(command)) => {
                let source = ComponentSource::Command { command: command.value, wasm: wasm.value.into(), inputs };
                return Some(Spanned::new(source, command.span));
            }
            (Some(cargo), Some(other), _) | (Some(cargo), None, Some(other)) => {
                let (first, second) = (cargo.span.min(other.span), cargo.span.max(other.span));
                Diagnostic::error(format!("component `{name}` has more than one source"))
                    .code("several-sources")
                    .at(second, "the second source")
                    .related(first, "the first source")
                    .hint("keep `cargo`, or `wasm`, or `wasm` with the `command` that makes it")
            }
            (None, None, Some(command)) => {
                Diagnostic::error(format!("component `{name}` has a `command` without `wasm`"))
                    .code("command-without-wasm")
                    .at(command.span, "which file does it make?")
                    .hint("name the file that the command makes: `wasm = \"FILE.wasm\"`")
            }
            (None, None, None) => Diagnostic::error(format!("component `{name}` has no source"))
                .code("no-source")
                .at(at, "where do its bytes come from?")
                .hint_if(self.component_like(name).map(|near| format!("did you mean `{near}`?")))
                .hint("add `cargo = \"DIR\"`, or `wasm = \"FILE.wasm\"`, or `command = \"…\"` with `wasm`"),
        };
        self.report(problem);
        None
    }

    /// Returns, among the components that have a source, the one whose name is most similar to `name`, a component
    /// without a source. Such a component may result from a misspelt name in the header of a table
    /// (`[components.helo.grants]`).
    fn component_like(&self, name: &str) -> Option<&str> {
        let has_source =
            |other: &str| ["cargo", "wasm", "command"].iter().any(|key| self.places.has(&["components", other, key]));
        let others = self.declared.iter().map(String::as_str).filter(|other| *other != name && has_source(other));
        nearest(name, others)
    }

    fn inputs(&mut self, name: &str, raw: &[Spanned<PathText>]) -> Vec<PathBuf> {
        for input in raw.iter().filter(|input| input.value.0.trim().is_empty()) {
            self.report(
                Diagnostic::error(format!("an input of component `{name}` is empty"))
                    .code("empty-source")
                    .at(input.span, "")
                    .hint("name a file, a folder or a pattern; `\".\"` is the manifest's folder"),
            );
        }
        raw.iter().map(|input| PathBuf::from(&input.value.0)).collect()
    }

    fn routes(&mut self, raw: Vec<Spanned<RouteText>>) -> Vec<Spanned<Route>> {
        let mut routes: Vec<Spanned<Route>> = vec![];
        for text in raw {
            let Some(route) = self.valid(text.value.0.parse::<Route>(), "bad-route", text.span) else { continue };
            if let Some(first) = routes.iter().find(|other| other.value == route) {
                self.report(
                    Diagnostic::error(format!("the route `{route}` is listed twice"))
                        .code("duplicate-route")
                        .at(text.span, "again")
                        .related(first.span, "first here")
                        .hint("remove one of them"),
                );
                continue;
            }
            if route == Route::Exact(FRONT_HEALTH_PATH.to_owned()) {
                self.report(
                    Diagnostic::warning(format!("no request for the route `{route}` reaches the component"))
                        .code("unreachable-route")
                        .at(text.span, "the front door responds to this path itself")
                        .hint("choose another path, or remove the route"),
                );
            }
            routes.push(Spanned::new(route, text.span));
        }
        routes
    }

    fn limits(&mut self, raw: RawLimits, at: Spanned<()>) -> ComponentLimits {
        let memory = raw.memory.map(|text| text.map(|text| text.0));
        let deadline = raw.request_deadline.map(|text| text.map(|text| text.0));
        let body = raw.body.map(|text| text.map(|text| text.0));
        let (stream_max, stream_idle) = match raw.stream {
            None => (None, None),
            Some(Spanned { value: RawStream::Max(max), span }) => (Some(Spanned::new(max.0, span)), None),
            Some(Spanned { value: RawStream::Table(table), span }) => {
                let at = |text: DurationText| Spanned::new(text.0, span);
                (table.max.map(at), table.idle.map(at))
            }
        };
        ComponentLimits {
            memory_bytes: self.quantity("memory", memory, parse_size),
            request_deadline: self.quantity("request_deadline", deadline, parse_duration),
            stream_max: self.quantity("stream", stream_max, parse_duration),
            stream_idle: self.quantity("stream.idle", stream_idle, parse_duration),
            body_bytes: self.quantity("body", body, parse_size),
            at: Some(at),
        }
    }

    /// Parses a size or a duration. Reports an error and returns `None` if it is invalid or zero.
    pub(super) fn quantity<T: Quantity>(
        &mut self,
        key: &str,
        text: Option<Spanned<String>>,
        parse: fn(&str) -> Result<T, InvalidText>,
    ) -> Option<T> {
        let text = text?;
        let value = self.valid(parse(&text.value), "bad-quantity", text.span)?;
        if value.is_zero() {
            self.report(
                Diagnostic::error(format!("`{key}` must not be zero"))
                    .code("zero-limit")
                    .at(text.span, "nothing could run with this limit")
                    .hint(format!("give `{key}` a value, or remove it to use the default")),
            );
            return None;
        }
        Some(value)
    }

    /// Checks that the entries of `idempotent` are not empty. The planner checks whether the component exports the
    /// functions.
    fn idempotent(&mut self, name: &str, raw: Vec<Spanned<FunctionText>>) -> Vec<Spanned<String>> {
        let mut functions = vec![];
        for function in raw {
            if function.value.0.is_empty() {
                self.report(
                    Diagnostic::error(format!("`idempotent` of component `{name}` names no function"))
                        .code("empty-function")
                        .at(function.span, "")
                        .hint("write an interface or one of its functions, for example `\"shop:boutique/catalog.get-product\"`"),
                );
                continue;
            }
            functions.push(function.map(|text| text.0));
        }
        functions
    }

    fn links(
        &mut self,
        name: &str,
        raw: BTreeMap<Spanned<ImportText>, Spanned<NameText>>,
    ) -> BTreeMap<String, Spanned<ComponentName>> {
        let mut links = BTreeMap::new();
        for (import, target) in raw {
            let text = import.value.0;
            if text.is_empty() {
                self.report(
                    Diagnostic::error(format!("a link of component `{name}` names no import"))
                        .code("empty-link")
                        .at(import.span, "")
                        .hint("write the import's name, for example `\"shop:boutique/catalog\" = \"catalog\"`"),
                );
                continue;
            }
            if target.value.0 == name {
                self.report(
                    Diagnostic::error(format!("component `{name}` links `{text}` to itself"))
                        .code("bad-link")
                        .at(target.span, "a component cannot provide its own import")
                        .hint("name another component, or remove the link if only one other component exports the interface"),
                );
                continue;
            }
            if let Some(target) = self.component_named(target, &format!("the link `{text}` of component `{name}`")) {
                links.insert(text, target);
            }
        }
        links
    }
}

/// The value of a limit: a size or a duration. Zero is not a valid limit.
pub(super) trait Quantity {
    fn is_zero(&self) -> bool;
}

impl Quantity for u64 {
    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl Quantity for Duration {
    fn is_zero(&self) -> bool {
        Duration::is_zero(self)
    }
}
