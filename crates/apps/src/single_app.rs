//! The only app of a process, for `isomer run` and `isomer dev`: a tenancy with one tenant without limits, and one app
//! that serves every host name and always stays in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use isomer_capabilities::secrets::SecretValues;
use isomer_capabilities::{AppOrigin, AppResources, DataDir, Engines, GrantedBy};
use isomer_ids::{AppName, HostPattern, ReleaseDigest, TenantName};
use isomer_observe::Log;
use isomer_runtime::code::CodeSource;
use isomer_runtime::engine::PoolSizes;
use isomer_telemetry::Tracer;

use crate::error::RevisionError;
use crate::package::{NewPackage, Package, PackageOptions};
use crate::probing::maker::ProbedCodeMaker;
use crate::progress::Progress;
use crate::revision;
use crate::seams::Peers;
use crate::tenancy::{
    EmptyRepository, LaunchSpec, RetiredRevision, StandbyRevision, Tenancy, TenancyError, TenancyOptions, TimeLimits,
};
use isomer_seam::Components;

/// The name of the app in the tenancy.
const NAME: &str = "app";

/// An app with its own tenancy and engine. Cheap to clone.
#[derive(Clone)]
pub struct SingleApp {
    tenancy: Tenancy,
    tenant: TenantName,
    name: AppName,
    granted_by: GrantedBy,
    origin: AppOrigin,
    tracer: Tracer,
    secrets: SecretValues,
    environment: Arc<BTreeMap<String, String>>,
}

/// The interval between two checks whether a retired revision has left memory.
const RETIRED_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// If the number of instances per group is limited, the engine's pool has room for the instances of this many groups.
/// Such a pool is smaller than the default one, so that several apps fit into the address space of one process.
const GROUPS_AT_ONCE: u32 = 16;

impl SingleApp {
    /// Creates an app without a revision. Must be called in a tokio runtime. The limits on loaded apps, memory and time
    /// in `options` are ignored.
    ///
    /// # Errors
    /// If the address space of the engine cannot be reserved.
    pub fn new(cache: impl Into<CodeSource>, log: Log, options: TenancyOptions) -> Result<Self, RevisionError> {
        let sizes = options.instances_max.map_or_else(PoolSizes::of_one_app, |of_a_group| {
            PoolSizes::new(of_a_group.saturating_mul(GROUPS_AT_ONCE)).at_most(PoolSizes::of_one_app())
        });
        let engine = revision::engine(sizes, options.source_lines)?;
        let options = TenancyOptions {
            loaded_max: usize::MAX,
            memory: None,
            time_limits: TimeLimits::NONE,
            probed_groups_max: usize::MAX,
            is_of_one_app: true,
            ..options
        };
        let tenancy = Tenancy::new(engine, cache, log, Arc::new(EmptyRepository), options);
        let tenant: TenantName = TenantName::DEFAULT.parse().expect("the default tenant has a valid name");
        tenancy.set_own_tenant(&tenant);
        let name = NAME.parse().expect("`NAME` is a valid name of an app");
        Ok(Self {
            tenancy,
            tenant,
            name,
            granted_by: GrantedBy::Manifest,
            origin: AppOrigin::Sources,
            tracer: Tracer::default(),
            secrets: SecretValues::FromManifest,
            environment: Arc::default(),
        })
    }

    /// Sets the source of the app's grants: the manifest, or flags of the command line.
    #[must_use]
    pub fn granted_by(self, granted_by: GrantedBy) -> Self {
        Self { granted_by, ..self }
    }

    /// Sets where revisions come from that start after this call.
    pub fn set_origin(&mut self, origin: AppOrigin) {
        self.origin = origin;
    }

