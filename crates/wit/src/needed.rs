//! The packages that the worlds of an app use, directly or through other packages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use isomer_diagnostics::nearest;
use wit_parser::{AstItem, PackageName, SourceMap, UnresolvedPackageGroup};

use crate::{WitPackage, packages};

/// Namespaces whose packages are either the platform's or in the app's `wit/deps`.
const NAMESPACES: [&str; 2] = ["isomer", "wasi"];

/// The reasons why the packages that an app needs cannot be determined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NeedError {
    /// The text is not valid WIT.
    #[error("{problem}")]
    Text {
        /// The parser's message, with the place.
        problem: String,
    },
    /// Neither the platform nor `wit/deps` has such a package.
    #[error("{place}: there is no package `{wanted}`")]
    NoPackage {
        /// The place of the use: file, line and column.
        place: String,
        /// The package that was not found.
        wanted: String,
        /// The package that was probably meant.
        near: Option<String>,
    },
    /// The package has no such interface or world.
    #[error("{place}: `{package}` has no {kind} `{name}`")]
    NoItem {
        /// The place of the use: file, line and column.
        place: String,
        /// The package.
        package: String,
        /// `interface` or `world`.
        kind: &'static str,
        /// The interface or world that is missing.
        name: String,
        /// The interfaces or worlds that the package has.
        has: Vec<String>,
    },
    /// The platform has the package only in other versions.
    #[error("{place}: the platform does not have `{wanted}`, but {}", list(has))]
    OtherVersion {
        /// The place of the use: file, line and column.
        place: String,
        /// The package in the wanted version.
        wanted: String,
        /// The package's ids in the versions that the platform has.
        has: Vec<String>,
    },
}

impl NeedError {
    /// Returns a hint on how to solve the problem.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Text { .. } => None,
            Self::NoPackage { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Self::NoPackage { near: None, .. } => Some(
                "`isomer wit --list` names those of the platform; a package of others belongs into wit/deps".to_owned(),
            ),
            Self::NoItem { name, has, .. } => match nearest(name, has.iter().map(String::as_str)) {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None if has.is_empty() => None,
                None => Some(format!("it has {}", list(has))),
            },
            Self::OtherVersion { has, .. } => Some(format!("write {}", list(has))),
        }
    }
}

/// Returns the packages that the folder `wit` of an app needs in its `deps`, ordered by name and version. If the app
/// has put other packages there, the result includes the packages that those use, but not those that they provide.
///
/// # Errors
/// If a file is not valid WIT, or a package, a version of it, or one of its interfaces or worlds does not exist.
pub fn needed(wit: &Path) -> Result<Vec<&'static WitPackage>, NeedError> {
    let mut wanted: BTreeSet<PackageName> = BTreeSet::new();
    let mut given: BTreeSet<PackageName> = BTreeSet::new();
    let mut roots = groups(wit)?;
    let ours: BTreeSet<String> = packages().iter().map(WitPackage::dir_name).collect();
    let entries = std::fs::read_dir(wit.join("deps")).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let is_ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| ours.contains(name));
        if !is_ours {
            let others = groups(&path)?;
            given.extend(others.iter().flat_map(|group| group.names()));
            roots.extend(others);
        }
    }
    given.extend(roots.iter().flat_map(|group| group.names()));
    let mut left: Vec<Use> = roots.iter().flat_map(Group::uses).collect();
    let mut found = BTreeMap::new();
    while let Some(used) = left.pop() {
        if given.contains(&used.package) {
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

/// Returns the platform's package, or `None` if the package is not the platform's and must be provided by the app.
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

/// Returns the platform's package with a similar name, in any namespace.
fn near_package(name: &str) -> Option<String> {
    let names = || packages().iter().filter_map(|package| Some((package.name, package.name.split_once(':')?.1)));
    let near = nearest(name, names().map(|(_, name)| name))?;
    names().find(|(_, name)| *name == near).map(|(package, _)| package.to_owned())
}

/// The items of another package that a package's text uses.
struct Use {
    package: PackageName,
    items: Vec<Item>,
}

/// An interface or world of another package.
struct Item {
    name: String,
    is_world: bool,
    place: String,
}

impl Use {
    /// Returns the place of the first use.
    fn place(&self) -> String {
        self.items.first().map(|item| item.place.clone()).unwrap_or_default()
    }

    /// Checks that the package has all interfaces and worlds that are used of it.
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

/// The parsed text of a package.
struct Group(UnresolvedPackageGroup);

impl Group {
    fn names(&self) -> impl Iterator<Item = PackageName> + '_ {
        std::iter::once(&self.0.main).chain(&self.0.nested).map(|package| package.name.clone())
    }

    /// Returns the items of other packages that the package uses.
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

    /// Returns the names of the main package's interfaces. Interfaces of other packages have no name here.
    fn interfaces(&self) -> Vec<String> {
        self.0.main.interfaces.iter().filter_map(|(_, interface)| interface.name.clone()).collect()
    }

    /// Returns the names of the main package's worlds.
    fn worlds(&self) -> Vec<String> {
        let names = self.0.main.worlds.iter().map(|(_, world)| world.name.clone());
        names.filter(|name| !name.is_empty()).collect()
    }
}

/// Returns the package in a folder or file; an empty list if there is no WIT.
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
