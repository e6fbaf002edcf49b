//! What lies on disk of a revision: enough to start it, and no more.
//!
//! Making a package is slow and needs the components' bytes: it plans, composes and compiles. GroupStarter one needs neither, so an app
//! that is not in memory comes back on its first request in the time that it takes to read a few kilobytes and to map its code. For
//! that, a package has what was decided in the form in which it is used: names, numbers and limits, not the plan with its reasons. Of a
//! shape in several processes it is the part of one.
//!
//! The code itself is not in it. It lies in the [`CodeCache`], by its content, so that many apps with the same components share it;
//! the package has its [`Key`]s.

mod app;
mod group;
mod plan_digest;

use std::collections::{BTreeMap, BTreeSet};

use isomer_capabilities::AppGrants;
use isomer_ids::ComponentName;
use isomer_manifest::{App, MONOLITH};
use isomer_plan::{Plan, PlanOptions, PlannedGroup};
use isomer_runtime::code::{Code, CodeCache, Key};
use isomer_runtime::engine::Engine;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) use self::group::{PackedFunction, PackedGroup, PackedStub};
use crate::composition::{self, CompiledGroup, GroupMetadata};
use crate::error::RevisionError;
use crate::membership::own_part;
use crate::progress::Progress;
use app::PackedApp;
use isomer_seam::Components;

/// Counts up when a package is written differently. One of another format is made again from its components.
const FORMAT: u32 = 4;

/// How a package is made.
#[derive(Debug, Clone)]
pub struct PackageOptions {
    /// The shape that the app takes.
    pub shape: String,
    /// The group of the shape that it is for; all of them in one process where absent.
    pub process: Option<String>,
    /// For tests: the time of day and randomness depend on the request's trace and the component alone, and no instance serves
    /// several requests at once. What is random can be predicted then.
    pub given_clock_and_random: bool,
}

impl Default for PackageOptions {
    /// The monolith.
    fn default() -> Self {
        Self { shape: MONOLITH.to_owned(), process: None, given_clock_and_random: false }
    }
}

/// All that starting a revision needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Package {
    format: u32,
    #[serde(rename = "identity")]
    plan_digest: isomer_ids::PlanDigest,
    shape: String,
    pub(crate) given_clock_and_random: bool,
    app: PackedApp,
    pub(crate) groups: Vec<PackedGroup>,
}

/// A package fresh from the making.
pub struct NewPackage {
    /// The package.
    pub package: Package,
    /// What was decided for the whole shape.
    pub plan: Plan,
    /// Was something compiled? Not if all code was there.
    pub compiled: bool,
    /// The code: as long as it is held, the engine that it was made with starts the package without looking for it on disk.
    pub code: Vec<Code>,
}

/// The components' digests, by their names.
type Digests<'a> = BTreeMap<&'a ComponentName, sha2::digest::Output<Sha256>>;

/// Makes a group's code, or has it made.
type Compose<'a, E> = dyn FnMut(&PlannedGroup, &Digests<'_>) -> Result<(Key, GroupMetadata), E> + 'a;

