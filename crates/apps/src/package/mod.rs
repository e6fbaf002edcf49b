//! A package: the files that are needed to start a revision.
//!
//! Making a package is slow and needs the components' bytes, because the app is planned, composed and compiled.
//! Starting a package needs none of these steps. The first request for an idle app therefore only waits until a few
//! kilobytes are read and the code is mapped. To make this possible, a package stores the plan's decisions as names,
//! numbers and limits, without the plan and its reasons. If a shape has several processes, a package is for one
//! process.
//!
//! The compiled code is not in the package. It is in the [`CodeSource`], which finds code by the [`Key`]s in the
//! package. Apps with the same components have the same keys, and share the code.

mod app;
mod group;
mod plan_digest;
mod tabs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use isomer_capabilities::AppGrants;
use isomer_ids::{ComponentName, PlanDigest};
use isomer_manifest::{App, MONOLITH};
use isomer_plan::{Plan, PlanOptions, PlannedBrowser, PlannedGroup};
use isomer_runtime::code::{Code, CodeSource, Key};
use isomer_runtime::engine::Engine;
use isomer_telemetry::AppSampling;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) use self::group::{PackedExport, PackedFunction, PackedGroup, PackedStub};
pub(crate) use self::plan_digest::plan_digest;
pub(crate) use self::tabs::PackedTabs;
use crate::composition::{self, CompiledGroup, GroupMetadata};
use crate::error::RevisionError;
use crate::membership::member_part;
use crate::probing::local::LocalProbes;
use crate::progress::Progress;
use crate::web_files;
#[cfg(feature = "compiler")]
use crate::web_files_making;
use app::PackedApp;
pub use app::sampling_of;
use isomer_seam::Components;

/// The version of the format of packages. Increment it when the format changes. A package with another version is made
/// again from the app's components.
const FORMAT: u32 = 5;

/// The options for making a package.
#[derive(Debug, Clone)]
pub struct PackageOptions {
    /// The name of the shape that the app runs in.
    pub shape: String,
    /// The name of the group that the package is for; `None` if all groups run in one process.
    pub process: Option<String>,
    /// For tests: the time of day and random values depend only on the request's trace and the component, and an
    /// instance serves one request at a time. Random values are then predictable.
    pub deterministic: bool,
}

impl Default for PackageOptions {
    /// The options of a monolith: all groups in one process.
    fn default() -> Self {
        Self { shape: MONOLITH.to_owned(), process: None, deterministic: false }
    }
}

/// What is needed to start a revision: the plan's decisions, and the cache keys of the compiled code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Package {
    format: u32,
    #[serde(rename = "identity")]
    plan_digest: isomer_ids::PlanDigest,
    shape: String,
    #[serde(rename = "given_clock_and_random")]
    pub(crate) deterministic: bool,
    app: PackedApp,
    pub(crate) groups: Vec<PackedGroup>,
    /// The browser group. `None` if the shape has none, or if this package is for a process without routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tabs: Option<PackedTabs>,
    /// Makes the probed code of the groups. `None` if the package was not made in this process.
    #[serde(skip)]
    pub(crate) probes: Option<Arc<LocalProbes>>,
}

/// A package that was just made, with its plan and code.
pub struct NewPackage {
    /// The package.
    pub package: Package,
    /// The plan of the whole shape.
    pub plan: Plan,
    /// Whether any code was compiled; `false` if all code was found in the cache.
    pub compiled: bool,
    /// The compiled code. While this value exists, the code cache finds the mapped code without reading files.
    pub code: Vec<Code>,
}

/// The digest of each component's bytes, by the component's name.
type Digests<'a> = BTreeMap<&'a ComponentName, sha2::digest::Output<Sha256>>;

/// A function that composes and compiles a group, or lets another process do this work.
type Compose<'a, E> = dyn FnMut(&PlannedGroup, &Digests<'_>) -> Result<(Key, GroupMetadata), E> + 'a;

/// A function that makes the files of a browser group, and returns their cache key.
type MakeFiles<'a, E> = dyn FnMut(&PlannedBrowser, PlanDigest, &Digests<'_>) -> Result<Key, E> + 'a;

/// The error if a package from an untrusted process contradicts the manifest. The text states what differs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the package contradicts its manifest: {0}")]
pub struct PackageMismatch(pub(crate) String);

/// The reason why bytes cannot be read as a package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The bytes cannot be parsed.
    #[error("the package cannot be read")]
    Unreadable {
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// The package was made by another version of the program.
    #[error("the package has format {found}, and this version reads {FORMAT}")]
    Format {
        /// The format of the package.
        found: u32,
    },
}

