//! Checks that the packages parse, are complete, and match the interfaces that the engine implements.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use isomer_wit::{WitPackage, packages, write_deps};

#[test]
fn each_package_parses_with_only_the_others_as_dependencies() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let wit = dir.path().join("wit");
    write_deps(&wit.join("deps"), packages()).expect("the packages are written");
    for package in packages() {
        let root = format!("package test:test;\n\nworld test {{\n{}}}\n", interfaces(package));
        fs::write(wit.join("test.wit"), root).expect("the world is written");
        let mut resolve = wit_parser::Resolve { all_features: true, ..Default::default() };
        if let Err(error) = resolve.push_dir(&wit) {
            panic!("{}: {error:?}", package.id());
        }
        let ids: Vec<String> = resolve.package_names.keys().map(ToString::to_string).collect();
        assert!(ids.contains(&package.id()), "{} is not among {ids:?}", package.id());
    }
}

/// Returns an `import` line for each interface that the package declares.
fn interfaces(package: &WitPackage) -> String {
    let lines = package.files.iter().flat_map(|file| file.text.lines());
    let names = lines.filter_map(|line| line.strip_prefix("interface ")?.split([' ', '{']).next());
    let imports: String =
        names.map(|name| format!("  import {}/{name}@{};\n", package.name, package.version)).collect();
    assert!(!imports.is_empty(), "{} has interfaces", package.id());
    imports
}

#[test]
fn the_embedded_files_are_all_files_of_the_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
    let mut on_disk = Vec::new();
    for dir in fs::read_dir(&root).expect("the folder can be read").flatten() {
        let Ok(files) = fs::read_dir(dir.path()) else { continue };
        on_disk.extend(files.flatten().map(|file| fs::read_to_string(file.path()).expect("a text file")));
    }
    let mut embedded: Vec<&str> = packages().iter().flat_map(|package| package.files).map(|file| file.text).collect();
    on_disk.sort();
    embedded.sort_unstable();
    assert!(embedded == on_disk, "crates/wit/src/packages.rs does not list the files of {}", root.display());
}

/// Checks that the packages have the same versions and text as the WIT in the engine's crates, because the engine
/// implements that WIT.
#[test]
fn the_wasi_packages_are_those_of_the_engine() {
    let sources = registry_sources(&["wasmtime-wasi", "wasmtime-wasi-http"]);
    let mut theirs = BTreeMap::new();
    for (krate, folder) in [
        ("wasmtime-wasi", "src/p2/wit/deps"),
        ("wasmtime-wasi", "src/p3/wit/deps"),
        ("wasmtime-wasi-http", "wit/deps"),
        ("wasmtime-wasi-http", "src/p3/wit/deps"),
    ] {
        for file in fs::read_dir(sources[krate].join(folder)).expect("the crate ships its WIT").flatten() {
            let text = fs::read_to_string(file.path()).expect("a text file");
            let id = text.lines().find_map(|line| line.strip_prefix("package ")?.strip_suffix(';'));
            theirs.insert(id.expect("a package line").to_owned(), text);
        }
    }
    let ours: BTreeMap<String, String> = packages()
        .iter()
        .filter(|package| !package.name.starts_with("isomer:") && !package.version.contains('-'))
        .map(|package| (package.id(), package.files.iter().map(|file| file.text).collect()))
        .collect();
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (id, text) in &ours {
        assert!(*text == theirs[id], "{id} has another text than the engine's crate");
    }
}

/// Returns the folders in Cargo's registry that contain the sources of the dependencies `names`.
fn registry_sources(names: &[&str]) -> BTreeMap<String, PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo gives JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let mut sources = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if names.contains(&name) {
            let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
            let previous = sources.insert(name.to_owned(), manifest.parent().expect("a folder").to_owned());
            assert_eq!(previous, None, "two versions of {name}");
        }
    }
    sources
}
