//! Checks that the vendored files are the files of the named npm packages, byte for byte.

use sha2::{Digest as _, Sha256};

/// The path in `assets/vendor`, the package with its version, the path in the package, and the SHA-256 digest.
const VENDORED: [(&str, &str, &str, &str); 8] = [
    (
        "preact.js",
        "htm@3.1.1",
        "preact/standalone.module.js",
        "72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7",
    ),
    (
        "uplot.js",
        "uplot@1.6.32",
        "dist/uPlot.iife.min.js",
        "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    ),
    (
        "uplot.css",
        "uplot@1.6.32",
        "dist/uPlot.min.css",
        "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    ),
    (
        "dagre.js",
        "@dagrejs/dagre@3.1.3",
        "dist/dagre.esm.js",
        "b0ddaf4af1417bec9bd89373a3a3987f081727d6cc6d95fc40dbf85a19bdf3b0",
    ),
    ("LICENSE-htm.txt", "htm@3.1.1", "LICENSE", "740725f7252e750af735d0028cc534970772f513331e9f68150fede8fb3ce00f"),
    (
        "LICENSE-preact.txt",
        "preact@10.29.8",
        "LICENSE",
        "1fe6958409c8c257a70c587a18b6f7f412b179b456630790d30b2ec9a8e4b7d4",
    ),
    (
        "LICENSE-uplot.txt",
        "uplot@1.6.32",
        "LICENSE",
        "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    ),
    (
        "LICENSE-dagre.txt",
        "@dagrejs/dagre@3.1.3",
        "LICENSE",
        "6a349742a6cb219d5a2fc8d0844f6d89a6efc62e20c664450d884fc7ff2d6015",
    ),
];

#[test]
fn vendored_files_are_unchanged() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/vendor");
    for (name, package, path, expected) in VENDORED {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, expected, "`{name}` is not `{path}` of {package}");
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), VENDORED.len(), "a file is not listed");
}
