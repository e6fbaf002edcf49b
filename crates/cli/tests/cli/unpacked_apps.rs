//! Tests of apps that were built elsewhere and whose manifests the user has not written: what they reach.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use isomer_api::Release;
use isomer_parcel::{Contents, add_part};
use isomer_registry::write_archive;

use crate::support::Workspace;

const APP: &str = "[app]\nname = \"shop\"\nversion = \"1.0.0\"\n";

/// A shape in which each component has its own process.
const SPLIT: &str = "[shapes.split.groups]\nfront = [\"web\"]\nback = [\"pong\"]\n";

/// Writes an archive with the component `web` from a guest, and the component `pong`. Commands of this program would refuse
/// to write some of the manifests.
fn write_app(archive: &Path, guest: &str, grants: &str, more: &str, files: &[&str]) {
    let manifest = format!(
        "{APP}[components.web]\nwasm = \"web.wasm\"\nroutes = [\"/...\"]\n[components.web.grants]\n{grants}\n\
         [components.pong]\nwasm = \"pong.wasm\"\n{SPLIT}{more}"
    );
    let mut parts = BTreeMap::new();
    let components = [("web", guest), ("pong", "pong")];
    let components = components
        .map(|(name, guest)| (name.to_owned(), add_part(&mut parts, isomer_test_guests::bytes(guest).into())));
    let files = files.iter().map(|path| (path.parse().unwrap(), add_part(&mut parts, (*path).to_owned().into())));
    let release = Release {
        manifest,
        shape: "monolith".to_owned(),
        files: files.collect(),
        components: components.into(),
        folders: [].into(),
        hosts: None,
        message: None,
        signatures: Vec::new(),
    };
    std::fs::create_dir_all(archive.parent().unwrap()).unwrap();
    write_archive(File::create(archive).unwrap(), &Contents { release, parts }, &[], None).unwrap();
}