/// What does not fit to the manifest that a package was drafted for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the package does not fit to its manifest: {0}")]
pub struct PackageMismatch(pub(crate) String);

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
        options: &PackageOptions,
        engine: &Engine,
        cache: &CodeCache,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<NewPackage, RevisionError> {
        let (mut code, mut compiled) = (vec![], false);
        let mut compose = |planned: &PlannedGroup, digests: &Digests<'_>| {
            let composed = CompiledGroup::new(planned, components, digests, engine, cache, progress)?;
            code.push(composed.code);
            compiled |= composed.compiled;
            Ok::<_, RevisionError>((composed.key, composed.note))
        };
        let (package, plan) = Self::assemble(app, components, options, progress, &mut compose)?;
        Ok(NewPackage { package, plan, compiled, code })
    }

    /// Plans the app and composes its groups, which are given to `compiler` one by one. The package knows no names of compiled code yet:
    /// see [`Package::checked`].
    ///
    /// # Errors
    /// As [`Package::make`], or with the compiler's.
    pub fn draft<E: From<RevisionError>>(
        app: &App,
        components: &Components,
        options: &PackageOptions,
        progress: &dyn Fn(Progress<'_>),
        compiler: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(Self, Plan), E> {
        let mut compose = |planned: &PlannedGroup, _: &Digests<'_>| {
            progress(Progress::Compose(&planned.name));
            let (note, bytes) = composition::compose(planned, components)?;
            compiler(&bytes)?;
            Ok((Key::unknown(), note))
        };
        Self::assemble(app, components, options, progress, &mut compose)
    }

    fn assemble<E: From<RevisionError>>(
        app: &App,
        components: &Components,
        options: &PackageOptions,
        progress: &dyn Fn(Progress<'_>),
        compose: &mut Compose<'_, E>,
    ) -> Result<(Self, Plan), E> {
        progress(Progress::Plan);
        let plan_options = PlanOptions { given_clock_and_random: options.given_clock_and_random };
        let plan = plan_with(app, components, &options.shape, plan_options)?;
        let digests = components.iter().map(|(name, bytes)| (name, Sha256::digest(bytes)));
        let digests = digests.collect::<BTreeMap<_, _>>();
        let mut groups = vec![];
        for planned in groups_of(&plan, options)? {
            let (key, note) = compose(planned, &digests)?;
            groups.push(PackedGroup::new(app, &plan, planned, key, note, options));
        }
        let own = options.process.as_ref().map(|process| own_part(app, &plan, process));
        let package = Self {
            format: FORMAT,
            plan_digest: plan_digest::plan_digest(app, &plan, &digests),
            shape: options.shape.clone(),
            given_clock_and_random: options.given_clock_and_random,
            app: PackedApp::new(own.as_ref().unwrap_or(app)),
            groups,
        };
        Ok((package, plan))
    }

    /// A draft that comes from somebody who is not trusted, held against the manifest that he was given: what the manifest decides is
    /// taken from there (grants, limits, deadlines), `code` names what was compiled for the groups in their order, and the rest must fit.
    ///
    /// # Errors
    /// With what does not fit.
    pub fn checked(self, app: &App, shape: &str, code: Vec<Key>) -> Result<Self, PackageMismatch> {
        if self.shape != shape || self.given_clock_and_random {
            return Err(PackageMismatch("it is for another shape".to_owned()));
        }
        if self.groups.len() != code.len() {
            return Err(PackageMismatch(format!(
                "it has {} groups, and {} were composed",
                self.groups.len(),
                code.len()
            )));
        }
        let mut placed = BTreeSet::new();
        let mut groups = Vec::with_capacity(code.len());
        for (group, key) in self.groups.into_iter().zip(code) {
            if let Some(twice) = group.components.iter().find(|name| !placed.insert((*name).clone())) {
                return Err(PackageMismatch(format!("component `{twice}` has two places")));
            }
            groups.push(group.checked(app, key)?);
        }
        Ok(Self { app: PackedApp::new(app), groups, ..self })
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

    /// Returns the digest of the plan: equal in all processes that were given the same components and the same plan.
    #[must_use]
    pub fn plan_digest(&self) -> isomer_ids::PlanDigest {
        self.plan_digest
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

    /// What the app's components were granted.
    #[must_use]
    pub fn grants(&self) -> &AppGrants {
        &self.app.grants
    }

    /// The names of its groups, in their order.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| group.name.as_str())
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
    Ok(isomer_seam::plan_with(app, components, shape, options)?)
}

/// The compositions that one process runs.
fn groups_of<'a>(plan: &'a Plan, options: &PackageOptions) -> Result<Vec<&'a PlannedGroup>, RevisionError> {
    let Some(process) = &options.process else { return Ok(plan.groups.iter().collect()) };
    let mut processes = plan.processes();
    processes.remove(process.as_str()).ok_or_else(|| {
        let known = processes.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        RevisionError::NoProcess { process: process.clone(), known }
    })
}
