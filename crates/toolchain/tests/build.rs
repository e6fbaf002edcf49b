//! Tests of building apps in temporary folders, with the real toolchain, and without packages from a registry.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use isomer_diagnostics::SourceFile;
use isomer_manifest::App;
use isomer_toolchain::{
    BuildError, BuildProfile, BuildProgress, BuiltComponent, WatchFolders, build_app, build_app_as, cheapest_profile,
    clean, watch_paths,
};

/// An app in a temporary folder.
struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let fixture = Self { dir: tempfile::tempdir().expect("a temporary folder") };
        for (path, text) in files {
            fixture.write(path, text);
        }
        fixture
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().canonicalize().expect("the folder exists")
    }

    /// Writes a file with an old modification time, so that no build treats the file as edited during the build.
    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        // The time depends on the length of the text, so an edit is noticed even if it follows within one tick of the
        // clock.
        let age = Duration::from_secs(3600 + text.len() as u64);
        fs::write(&path, text).expect("written");
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now() - age))
            .expect("the time can be set");
    }

    /// Changes a source file as an editor does: its modification time becomes the current time, because Cargo notices a
    /// change only if the file is newer than the last build. Then waits for one tick of the clock, so that the next
    /// build does not treat the file as edited during the build.
    fn edit(&self, path: &str, text: &str) {
        fs::write(self.path().join(path), text).expect("written");
        let edited = SystemTime::now();
        while edited.elapsed().is_ok_and(|elapsed| elapsed < Duration::from_millis(20)) {
            std::thread::yield_now();
        }
    }

    fn app(&self) -> App {
        let text = fs::read_to_string(self.path().join("isomer.toml")).expect("a manifest");
        let parsed = isomer_manifest::parse(&SourceFile::new("isomer.toml", text));
        parsed.unwrap_or_else(|diagnostics| panic!("{diagnostics:?}")).app
    }

    /// Builds the app. Returns the result and the reported steps.
    fn build(&self) -> (Result<Vec<BuiltComponent>, BuildError>, Vec<String>) {
        let mut steps = Vec::new();
        let result = build_app(&self.app(), &self.path(), &mut |progress| match progress {
            BuildProgress::Step(step) => steps.push(step.to_owned()),
            BuildProgress::Output(_) => {}
        });
        (result, steps)
    }

    /// Returns the folders that a development server watches.
    fn watched(&self) -> WatchFolders {
        watch_paths(&self.app(), &self.path(), BuildProfile::Release).folders()
    }

    /// Counts the runs of a command that writes a line to the file `journal` in each run.
    fn runs(&self, journal: &str) -> usize {
        fs::read_to_string(self.path().join(journal)).expect("it ran").lines().count()
    }

    /// Builds the app. Returns the names of the components that changed, and the number of reported steps.
    fn changed(&self) -> (Vec<String>, usize) {
        let (built, steps) = self.build();
        let built = built.expect("it builds");
        (built.iter().filter(|built| built.changed).map(|built| built.component.to_string()).collect(), steps.len())
    }
}

const WORKSPACE: &str = "[workspace]\nresolver = \"3\"\nmembers = [\"one\", \"two\", \"shared\"]\n\
                         [profile.release]\nopt-level = 1\ndebug = false\npanic = \"abort\"\n";
const MANIFEST: &str = "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n\
                        [components.one]\ncargo = \"one\"\n[components.two]\ncargo = \"two\"\n";

fn package(name: &str, rest: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{rest}")
}

#[test]
fn a_workspace_is_built_once_and_again_only_after_changes() {
    let dependency = "[dependencies]\nfixture-shared = { path = \"../shared\" }\n";
    let app = Fixture::new(&[
        ("isomer.toml", MANIFEST),
        ("Cargo.toml", WORKSPACE),
        ("one/Cargo.toml", &package("fixture-one", "")),
        ("one/src/main.rs", "fn main() { println!(\"one\"); }\n"),
        ("two/Cargo.toml", &package("fixture-two", dependency)),
        ("two/src/main.rs", "fn main() { println!(\"{}\", fixture_shared::text()); }\n"),
        ("shared/Cargo.toml", &package("fixture-shared", "")),
        ("shared/src/lib.rs", "pub fn text() -> &'static str { \"two\" }\n"),
    ]);
    let (built, steps) = app.build();
    let built = built.expect("it builds");
    assert_eq!(built.len(), 2);
    assert_eq!(steps.len(), 1, "Cargo runs once: {steps:?}");
    for built in &built {
        assert!(built.changed);
        assert_eq!(fs::read(&built.wasm_path).expect("the file is there")[..8], *b"\0asm\x0d\0\x01\0");
    }

    assert_eq!(app.changed(), (vec![], 0), "nothing is run when nothing has changed");

    app.edit("shared/src/lib.rs", "pub fn text() -> &'static str { \"another text\" }\n");
    assert_eq!(app.changed(), (vec!["two".to_owned()], 1));
    assert_eq!(app.changed(), (vec![], 0));

    fs::remove_file(&built[0].wasm_path).expect("removed");
    assert_eq!(app.changed(), (vec![], 1), "a lost file is made again, with the same bytes");

    let watched = app.watched();
    assert!(watched.counts(&app.path().join("isomer.toml"), false));
    assert!(watched.counts(&app.path().join("one/src/new.rs"), false));
    assert!(watched.counts(&app.path().join("shared/src/lib.rs"), false), "a dependency outside of the packages");
    assert!(!watched.counts(&app.path().join(".isomer/build/one.wasm"), false));
    assert!(!watched.counts(&app.path().join("one/src/main.rs~"), false));
}

