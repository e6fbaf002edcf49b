//! Computes `ASSETS_VERSION`, a hash of the names and bytes of all assets. The version is part of the assets' URLs, so
//! that browsers can cache an asset for a year.

use std::fs;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=assets");
    let mut hash = 0xcbf2_9ce4_8422_2325;
    add_folder(Path::new("assets"), &mut hash);
    println!("cargo::rustc-env=ASSETS_VERSION={hash:016x}");
}

/// Adds the names and bytes of a folder's files to an FNV-1a hash. The files are sorted by name.
fn add_folder(folder: &Path, hash: &mut u64) {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the assets are there")
        .map(|entry| entry.expect("an entry is readable").path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add_folder(&path, hash);
            continue;
        }
        let name = path.to_string_lossy().into_owned().into_bytes();
        for byte in name.into_iter().chain(fs::read(&path).expect("an asset is readable")) {
            *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