#[test]
fn an_app_of_others_reaches_neither_files_nor_variables_of_the_user() {
    let workspace = Workspace::new();
    workspace.write("private/key", "the user's");
    let node = workspace.serve(&["node", "--data", "node", "--admin", "127.0.0.1:0"]);
    let private = workspace.path("private").display().to_string();
    let outside = "is not one of the app's own files";
    let dir = |host: &str| format!("dirs = [{{ host = \"{host}\", guest = \"/h\", write = true }}]");
    let file = |path: &str| {
        ("secret-probe", "secrets = [\"k\"]".to_owned(), format!("[secrets]\nk = {{ file = \"{path}\" }}\n"))
    };
    let variable = "[secrets]\nk = { env = \"PATH\" }\n".to_owned();
    let authority = format!("http = [{{ host = \"a.example\", authority = \"{private}/key\" }}]");
    let folders = "[sql.s]\nmigrations = ";
    for ((guest, grants, more), problem) in [
        (("dirs-probe", dir(&private), String::new()), outside),
        (("dirs-probe", dir("../../../../../private"), String::new()), outside),
        (("dirs-probe", dir(&private).replace("write = true", "write = false"), String::new()), outside),
        (file(&format!("{private}/key")), outside),
        (file("../../../../../../private/key"), outside),
        (("secret-probe", "secrets = [\"k\"]".to_owned(), variable), "`PATH`, which is in no file of variables"),
        (("fetch-probe", authority, String::new()), outside),
        (("sql-probe", "sql = [\"s\"]".to_owned(), format!("{folders}\"{private}\"\n")), outside),
    ] {
        write_app(&workspace.path("app.tar"), guest, &grants, &more, &[]);
        for shape in ["monolith", "split"] {
            let listen = ["--listen", "127.0.0.1:0", "--yes"];
            let printed = workspace.run(&[&["run", "app.tar", "--shape", shape], &listen[..]].concat());
            assert!(
                printed.starts_with("exit code: 1\n") && printed.contains(problem),
                "{grants}{more}{shape}: {printed}"
            );
        }
        let printed = workspace.run(&["deploy", "app.tar", "--node", "node", "--host", "*"]);
        assert!(printed.starts_with("exit code: 1\n"), "{grants}{more}: {printed}");
    }
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn the_own_folders_of_an_app_contain_neither_its_keys_nor_files_of_its_release() {
    let workspace = Workspace::new();
    let archive = workspace.path("app.tar");
    let dirs = "dirs = [{ host = \".\", guest = \"/own\", write = true }, { host = \"static\", guest = \"/static\" }, \
                { host = \".isomer\", guest = \"/isomer\", write = true }]";
    write_app(&archive, "dirs-probe", dirs, "", &["static/a"]);
    for shape in ["monolith", "split"] {
        let app = workspace.serve(&["run", "app.tar", "--shape", shape]);
        assert_eq!(app.get("/read?path=/static/a"), (200, "static/a".to_owned()));
        assert_eq!(app.get("/write?path=/static/b").0, 403);
        for folder in ["/own", "/isomer"] {
            let (status, listed) = app.get(&format!("/list?path={folder}"));
            // Only what the component itself has written in the other shape.
            assert!(status == 200 && (listed.is_empty() || listed == "link\n"), "{folder}: {listed}");
        }
        if shape == "monolith" {
            assert_eq!(app.get("/link?path=/own/link&to=../../cache.key").0, 200);
        }
        assert_ne!(app.get("/read?path=/own/link").0, 200);
        assert_eq!(app.stop(), Some(0));
    }
    // A newer release whose file has the path of the link.
    write_app(&archive, "dirs-probe", dirs, "", &["link", "static/b"]);
    let app = workspace.serve(&["run", "app.tar"]);
    assert_eq!(app.get("/read?path=/static/a").0, 404);
    assert_eq!(app.get("/read?path=/static/b"), (200, "static/b".to_owned()));
    assert_ne!(app.get("/read?path=/own/link").0, 200);
}

#[test]
fn hosts_and_secrets_of_an_app_are_accepted_once() {
    let workspace = Workspace::new();
    let archive = workspace.path("app.tar");
    let secret = "[secrets]\nk = { env = \"TOKEN\" }\n";
    write_app(&archive, "secret-probe", "secrets = [\"k\"]\nhttp = [\"a.example\"]", secret, &[]);
    workspace.write("values", "TOKEN=of the file\n");
    let run = ["run", "app.tar", "--env-file", "values"];
    let listen = ["--listen", "127.0.0.1:0"];
    let refused = workspace.run(&[&run[..], &listen].concat());
    for text in [
        "exit code: 2",
        "component web sends requests to a.example",
        "component web reads the secret k (variable TOKEN of `--env-file`)",
        "run it once with `--yes`",
    ] {
        assert!(refused.contains(text), "{text}: {refused}");
    }
    for more in [&["--yes"][..], &[], &["--shape", "split"]] {
        // The variable of the environment does not replace the one of the file.
        let app = workspace.serve_with(&[&run[..], more].concat(), &[("TOKEN", "of the user")]);
        assert_eq!(app.get("/?name=k"), (200, "of the file".to_owned()));
        assert_eq!(app.stop(), Some(0));
    }
    // A newer release is asked about only what it did not have before.
    let grants = "secrets = [\"k\"]\nhttp = [\"a.example\", { host = \"10.0.0.1:80\", private = true }]";
    write_app(&archive, "secret-probe", grants, secret, &[]);
    let refused = workspace.run(&[&run[..], &listen].concat());
    assert!(refused.contains("sends requests to 10.0.0.1:80, also in private networks"), "{refused}");
    assert!(!refused.contains("a.example") && !refused.contains("secret k"), "{refused}");
}

#[test]
fn archives_of_one_name_have_different_data() {
    let workspace = Workspace::new();
    let dirs = "dirs = [{ host = \"notes\", guest = \"/notes\", write = true }]";
    for archive in ["trusted/app.tar", "downloads/app.tar"] {
        write_app(&workspace.path(archive), "dirs-probe", dirs, "", &[]);
    }
    let trusted = workspace.serve(&["run", "trusted/app.tar"]);
    assert_eq!(trusted.get("/write?path=/notes/mine").0, 200);
    let other = workspace.serve(&["run", "downloads/app.tar"]);
    assert_eq!(other.get("/list?path=/notes"), (200, String::new()));
    assert_eq!(trusted.stop(), Some(0));
    // A newer app at the same path has the data of the earlier one.
    write_app(&workspace.path("trusted/app.tar"), "dirs-probe", dirs, "", &["new"]);
    let newer = workspace.serve(&["run", "trusted/app.tar"]);
    assert_eq!(newer.get("/list?path=/notes").1, "mine\n");
}