/// The features of a dependency depend on all packages that Cargo builds in one run. This test checks that a change to
/// one component rebuilds neither another component nor the dependencies of another component.
#[test]
fn a_change_of_one_component_does_not_change_features_of_dependencies() {
    let main = "fn main() { println!(\"{}\", fixture_shared::text()); }\n";
    let plain = "[dependencies]\nfixture-shared = { path = \"../shared\" }\n";
    let with_feature = "[dependencies]\nfixture-shared = { path = \"../shared\", features = [\"loud\"] }\n";
    let app = Fixture::new(&[
        ("isomer.toml", MANIFEST),
        ("Cargo.toml", WORKSPACE),
        ("one/Cargo.toml", &package("fixture-one", with_feature)),
        ("one/src/main.rs", main),
        ("two/Cargo.toml", &package("fixture-two", plain)),
        ("two/src/main.rs", main),
        ("shared/Cargo.toml", &package("fixture-shared", "[features]\nloud = []\n")),
        (
            "shared/src/lib.rs",
            "pub fn text() -> &'static str { if cfg!(feature = \"loud\") { \"HI\" } else { \"hi\" } }\n",
        ),
    ]);
    app.changed();
    app.edit("two/src/main.rs", "fn main() { println!(\"two: {}\", fixture_shared::text()); }\n");
    let mut compiled = Vec::new();
    let built = build_app(&app.app(), &app.path(), &mut |progress| match progress {
        BuildProgress::Output(line) if line.contains("Compiling") => compiled.push(line.trim().to_owned()),
        _ => {}
    });
    let built = built.expect("it builds");
    assert!(compiled.len() == 1 && compiled[0].contains("fixture-two"), "{compiled:?}");
    assert!(
        built.iter().map(|built| (built.changed, built.took.is_some())).eq([(false, false), (true, true)]),
        "{built:?}"
    );
}

#[test]
fn the_compilers_output_is_in_the_error() {
    let app = Fixture::new(&[
        ("isomer.toml", "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n[components.broken]\ncargo = \".\"\n"),
        ("Cargo.toml", &package("fixture-broken", "[workspace]\n")),
        ("src/main.rs", "fn main() { this is not Rust }\n"),
    ]);
    let error = app.build().0.expect_err("it does not compile");
    assert_eq!(error.to_string(), "cargo could not build `broken`");
    assert!(error.output().is_some_and(|output| output.contains("src/main.rs:1")), "{error:?}");
}

#[test]
fn a_package_that_makes_no_component_is_named() {
    let app = Fixture::new(&[
        ("isomer.toml", "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n[components.plain]\ncargo = \".\"\n"),
        ("Cargo.toml", &package("fixture-plain", "[workspace]\n")),
        ("src/lib.rs", "\n"),
    ]);
    let error = app.build().0.expect_err("a plain library is no component");
    assert_eq!(error.to_string(), "component `plain`: package `fixture-plain` makes no component");
    assert!(error.hints()[0].contains("cdylib"), "{error:?}");
}

