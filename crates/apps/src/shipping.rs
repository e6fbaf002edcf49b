//! Compiling the code of an app that is shipped as one program.
//!
//! A shipped program plans the app when it starts, as `isomer run` does, and finds the code by the same inputs from which
//! the key was computed here. Storing the plan or a package in the program was rejected: members, reshaping and the admin
//! API need the plan, the plan takes a few milliseconds, and a second path from a release to a running app could differ
//! from the first.

use std::collections::BTreeMap;

use isomer_manifest::App;
use isomer_plan::{Plan, PlanOptions};
use isomer_runtime::code::{CodeError, CodeSource, Key};
use isomer_runtime::engine::Engine;
use isomer_seam::Components;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::composition::{compose, compose_probed, probed_key, with_ingredients};
use crate::error::RevisionError;
use crate::package::plan_digest;
use crate::progress::Progress;
use crate::{web_files, web_files_making};

/// The compiled code of a group, and what the runtime needs to know about it. For a browser group, the note contains the
/// files for browsers, and there is no code.
#[derive(Debug, Clone)]
pub struct GroupCode {
    /// The key under which a shipped program finds the code.
    pub key: Key,
    /// The metadata of the code.
    pub note: Vec<u8>,
    /// The code.
    pub code: Vec<u8>,
}

/// Plans the app in `shape`, and compiles the code of all its groups for the target of `engine`: the plain code, and the
/// code with probes, which sampled requests run. `cache` keeps the code for the next call. Calls `progress` at each step.
///
/// # Errors
/// If the app cannot be planned, or if a group cannot be composed or compiled.
pub fn compile_for_shipping(
    app: &App,
    components: &Components,
    shape: &str,
    engine: &Engine,
    cache: &CodeSource,
    progress: &dyn Fn(Progress<'_>),
) -> Result<(Plan, Vec<GroupCode>), RevisionError> {
    progress(Progress::Plan);
    let plan = isomer_seam::plan_with(app, components, shape, PlanOptions::default())?;
    let digests = components.iter().map(|(name, bytes)| (name, Sha256::digest(bytes)));
    let digests = digests.collect::<BTreeMap<_, _>>();
    let mut compiled = Vec::new();
    for group in &plan.groups {
        let shipped = with_ingredients(group, &digests, |ingredients| Key::shipped(ingredients.iter().copied()));
        let cached = with_ingredients(group, &digests, |ingredients| cache.key(engine, ingredients.iter().copied()));
        let compiler = Compiler { engine, cache, name: &group.name, progress };
        let plain = compiler.code(&cached, || compose(group, components).map(Some))?;
        compiled.extend(plain.map(|(note, code)| GroupCode { key: shipped.clone(), note, code }));
        if !group.links.is_empty() {
            let probed = compiler.code(&probed_key(&cached), || compose_probed(group, components))?;
            let key = probed_key(&shipped);
            compiled.extend(probed.map(|(note, code)| GroupCode { key, note, code }));
        }
    }
    if let Some(browser) = &plan.browser {
        progress(Progress::Compose(&browser.group.name));
        let digest = plan_digest(app, &plan, &digests);
        let key = web_files::shipped_key(browser, digest, &digests);
        let note = web_files_making::make(app, browser, components, digest)?;
        compiled.push(GroupCode { key, note, code: Vec::new() });
    }
    Ok((plan, compiled))
}

/// The metadata of code, and the code.
type Compiled = (Vec<u8>, Vec<u8>);

/// Compiles the code of one group.
struct Compiler<'a> {
    engine: &'a Engine,
    cache: &'a CodeSource,
    name: &'a str,
    progress: &'a dyn Fn(Progress<'_>),
}

impl Compiler<'_> {
    /// Returns the metadata and the code under `key`. If the cache does not have them, compiles what `compose` returns.
    fn code<M: Serialize>(
        &self,
        key: &Key,
        compose: impl FnOnce() -> Result<Option<(M, Vec<u8>)>, RevisionError>,
    ) -> Result<Option<Compiled>, RevisionError> {
        if let Some(found) = self.cache.read(key) {
            return Ok(Some(found));
        }
        (self.progress)(Progress::Compose(self.name));
        let Some((metadata, composition)) = compose()? else { return Ok(None) };
        (self.progress)(Progress::Compile(self.name));
        let note = serde_json::to_vec(&metadata).expect("metadata is plain data");
        let code: Result<_, CodeError> = self.cache.compile_to_bytes(self.engine, key, &composition, &note);
        Ok(Some((note, code?)))
    }
}
