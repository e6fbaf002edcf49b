//! A small app for the tests.

use std::collections::BTreeMap;

use isomer_api::Release;
use isomer_parcel::{Contents, add_part};

/// Returns an app with a component, a file, an empty file, a second file with the same content, and an empty folder.
pub(crate) fn shop() -> Contents {
    let mut parts = BTreeMap::new();
    let mut add = |bytes: &'static [u8]| add_part(&mut parts, bytes.into());
    let components = [("cart".to_owned(), add(b"\0asm cart"))].into();
    let files = [("static/a", b"a" as &[u8]), ("static/b", b"a"), ("static/empty", b"")];
    let files = files.map(|(path, bytes)| (path.parse().unwrap(), add(bytes))).into();
    let release = Release {
        manifest: "[app]\nname = \"shop\"\nversion = \"1.0.0\"\n".to_owned(),
        shape: "monolith".to_owned(),
        components,
        files,
        folders: ["empty".parse().unwrap()].into(),
        hosts: None,
        message: None,
        signatures: Vec::new(),
    };
    Contents { release, parts }
}