#[test]
fn a_folder_without_a_package_is_named() {
    let app =
        Fixture::new(&[("isomer.toml", MANIFEST), ("Cargo.toml", "[workspace]\nmembers = []\n"), ("one/note", "")]);
    let error = app.build().0.expect_err("there is no package");
    let expected =
        format!("component `one`: `{}` is not the folder of a Cargo package", app.path().join("one").display());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_file_is_used_as_it_is() {
    let app = Fixture::new(&[(
        "isomer.toml",
        "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n[components.given]\nwasm = \"given.wasm\"\n",
    )]);
    let error = app.build().0.expect_err("the file is missing");
    let path = app.path().join("given.wasm");
    assert_eq!(error.to_string(), format!("component `given`: there is no file `{}`", path.display()));

    app.write("given.wasm", "first");
    assert_eq!(app.changed(), (vec!["given".to_owned()], 0));
    assert_eq!(app.changed(), (vec![], 0));
    app.write("given.wasm", "second bytes");
    assert_eq!(app.changed(), (vec!["given".to_owned()], 0));
}

#[test]
fn a_command_runs_again_only_after_a_change_in_its_folder() {
    let app = Fixture::new(&[
        (
            "isomer.toml",
            "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n[components.made]\n\
             command = \"mkdir -p out && cat source > out/made.wasm && date +%N > out/log\"\nwasm = \"out/made.wasm\"\n",
        ),
        ("source", "first"),
    ]);
    assert_eq!(app.changed(), (vec!["made".to_owned()], 1));
    assert_eq!(app.changed(), (vec![], 0), "the products of the command are not changes");
    app.write("source", "second text");
    assert_eq!(app.changed(), (vec!["made".to_owned()], 1));
    assert_eq!(app.changed(), (vec![], 0));
    app.write("new", "a file that the command may read");
    assert_eq!(app.changed(), (vec![], 1), "the command runs, and makes the same bytes");
    assert_eq!(app.changed(), (vec![], 0));
    fs::remove_file(app.path().join("new")).expect("removed");
    assert_eq!(app.changed(), (vec![], 1));

    let watched = app.watched();
    assert!(watched.counts(&app.path().join("source"), false));
    assert!(
        !watched.counts(&app.path().join("out/made.wasm"), false)
            && !watched.counts(&app.path().join("out/log"), false)
    );
}

#[test]
fn a_file_whose_name_is_not_utf_8_is_not_an_input() {
    use std::os::unix::ffi::OsStrExt as _;
    let app = Fixture::new(&[
        (
            "isomer.toml",
            "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n[components.made]\n\
             command = \"cat source > made.wasm\"\nwasm = \"made.wasm\"\n",
        ),
        ("source", "first"),
    ]);
    let name = std::ffi::OsStr::from_bytes(b"not \xff text");
    fs::write(app.path().join(name), "").expect("written");
    assert_eq!(app.changed(), (vec!["made".to_owned()], 1));
    assert_eq!(app.changed(), (vec![], 0));
}

#[test]
fn the_error_of_a_command_has_its_output() {
    let app = Fixture::new(&[(
        "isomer.toml",
        "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n[components.made]\n\
         command = \"echo no compiler here >&2; exit 7\"\nwasm = \"made.wasm\"\n",
    )]);
    let error = app.build().0.expect_err("the command fails");
    let expected = "component `made`: command `echo no compiler here >&2; exit 7` ended with exit code 7";
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.output(), Some("no compiler here"));
    assert!(!Path::new(&app.path().join("made.wasm")).exists());
}

#[test]
fn files_that_a_failing_command_writes_do_not_cause_another_run() {
    let app = Fixture::new(&[
        (
            "isomer.toml",
            "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n[components.made]\n\
             command = \"date +%N > new.log; date +%N > old.log; cat source > made.wasm; grep -q right source\"\nwasm = \"made.wasm\"\n",
        ),
        ("source", "wrong"),
        ("old.log", "of an earlier run"),
    ]);
    // The file `old.log` existed before the first run, so the user may have edited it during that run. Only the second
    // run shows that the command writes it.
    for _ in 0..2 {
        app.build().0.expect_err("the command fails");
    }
    let watched = app.watched();
    for product in ["new.log", "old.log", "made.wasm"] {
        assert!(!watched.counts(&app.path().join(product), false), "{product}");
    }
    assert!(watched.counts(&app.path().join("source"), false));
    app.write("source", "right at last");
    assert_eq!(app.changed(), (vec!["made".to_owned()], 1));
    assert_eq!(app.changed(), (vec![], 0));
}

#[test]
fn a_file_that_changes_while_a_command_runs_is_in_doubt_once() {
    let app = Fixture::new(&[
        (
            "isomer.toml",
            "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n[components.made]\n\
             command = \"date +%N >> journal; cat source > made.wasm\"\nwasm = \"made.wasm\"\n",
        ),
        ("source", "text"),
        ("journal", "started before the first build\n"),
    ]);
    assert_eq!(app.changed(), (vec!["made".to_owned()], 1));
    assert_eq!(app.changed(), (vec![], 1), "the journal may have been edited, so the command runs again");
    assert_eq!(app.changed(), (vec![], 0), "the journal is known as a product of the command");
}

