//! The graph of the modules of one crate and of their references to each other, and the cycles in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::source::{Mention, Source};

/// The path of a module below the crate's root, for example `["engine", "code"]`. The path of the root is empty.
type ModulePath = Vec<String>;

/// The modules of one crate root, which is a `lib.rs` or a `main.rs`.
pub(super) struct Graph {
    modules: BTreeMap<ModulePath, Module>,
}

struct Module {
    file: PathBuf,
    source: Source,
}

/// A cycle of references between modules of one folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cycle {
    /// The modules, as paths below the crate's root, for example `engine::code`.
    pub modules: Vec<String>,
    /// The references among these modules. If a module refers to another one several times, only the first reference is
    /// listed.
    pub references: Vec<Reference>,
}

/// A place where a module refers to another module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub from: String,
    pub to: String,
    pub file: PathBuf,
    pub line: usize,
    pub path: String,
}

/// The maximum number of imports that are followed to resolve a path, because the imports may form a cycle.
const STEPS_MAX: usize = 16;

impl Graph {
    /// Reads the file `root` of a crate and the files of all its modules.
    pub(super) fn read(root: &Path) -> Result<Self> {
        Self::read_with(root, &|path| std::fs::read_to_string(path).ok())
    }

    fn read_with(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Self> {
        let text = read(root).with_context(|| format!("cannot read `{}`", root.display()))?;
        let mut modules = BTreeMap::new();
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        let mut open = vec![(ModulePath::new(), root.to_owned(), folder, text)];
        while let Some((path, file, folder, text)) = open.pop() {
            let source = Source::parse(&text);
            for child in &source.children {
                let candidates = [folder.join(format!("{child}.rs")), folder.join(child).join("mod.rs")];
                let found = candidates.into_iter().find_map(|file| read(&file).map(|text| (file, text)));
                let (file, text) =
                    found.with_context(|| format!("`{}`: module `{child}` has no file", file.display()))?;
                open.push(([path.as_slice(), std::slice::from_ref(child)].concat(), file, folder.join(child), text));
            }
            modules.insert(path, Module { file, source });
        }
        Ok(Self { modules })
    }

    /// Returns the cycles among the modules of each folder.
    pub(super) fn cycles(&self) -> Vec<Cycle> {
        let references = self.references();
        let mut folders: BTreeMap<&[String], BTreeMap<(&str, &str), &Reference>> = BTreeMap::new();
        for ((folder, from, to), reference) in &references {
            folders.entry(folder).or_default().insert((from, to), reference);
        }
        folders.iter().flat_map(|(folder, edges)| cycles_of(folder, edges)).collect()
    }

    /// Returns the first reference from each module to each of the other modules of the same folder. The key consists
    /// of the folder, the referring module, and the module that it refers to.
    fn references(&self) -> BTreeMap<(ModulePath, String, String), Reference> {
        let mut references = BTreeMap::new();
        for (from, module) in &self.modules {
            for Mention { path, line } in self.mentions(from, module) {
                let Some(to) = self.resolve(from, &path, 0) else { continue };
                let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                // A module and all modules below it are treated as one module, by the rule in `mod.rs`.
                let (Some(a), Some(b)) = (from.get(common), to.get(common)) else { continue };
                let folder = from[..common].to_vec();
                let name = |module: &str| [folder.as_slice(), &[module.to_owned()]].concat().join("::");
                let reference =
                    Reference { from: name(a), to: name(b), file: module.file.clone(), line, path: path.join("::") };
                references.entry((folder, a.clone(), b.clone())).or_insert(reference);
            }
        }
        references
    }

    /// Returns the paths that a module mentions. They include the paths of the names that it uses from glob imports.
    fn mentions(&self, from: &[String], module: &Module) -> Vec<Mention> {
        let mut mentions = module.source.mentions.clone();
        for glob in &module.source.globs {
            mentions.push(glob.clone());
            let target = self.resolve(from, &glob.path, 0).and_then(|path| self.modules.get(&path));
            for (name, _) in target.iter().flat_map(|target| &target.source.imports) {
                if module.source.idents.contains(name) {
                    let path = [glob.path.as_slice(), std::slice::from_ref(name)].concat();
                    mentions.push(Mention { path, line: glob.line });
                }
            }
        }
        mentions
    }

    /// Resolves `path`, which the module `from` mentions, to the module that defines the item. Returns `None` if the
    /// item belongs to another crate.
    fn resolve(&self, from: &[String], path: &[String], steps: usize) -> Option<ModulePath> {
        if steps > STEPS_MAX {
            return None;
        }
        let mut at = from.to_vec();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => {
                at.clear();
                rest = &rest[1..];
            }
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            // The path begins with a child module.
            Some(first) if self.modules.get(&at)?.source.children.iter().any(|child| child == first) => {}
            _ => return None,
        }
        while let Some(segment) = rest.first() {
            let module = self.modules.get(&at)?;
            if module.source.children.contains(segment) {
                at.push(segment.clone());
                rest = &rest[1..];
                continue;
            }
            if module.source.defines.contains(segment) {
                break;
            }
            if let Some((_, target)) = module.source.imports.iter().find(|(name, _)| name == segment) {
                let target = [target.as_slice(), &rest[1..]].concat();
                return self.resolve(&at, &target, steps + 1);
            }
            let globs = module.source.globs.iter();
            let mut through = globs.filter_map(|glob| {
                let target = self.resolve(&at, &glob.path, steps + 1)?;
                let source = &self.modules.get(&target)?.source;
                let has = source.defines.contains(segment) || source.imports.iter().any(|(name, _)| name == segment);
                has.then(|| [glob.path.as_slice(), rest].concat())
            });
            if let Some(target) = through.next() {
                return self.resolve(&at, &target, steps + 1);
            }
            break;
        }
        Some(at)
    }
}

