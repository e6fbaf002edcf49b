//! Checks that the templates of `isomer new` build with published crates only, and run.

use std::path::Path;

use crate::support::{TemplatesHome, Workspace, assert_run};

#[test]
fn new_prints_the_next_steps() {
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

/// Makes the changes that the template's README describes for using a store.
fn use_a_store(app: &Path, template: &str) {
    let edit = |file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(app.join(file)).unwrap();
        assert!(text.contains(from), "{template}: {file} has no {from}");
        std::fs::write(app.join(file), text.replacen(from, to, 1)).unwrap();
    };
    const IMPORT: &str = "    import wasi:keyvalue/store@0.2.0-draft2;\n";
    const CALL: &str = "        let _ = store::open(\"notes\").expect(\"it is granted\");\n";
    if template == "two" {
        edit("wit/greeter.wit", "world greeter {\n", &format!("world greeter {{\n{IMPORT}"));
        edit("greeter/src/lib.rs", "\nstruct Greeter;\n", "\nuse wasi::keyvalue::store;\n\nstruct Greeter;\n");
        let line = "        if name.is_empty() {\n";
        edit("greeter/src/lib.rs", line, &format!("{CALL}{line}"));
        edit("isomer.toml", "GREETING = \"Hello\" }", "GREETING = \"Hello\" }, kv = [\"notes\"]");
        return;
    }
    let readme = std::fs::read_to_string(app.join("README.md")).unwrap();
    let block = |language: &str| {
        let text = readme.split_once(&format!("```{language}\n")).unwrap().1.split_once("   ```").unwrap().0;
        text.lines().map(|line| line.trim_start_matches("   ").to_owned() + "\n").collect::<String>()
    };
    std::fs::create_dir_all(app.join("wit")).unwrap();
    std::fs::write(app.join("wit/app.wit"), block("wit")).unwrap();
    let line = "wasip3.workspace = true\n";
    edit("hello/Cargo.toml", line, &format!("{line}wit-bindgen.workspace = true\n"));
    edit("hello/src/lib.rs", "\nstruct Hello;\n", &format!("\n{}\nstruct Hello;\n", block("rust")));
    let line = "        text(200,";
    edit("hello/src/lib.rs", line, &format!("{CALL}{line}"));
    edit("isomer.toml", "cargo = \"hello\"\n", "cargo = \"hello\"\ngrants = { kv = [\"notes\"] }\n");
}

/// All templates are in one test and one folder, so that Cargo compiles the dependencies only once, even in several
/// runs.
#[test]
fn every_template_builds_and_responds() {
    let home = TemplatesHome::lock();
    let workspace = Workspace::new();
    for (template, answer) in [("http", "Hello, ann!\n"), ("two", "Hello, ann!\n")] {
        let app = home.new_app("app");
        let made = workspace.command(&["new", "app", "--template", template]).current_dir(&home.path).status().unwrap();
        assert!(made.success(), "{template}");
        let mut build = workspace.command(&["build"]);
        let built = build.current_dir(&app).env("CARGO_TARGET_DIR", home.target()).output().unwrap();
        assert!(built.status.success(), "{template}: {}", String::from_utf8_lossy(&built.stderr));
        let mut test = workspace.command(&["test"]);
        let tested = test.current_dir(&app).env("CARGO_TARGET_DIR", home.target()).output().unwrap();
        let printed = String::from_utf8_lossy(&tested.stdout);
        assert!(tested.status.success(), "{template}: {printed}{}", String::from_utf8_lossy(&tested.stderr));
        let server = workspace.serve(&["run", app.to_str().unwrap()]);
        assert_eq!(server.get("/ann"), (200, answer.to_owned()), "{template}");
        drop(server);
        use_a_store(&app, template);
        let mut build = workspace.command(&["build"]);
        let failed = build.current_dir(&app).env("CARGO_TARGET_DIR", home.target()).output().unwrap();
        let printed = String::from_utf8_lossy(&failed.stderr);
        assert!(printed.contains("such as `wasi:keyvalue@0.2.0-draft2`, into wit/deps: isomer wit\n"), "{printed}");
        let wit = workspace.run(&["wit", app.to_str().unwrap()]);
        assert!(wit.contains("wasi-keyvalue-0.2.0-draft2"), "{wit}");
        let mut build = workspace.command(&["build"]);
        let built = build.current_dir(&app).env("CARGO_TARGET_DIR", home.target()).output().unwrap();
        assert!(built.status.success(), "{template}: {}", String::from_utf8_lossy(&built.stderr));
        let server = workspace.serve(&["run", app.to_str().unwrap()]);
        assert_eq!(server.get("/ann"), (200, answer.to_owned()), "{template}");
    }
}
