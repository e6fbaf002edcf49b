//! A map with paths as keys, which finds all paths below a folder without a search through the rest of the map. A
//! tenant may have thousands of apps, and the paths of each app are looked up when the app is loaded.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// A map whose keys are sorted by path components, so that all paths below a folder are adjacent.
#[derive(Debug)]
pub(crate) struct PathMap<V>(BTreeMap<PathBuf, V>);

impl<V> Default for PathMap<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> PathMap<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, path: &Path) -> Option<&V> {
        self.0.get(path)
    }

    /// Sets the value of a path. Returns the previous value of the path.
    pub(crate) fn insert(&mut self, path: PathBuf, value: V) -> Option<V> {
        self.0.insert(path, value)
    }

    pub(crate) fn remove(&mut self, path: &Path) -> Option<V> {
        self.0.remove(path)
    }

    /// Returns whether the map contains the path or one of the folders above it.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        path.ancestors().any(|around| self.0.contains_key(around))
    }

    /// Returns the entries of `dir` itself and of all paths below it.
    pub(crate) fn below<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a V)> {
        let from = (Bound::Included(dir), Bound::Unbounded);
        self.0.range::<Path, _>(from).take_while(move |(path, _)| path.starts_with(dir))
    }

    /// Removes `dir` itself and all paths below it. Returns the removed entries.
    pub(crate) fn remove_below(&mut self, dir: &Path) -> Vec<(PathBuf, V)> {
        let paths: Vec<PathBuf> = self.below(dir).map(|(path, _)| path.clone()).collect();
        paths.iter().filter_map(|path| self.0.remove_entry(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_a_folder_are_found() {
        let paths = ["/a", "/a/b", "/a/b/c", "/a/b-c", "/a/b.c/d", "/a/bc", "/ab", "/a-b/c", "/b", "/"];
        for dir in paths.iter().chain(&["/a/b/", "/c", "/a/a"]).map(Path::new) {
            let mut map = PathMap::default();
            for path in paths {
                map.insert(PathBuf::from(path), ());
            }
            let expected = |is_below: bool| {
                let mut expected: Vec<_> =
                    paths.iter().map(PathBuf::from).filter(|path| path.starts_with(dir) == is_below).collect();
                expected.sort();
                expected
            };
            assert_eq!(map.below(dir).map(|(path, ())| path.clone()).collect::<Vec<_>>(), expected(true));
            assert_eq!(map.remove_below(dir).into_iter().map(|(path, ())| path).collect::<Vec<_>>(), expected(true));
            assert_eq!(map.below(Path::new("/")).map(|(path, ())| path.clone()).collect::<Vec<_>>(), expected(false));
        }
    }

    #[test]
    fn a_path_is_covered_by_the_folders_above_it() {
        let mut map = PathMap::default();
        map.insert(PathBuf::from("/a/b"), ());
        assert!(map.covers(Path::new("/a/b")) && map.covers(Path::new("/a/b/c/d")));
        assert!(!map.covers(Path::new("/a")) && !map.covers(Path::new("/a/bc")));
    }
}
