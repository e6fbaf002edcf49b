//! Which of the packages the worlds of an app use: those that their text refers to, and those that these refer to in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use isomer_diagnostics::nearest;
use wit_parser::{AstItem, PackageName, SourceMap, UnresolvedPackageGroup};

use crate::{WitPackage, packages};

/// Namespaces of which all packages are the platform's, or stand in the app's `wit/deps`.
const NAMESPACES: [&str; 2] = ["isomer", "wasi"];

/// Why it cannot be said what an app needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NeedError {
    /// The text is no WIT.
    #[error("{problem}")]
    Text {
        /// What the parser says, with its place.
        problem: String,
    },
    /// Neither the platform nor `wit/deps` has such a package.
    #[error("{place}: there is no package `{wanted}`")]
    NoPackage {
        /// Where it is used: file, line and column.
        place: String,
        /// The package.
        wanted: String,
        /// What was meant, perhaps.
        near: Option<String>,
    },
    /// The package has no such interface or world.
    #[error("{place}: `{package}` has no {kind} `{name}`")]
    NoItem {
        /// Where it is used: file, line and column.
        place: String,
        /// The package.
        package: String,
        /// `interface` or `world`.
        kind: &'static str,
        /// What it does not have.
        name: String,
        /// What it has of this kind.
        has: Vec<String>,
    },
    /// The platform has the package in other versions only.
    #[error("{place}: `{wanted}` is used, and the platform has {}", list(has))]
    OtherVersion {
        /// Where it is used: file, line and column.
        place: String,
        /// The package.
        wanted: String,
        /// The package in the versions that there are.
        has: Vec<String>,
    },
}

impl NeedError {
    /// What to do about it.
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

/// The packages that the folder `wit` of an app needs in its `deps`, by name and version. What is there already from others is taken into account:
/// what it uses is needed, and what it has is not.
///
/// # Errors
/// When a file is no WIT, or a package, a version of it, or one of its interfaces or worlds is wanted that there is not.
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

/// The platform's package that is used; none where it has none. What is not the platform's is for others to bring.
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

/// The platform's package with a name like this one, in whichever namespace.
fn near_package(name: &str) -> Option<String> {
    let names = || packages().iter().filter_map(|package| Some((package.name, package.name.split_once(':')?.1)));
    let near = nearest(name, names().map(|(_, name)| name))?;
    names().find(|(_, name)| *name == near).map(|(package, _)| package.to_owned())
}

/// What a package's text uses of another package.
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
    /// Where it is used first.
    fn place(&self) -> String {
        self.items.first().map(|item| item.place.clone()).unwrap_or_default()
    }

    /// Returns an error if the package does not have all that is used of it.
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

/// A package's text as far as it matters here.
struct Group(UnresolvedPackageGroup);

impl Group {
    fn names(&self) -> impl Iterator<Item = PackageName> + '_ {
        std::iter::once(&self.0.main).chain(&self.0.nested).map(|package| package.name.clone())
    }

    /// What it refers to and does not have.
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

    /// The names of the main package's interfaces; those of other packages have none here.
    fn interfaces(&self) -> Vec<String> {
        self.0.main.interfaces.iter().filter_map(|(_, interface)| interface.name.clone()).collect()
    }

    /// The names of the main package's worlds.
    fn worlds(&self) -> Vec<String> {
        let names = self.0.main.worlds.iter().map(|(_, world)| world.name.clone());
        names.filter(|name| !name.is_empty()).collect()
    }
}

/// The package in a folder, or in a file; none where there is no WIT.
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