impl Package {
    /// Plans the app, then composes and compiles its groups for `engine`, except for groups whose code is in `cache`.
    /// Calls `progress` at each step.
    ///
    /// # Errors
    /// If a component cannot be read, if the app cannot be planned, or if a group cannot be composed or compiled.
    pub fn make(
        app: &App,
        components: &Components,
        options: &PackageOptions,
        engine: &Engine,
        cache: &CodeSource,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<NewPackage, RevisionError> {
        let (mut code, mut compiled) = (vec![], false);
        let probes = LocalProbes::new(engine, cache);
        let mut compose = |planned: &PlannedGroup, digests: &Digests<'_>| {
            let composed = CompiledGroup::new(planned, components, digests, engine, cache, progress)?;
            probes.add(code.len(), planned, components, composition::probed_key(&composed.key));
            code.push(composed.code);
            compiled |= composed.compiled;
            Ok::<_, RevisionError>((composed.key, composed.note))
        };
        let mut files = |browser: &PlannedBrowser, plan: PlanDigest, digests: &Digests<'_>| {
            let key = web_files::key_in(cache, engine, app, browser, plan, digests);
            if !web_files::is_valid(cache, &key) {
                if !cache.compiles() {
                    return Err(RevisionError::NotShipped { group: browser.group.name.clone() });
                }
                #[cfg(feature = "compiler")]
                {
                    progress(Progress::Compose(&browser.group.name));
                    let note = web_files_making::make(app, browser, components, plan)?;
                    web_files::store(cache, &key, &note).map_err(|source| RevisionError::web_files(browser, source))?;
                }
            }
            Ok(key)
        };
        let (package, plan) = Self::assemble(app, components, options, progress, &mut compose, &mut files)?;
        let package = Self { probes: Some(Arc::new(probes)), ..package };
        Ok(NewPackage { package, plan, compiled, code })
    }

    /// Plans the app and composes its groups, and passes each composition to `compiler`. Passes the files of a browser
    /// group to `files`, as a note for the code cache. The returned package does not have the cache keys of its code yet:
    /// see [`Package::checked`].
    ///
    /// # Errors
    /// The errors of [`Package::make`], of `compiler` and of `files`.
    #[cfg(feature = "compiler")]
    pub fn draft<E: From<RevisionError>>(
        app: &App,
        components: &Components,
        options: &PackageOptions,
        progress: &dyn Fn(Progress<'_>),
        compiler: &mut dyn FnMut(&[u8]) -> Result<(), E>,
        files: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(Self, Plan), E> {
        let mut compose = |planned: &PlannedGroup, _: &Digests<'_>| {
            progress(Progress::Compose(&planned.name));
            let (note, bytes) = composition::compose(planned, components)?;
            compiler(&bytes)?;
            Ok((Key::unknown(), note))
        };
        let mut files = |browser: &PlannedBrowser, plan: PlanDigest, _: &Digests<'_>| {
            progress(Progress::Compose(&browser.group.name));
            files(&web_files_making::make(app, browser, components, plan)?)?;
            Ok(Key::unknown())
        };
        Self::assemble(app, components, options, progress, &mut compose, &mut files)
    }

    fn assemble<E: From<RevisionError>>(
        app: &App,
        components: &Components,
        options: &PackageOptions,
        progress: &dyn Fn(Progress<'_>),
        compose: &mut Compose<'_, E>,
        files: &mut MakeFiles<'_, E>,
    ) -> Result<(Self, Plan), E> {
        progress(Progress::Plan);
        let plan_options = PlanOptions { deterministic: options.deterministic };
        let plan = isomer_seam::plan_with(app, components, &options.shape, plan_options);
        let plan = plan.map_err(RevisionError::from)?;
        let digests = components.iter().map(|(name, bytes)| (name, Sha256::digest(bytes)));
        let digests = digests.collect::<BTreeMap<_, _>>();
        let mut groups = vec![];
        for planned in groups_of(&plan, options)? {
            let (key, note) = compose(planned, &digests)?;
            groups.push(PackedGroup::new(app, &plan, planned, key, note, options));
        }
        let plan_digest = plan_digest(app, &plan, &digests);
        let has_routes = groups.iter().any(|group| !group.handlers.is_empty());
        let tabs = match plan.browser.as_ref().filter(|_| has_routes) {
            Some(browser) => Some(PackedTabs::new(app, browser, files(browser, plan_digest, &digests)?)),
            None => None,
        };
        let own = options.process.as_ref().map(|process| member_part(app, &plan, process));
        let package = Self {
            format: FORMAT,
            plan_digest,
            shape: options.shape.clone(),
            deterministic: options.deterministic,
            app: PackedApp::new(own.as_ref().unwrap_or(app)),
            tabs,
            groups,
            probes: None,
        };
        Ok((package, plan))
    }

    /// Returns the plan digest of `plan`: the one that packages made from this plan contain.
    #[must_use]
    pub fn digest_of(app: &App, plan: &Plan, components: &Components) -> isomer_ids::PlanDigest {
        let digests = components.iter().map(|(name, bytes)| (name, Sha256::digest(bytes)));
        plan_digest(app, plan, &digests.collect())
    }

    /// Checks a package that an untrusted process made from a manifest with [`Package::draft`]. The result has the
    /// grants, limits and deadlines of the manifest, not of the unchecked package. `code` contains the cache keys of
    /// the groups' code, in the order of the groups, and `files` is the key of the browser group's files. All other values
    /// are those of the unchecked package, after a check that they agree with the manifest.
    ///
    /// # Errors
    /// If the unchecked package does not agree with the manifest, with `shape`, or with the number of keys.
    pub fn checked(self, app: &App, shape: &str, code: Vec<Key>, files: Option<Key>) -> Result<Self, PackageMismatch> {
        if self.shape != shape || self.deterministic {
            return Err(PackageMismatch("the package is for another shape".to_owned()));
        }
        if self.groups.len() != code.len() {
            return Err(PackageMismatch(format!(
                "the package has {} groups, but {} were composed",
                self.groups.len(),
                code.len()
            )));
        }
        let mut placed = BTreeSet::new();
        let mut groups = Vec::with_capacity(code.len());
        for (group, key) in self.groups.into_iter().zip(code) {
            if let Some(repeated) = group.components.iter().find(|name| !placed.insert((*name).clone())) {
                return Err(PackageMismatch(format!("component `{repeated}` is in two groups")));
            }
            groups.push(group.checked(app, key)?);
        }
        let tabs = match (self.tabs, files) {
            (Some(tabs), Some(files)) => Some(tabs.checked(app, shape, files)?),
            (None, None) => None,
            _ => {
                return Err(PackageMismatch(
                    "the package has a browser group without files, or the reverse".to_owned(),
                ));
            }
        };
        Ok(Self { app: PackedApp::new(app), groups, tabs, ..self })
    }

    /// Returns the package as bytes.
    ///
    /// # Panics
    /// Never: a package is plain data.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a package is plain data")
    }

    /// Parses the bytes that [`Package::to_bytes`] returned.
    ///
    /// # Errors
    /// If the bytes are not a package, or if they have the format of another version of the program.
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

    /// Returns the digest of the plan, which is equal in all processes with the same components and the same plan.
    #[must_use]
    pub fn plan_digest(&self) -> isomer_ids::PlanDigest {
        self.plan_digest
    }

    /// Returns which requests of the app are traced, according to its manifest.
    #[must_use]
    pub fn sampling(&self) -> &AppSampling {
        &self.app.sampling
    }

    /// Returns the app's name, as in the manifest.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.app.name
    }

    /// Returns the app's version, as in the manifest.
    #[must_use]
    pub fn version(&self) -> &semver::Version {
        &self.app.version
    }

    /// Returns the name of the shape that the app runs in.
    #[must_use]
    pub fn shape(&self) -> &str {
        &self.shape
    }

    /// Returns the path of the health check: a request for this path must succeed before the revision is put into
    /// service.
    #[must_use]
    pub fn health(&self) -> Option<&str> {
        self.app.health.as_deref()
    }

    /// Returns the grants of the app's components.
    #[must_use]
    pub fn grants(&self) -> &AppGrants {
        &self.app.grants
    }

    /// Returns the names of the groups, in the order of the package.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| group.name.as_str())
    }

    /// Returns the cache keys of the compiled code.
    pub fn code(&self) -> impl Iterator<Item = &Key> {
        self.groups.iter().map(|group| &group.key)
    }

    /// Returns the cache key of the browser group's files, which are stored as a note; `None` if the package has no
    /// browser group.
    #[must_use]
    pub fn files(&self) -> Option<&Key> {
        self.tabs.as_ref().map(|tabs| &tabs.files)
    }
}

