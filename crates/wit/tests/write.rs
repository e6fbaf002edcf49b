//! Tests of `write_deps` with a real folder.

use std::fs;

use isomer_wit::{WitPackage, needed, packages, remove_unneeded, write_deps};

#[test]
fn only_changed_files_are_written() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let deps = dir.path().join("wit/deps");
    let files: usize = packages().iter().map(|package| package.files.len()).sum();
    assert_eq!(write_deps(&deps, packages()).expect("written").len(), files);
    assert_eq!(write_deps(&deps, packages()).expect("written"), Vec::<std::path::PathBuf>::new());

    let own = deps.join("mine/mine.wit");
    fs::create_dir_all(deps.join("mine")).expect("made");
    fs::write(&own, "package my:own;\n").expect("written");
    let spoiled = deps.join("isomer-sql-0.1.0/sql.wit");
    fs::write(&spoiled, "package isomer:sql@0.0.9;\n").expect("written");
    assert_eq!(write_deps(&deps, packages()).expect("written"), std::slice::from_ref(&spoiled));
    assert!(fs::read_to_string(&spoiled).expect("read").contains("isomer:sql@0.1.0"));
    assert_eq!(fs::read_to_string(&own).expect("read"), "package my:own;\n");
    let left_over = fs::read_dir(deps.join("isomer-sql-0.1.0")).expect("read").count();
    assert_eq!(left_over, 1, "no temporary files remain");
}

#[test]
fn the_error_names_the_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let deps = dir.path().join("deps");
    fs::write(&deps, "a file where the folder should be").expect("written");
    let error = write_deps(&deps, packages()).expect_err("a file is no folder");
    assert!(error.to_string().contains("isomer-link-0.1.0"), "{error}");
}

/// Returns the names of the packages that an app needs if `text` is in its folder `wit`.
fn needs(wit: &std::path::Path, text: &str) -> Vec<String> {
    fs::create_dir_all(wit).expect("made");
    fs::write(wit.join("app.wit"), text).expect("written");
    needed(wit).unwrap_or_else(|error| panic!("{error}")).into_iter().map(WitPackage::id).collect()
}

#[test]
fn only_used_packages_are_needed_in_one_version_each() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let wit = dir.path().join("wit");
    assert_eq!(needs(&wit, "package my:app;\nworld w { export run: func(); }\n"), [""; 0]);
    let world = |line: &str| format!("package my:app;\ninterface mine {{ }}\nworld w {{ import mine; {line} }}\n");
    let keyvalue = needs(&wit, &world("import wasi:keyvalue/store@0.2.0-draft2;"));
    assert_eq!(keyvalue, ["wasi:keyvalue@0.2.0-draft2"]);
    let http = needs(&wit, &world("export wasi:http/handler@0.3.0;"));
    assert!(http.contains(&"wasi:clocks@0.3.0".to_owned()), "the packages that `wasi:http` uses: {http:?}");
    assert!(http.iter().all(|id| id.ends_with("@0.3.0")), "{http:?}");
    // The folder with the written packages must be complete WIT, because bindings are generated from it.
    write_deps(&wit.join("deps"), needed(&wit).expect("needed")).expect("written");
    let mut resolve = wit_parser::Resolve { all_features: true, ..Default::default() };
    if let Err(error) = resolve.push_dir(&wit) {
        panic!("{error:?}");
    }
}

#[test]
fn packages_of_others_count() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let wit = dir.path().join("wit");
    let sql = packages().iter().find(|package| package.name == "isomer:sql").expect("it is there");
    let uses_library = "package my:app;\nworld w { import other:library/api; }\n";
    fs::create_dir_all(wit.join("deps/library")).expect("made");
    let library = "package other:library;\ninterface api { use isomer:sql/types@0.1.0.{value}; f: func() -> value; }\n";
    fs::write(wit.join("deps/library/api.wit"), library).expect("written");
    assert_eq!(needs(&wit, uses_library), ["isomer:sql@0.1.0"], "the packages that a library uses");
    fs::create_dir_all(wit.join("deps/sql-of-others")).expect("made");
    fs::write(wit.join("deps/sql-of-others/sql.wit"), sql.files[0].text).expect("written");
    assert_eq!(needs(&wit, uses_library), [""; 0], "the package exists in a folder with another name");
}

#[test]
fn an_unknown_version_is_reported_with_the_known_ones() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("a.wit"), "package my:app;\nworld w { import wasi:keyvalue/store@9.0.0; }\n")
        .expect("written");
    let error = needed(dir.path()).expect_err("there is no such version");
    assert!(error.to_string().contains("`wasi:keyvalue@0.2.0-draft2`"), "{error}");
    assert!(error.to_string().contains("a.wit:2:32: "), "{error}");
    fs::write(dir.path().join("a.wit"), "package my:app;\nworld {").expect("written");
    assert!(needed(dir.path()).expect_err("no WIT").to_string().contains("a.wit"));
}

#[test]
fn unknown_names_are_reported_with_their_place() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (line, said, hint) in [
        (
            "import isomer:sql/stor@0.1.0;",
            "a.wit:3:21: `isomer:sql@0.1.0` has no interface `stor`",
            "did you mean `store`?",
        ),
        (
            "import isomer:sql/sqlite@0.1.0;",
            "a.wit:3:21: `isomer:sql@0.1.0` has no interface `sqlite`",
            "`isomer:sql@0.1.0` has `types` or `store`",
        ),
        (
            "import isomer:sqlx/store@0.1.0;",
            "a.wit:3:22: there is no package `isomer:sqlx@0.1.0`",
            "did you mean `isomer:sql`?",
        ),
        ("import wasi:nn/graph@0.1.0;", "there is no package `wasi:nn@0.1.0`", "`isomer wit --list`"),
        ("include isomer:sql/imprts@0.1.0;", "`isomer:sql@0.1.0` has no world `imprts`", "did you mean `imports`?"),
    ] {
        let text = format!("package my:app;\nworld w {{\n  {line}\n}}\n");
        fs::write(dir.path().join("a.wit"), text).expect("written");
        let error = needed(dir.path()).expect_err(line);
        assert!(error.to_string().contains(said), "{line}: {error}");
        assert!(error.hint().is_some_and(|it| it.contains(hint)), "{line}: {:?}", error.hint());
    }
    // A package in a namespace other than the platform's must be provided by the app.
    let text = "package my:app;\nworld w { import acme:sql/store; include wasi:config/imports@0.2.0-rc.1; }\n";
    fs::write(dir.path().join("a.wit"), text).expect("written");
    let found: Vec<String> = needed(dir.path()).expect("needed").into_iter().map(WitPackage::id).collect();
    assert_eq!(found, ["wasi:config@0.2.0-rc.1"]);
}

#[test]
fn unneeded_packages_are_removed_unless_they_were_changed() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let deps = dir.path().join("deps");
    write_deps(&deps, packages()).expect("written");
    fs::write(deps.join("isomer-secrets-0.1.0/mine.wit"), "package isomer:secrets@0.1.0;\n").expect("written");
    let kept: Vec<&WitPackage> = packages().iter().filter(|package| package.name == "isomer:sql").collect();
    let removed = remove_unneeded(&deps, &kept).expect("removed");
    assert_eq!(removed.len(), packages().len() - 2);
    let mut left: Vec<_> = fs::read_dir(&deps).expect("read").flatten().map(|entry| entry.file_name()).collect();
    left.sort();
    assert_eq!(left, ["isomer-secrets-0.1.0", "isomer-sql-0.1.0"]);
}
