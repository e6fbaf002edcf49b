//! What lies on disk of a revision: enough to start it, and no more.
//!
//! Making a package is slow and needs the components' bytes: it plans, composes and compiles. Starting one needs neither, so an app
//! that is not in memory comes back on its first request in the time that it takes to read a few kilobytes and to map its code. For
//! that, a package has what was decided in the form in which it is used: names, numbers and limits, not the plan with its reasons. Of a
//! shape in several processes it is the part of one.
//!
//! The code itself is not in it. It lies in the [`CodeCache`], by its content, so that many apps with the same components share it;
//! the package has its [`Key`]s.

mod app;
mod group;

use std::collections::BTreeMap;

use isomer_manifest::{App, ComponentName, MONOLITH};
use isomer_plan::{Group as PlannedGroup, Plan, PlanOptions};
use isomer_runtime::code::{Code, CodeCache, Key};
use isomer_runtime::engine::Engine;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) use self::group::{PackedFunction, PackedGroup, PackedStub};
use crate::composition::Composed;
use crate::membership::own_part;
use crate::revision::{Components, RevisionError, Step};
use app::PackedApp;

/// Counts up when a package is written differently. One of another format is made again from its components.
const FORMAT: u32 = 2;

/// How a package is made.
#[derive(Debug, Clone)]
pub struct MakeOptions {
    /// The shape that the app takes.
    pub shape: String,
    /// The group of the shape that it is for; all of them in one process where absent.
    pub process: Option<String>,
    /// For tests: the time of day and randomness depend on the request's trace and the component alone, and no instance serves
    /// several requests at once. What is random can be predicted then.
    pub given_clock_and_random: bool,
}

impl Default for MakeOptions {
    /// The monolith.
    fn default() -> Self {
        Self { shape: MONOLITH.to_owned(), process: None, given_clock_and_random: false }
    }
}

/// All that starting a revision needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Package {
    format: u32,
    identity: isomer_wire::Revision,
    shape: String,
    pub(crate) given_clock_and_random: bool,
    app: PackedApp,
    pub(crate) groups: Vec<PackedGroup>,
}

/// A package fresh from the making.
pub struct Made {
    /// The package.
    pub package: Package,
    /// What was decided for the whole shape.
    pub plan: Plan,
    /// Was something compiled? Not if all code was there.
    pub compiled: bool,
    /// The code: as long as it is held, the engine that it was made with starts the package without looking for it on disk.
    pub code: Vec<Code>,
}

/// Why some bytes are no package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// They cannot be read.
    #[error("the package cannot be read")]
    Unreadable {
        /// Why.
        source: serde_json::Error,
    },
    /// Another version of the program made it.
    #[error("the package has format {found}, and this version reads {FORMAT}")]
    Format {
        /// Its format.
        found: u32,
    },
}

impl Package {
    /// Plans the app, composes and compiles its groups for `engine`, unless their code lies in `cache`. `progress` is told each step.
    ///
    /// # Errors
    /// When a component cannot be read, the plan refuses the app, or something cannot be composed or compiled.
    pub fn make(
        app: &App,
        components: &Components,
        options: &MakeOptions,
        engine: &Engine,
        cache: &CodeCache,
        progress: &dyn Fn(Step<'_>),
    ) -> Result<Made, RevisionError> {
        progress(Step::Plan);
        let plan_options = PlanOptions { given_clock_and_random: options.given_clock_and_random };
        let plan = plan_with(app, components, &options.shape, plan_options)?;
        let digests = components.iter().map(|(name, bytes)| (name, Sha256::digest(bytes)));
        let digests = digests.collect::<BTreeMap<_, _>>();
        let (mut groups, mut code, mut compiled) = (vec![], vec![], false);
        for planned in groups_of(&plan, options)? {
            let composed = Composed::new(planned, components, &digests, engine, cache, progress)?;
            groups.push(PackedGroup::new(app, &plan, planned, composed.key, composed.note, options));
            code.push(composed.code);
            compiled |= composed.compiled;
        }
        let own = options.process.as_ref().map(|process| own_part(app, &plan, process));
        let package = Self {
            format: FORMAT,
            identity: identity(&plan, &digests),
            shape: options.shape.clone(),
            given_clock_and_random: options.given_clock_and_random,
            app: PackedApp::new(own.as_ref().unwrap_or(app)),
            groups,
        };
        Ok(Made { package, plan, compiled, code })
    }

    /// The package as bytes.
    ///
    /// # Panics
    /// Never: a package is plain data.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a package is plain data")
    }