/// Plans an app, composes the group at `index` with probes, and passes the composition to `compiler`. Returns the group's
/// metadata as text, for [`ProbedGroup::new`](crate::ProbedGroup::new). Returns `None` and calls no compiler if there is
/// no such group, or if no function of the group can be probed.
///
/// # Errors
/// The errors of [`Package::make`] and of `compiler`.
///
/// # Panics
/// Never: the metadata is plain data.
pub fn draft_probed_group<E: From<RevisionError>>(
    app: &App,
    components: &Components,
    options: &PackageOptions,
    index: usize,
    compiler: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<Option<String>, E> {
    let plan_options = PlanOptions { deterministic: options.deterministic };
    let plan = isomer_seam::plan_with(app, components, &options.shape, plan_options).map_err(RevisionError::from)?;
    let Some(planned) = groups_of(&plan, options)?.get(index).copied() else { return Ok(None) };
    let Some((metadata, bytes)) = composition::compose_probed(planned, components)? else { return Ok(None) };
    compiler(&bytes)?;
    Ok(Some(serde_json::to_string(&metadata).expect("metadata is plain data")))
}

/// Returns the groups that one process runs.
fn groups_of<'a>(plan: &'a Plan, options: &PackageOptions) -> Result<Vec<&'a PlannedGroup>, RevisionError> {
    let Some(process) = &options.process else { return Ok(plan.groups.iter().collect()) };
    let mut processes = plan.processes();
    processes.remove(process.as_str()).ok_or_else(|| {
        let known = processes.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        RevisionError::NoProcess { process: process.clone(), known }
    })
}