/// Returns the cycles among the modules of one folder.
fn cycles_of(folder: &[String], edges: &BTreeMap<(&str, &str), &Reference>) -> Vec<Cycle> {
    let names: BTreeSet<&str> = edges.keys().flat_map(|(from, to)| [*from, *to]).collect();
    let reachable: BTreeMap<&str, BTreeSet<&str>> =
        names.iter().map(|name| (*name, reachable_from(name, edges))).collect();
    let mut left = names;
    let mut cycles = Vec::new();
    while let Some(first) = left.pop_first() {
        if !reachable[first].contains(first) {
            continue;
        }
        let members: BTreeSet<&str> =
            reachable[first].iter().copied().filter(|other| reachable[other].contains(first)).collect();
        left.retain(|name| !members.contains(name));
        let is_inside = |(from, to): &(&str, &str)| members.contains(from) && members.contains(to);
        let references = edges.iter().filter(|(edge, _)| is_inside(edge)).map(|(_, reference)| (*reference).clone());
        let modules = members.iter().map(|name| [folder, &[(*name).to_owned()]].concat().join("::")).collect();
        cycles.push(Cycle { modules, references: references.collect() });
    }
    cycles
}

fn reachable_from<'a>(start: &str, edges: &BTreeMap<(&'a str, &'a str), &Reference>) -> BTreeSet<&'a str> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        for (from, to) in edges.keys() {
            if *from == name && found.insert(to) {
                open.push(to);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let read =
            |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned());
        let graph = Graph::read_with(Path::new("lib.rs"), &read).expect("all files exist");
        graph.cycles().into_iter().map(|cycle| cycle.modules).collect()
    }

    #[test]
    fn two_files_that_use_each_other_are_a_cycle() {
        let found =
            cycles(&[("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", "fn b(a: super::a::A) {}")]);
        assert_eq!(found, [["a", "b"]]);
        assert!(cycles(&[("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", "")]).is_empty());
    }

    #[test]
    fn a_module_may_use_its_parent_and_its_children() {
        let found = cycles(&[
            ("lib.rs", "mod a; pub struct Root;"),
            ("a/mod.rs", "mod b; use b::B; pub struct A; use crate::Root;"),
            ("a/b.rs", "use super::A; use crate::Root;"),
        ]);
        assert_eq!(found, Vec::<Vec<String>>::new());
    }

    #[test]
    fn an_item_that_a_parent_reexports_belongs_to_the_module_that_defines_it() {
        let found = cycles(&[
            ("lib.rs", "mod a; mod b; pub use a::A; pub use b::*;"),
            ("a.rs", "use crate::B; pub struct A;"),
            ("b.rs", "use crate::A; pub struct B;"),
        ]);
        assert_eq!(found, [["a", "b"]]);
    }

    #[test]
    fn a_folder_counts_as_one_module_for_modules_outside_of_it() {
        let found = cycles(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod c; mod d;"),
            ("a/c.rs", "use super::d; use crate::b::B;"),
            ("a/d.rs", ""),
            ("b.rs", "use crate::a::d::D;"),
        ]);
        assert_eq!(found, [["a", "b"]]);
        let found = cycles(&[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod c; mod d;"),
            ("a/c.rs", "use super::d::D;"),
            ("a/d.rs", "use crate::a::c::C;"),
        ]);
        assert_eq!(found, [["a::c", "a::d"]]);
    }
}
