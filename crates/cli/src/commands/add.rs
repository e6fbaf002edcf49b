//! `isomer add`: adds a component from a registry to an app.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::{CliError, Console, FAILED, print};
use isomer_diagnostics::SourceFile;
use isomer_ids::{ComponentName, OciReference, kebab};
use isomer_manifest::MANIFEST_FILE;
use isomer_plan::{ComponentType, InterfaceId, grant_key};
use isomer_project::{find_app_dir, pull_registry_component, shown};
use serde_json::{Value, json};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use exports::Exports;

mod exports;

/// Add a component from an OCI registry to an app. Its digest is written into isomer.toml, so the component never changes
/// unnoticed. Each grant that its imports need must be confirmed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The component in a registry: `registry.example/team/cart:1.0.0`.
    #[arg(value_name = "REFERENCE")]
    reference: OciReference,
    /// The app's folder, or a folder inside it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    app: PathBuf,
    /// The component's name in the app [default: the last part of the repository].
    #[arg(long, value_name = "NAME")]
    name: Option<ComponentName>,
    /// A grant of the component: `kv=STORE`, `sql=STORE`, `http=HOST` or `secrets=NAME`. May be repeated.
    #[arg(long = "grant", value_name = "KIND=VALUE", value_parser = parse_grant)]
    grants: Vec<(GrantKind, String)>,
    /// Allow the component to provide this interface to the other components in place of the platform, for example
    /// `wasi:keyvalue/store@0.2.0-draft`. May be repeated.
    #[arg(long = "allow-export", value_name = "INTERFACE")]
    allowed_exports: Vec<String>,
    /// Add the component with exactly the grants of `--grant`, without asking.
    #[arg(long)]
    yes: bool,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// A kind of grant that a component's imports may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum GrantKind {
    Kv,
    Sql,
    Http,
    Secrets,
    Config,
    Dirs,
}

impl GrantKind {
    const ALL: [Self; 6] = [Self::Kv, Self::Sql, Self::Http, Self::Secrets, Self::Config, Self::Dirs];

    /// Returns the key in the manifest.
    fn key(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Sql => "sql",
            Self::Http => "http",
            Self::Secrets => "secrets",
            Self::Config => "config",
            Self::Dirs => "dirs",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Kv => "key-value stores",
            Self::Sql => "SQL stores",
            Self::Http => "hosts to which it may send HTTP requests",
            Self::Secrets => "secrets",
            Self::Config => "config values",
            Self::Dirs => "folders",
        }
    }

    /// Returns whether a grant is a list of texts. Other grants have to be written into the manifest.
    fn is_list(self) -> bool {
        !matches!(self, Self::Config | Self::Dirs)
    }

    /// Returns the grant that an imported interface needs.
    fn of(id: &InterfaceId) -> Option<Self> {
        let key = grant_key(id)?;
        Self::ALL.into_iter().find(|kind| kind.key() == key)
    }
}

