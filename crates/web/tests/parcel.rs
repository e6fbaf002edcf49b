//! Makes the files of browser groups from test guests.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use isomer_diagnostics::SourceFile;
use isomer_ids::PlanDigest;
use isomer_manifest::App;
use isomer_seam::Components;
use isomer_web::{WebError, WebParcel};

/// The maximum size of all files of a small group, compressed as a server sends them.
const COMPRESSED_BYTES_MAX: usize = 300 << 10;

fn app(manifest: &str) -> App {
    match isomer_manifest::parse(&SourceFile::new("isomer.toml", manifest)) {
        Ok(parsed) => parsed.app,
        Err(findings) => panic!("the test's manifest is invalid: {findings:?}"),
    }
}

/// Returns an app of test guests. The first guest has all routes. A guest with a colon is followed by further settings.
fn app_of(guests: &[&str], shapes: &str) -> (App, Components) {
    let mut text = "[app]\nname = \"test\"\nversion = \"0.1.0\"\n".to_owned();
    let mut components = BTreeMap::new();
    for (index, guest) in guests.iter().enumerate() {
        let (name, settings) = guest.split_once(':').unwrap_or((guest, ""));
        let routes = if index == 0 { "routes = [\"/...\"]" } else { "" };
        text += &format!("[components.{name}]\nwasm = \"{name}.wasm\"\n{routes}\n{settings}\n");
        components.insert(name.parse().expect("a name"), isomer_test_guests::bytes(name).into());
    }
    (app(&(text + shapes)), components)
}

/// Makes the files of the group `tab`, which is planned like a group of the server.
fn parcel(app: &App, components: &Components) -> Result<WebParcel, WebError> {
    let plan = isomer_seam::plan(app, components, "apart").unwrap_or_else(|error| panic!("{error:?}"));
    let group = plan.groups.iter().find(|group| group.name == "tab").expect("the shape has this group");
    let composition = isomer_seam::compose(group, components).expect("the group can be composed");
    WebParcel::make(app, group, &composition, PlanDigest([0xa5; 16]))
}

fn text<'a>(parcel: &'a WebParcel, name: &str) -> &'a str {
    std::str::from_utf8(&parcel.files[name].bytes).expect("JavaScript is UTF-8")
}

#[test]
fn fused_components_with_a_seam_to_the_server_become_one_module() {
    let shape = "[shapes.apart.groups]\ntab = [\"seam-entry\", \"seam-relay\"]\nrest = [\"seam-callee\"]\n";
    let (app, components) =
        app_of(&["seam-entry", "seam-relay", "seam-callee:idempotent = [\"guest:seam/work\"]"], shape);
    let parcel = parcel(&app, &components).expect("the group can run in a browser");
    assert_eq!(parcel.entry, "worker.js");

    assert_eq!(parcel.files.keys().collect::<Vec<_>>(), ["modules.bin", "worker.js"]);
    let worker = text(&parcel, "worker.js");
    assert!(worker.contains("function instantiate("));
    assert!(!worker.lines().any(|line| line.starts_with("import ") || line.starts_with("export ")));
    for rest in ["setTimeout(async", "waitInterval = setInterval", "import("] {
        assert!(!worker.contains(rest), "the generated code contains `{rest}`");
    }

    for part in [
        "\"plan\":\"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\"",
        "\"seam\":\"seam-relay → seam-callee guest:seam/work",
        "\"handler\":{\"export\":\"seamEntryHttpHandler\",\"component\":\"seam-entry\"}",
        "\"limits\":{\"seam-entry\":{\"request_ms\":30000,\"stream_ms\":3600000,\"body_bytes\":10485760}}",
        "\"interface\":\"isomer:link/wire\",\"component\":\"seam-relay\"",
        "\"idempotent\":true",
    ] {
        assert!(worker.contains(part), "`{part}` is missing");
    }

    let compressed: usize = parcel.files.values().map(|file| gzip(&file.bytes).len()).sum();
    assert!(compressed < COMPRESSED_BYTES_MAX, "the files have {compressed} bytes");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

#[test]
fn equal_inputs_have_equal_files() {
    let (app, components) = app_of(&["http-hello"], "[shapes.apart.groups]\ntab = [\"http-hello\"]\n");
    let [first, second] = [(); 2].map(|()| parcel(&app, &components).expect("the group can run in a browser"));
    assert_eq!(first, second);
    assert!(text(&first, "worker.js").contains("\"export\":\"handler\""));
}

/// A cache finds the files of a group by the plan and by these settings.
#[test]
fn what_the_plan_does_not_contain_is_in_the_settings() {
    let shape = "[shapes.apart.groups]\ntab = [\"http-hello\"]\n";
    let of = |settings: &str| {
        let (app, components) = app_of(&[&format!("http-hello:{settings}")], shape);
        let plan = isomer_seam::plan(&app, &components, "apart").unwrap_or_else(|error| panic!("{error:?}"));
        let group = plan.groups.iter().find(|group| group.name == "tab").expect("the shape has this group");
        let parcel = parcel(&app, &components).expect("the group can run in a browser");
        (isomer_web::settings(&app, group), text(&parcel, "worker.js").to_owned())
    };
    let (settings, files) = of("");
    for line in [
        "limits.body = \"64KiB\"",
        "limits.request_deadline = \"7s\"",
        "limits.stream = \"7s\"",
        "grants.http = [\"other.example\"]",
    ] {
        let (other, other_files) = of(line);
        assert_ne!(other_files, files, "{line}");
        assert_ne!(other, settings, "{line}");
    }
}

#[test]
fn a_group_that_a_browser_cannot_run_is_refused() {
    let store = "kv-probe:grants = { kv = [\"store\"] }";
    let (app, components) = app_of(&[store], "[shapes.apart.groups]\ntab = [\"kv-probe\"]\n");
    let error = parcel(&app, &components).expect_err("a browser has no key-value store");
    assert!(matches!(&error, WebError::Import { interface, .. } if interface.starts_with("wasi:keyvalue/")), "{error}");
    assert!(error.to_string().starts_with("`kv-probe` imports `wasi:keyvalue/"), "{error}");

    let (app, components) = app_of(&["http-hello-p2"], "[shapes.apart.groups]\ntab = [\"http-hello-p2\"]\n");
    let error = parcel(&app, &components).expect_err("the handler has another version");
    assert!(matches!(&error, WebError::Handler { .. }), "{error}");
    assert!(error.to_string().ends_with("but a browser group needs a handler of `wasi:http` 0.3"), "{error}");
}
