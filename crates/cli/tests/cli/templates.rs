//! What `isomer new` makes is built from published crates alone, and runs.

use std::path::Path;

use crate::support::{Workspace, assert_run, templates_alone};

#[test]
fn new_says_what_comes_next() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("shop")).unwrap();
    assert_run!(workspace, workspace.run(&["new", "shop"]));
    let mut made: Vec<_> =
        std::fs::read_dir(workspace.path("shop")).unwrap().flatten().map(|it| it.file_name()).collect();
    made.sort();
    assert_eq!(made, [".gitignore", "Cargo.toml", "README.md", "hello", "isomer.toml", "tests"]);
    let left: Vec<_> = std::fs::read_dir(workspace.path(".")).unwrap().flatten().map(|it| it.file_name()).collect();
    assert_eq!(left, ["shop"]);
}

/// One test, and one place for all apps, so that Cargo shares what it has compiled, also from run to run.
#[test]
fn every_template_is_built_and_answers() {
    let _alone = templates_alone();
    let workspace = Workspace::new();
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
    let app = home.join("app");
    std::fs::create_dir_all(&home).unwrap();
    for (template, answer) in [("http", "Hello, ann!\n"), ("two", "Hello, ann!\n")] {
        if app.exists() {
            std::fs::remove_dir_all(&app).unwrap();
        }
        let made = workspace.command(&["new", "app", "--template", template]).current_dir(&home).status().unwrap();
        assert!(made.success(), "{template}");
        let mut build = workspace.command(&["build"]);
        let built = build.current_dir(&app).env("CARGO_TARGET_DIR", home.join("target")).output().unwrap();
        assert!(built.status.success(), "{template}: {}", String::from_utf8_lossy(&built.stderr));
        let mut test = workspace.command(&["test"]);
        let tested = test.current_dir(&app).env("CARGO_TARGET_DIR", home.join("target")).output().unwrap();
        let said = String::from_utf8_lossy(&tested.stdout);
        assert!(tested.status.success(), "{template}: {said}{}", String::from_utf8_lossy(&tested.stderr));
        let server = workspace.serve(&["run", app.to_str().unwrap()]);
        assert_eq!(server.get("/ann"), (200, answer.to_owned()), "{template}");
    }
}