    /// Reads what [`Package::to_bytes`] wrote.
    ///
    /// # Errors
    /// When it was not written by this version of the program.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PackageError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        match serde_json::from_slice::<Self>(bytes) {
            Ok(package) if package.format == FORMAT => Ok(package),
            Ok(package) => Err(PackageError::Format { found: package.format }),
            Err(source) => match serde_json::from_slice::<Format>(bytes) {
                Ok(Format { format }) if format != FORMAT => Err(PackageError::Format { found: format }),
                _ => Err(PackageError::Unreadable { source }),
            },
        }
    }

    /// Names the revision: the same in all processes that were given the same components and the same plan.
    #[must_use]
    pub fn identity(&self) -> isomer_wire::Revision {
        self.identity
    }

    /// The name that the manifest gives the app.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.app.name
    }

    /// The version that the manifest says.
    #[must_use]
    pub fn version(&self) -> &semver::Version {
        &self.app.version
    }

    /// The shape that the app takes.
    #[must_use]
    pub fn shape(&self) -> &str {
        &self.shape
    }

    /// The path of a request that it must answer with success before it takes over.
    #[must_use]
    pub fn health(&self) -> Option<&str> {
        self.app.health.as_deref()
    }

    /// The app as far as it matters for what its components are given: grants, limits, settings of stores.
    #[must_use]
    pub fn app(&self) -> App {
        self.app.app()
    }

    /// The names of its compiled code.
    pub fn code(&self) -> impl Iterator<Item = &Key> {
        self.groups.iter().map(|group| &group.key)
    }
}

/// Works out who runs where. Changes nothing.
///
/// # Errors
/// When a component cannot be read, or the plan refuses the app.
pub fn plan(app: &App, components: &Components, shape: &str) -> Result<Plan, RevisionError> {
    plan_with(app, components, shape, PlanOptions::default())
}

fn plan_with(app: &App, components: &Components, shape: &str, options: PlanOptions) -> Result<Plan, RevisionError> {
    let mut types = BTreeMap::new();
    for (name, bytes) in components {
        let component = isomer_seam::component_type(bytes)
            .map_err(|source| RevisionError::Component { component: name.clone(), source })?;
        types.insert(name.clone(), component);
    }
    isomer_plan::plan_with(app, &types, shape, options).map_err(RevisionError::Plan)
}

/// The compositions that one process runs.
fn groups_of<'a>(plan: &'a Plan, options: &MakeOptions) -> Result<Vec<&'a PlannedGroup>, RevisionError> {
    let Some(process) = &options.process else { return Ok(plan.groups.iter().collect()) };
    let mut processes = plan.processes();
    processes.remove(process.as_str()).ok_or_else(|| {
        let known = processes.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        RevisionError::NoProcess { process: process.clone(), known }
    })
}

/// A hash over what the components are and what was decided about them.
fn identity(plan: &Plan, digests: &BTreeMap<&ComponentName, impl AsRef<[u8]>>) -> isomer_wire::Revision {
    let decided = (&plan.app, &plan.version, &plan.shape, &plan.groups, &plan.seams, &plan.access);
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(&decided).expect("a plan is plain data"));
    for (name, digest) in digests {
        hasher.update((name.as_str().len() as u64).to_le_bytes());
        hasher.update(name.as_str());
        hasher.update(digest);
    }
    let hash: [u8; 32] = hasher.finalize().into();
    let mut identity = isomer_wire::Revision::default();
    identity.copy_from_slice(&hash[..16]);
    identity
}
