//! Checks that the code in the guides `add-a-component.md`, `components-in-rust.md` and `telemetry-of-components.md`
//! builds, that the resulting apps respond, and that Prometheus accepts its configuration in the documentation.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{TemplatesHome, Workspace};

fn guide(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Returns the code blocks of a page in one language. The indentation of blocks in a list is removed.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in page.lines() {
        let text = line.strip_prefix("   ").unwrap_or(line);
        match &mut block {
            None if text == format!("```{language}") => block = Some(String::new()),
            None => {}
            Some(_) if text == "```" => blocks.extend(block.take()),
            Some(block) => {
                block.push_str(text);
                block.push('\n');
            }
        }
    }
    blocks
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} has no {from}", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

fn append(file: &Path, more: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, format!("{text}\n{more}")).unwrap();
}

/// Makes the changes of both guides in an app that `isomer new hello` created.
fn follow_guides(app: &Path) {
    let (adding, writing) = (guide("add-a-component.md"), guide("components-in-rust.md"));
    std::fs::create_dir_all(app.join("wit")).unwrap();
    std::fs::create_dir_all(app.join("greeter/src")).unwrap();
    std::fs::create_dir_all(app.join("migrations")).unwrap();

    let imports: String = blocks(&writing, "wit")[0]
        .lines()
        .filter(|line| line.trim_start().starts_with("import "))
        .map(|line| format!("{line}\n"))
        .collect();
    let world = blocks(&adding, "wit")[0].replace("world hello {\n", &format!("world hello {{\n{imports}"));
    std::fs::write(app.join("wit/app.wit"), world).unwrap();

    let [package, component] = &blocks(&adding, "toml")[..] else { panic!("a package and a component") };
    std::fs::write(app.join("greeter/Cargo.toml"), package).unwrap();
    edit(&app.join("Cargo.toml"), "members = [\"hello\"]", "members = [\"greeter\", \"hello\"]");
    let dependency = "wasip3.workspace = true\n";
    edit(&app.join("hello/Cargo.toml"), dependency, &format!("{dependency}wit-bindgen.workspace = true\n"));

    let [greeter, import] = &blocks(&adding, "rust")[..] else { panic!("the code of `greeter` and an import") };
    std::fs::write(app.join("greeter/src/lib.rs"), greeter).unwrap();
    let hello = app.join("hello/src/lib.rs");
    edit(
        &hello,
        "text(200, format!(\"Hello, {name}!\\n\"))",
        "let _ = (visit(name), order(name, &[name]).await, greeting(), payment_key(), rates().await);\n        \
         text(200, greet(name) + \"\\n\")",
    );
    append(&hello, &format!("{import}{}", blocks(&writing, "rust").concat()));

    // The guide shows the grants one by one, each under the same table header. A manifest may contain this header only
    // once.
    let mut grants = String::from("[components.hello.grants]\n");
    let mut tables = String::new();
    for block in blocks(&writing, "toml") {
        let (_, rest) = block.split_once("[components.hello.grants]\n").unwrap();
        let (own, others) = rest.split_once("\n[").unwrap_or((rest, ""));
        grants.push_str(own);
        if !others.is_empty() {
            tables.push_str(&format!("[{others}\n"));
        }
    }
    append(&app.join("isomer.toml"), &format!("{component}\n{grants}\n{tables}"));
    std::fs::write(app.join("migrations/001.sql"), &blocks(&writing, "sql")[0]).unwrap();
}

#[test]
fn the_code_of_the_guides_builds_and_responds() {
    let home = TemplatesHome::lock();
    let workspace = Workspace::new();
    let app = home.new_app("hello");
    let run = |arguments: &[&str], folder: &Path| -> String {
        let mut command = workspace.command(arguments);
        command.current_dir(folder).env("CARGO_TARGET_DIR", home.target());
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).into_owned()
    };
    run(&["new", "hello"], &home.path);
    follow_guides(&app);
    run(&["wit"], &app);
    run(&["build"], &app);
    let plan = run(&["plan"], &app);
    let seam = &blocks(&guide("add-a-component.md"), "text")[0];
    assert!(plan.contains(seam.trim_end()), "the guide shows\n{seam}\nand the plan is\n{plan}");
    let server = workspace.serve_with(&["run", app.to_str().unwrap()], &[("PAYMENT_KEY", "for tests")]);
    assert_eq!(server.get("/ann"), (200, "Good day, ann!\n".to_owned()));
}

/// `promtool` is part of Debian's package `prometheus`, which `cargo xtask setup` installs. Without it, nothing is
/// checked.
#[test]
fn promtool_accepts_the_configurations_for_prometheus() {
    let workspace = Workspace::new();
    for page in ["send-telemetry.md", "../reference/admin-api.md"] {
        let text = guide(page);
        let mut blocks = text.split("```yaml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
        let block = blocks.find(|block| block.contains("scrape_configs:")).expect("a configuration");
        workspace.write("prometheus.yml", block);
        // The file with the token exists only where the configuration is used.
        let mut command = std::process::Command::new("promtool");
        let checked = command.args(["check", "config", "--syntax-only"]).arg(workspace.path("prometheus.yml")).output();
        let Ok(checked) = checked else { return };
        let text = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        assert!(checked.status.success() && text.contains("SUCCESS"), "{page}: {text}");
    }
}

#[test]
fn the_guide_about_telemetry_shows_a_record_and_a_span() {
    let home = TemplatesHome::lock();
    let workspace = Workspace::new();
    let app = home.new_app("hello");
    let run = |arguments: &[&str], folder: &Path| -> String {
        let mut command = workspace.command(arguments);
        command.current_dir(folder).env("CARGO_TARGET_DIR", home.target());
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).into_owned()
    };
    run(&["new", "hello"], &home.path);
    let page = guide("telemetry-of-components.md");
    std::fs::create_dir_all(app.join("wit")).unwrap();
    std::fs::write(app.join("wit/app.wit"), &blocks(&page, "wit")[0]).unwrap();
    let dependency = "wasip3.workspace = true\n";
    edit(&app.join("hello/Cargo.toml"), dependency, &format!("{dependency}wit-bindgen.workspace = true\n"));
    let source = app.join("hello/src/lib.rs");
    edit(&source, "text(200, format!(\"Hello, {name}!\\n\"))", "text(200, greeting(name))");
    append(&source, &blocks(&page, "rust").concat());
    run(&["wit"], &app);
    run(&["build"], &app);
    let server = workspace.serve(&["run", app.to_str().unwrap()]);
    let name = "a-name-of-more-than-20-bytes";
    assert_eq!(server.get(&format!("/{name}")), (200, format!("Hello, {name}!\n")));
    let logs = run(&["logs", "--level", "warning"], &app);
    assert!(logs.contains(&format!("| warning the name `{name}` is long context=greetings")), "{logs}");
    let request = logs.split(' ').nth(3).unwrap();
    let trace = run(&["trace", request, "--attributes"], &app);
    assert!(trace.contains("choose a greeting") && trace.contains(name), "{trace}");
}