/// A grant that a component's imports need, and what is granted.
struct GrantNeed {
    kind: GrantKind,
    interfaces: Vec<String>,
    granted: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let dir = find_app_dir(&arguments.app)?;
    let path = dir.join(MANIFEST_FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let source = SourceFile::new(shown(&path), text);
    // The manifest is checked first, so that its errors are not reported as errors of the component.
    let before = isomer_manifest::parse(&source).map_err(CliError::Findings)?.app;
    let name = name_of(arguments)?;
    if before.components.contains_key(&name) {
        return Err(CliError::usage(
            format!("the app already has a component `{name}`"),
            "choose another name: --name NAME",
        ));
    }
    let progress = console.progress();
    progress.step(format!("pulling {}", arguments.reference));
    let pulled = pull_registry_component(&arguments.reference)?;
    drop(progress);
    let ty = isomer_seam::component_type(&pulled.wasm)
        .map_err(|error| anyhow::Error::new(error).context(format!("`{}` cannot be used", arguments.reference)))?;
    let exports = Exports::of(&ty);
    exports.confirm(&name, &arguments.allowed_exports, arguments.yes, console)?;
    let needs = confirm(needs_of(&ty), &name, arguments, console)?;
    let pinned = arguments.reference.with_digest(pulled.digest);
    let changed = with_component(source.text(), &name, &pinned, &needs)?;
    let changed = SourceFile::new(source.name(), changed);
    isomer_manifest::parse(&changed).map_err(CliError::Findings)?;
    replace(&path, changed.text())?;
    report(&name, &pinned, &needs, &exports, arguments.json, console)
}

fn name_of(arguments: &Arguments) -> Result<ComponentName, CliError> {
    if let Some(name) = &arguments.name {
        return Ok(name.clone());
    }
    let short = arguments.reference.short_name();
    let suggested = kebab(short).and_then(|name| ComponentName::new(&name).ok());
    suggested.ok_or_else(|| {
        CliError::usage(format!("`{short}` is not the name of a component"), "name the component: --name NAME")
    })
}

fn needs_of(ty: &ComponentType) -> Vec<GrantNeed> {
    let mut interfaces: BTreeMap<GrantKind, Vec<String>> = BTreeMap::new();
    for id in ty.imports.keys() {
        if let Some(kind) = GrantKind::of(id) {
            interfaces.entry(kind).or_default().push(id.to_string());
        }
    }
    interfaces.into_iter().map(|(kind, interfaces)| GrantNeed { kind, interfaces, granted: Vec::new() }).collect()
}

/// Returns the grants that the flags name or that the user confirms. Without a terminal, only the grants of the flags
/// are given, and `--yes` is required.
fn confirm(
    mut needs: Vec<GrantNeed>,
    name: &ComponentName,
    arguments: &Arguments,
    console: &Console,
) -> Result<Vec<GrantNeed>, CliError> {
    if let Some((kind, _)) = arguments.grants.iter().find(|(kind, _)| needs.iter().all(|need| need.kind != *kind)) {
        return Err(CliError::usage(
            format!("component `{name}` does not import interfaces for {}", kind.description()),
            format!("remove `--grant {}=…`: the component could not use the grant", kind.key()),
        ));
    }
    // Grants that have to be written by hand need no answer. Most programs import interfaces for folders and config values.
    let asked = || needs.iter().filter(|need| need.kind.is_list());
    if !arguments.yes && asked().next().is_some() && !console.is_interactive() {
        let wants: Vec<String> =
            asked().map(|need| format!("{} ({})", need.kind.description(), need.interfaces.join(", "))).collect();
        return Err(CliError::usage(
            format!(
                "cannot ask what to grant to component `{name}`, because there is no terminal; it imports interfaces for {}",
                wants.join("; ")
            ),
            "name each grant, such as `--grant kv=STORE`, and confirm that there are no others with `--yes`",
        ));
    }
    for need in &mut needs {
        let named = arguments.grants.iter().filter(|(kind, _)| *kind == need.kind).map(|(_, value)| value.clone());
        need.granted = named.collect();
        if arguments.yes {
            continue;
        }
        let (kind, interfaces) = (need.kind, need.interfaces.join(", "));
        if !kind.is_list() {
            console.message(&format!("{name} imports interfaces for {} ({interfaces}); grants of these are written by hand: [components.{name}.grants] {}", kind.description(), kind.key()));
        } else if need.granted.is_empty() {
            let question = format!(
                "{name} imports interfaces for {} ({interfaces}). Which should be granted? Separate them by commas. [none] ",
                kind.description()
            );
            let answer = console.ask(&question).unwrap_or_default();
            let named = answer.split(',').map(str::trim).filter(|text| !text.is_empty());
            need.granted = named.map(ToOwned::to_owned).collect();
        } else {
            let question = format!("grant {} = {:?} to {name} ({interfaces})?", kind.key(), need.granted);
            if console.confirm(&question) != Some(true) {
                return Err(CliError::ExitCode(FAILED));
            }
        }
    }
    Ok(needs)
}

/// Returns the manifest with the component. The rest of the text stays as it is.
fn with_component(
    text: &str,
    name: &ComponentName,
    reference: &OciReference,
    needs: &[GrantNeed],
) -> Result<String, CliError> {
    let mut document: DocumentMut = text.parse().context("the manifest is not TOML")?;
    let components = document.entry("components").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let components = components.as_table_mut().context("`components` is not a table of tables")?;
    let mut component = Table::new();
    component.insert("wasm", value(format!("oci://{reference}")));
    let mut grants = Table::new();
    for need in needs.iter().filter(|need| !need.granted.is_empty()) {
        grants.insert(need.kind.key(), value(need.granted.iter().map(String::as_str).collect::<Array>()));
    }
    if !grants.is_empty() {
        component.insert("grants", Item::Table(grants));
    }
    components.insert(name.as_str(), Item::Table(component));
    Ok(document.to_string())
}

/// Replaces the manifest by one rename, so that it is never incomplete.
fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    // If the manifest is a symbolic link, its target is replaced.
    let path = path.canonicalize().with_context(|| format!("cannot resolve `{}`", path.display()))?;
    let cannot_write = || format!("cannot write `{}`", path.display());
    let permissions = std::fs::metadata(&path).with_context(cannot_write)?.permissions();
    let folder = path.parent().unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).with_context(cannot_write)?;
    std::fs::write(file.path(), text).with_context(cannot_write)?;
    std::fs::set_permissions(file.path(), permissions).with_context(cannot_write)?;
    file.persist(&path).with_context(cannot_write)?;
    Ok(())
}

