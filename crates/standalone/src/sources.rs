//! The sources of the providers, as text.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// A source file: its path in the repository, and its contents.
pub(crate) struct Source {
    pub(crate) path: &'static str,
    pub(crate) text: &'static str,
}

macro_rules! sources {
    ($($path:literal),+ $(,)?) => {
        &[$(Source { path: $path, text: include_str!(concat!("../../../", $path)) }),+]
    };
}

/// All files that are needed to build the providers. The list is complete if the providers compile from it, which a test
/// checks.
pub(crate) const SOURCES: &[Source] = sources![
    "providers/Cargo.lock",
    "providers/Cargo.toml",
    "providers/platform/Cargo.toml",
    "providers/platform/src/lib.rs",
    "providers/platform/src/lines.rs",
    "providers/stores/Cargo.toml",
    "providers/stores/libc/assert.h",
    "providers/stores/libc/ctype.h",
    "providers/stores/libc/errno.h",
    "providers/stores/libc/inttypes.h",
    "providers/stores/libc/libc.h",
    "providers/stores/libc/math.h",
    "providers/stores/libc/stdio.h",
    "providers/stores/libc/stdlib.h",
    "providers/stores/libc/string.h",
    "providers/stores/libc/sys/types.h",
    "providers/stores/libc/time.h",
    "providers/stores/libc/unistd.h",
    "providers/stores/src/generations.rs",
    "providers/stores/src/kv.rs",
    "providers/stores/src/kv_draft.rs",
    "providers/stores/src/kv_store.rs",
    "providers/stores/src/lib.rs",
    "providers/stores/src/lock.rs",
    "providers/stores/src/migrations.rs",
    "providers/stores/src/pages.rs",
    "providers/stores/src/random.rs",
    "providers/stores/src/rules.rs",
    "providers/stores/src/session.rs",
    "providers/stores/src/settings.rs",
    "providers/stores/src/sql.rs",
    "providers/stores/src/vfs.rs",
    "providers/stores/src/writer.rs",
    "providers/wit/settings.wit",
    "crates/capabilities/src/kv/cursors.rs",
    "crates/capabilities/src/sql/authorizer.rs",
    "crates/capabilities/src/sql/functions.rs",
    "crates/capabilities/src/sql/sections.rs",
    "crates/display/src/excerpt.rs",
    "crates/display/src/size.rs",
    "crates/wit/wit/isomer-secrets/secrets.wit",
    "crates/wit/wit/isomer-sql/sql.wit",
    "crates/wit/wit/wasi-clocks-0.2.12/package.wit",
    "crates/wit/wit/wasi-clocks-0.3.0/package.wit",
    "crates/wit/wit/wasi-config-0.2.0-rc.1/store.wit",
    "crates/wit/wit/wasi-config-0.2.0-rc.1/world.wit",
    "crates/wit/wit/wasi-io-0.2.12/package.wit",
    "crates/wit/wit/wasi-keyvalue-0.2.0-draft/atomic.wit",
    "crates/wit/wit/wasi-keyvalue-0.2.0-draft/batch.wit",
    "crates/wit/wit/wasi-keyvalue-0.2.0-draft/store.wit",
    "crates/wit/wit/wasi-keyvalue-0.2.0-draft/watch.wit",
    "crates/wit/wit/wasi-keyvalue-0.2.0-draft/world.wit",
    "crates/wit/wit/wasi-keyvalue-0.2.0-draft2/package.wit",
    "crates/wit/wit/wasi-logging-0.1.0-draft/package.wit",
    "crates/wit/wit/wasi-otel-0.2.0-rc.2/package.wit",
    "crates/wit/wit/wasi-random-0.2.12/package.wit",
];

/// Returns the start of a hash of all sources. Compiled providers have it in their names, so that a program never uses
/// providers of another version.
pub(crate) fn version() -> String {
    let mut hash = Sha256::new();
    for Source { path, text } in SOURCES {
        for part in [path, text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.finalize()[..8].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    walk(&path, files);
                }
            } else {
                files.insert(path);
            }
        }
    }

    #[test]
    fn all_files_of_the_providers_are_contained() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let mut files = BTreeSet::new();
        walk(&root.join("providers"), &mut files);
        let contained: BTreeSet<_> = SOURCES
            .iter()
            .map(|source| root.join(source.path))
            .filter(|path| path.starts_with(root.join("providers")))
            .collect();
        assert_eq!(contained, files);
    }
}
