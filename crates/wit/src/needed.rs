//! Which of the packages the worlds of an app use: those that their text refers to, and those that these refer to in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use wit_parser::{PackageName, SourceMap, UnresolvedPackageGroup};

use crate::{Package, packages};

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
    /// The platform has the package in other versions only.
    #[error("`{wanted}` is used, and the platform has {}", list(has))]
    OtherVersion {
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
            Self::OtherVersion { has, .. } => Some(format!("write {}", list(has))),
        }
    }
}

/// The packages that the folder `wit` of an app needs in its `deps`, by name and version. What is there already from others is taken into account:
/// what it uses is needed, and what it has is not.
///
/// # Errors
/// When a file is no WIT, or a package is wanted in a version that there is not.
pub fn needed(wit: &Path) -> Result<Vec<&'static Package>, NeedError> {
    let mut wanted: BTreeSet<PackageName> = BTreeSet::new();
    let mut given: BTreeSet<PackageName> = BTreeSet::new();
    let mut roots = groups(wit)?;
    let ours: BTreeSet<String> = packages().iter().map(Package::dir_name).collect();
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
    let mut left: Vec<PackageName> = roots.iter().flat_map(|group| group.uses()).collect();
    let mut found = BTreeMap::new();
    while let Some(name) = left.pop() {
        if given.contains(&name) || !wanted.insert(name.clone()) {
            continue;
        }
        if let Some(package) = package(&name)? {
            left.extend(
                parse(package.files.iter().map(|file| (PathBuf::from(file.name), file.text.to_owned())))?.uses(),
            );
            found.insert((package.name, package.version), package);
        }
    }
    Ok(found.into_values().collect())
}

/// The platform's package of this name; none where it has none. What is not the platform's is for others to bring.
fn package(name: &PackageName) -> Result<Option<&'static Package>, NeedError> {
    let of_name = format!("{}:{}", name.namespace, name.name);
    let version = name.version.as_ref().map(ToString::to_string);
    let known: Vec<&Package> = packages().iter().filter(|package| package.name == of_name).collect();
    let exact = known.iter().find(|package| version.as_deref() == Some(package.version));
    match exact {
        Some(package) => Ok(Some(package)),
        None if known.is_empty() => Ok(None),
        None => Err(NeedError::OtherVersion {
            wanted: name.to_string(),
            has: known.iter().map(|package| package.id()).collect(),
        }),
    }
}

/// A package's text as far as it matters here.
struct Group(UnresolvedPackageGroup);

impl Group {
    fn names(&self) -> impl Iterator<Item = PackageName> + '_ {
        std::iter::once(&self.0.main).chain(&self.0.nested).map(|package| package.name.clone())
    }

    /// The packages that it refers to and does not have.
    fn uses(&self) -> Vec<PackageName> {
        let own: BTreeSet<PackageName> = self.names().collect();
        let all = std::iter::once(&self.0.main).chain(&self.0.nested);
        all.flat_map(|package| package.foreign_deps.keys().cloned()).filter(|name| !own.contains(name)).collect()
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