fn report(
    name: &ComponentName,
    reference: &OciReference,
    needs: &[GrantNeed],
    exports: &Exports,
    json: bool,
    console: &Console,
) -> Result<(), CliError> {
    if json {
        let needs: Vec<Value> = needs
            .iter()
            .map(|need| json!({ "grant": need.kind.key(), "interfaces": need.interfaces, "granted": need.granted }))
            .collect();
        let added = json!({
            "component": name.as_str(),
            "reference": reference.to_string(),
            "needs": needs,
            "exports": exports.all,
            "replaces_platform": exports.of_platform,
        });
        return print(&format!("{added:#}\n"));
    }
    console.message(&format!("added component {name} from {reference}"));
    if !exports.all.is_empty() {
        console.message(&format!("it provides to the other components: {}", exports.all.join(", ")));
    }
    for need in needs.iter().filter(|need| need.granted.is_empty()) {
        console.message(&format!("not granted: {} ({})", need.kind.description(), need.interfaces.join(", ")));
    }
    Ok(())
}

fn parse_grant(text: &str) -> Result<(GrantKind, String), String> {
    let lists = || GrantKind::ALL.into_iter().filter(|kind| kind.is_list());
    let known: Vec<&str> = lists().map(GrantKind::key).collect();
    let expected = || format!("write `KIND=VALUE`, where KIND is one of {}", known.join(", "));
    let (kind, value) = text.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(expected)?;
    let kind = lists().find(|known| known.key() == kind).ok_or_else(expected)?;
    Ok((kind, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_manifest_stays_as_it_is() {
        let text = "# The shop.\n[app]\nname = \"shop\"   # short\nversion = \"1.0.0\"\n\n[components.web]\nwasm = \"web.wasm\"\n\n[shapes.split]\n";
        let reference = "r.example/team/cart:1".parse().unwrap();
        let need = GrantNeed { kind: GrantKind::Kv, interfaces: Vec::new(), granted: vec!["carts".to_owned()] };
        let changed = with_component(text, &ComponentName::new("cart").unwrap(), &reference, &[need]).ok().unwrap();
        let added =
            "[components.cart]\nwasm = \"oci://r.example/team/cart:1\"\n\n[components.cart.grants]\nkv = [\"carts\"]\n";
        assert!(changed.contains(added), "{changed}");
        let without: String = changed.replacen(added, "", 1);
        assert_eq!(without.replace("\n\n\n", "\n\n"), text, "{changed}");
    }

    #[test]
    fn a_grant_has_a_kind_and_a_value() {
        assert_eq!(parse_grant("http=api.example:443").unwrap(), (GrantKind::Http, "api.example:443".to_owned()));
        for bad in ["kv", "kv=", "dirs=/", "=x", "other=x"] {
            assert!(parse_grant(bad).is_err(), "{bad}");
        }
    }
}