const TWO_COMMANDS: &str = "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n\
    [components.first]\n\
    command = \"mkdir -p out && cat one > out/first.wasm && date +%N > out/first.log && echo run >> .isomer/first\"\n\
    wasm = \"out/first.wasm\"\n\
    [components.second]\n\
    command = \"mkdir -p out && cat two > out/second.wasm && date +%N > out/second.log && echo run >> .isomer/second\"\n\
    wasm = \"out/second.wasm\"\n";

#[test]
fn two_commands_do_not_rebuild_each_other_through_their_products() {
    let app = Fixture::new(&[("isomer.toml", TWO_COMMANDS), ("one", "1"), ("two", "2")]);
    assert_eq!(app.changed().1, 2);
    assert_eq!(app.changed(), (vec![], 0), "the products of `second` are not inputs of `first`");
    app.write("one", "another text");
    assert_eq!(app.changed().0, ["first"]);
    for _ in 0..3 {
        assert_eq!(app.changed(), (vec![], 0));
    }
    let watched = app.watched();
    for product in ["first.wasm", "first.log", "second.wasm", "second.log"] {
        assert!(!watched.counts(&app.path().join("out").join(product), true), "{product}");
    }
}

#[test]
fn products_from_before_the_first_build_settle() {
    let app = Fixture::new(&[
        ("isomer.toml", TWO_COMMANDS),
        ("one", "1"),
        ("two", "2"),
        ("out/first.log", "of an earlier checkout"),
        ("out/second.log", "of an earlier checkout"),
    ]);
    let steps: Vec<usize> = (0..5).map(|_| app.changed().1).collect();
    assert_eq!(steps[3..], [0, 0], "{steps:?}");
}

#[test]
fn files_with_new_names_in_each_run_settle() {
    let app = Fixture::new(&[
        (
            "isomer.toml",
            "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n[components.made]\n\
             command = \"mkdir -p out && cat source > out/made.wasm && touch run-$(date +%s%N)\"\nwasm = \"out/made.wasm\"\n",
        ),
        ("source", "first"),
    ]);
    let steps: Vec<usize> = (0..4).map(|_| app.changed().1).collect();
    assert_eq!(steps, [1, 1, 0, 0]);
}

#[test]
fn a_command_with_named_inputs_runs_only_for_them() {
    let manifest = TWO_COMMANDS
        .replace("wasm = \"out/first.wasm\"", "wasm = \"out/first.wasm\"\ninputs = [\"one\", \"lib\", \"*.cfg\"]");
    let app = Fixture::new(&[("isomer.toml", manifest.as_str()), ("one", "1"), ("two", "2"), ("lib/deep/x", "")]);
    app.changed();
    let runs = app.runs(".isomer/first");
    app.write("README.md", "newer");
    app.write("two", "another text");
    assert_eq!(app.changed().0, ["second"]);
    assert_eq!(app.runs(".isomer/first"), runs, "neither file is an input of `first`");
    for (number, input) in ["one", "lib/deep/x", "lib/deep/new", "a.cfg"].into_iter().enumerate() {
        app.write(input, "changed or new");
        app.changed();
        assert_eq!(app.runs(".isomer/first"), runs + number + 1, "{input}");
        assert_eq!(app.changed().1, 0);
    }
    let watched = app.watched();
    assert!(watched.counts(&app.path().join("lib/deep/y"), true) && watched.counts(&app.path().join("one"), false));
}

