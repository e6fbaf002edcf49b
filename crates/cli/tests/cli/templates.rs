//! What `isomer new` makes is built from published crates alone, and runs.

use crate::support::{Workspace, assert_run, cargo_target_dir};

#[test]
fn new_says_what_comes_next() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("shop")).unwrap();
    assert_run!(workspace, workspace.run(&["new", "shop"]));
    let mut made: Vec<_> =
        std::fs::read_dir(workspace.path("shop")).unwrap().flatten().map(|it| it.file_name()).collect();
    made.sort();
    assert_eq!(made, [".gitignore", "Cargo.toml", "README.md", "hello", "isomer.toml", "wit"]);
    let left: Vec<_> = std::fs::read_dir(workspace.path(".")).unwrap().flatten().map(|it| it.file_name()).collect();
    assert_eq!(left, ["shop"]);
}

/// One test, so that Cargo builds one app after the other and shares what it has compiled.
#[test]
fn every_template_is_built_and_answers() {
    let workspace = Workspace::new();
    for (template, path, answer) in [("http", "/ann", "Hello, ann!\n"), ("two", "/ann", "Hello, ann!\n")] {
        let made = workspace.run(&["new", &format!("{template}-app"), "--template", template]);
        assert!(made.starts_with("exit code: 0\n"), "{made}");
        let app = workspace.path(&format!("{template}-app"));
        let mut build = workspace.command(&["build"]);
        let built = build.current_dir(&app).env("CARGO_TARGET_DIR", cargo_target_dir()).output().unwrap();
        assert!(built.status.success(), "{template}: {}", String::from_utf8_lossy(&built.stderr));
        let server = workspace.serve(&["run", &format!("{template}-app")]);
        assert_eq!(server.get(path), (200, answer.to_owned()), "{template}");
    }
}
