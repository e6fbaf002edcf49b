//! All files with which a browser runs a group.

use std::collections::{BTreeMap, HashMap};

use isomer_ids::{Digest, PlanDigest};
use isomer_manifest::App;
use isomer_plan::PlannedGroup;
use isomer_seam::Composition;
use sha2::{Digest as _, Sha256};

use crate::bundle::bundle;
use crate::description::{self, Description};
use crate::error::WebError;
use crate::provided::suspending;
use crate::rewrite::rewrite;
use crate::source_text::condense;
use crate::transpile::transpile;
use crate::{core_module, scheduler};

/// The file that the service worker's script imports.
const ENTRY: &str = "worker.js";

/// The content types of the files.
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const BINARY: &str = "application/octet-stream";

/// The file that contains the core modules, one after another.
const MODULES: &str = "modules.bin";

/// The source of the file [`ENTRY`].
const WORKER: &str = include_str!("../assets/worker.js");

/// The sources of this crate, which determine how files are made.
const SOURCES: [(&str, &str); 11] = [
    ("bundle.rs", include_str!("bundle.rs")),
    ("core_module.rs", include_str!("core_module.rs")),
    ("description.rs", include_str!("description.rs")),
    ("error.rs", include_str!("error.rs")),
    ("lib.rs", include_str!("lib.rs")),
    ("parcel.rs", include_str!("parcel.rs")),
    ("provided.rs", include_str!("provided.rs")),
    ("rewrite.rs", include_str!("rewrite.rs")),
    ("scheduler.rs", include_str!("scheduler.rs")),
    ("source_text.rs", include_str!("source_text.rs")),
    ("transpile.rs", include_str!("transpile.rs")),
];

/// The modules of the service worker that are the same for every group.
const ASSETS: [(&str, &str); 11] = [
    ("calls.js", include_str!("../assets/calls.js")),
    ("cookies.js", include_str!("../assets/cookies.js")),
    ("frame.js", include_str!("../assets/frame.js")),
    ("http.js", include_str!("../assets/http.js")),
    ("instance.js", include_str!("../assets/instance.js")),
    ("logs.js", include_str!("../assets/logs.js")),
    ("request.js", include_str!("../assets/request.js")),
    ("respond.js", include_str!("../assets/respond.js")),
    ("session.js", include_str!("../assets/session.js")),
    ("values.js", include_str!("../assets/values.js")),
    ("wasi.js", include_str!("../assets/wasi.js")),
];

/// The files of a browser group. They depend only on the group, the plan and this crate, so equal inputs have equal
/// files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebParcel {
    /// The digest of all files. A server should serve the files below a path that contains the digest.
    pub digest: Digest,
    /// The files by name. The worker finds the other files by relative paths, so all files belong into one folder.
    pub files: BTreeMap<String, WebFile>,
    /// The name of the file that the script of the service worker must import.
    pub entry: &'static str,
}

/// A file of a [`WebParcel`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebFile {
    /// The content.
    pub bytes: Vec<u8>,
    /// The content type.
    pub content_type: &'static str,
}

/// Returns a digest of everything in this crate on which the files of a group depend: the sources of the service worker,
/// and how code is generated. A cache of [`WebParcel`]s must include it in its keys.
#[must_use]
pub fn generator_digest() -> Digest {
    let mut hasher = Sha256::new();
    let sources = SOURCES.iter().chain(&ASSETS).flat_map(|(name, source)| [*name, *source]);
    for text in sources.chain([WORKER, scheduler::GENERATOR_VERSION]) {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    let hash: [u8; 32] = hasher.finalize().into();
    Digest::from(hash)
}

impl WebParcel {
    /// Makes the files of a browser group. `composition` is the composition of `group`, a group of `app`. `plan` is the
    /// digest that calls to the server must contain.
    ///
    /// # Errors
    /// If the group cannot run in a browser: see [`WebError`].
    pub fn make(
        app: &App,
        group: &PlannedGroup,
        composition: &Composition,
        plan: PlanDigest,
    ) -> Result<Self, WebError> {
        let handlers = description::handlers(composition, export_key)?;
        let imports = description::imports(composition)?;
        let names: HashMap<_, _> = imports.iter().map(|import| (import.name.clone(), import.key.clone())).collect();
        let functions = composition
            .imports
            .iter()
            .flat_map(|import| suspending(&import.interface).map(|function| format!("{}#{function}", import.name)));
        let transpiled = transpile(&composition.bytes, functions.collect(), names)?;

        // All core modules are in one file, because a file takes longer to read than a small module to compile.
        let (mut joined, mut positions) = (Vec::new(), BTreeMap::new());
        for (name, bytes) in transpiled.core_modules {
            let bytes = core_module::strip(&bytes)
                .map_err(|error| WebError::CoreModule { name: name.clone(), reason: error.to_string() })?;
            let start = joined.len();
            joined.extend_from_slice(&bytes);
            positions.insert(name, (start, joined.len()));
        }
        let mut files = BTreeMap::new();
        files.insert(MODULES.to_owned(), WebFile { bytes: joined, content_type: BINARY });
        let group_source = rewrite(condense(&transpiled.source, scheduler::DEBUG_LOG)?, &scheduler::RULES)?;
        let description = Description::new((app, group), plan, (imports, positions), &handlers);
        let mut modules = BTreeMap::from([("group.js", group_source), ("description.js", description.module())]);
        for (name, source) in ASSETS.into_iter().chain([(ENTRY, WORKER)]) {
            modules.insert(name, condense(source, scheduler::DEBUG_LOG)?);
        }
        let worker = bundle(ENTRY, &modules)?;
        files.insert(ENTRY.to_owned(), WebFile { bytes: worker.into_bytes(), content_type: JAVASCRIPT });
        Ok(Self { digest: digest(&files), files, entry: ENTRY })
    }
}

/// Returns the name by which the generated code exports the instance `name` of the composition.
fn export_key(name: &str) -> String {
    let interface = name.rsplit('/').next().unwrap_or(name);
    let interface = interface.split('@').next().unwrap_or(interface);
    let mut key = String::with_capacity(interface.len());
    let mut is_start = false;
    for c in interface.chars() {
        match c {
            '-' => is_start = true,
            c if is_start => {
                key.extend(c.to_uppercase());
                is_start = false;
            }
            c => key.push(c),
        }
    }
    key
}

fn digest(files: &BTreeMap<String, WebFile>) -> Digest {
    let mut hasher = Sha256::new();
    for (name, file) in files {
        for bytes in [name.as_bytes(), file.content_type.as_bytes(), &file.bytes] {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
    }
    let hash: [u8; 32] = hasher.finalize().into();
    Digest::from(hash)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_digest_of_the_generator_contains_all_its_sources() {
        for (folder, listed) in [
            ("src", SOURCES.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>()),
            ("assets", ASSETS.iter().map(|(name, _)| *name).chain([ENTRY]).collect()),
        ] {
            let entries = std::fs::read_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!(names.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed, "{folder}");
        }
    }

    #[test]
    fn exports_have_the_names_of_the_generated_code() {
        assert_eq!(export_key("wasi:http/handler@0.3.0"), "handler");
        assert_eq!(export_key("frontend-http-handler"), "frontendHttpHandler");
    }
}