#[test]
fn components_built_for_development_are_never_shipped() {
    let app = Fixture::new(&[
        ("isomer.toml", "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n[components.one]\ncargo = \".\"\n"),
        ("Cargo.toml", &package("fixture-one", "[workspace]\n[profile.release]\npanic = \"abort\"\n")),
        ("src/main.rs", "fn main() { println!(\"one {:?}\", option_env!(\"ISOMER_TEST_FLAVOUR\")); }\n"),
    ]);
    let dev = || {
        let mut steps = 0;
        let built = build_app_as(&app.app(), &app.path(), BuildProfile::Dev, &mut |progress| {
            steps += usize::from(matches!(progress, BuildProgress::Step(_)));
        });
        (built.expect("it builds").remove(0).wasm_path, steps)
    };
    let (developed, steps) = dev();
    assert_eq!(steps, 1);
    let cheapest = || cheapest_profile(&app.app(), &app.path()).expect("the environment is valid");
    assert_eq!(cheapest(), BuildProfile::Dev, "the release profile was not built before");
    let (built, steps) = app.build();
    let shipped = built.expect("it builds").remove(0).wasm_path;
    assert_eq!(steps.len(), 1, "this profile was not built before");
    assert_ne!(fs::read(&developed).expect("read"), fs::read(&shipped).expect("read"));
    assert_eq!((dev().1, app.changed().1), (0, 0), "neither build makes the other one out of date");
    assert_eq!(cheapest(), BuildProfile::Release, "both profiles are up to date");

    // The record is changed as if the environment had been different in the last build.
    let record = app.path().join(".isomer/build/one.json");
    let text = fs::read_to_string(&record).expect("read");
    let settings = "\"settings\": \"release";
    assert!(text.contains(settings), "{text}");
    fs::write(&record, text.replace(settings, "\"settings\": \"release\\nRUSTFLAGS=-C opt-level=0")).expect("written");
    assert_eq!(cheapest(), BuildProfile::Dev);
    assert_eq!(app.changed().1, 1, "it is built again");
    assert_eq!(app.changed().1, 0);

    // The record is changed as if a variable that the source reads had had another value in the last build.
    let text = fs::read_to_string(&record).expect("read");
    let variable = "\"ISOMER_TEST_FLAVOUR\": null";
    assert!(text.contains(variable), "{text}");
    fs::write(&record, text.replace(variable, "\"ISOMER_TEST_FLAVOUR\": \"another digest\"")).expect("written");
    assert_eq!(app.changed().1, 1, "it is built again");
    assert_eq!(app.changed().1, 0);
}

#[test]
fn files_of_removed_components_are_removed() {
    let two = "[app]\nname = \"fixture\"\nversion = \"0.1.0\"\n\
               [components.kept]\nwasm = \"a.wasm\"\n[components.gone]\nwasm = \"b.wasm\"\n";
    let app = Fixture::new(&[("isomer.toml", two), ("a.wasm", "a"), ("b.wasm", "b")]);
    app.changed();
    let build = app.path().join(".isomer/build");
    // The build folder looks as if `gone` had been a Cargo package before: it contains copies of Cargo's artifacts.
    fs::write(build.join("gone.wasm"), "").expect("written");
    fs::create_dir(build.join("dev")).expect("made");
    fs::write(build.join("dev/gone.wasm"), "").expect("written");
    app.write(".isomer/build/named.wasm", "c");
    let named = "[components.named]\nwasm = \".isomer/build/named.wasm\"\n";
    app.write("isomer.toml", &(two.split("[components.gone]").next().expect("a part").to_owned() + named));
    app.changed();
    assert!(build.join("kept.json").exists() && build.join(".gitignore").exists());
    assert!(build.join("named.wasm").exists(), "the manifest names it");
    app.write("isomer.toml", two.split("[components.gone]").next().expect("a part"));
    for gone in ["gone.json", "gone.wasm", "dev/gone.wasm"] {
        assert!(!build.join(gone).exists(), "{gone}");
    }
    assert!(app.path().join("b.wasm").exists(), "files outside of the build folder are kept");
    clean(&app.path()).expect("cleaned");
    assert!(!build.exists());
    assert_eq!(app.changed().0, ["kept"]);
}

#[test]
fn an_error_names_the_package_that_did_not_build() {
    let dependency = "[dependencies]\nfixture-shared = { path = \"../shared\" }\n";
    let app = Fixture::new(&[
        ("isomer.toml", MANIFEST),
        ("Cargo.toml", WORKSPACE),
        ("one/Cargo.toml", &package("fixture-one", dependency)),
        ("one/src/main.rs", "fn main() { println!(\"{}\", fixture_shared::text()); }\n"),
        ("two/Cargo.toml", &package("fixture-two", dependency)),
        ("two/src/main.rs", "fn main() { this is not Rust }\n"),
        ("shared/Cargo.toml", &package("fixture-shared", "")),
        ("shared/src/lib.rs", "pub fn text() -> &'static str { \"two\" }\n"),
    ]);
    let error = app.build().0.expect_err("one of them does not compile");
    assert_eq!(error.to_string(), "cargo could not build `two`");
    let shared = app.path().join("shared/src/lib.rs");
    assert!(!app.watched().counts(&shared, false), "no record names the file");
    let mut wanted = watch_paths(&app.app(), &app.path(), BuildProfile::Release);
    wanted.add_packages(&app.path());
    assert!(wanted.folders().counts(&shared, false) && !wanted.folders().counts(&app.path().join("README.md"), true));
    app.edit("shared/src/lib.rs", "neither is this\n");
    let error = app.build().0.expect_err("the shared package does not compile");
    assert_eq!(
        error.to_string(),
        "cargo could not build the package `fixture-shared`, which the app's components depend on"
    );
    assert!(error.output().is_some_and(|output| output.contains("shared/src/lib.rs:1")), "{error:?}");
}
