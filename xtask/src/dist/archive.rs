//! The release tarball: its name, its contents, and its checksum.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::project;

/// Returns the name of the tarball without its extension. The folder in the tarball has the same name.
pub(super) fn name(version: &str, target: &str) -> String {
    format!("isomer-{version}-{target}")
}

/// Packs the folder `dir/name` into `dir/name.tar.gz`. The same files result in the same bytes, because entries are
/// sorted, owned by root, and have the modification time `seconds` since 1970.
pub(super) fn pack(dir: &Path, name: &str, seconds: u64) -> Result<PathBuf> {
    let tarball = dir.join(format!("{name}.tar.gz"));
    let mut command = Command::new("tar");
    command
        .args(["--create", "--sort=name", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner"])
        .arg("--mode=u+rwX,go+rX,go-w")
        .arg(format!("--mtime=@{seconds}"))
        // Without `--no-name`, gzip would store the name and the time of the file that it compresses.
        .arg("--use-compress-program=gzip --no-name --best")
        .arg("--file")
        .arg(&tarball)
        .arg("--directory")
        .arg(dir)
        .arg(name);
    project::run(&mut command)?;
    Ok(tarball)
}

/// Returns the checksum of a file as a line that `sha256sum --check` can read in the file's folder.
pub(super) fn checksum_line(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut line = String::new();
    for byte in hasher.finalize() {
        write!(line, "{byte:02x}")?;
    }
    let name = path.file_name().context("the tarball's path has no file name")?;
    Ok(format!("{line}  {}\n", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_result_in_the_same_tarball() {
        let dir = std::env::temp_dir().join(format!("isomer-xtask-dist-{}", std::process::id()));
        let tarball = |order: [&str; 2]| {
            let folder = dir.join("a-1");
            std::fs::create_dir_all(&folder).expect("a folder");
            for name in order {
                std::fs::write(folder.join(name), name).expect("written");
            }
            let packed = pack(&dir, "a-1", 1_700_000_000).expect("packed");
            let line = checksum_line(&packed).expect("read");
            std::fs::remove_dir_all(&dir).expect("removed");
            line
        };
        let first = tarball(["b", "c"]);
        assert_eq!(first, tarball(["c", "b"]));
        assert!(first.ends_with("  a-1.tar.gz\n") && first.len() == 64 + 2 + 11, "{first}");
    }

    #[test]
    fn names_contain_version_and_target() {
        assert_eq!(name("0.1.0", "x86_64-unknown-linux-gnu"), "isomer-0.1.0-x86_64-unknown-linux-gnu");
    }
}
