//! Checking that a shipped program has the code of its app.

use std::collections::BTreeMap;

use isomer_manifest::App;
use isomer_plan::PlanOptions;
use isomer_runtime::code::Key;
use isomer_seam::Components;
use sha2::{Digest as _, Sha256};

use crate::composition::with_ingredients;
use crate::error::RevisionError;
use crate::package::plan_digest;
use crate::web_files;

/// Plans the app in `shape`, as a shipped program does when it starts. Returns the names of the groups whose compiled code, or
/// whose files for browsers, `has` does not find.
///
/// # Errors
/// If the app cannot be planned.
pub fn groups_without_code(
    app: &App,
    components: &Components,
    shape: &str,
    has: &dyn Fn(&Key) -> bool,
) -> Result<Vec<String>, RevisionError> {
    let plan = isomer_seam::plan_with(app, components, shape, PlanOptions::default())?;
    let digests = components.iter().map(|(name, bytes)| (name, Sha256::digest(bytes)));
    let digests = digests.collect::<BTreeMap<_, _>>();
    let mut missing = Vec::new();
    for group in &plan.groups {
        let key = with_ingredients(group, &digests, |ingredients| Key::shipped(ingredients.iter().copied()));
        // The code with probes may be missing, because not every group can be composed with probes.
        if !has(&key) {
            missing.push(group.name.clone());
        }
    }
    if let Some(browser) = &plan.browser {
        let key = web_files::shipped_key(browser, plan_digest(app, &plan, &digests), &digests);
        if !has(&key) {
            missing.push(browser.group.name.clone());
        }
    }
    Ok(missing)
}