    /// Sets the tracer that records the requests of revisions that start after this call.
    #[must_use]
    pub fn traced_by(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Sets the source of the secrets of revisions that start after this call.
    pub fn set_secrets(&mut self, secrets: SecretValues) {
        self.secrets = secrets;
    }

    /// Sets the environment variables from which secrets may take their values. They apply to revisions that start
    /// after this call. A variable is used only if the process's own environment does not have it.
    pub fn set_environment(&mut self, environment: BTreeMap<String, String>) {
        self.environment = Arc::new(environment);
    }

    /// Returns the directories of the app: relative paths in the manifest are resolved against `dir`, and the stores
    /// are in `data`.
    #[must_use]
    pub fn place(&self, dir: &Path, data: &DataDir) -> AppResources {
        let (secrets, environment) = (self.secrets.clone(), self.environment.clone());
        let place = AppResources::of_origin(self.origin, dir, data);
        AppResources { granted_by: self.granted_by, secrets, environment, ..place }
    }

    /// Returns the directories of the app as [`SingleApp::place`] does, with the account of the process's only tenant.
    #[must_use]
    pub fn resources(&self, dir: &Path, data: &DataDir) -> AppResources {
        let place = self.place(dir, data);
        let account = self.tenancy.account(&self.tenant).unwrap_or_else(|| place.account.clone());
        let storage = self.tenancy.storage(&self.tenant).unwrap_or_else(|| place.storage.clone());
        AppResources { account, storage, statement_time_max: self.tenancy.time_limits().statement, ..place }
    }

    /// Returns the resolver that the front door uses.
    #[must_use]
    pub fn resolver(&self) -> Arc<Tenancy> {
        Arc::new(self.tenancy.clone())
    }

    /// Returns the storage engines that all revisions of the app share.
    #[must_use]
    pub fn stores(&self) -> &Engines {
        self.tenancy.stores()
    }

    /// Makes a package for the engine of this process.
    ///
    /// # Errors
    /// The errors of [`Package::make`].
    pub fn make(
        &self,
        app: &isomer_manifest::App,
        components: &Components,
        options: &PackageOptions,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<NewPackage, RevisionError> {
        Package::make(app, components, options, self.tenancy.engine(), self.tenancy.cache(), progress)
    }

    /// Starts a package next to the revision in service. Relative paths in the manifest are resolved against `dir`, and
    /// the stores are in `data`.
    ///
    /// # Errors
    /// The errors of [`Tenancy::start`].
    pub async fn start(
        &self,
        package: Package,
        dir: &Path,
        data: &DataDir,
        peers: Peers,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<StandbyRevision, TenancyError> {
        let revision = ReleaseDigest::from(package.plan_digest().0);
        let probes = package.probes.clone().map(|probes| probes as Arc<dyn ProbedCodeMaker>);
        let (package, place, tracer) = (Arc::new(package), self.place(dir, data), self.tracer.clone());
        let spec = LaunchSpec { package, place, log: None, access: None, tracer, probes };
        let started =
            self.tenancy.start_with_peers(&self.tenant, &self.name, &revision, &spec, peers, progress).await?;
        self.tracer.apply(spec.package.sampling());
        Ok(started)
    }

    /// Takes the revision in service out of service, and waits until it has left memory and its stores in `data` are
    /// closed. Waits for its running requests, but no longer than `timeout`. Returns whether the stores are closed.
    pub async fn retire(&self, data: &DataDir, timeout: Duration) -> bool {
        let closed = async {
            if let Ok(Some(retired)) = self.tenancy.unload(&self.tenant, &self.name) {
                while !retired.is_drained() {
                    tokio::time::sleep(RETIRED_CHECK_INTERVAL).await;
                }
            }
            self.stores().closed(data.path()).await;
        };
        tokio::time::timeout(timeout, closed).await.is_ok()
    }

    /// Puts `started` into service, and returns the revision that leaves service. Requests in flight are finished by
    /// the revision that began to serve them.
    ///
    /// # Panics
    /// Never, because the tenant is not removed.
    pub fn take_over(&self, started: StandbyRevision) -> Option<RetiredRevision> {
        let every: HostPattern = "*".parse().expect("`*` is a valid pattern");
        self.tenancy.take_over(started, &[every]).expect("the tenant is not removed")
    }
}

#[cfg(test)]
mod tests {
    use isomer_front::{Refusal, SiteResolver as _};
    use isomer_observe::Format;
    use isomer_runtime::code::CodeCache;

    use super::*;

    #[test]
    fn the_manifest_warns_of_routes_for_the_front_doors_path() {
        assert_eq!(isomer_manifest::FRONT_HEALTH_PATH, isomer_front::HEALTH_PATH);
    }

    #[tokio::test]
    async fn requests_before_the_first_revision_are_refused_as_not_built() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cache = CodeCache::open(&dir.path().join("cache")).expect("a cache");
        let log = Log::start(std::io::sink(), Format::Json, false).expect("a log");
        let options = TenancyOptions { instances_max: Some(1), ..TenancyOptions::unbounded() };
        let single_app = SingleApp::new(cache, log, options).expect("there is address space");
        assert_eq!(single_app.resolver().resolve("any.example").err(), Some(Refusal::NotBuilt));
    }
}
