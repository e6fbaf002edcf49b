//! Determines the packages that the worlds of an app use, directly or through other packages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use isomer_diagnostics::nearest;
use wit_parser::{AstItem, PackageName, SourceMap, UnresolvedPackageGroup};

use crate::{WitPackage, packages};

/// The namespaces whose packages come from the platform unless the app has them in its `wit/deps`.
const NAMESPACES: [&str; 2] = ["isomer", "wasi"];

/// The error if the packages that an app needs cannot be determined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NeedError {
    /// A file of the app is not valid WIT.
    #[error("{problem}")]
    Text {
        /// The message of the WIT parser, with file and line.
        problem: String,
    },
    /// The app uses a package that neither the platform nor `wit/deps` has.
    #[error("{place}: there is no package `{wanted}`")]
    NoPackage {
        /// The location of the use: file, line and column.
        place: String,
        /// The name of the missing package.
        wanted: String,
        /// The package of the platform with a similar name, if there is one.
        near: Option<String>,
    },
    /// The app uses an interface or world that the package does not have.
    #[error("{place}: `{package}` has no {kind} `{name}`")]
    NoItem {
        /// The location of the use: file, line and column.
        place: String,
        /// The name of the package.
        package: String,
        /// The kind of the missing item: `interface` or `world`.
        kind: &'static str,
        /// The name of the missing interface or world.
        name: String,
        /// The names of the interfaces or worlds that the package has.
        has: Vec<String>,
    },
    /// The app uses a package in a version that the platform does not have.
    #[error("{place}: the platform does not have `{wanted}`, but {}", list(has))]
    OtherVersion {
        /// The location of the use: file, line and column.
        place: String,
        /// The package with the version that the app uses.
        wanted: String,
        /// The versions of the package that the platform has, each with the package's name: `wasi:http@0.3.0`.
        has: Vec<String>,
    },
}

impl NeedError {
    /// Returns a hint that shows the user how to solve the problem, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Text { .. } => None,
            Self::NoPackage { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Self::NoPackage { near: None, .. } => {
                Some("use a package that `isomer wit --list` lists, or put the package into wit/deps".to_owned())
            }
            Self::NoItem { package, name, has, .. } => match nearest(name, has.iter().map(String::as_str)) {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None if has.is_empty() => None,
                None => Some(format!("`{package}` has {}", list(has))),
            },
            Self::OtherVersion { has, .. } => Some(format!("write {}", list(has))),
        }
    }
}

/// Returns the platform's packages that an app needs in `wit/deps`, ordered by name and version. `wit` is the app's
/// folder of WIT files. If `wit/deps` contains packages of the app itself, the result includes the packages that they
/// use, but not those that they replace.
///
/// # Errors
/// If a file is not valid WIT, or if a package, version, interface or world that the app uses does not exist.
pub fn needed(wit: &Path) -> Result<Vec<&'static WitPackage>, NeedError> {
    let mut wanted: BTreeSet<PackageName> = BTreeSet::new();
    let mut provided: BTreeSet<PackageName> = BTreeSet::new();
    let mut roots = groups(wit)?;
    let ours: BTreeSet<String> = packages().iter().map(WitPackage::dir_name).collect();
    let entries = std::fs::read_dir(wit.join("deps")).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let is_ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| ours.contains(name));
        if !is_ours {
            let others = groups(&path)?;
            provided.extend(others.iter().flat_map(|group| group.names()));
            roots.extend(others);
        }
    }
    provided.extend(roots.iter().flat_map(|group| group.names()));
    let mut left: Vec<Use> = roots.iter().flat_map(Group::uses).collect();
    let mut found = BTreeMap::new();
    while let Some(used) = left.pop() {
        if provided.contains(&used.package) {
            continue;
        }
        let Some(package) = package(&used)? else { continue };
        let text = parse(package.files.iter().map(|file| (PathBuf::from(file.name), file.text.to_owned())))?;
        used.check(package, &text)?;
        if wanted.insert(used.package) {
            left.extend(text.uses());
            found.insert((package.name, package.version), package);
        }
    }
    Ok(found.into_values().collect())
}

