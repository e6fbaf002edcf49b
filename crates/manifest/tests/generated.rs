//! Checks that the generated files in `docs/` are up to date. With `ISOMER_BLESS=1`, the tests write the files.

use std::path::PathBuf;

#[test]
fn the_json_schema_is_up_to_date() {
    up_to_date("reference/isomer.schema.json", &isomer_manifest::schema_json());
}

#[test]
fn the_reference_is_up_to_date() {
    up_to_date("reference/manifest.md", &isomer_manifest::reference_markdown());
}

#[test]
fn the_json_schema_of_node_files_is_up_to_date() {
    up_to_date("reference/isomer.node.schema.json", &isomer_manifest::node_schema_json());
}

#[test]
fn the_reference_of_node_files_is_up_to_date() {
    up_to_date("reference/node-file.md", &isomer_manifest::node_reference_markdown());
}

fn up_to_date(file: &str, generated: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file);
    if std::env::var_os("ISOMER_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("the folder can be made");
        std::fs::write(&path, generated).expect("the file can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "`docs/{file}` is not what the code gives; write it with `ISOMER_BLESS=1 cargo test -p isomer-manifest`"
    );
}