/// Returns the platform's package for `used`, or `None` if the namespace of `used` is not one of the platform's. The
/// app must then provide the package.
fn package(used: &Use) -> Result<Option<&'static WitPackage>, NeedError> {
    let name = &used.package;
    let of_name = format!("{}:{}", name.namespace, name.name);
    let version = name.version.as_ref().map(ToString::to_string);
    let known: Vec<&WitPackage> = packages().iter().filter(|package| package.name == of_name).collect();
    let exact = known.iter().find(|package| version.as_deref() == Some(package.version));
    match exact {
        Some(package) => Ok(Some(package)),
        None if known.is_empty() && !NAMESPACES.contains(&name.namespace.as_str()) => Ok(None),
        None if known.is_empty() => {
            Err(NeedError::NoPackage { place: used.place(), wanted: name.to_string(), near: near_package(&name.name) })
        }
        None => Err(NeedError::OtherVersion {
            place: used.place(),
            wanted: name.to_string(),
            has: known.iter().map(|package| package.id()).collect(),
        }),
    }
}

/// Returns the name of the platform's package whose name is most similar to `name`, in any namespace.
fn near_package(name: &str) -> Option<String> {
    let names = || packages().iter().filter_map(|package| Some((package.name, package.name.split_once(':')?.1)));
    let near = nearest(name, names().map(|(_, name)| name))?;
    names().find(|(_, name)| *name == near).map(|(package, _)| package.to_owned())
}

/// A package that another package refers to, with the items that are used.
struct Use {
    package: PackageName,
    items: Vec<Item>,
}

/// An interface or world that a package uses from another package.
struct Item {
    name: String,
    is_world: bool,
    place: String,
}

impl Use {
    /// Returns the location at which the package is first used.
    fn place(&self) -> String {
        self.items.first().map(|item| item.place.clone()).unwrap_or_default()
    }

    /// Returns an error if `package` lacks an interface or world that is used. `text` is the parsed text of `package`.
    fn check(&self, package: &WitPackage, text: &Group) -> Result<(), NeedError> {
        for item in &self.items {
            let has = if item.is_world { text.worlds() } else { text.interfaces() };
            if !has.contains(&item.name) {
                return Err(NeedError::NoItem {
                    place: item.place.clone(),
                    package: package.id(),
                    kind: if item.is_world { "world" } else { "interface" },
                    name: item.name.clone(),
                    has,
                });
            }
        }
        Ok(())
    }
}

/// A parsed WIT package, with the packages that are nested in its text.
struct Group(UnresolvedPackageGroup);

impl Group {
    fn names(&self) -> impl Iterator<Item = PackageName> + '_ {
        std::iter::once(&self.0.main).chain(&self.0.nested).map(|package| package.name.clone())
    }

    /// Returns the packages that this package refers to, with the items that it uses.
    fn uses(&self) -> Vec<Use> {
        let own: BTreeSet<PackageName> = self.names().collect();
        let mut uses = Vec::new();
        for package in std::iter::once(&self.0.main).chain(&self.0.nested) {
            for (name, items) in package.foreign_deps.iter().filter(|(name, _)| !own.contains(*name)) {
                let items = items.iter().map(|(name, (item, _))| {
                    let (is_world, span) = match *item {
                        AstItem::Interface(id) => (false, package.interfaces[id].span),
                        AstItem::World(id) => (true, package.worlds[id].span),
                    };
                    Item { name: name.clone(), is_world, place: self.0.source_map.render_location(span) }
                });
                uses.push(Use { package: name.clone(), items: items.collect() });
            }
        }
        uses
    }

    /// Returns the names of the interfaces that the package itself defines. The parser's list also contains interfaces
    /// of other packages, but without names.
    fn interfaces(&self) -> Vec<String> {
        self.0.main.interfaces.iter().filter_map(|(_, interface)| interface.name.clone()).collect()
    }

    /// Returns the names of the main package's worlds.
    fn worlds(&self) -> Vec<String> {
        let names = self.0.main.worlds.iter().map(|(_, world)| world.name.clone());
        names.filter(|name| !name.is_empty()).collect()
    }
}

/// Parses the package in a folder or file. Returns an empty list if there is no WIT file.
fn groups(path: &Path) -> Result<Vec<Group>, NeedError> {
    let mut files = Vec::new();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        files.extend(entries.map(|entry| entry.path()));
    } else {
        files.push(path.to_owned());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wit"));
    files.sort();
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let read = |file: PathBuf| match std::fs::read_to_string(&file) {
        Ok(text) => Ok((file, text)),
        Err(error) => Err(NeedError::Text { problem: format!("`{}` cannot be read: {error}", file.display()) }),
    };
    let files = files.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![parse(files)?])
}

fn parse(files: impl IntoIterator<Item = (PathBuf, String)>) -> Result<Group, NeedError> {
    let mut map = SourceMap::default();
    for (path, text) in files {
        map.push(&path, text);
    }
    map.parse().map(Group).map_err(|(map, error)| NeedError::Text { problem: error.render(&map) })
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" or ")
}
