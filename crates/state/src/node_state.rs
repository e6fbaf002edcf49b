//! The state of a node, and the functions that read and change it.
//!
//! Tenants and apps are also kept in memory, in an index, and are read from there. A change is checked against this
//! index, written to the database in one synced transaction, and only then applied to the index. Changes run one after
//! the other; reads do not wait for changes.
//!
//! If the disk fails during a change, the database is opened again ([`isomer_disk::Database`]), and the index is
//! rebuilt from the database before the next change. A failed commit may still have become durable. Each transaction
//! therefore also writes the number of the change, and after a failed commit the number in the file shows whether the
//! change was made. If the file cannot be read, the result of the change is [`StateError::Unsettled`].
//!
//! The file is long because each change is one function that checks, writes and updates the index, and these functions
//! are read side by side.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use isomer_api::{DeployMessage, StoredToken, TenantChange};
use isomer_disk::{Database, FileStorage, Storage};
use isomer_ids::{AppName, Digest, HostPattern, ReleaseDigest, TenantName, TokenId, TokenName};
use redb::{ReadableDatabase as _, ReadableTable as _, WriteTransaction};

use crate::error::StateError;
use crate::hosts::Claim;
use crate::index::StateIndex;
use crate::model::{
    App, Contents, REVISIONS_MAX, References, SECRETS_MAX, Secret, Secrets, TOKENS_MAX, Taking, Tenant,
};
use crate::tables::{self, APPS, CHARGES, PACKAGES, PARTS, Parts, SECRETS, TENANTS, TOKENS, decode, encode};

/// The maximum time that a change waits, after a failed commit, until the database can be read again to check whether
/// the change was made.
const COMMIT_CHECK_WAIT_MAX: Duration = Duration::from_secs(1);

type AppKey = (TenantName, AppName);

/// The state of a node. Only one process at a time can open it.
pub struct NodeState {
    path: PathBuf,
    database: Database,
    /// Locked during each change. Contains the value of [`Database::generation`](isomer_disk::Database::generation) at
    /// the time when [`Self::seen`] was built from the database.
    changing: Mutex<u64>,
    seen: RwLock<StateIndex>,
}

impl std::fmt::Debug for NodeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeState").field("path", &self.path).finish_non_exhaustive()
    }
}

impl NodeState {
    /// Opens the state file at `path`, and creates it if it does not exist.
    ///
    /// # Errors
    /// If another process has the file open, or the file is damaged, belongs to a different program, or was written by
    /// a later version of Isomer.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        Self::open_over(path, FileStorage::new(path))
    }

    /// Opens the state over the given storage, for tests of a failing disk.
    ///
    /// # Errors
    /// The errors of [`NodeState::open`].
    pub fn open_over(path: &Path, storage: impl Storage) -> Result<Self, StateError> {
        let (database, read) = tables::open(path, storage)?;
        let changing = Mutex::new(database.generation()?);
        Ok(Self { path: path.to_owned(), database, changing, seen: RwLock::new(StateIndex::from(read)) })
    }

    /// Returns the path of the state file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all tenants, sorted by name.
    #[must_use]
    pub fn tenants(&self) -> Vec<(TenantName, Arc<Tenant>)> {
        self.seen().tenants.iter().map(|(name, tenant)| (name.clone(), tenant.clone())).collect()
    }

    /// Returns the tenant with this name.
    ///
    /// # Errors
    /// If the tenant does not exist.
    pub fn tenant(&self, name: &TenantName) -> Result<Arc<Tenant>, StateError> {
        self.seen().tenants.get(name).cloned().ok_or_else(|| StateError::NoTenant(name.clone()))
    }

    /// Returns all apps, sorted by tenant and name.
    #[must_use]
    pub fn apps(&self) -> Vec<(TenantName, AppName, Arc<App>)> {
        self.seen().apps.iter().map(|((tenant, name), app)| (tenant.clone(), name.clone(), app.clone())).collect()
    }

    /// Returns the apps of a tenant, sorted by name.
    #[must_use]
    pub fn apps_of(&self, tenant: &TenantName) -> Vec<(AppName, Arc<App>)> {
        self.seen().apps_of(tenant).map(|(name, app)| (name.clone(), app.clone())).collect()
    }

    /// Returns the number of tenants and the number of apps.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let seen = self.seen();
        (seen.tenants.len(), seen.apps.len())
    }

    /// Returns whether the release is in the history of an app.
    #[must_use]
    pub fn has_revision(&self, revision: &ReleaseDigest) -> bool {
        self.seen().revisions.contains_key(revision)
    }

    /// Returns the number of bytes that are charged to a tenant for the releases of its apps. A release of several apps
    /// is charged once.
    #[must_use]
    pub fn charged(&self, tenant: &TenantName) -> u64 {
        self.seen().charged(tenant, None)
    }

    /// Returns the total number of bytes that would be charged to the tenant for the releases of its apps if the
    /// release `revision` became the current one of `app`. `charge` is the number of bytes for `revision` by itself.
    #[must_use]
    pub fn charged_with(&self, tenant: &TenantName, app: &AppName, revision: &ReleaseDigest, charge: u64) -> u64 {
        self.seen().charged(tenant, Some((app, revision, charge)))
    }

    /// Returns an app.
    ///
    /// # Errors
    /// If the tenant or the app does not exist.
    pub fn app(&self, tenant: &TenantName, name: &AppName) -> Result<Arc<App>, StateError> {
        self.seen().app(tenant, name).cloned()
    }

    /// Returns the encoded package of a release; `None` if no app has the release.
    ///
    /// # Errors
    /// If the state file cannot be read.
    pub fn package(&self, revision: &ReleaseDigest) -> Result<Option<Vec<u8>>, StateError> {
        self.database.read(|database| {
            let packages = database.begin_read()?.open_table(PACKAGES)?;
            Ok(packages.get(revision.as_str())?.map(|package| package.value().to_vec()))
        })
    }

    /// Returns the values of a tenant's secrets.
    ///
    /// # Errors
    /// If the state file cannot be read.
    pub fn secrets(&self, tenant: &TenantName) -> Result<Secrets, StateError> {
        self.database.read(|database| {
            let mut found = Secrets::new();
            let secrets = database.begin_read()?.open_table(SECRETS)?;
            for entry in secrets.range((tenant.as_str(), "")..)? {
                let (key, value) = entry?;
                let (owner, name) = key.value();
                if owner != tenant.as_str() {
                    break;
                }
                found.insert(name.to_owned(), Secret::new(value.value().to_vec()));
            }
            Ok(found)
        })
    }

    /// Returns the token with the identifier `id`; `None` if no tenant has such a token.
    #[must_use]
    pub fn token(&self, id: &TokenId) -> Option<StoredToken> {
        self.seen().tokens.get(id).cloned()
    }

    /// Returns the tokens of a tenant, sorted by name.
    ///
    /// # Errors
    /// If the tenant does not exist.
    pub fn tokens_of(&self, tenant: &TenantName) -> Result<Vec<StoredToken>, StateError> {
        self.tenant(tenant)?;
        let mut tokens = self.seen().tokens_of(tenant).cloned().collect::<Vec<_>>();
        tokens.sort_unstable_by(|one, other| one.info.name.cmp(&other.info.name));
        Ok(tokens)
    }

    /// Returns the parts in `wanted` that are in no release of the tenant's apps. Reads the parts of one release after
    /// the other, and stops when all wanted parts have been found.
    ///
    /// # Errors
    /// If the state file cannot be read.
    pub fn parts_not_of(&self, tenant: &TenantName, wanted: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, StateError> {
        let apps = self.apps_of(tenant);
        let revisions: BTreeSet<_> = apps.iter().flat_map(|(_, app)| &app.history).map(|one| &one.revision).collect();
        self.database.read(|database| {
            let (mut left, parts) = (wanted.clone(), database.begin_read()?.open_table(PARTS)?);
            for revision in &revisions {
                if left.is_empty() {
                    break;
                }
                if let Some(of_revision) = parts.get(revision.as_str())? {
                    let Parts { blobs, .. } = decode(of_revision.value())?;
                    left.retain(|digest| !blobs.contains(digest));
                }
            }
            Ok(left)
        })
    }

    /// Returns the parts of all releases of a tenant's apps, except the release `without`. Stops reading releases when
    /// it has found more than `parts_max` parts.
    ///
    /// # Errors
    /// If the state file cannot be read.
    pub fn parts_of(
        &self,
        tenant: &TenantName,
        without: Option<&ReleaseDigest>,
        parts_max: usize,
    ) -> Result<BTreeSet<Digest>, StateError> {
        let apps = self.apps_of(tenant);
        let revisions: BTreeSet<_> = apps.iter().flat_map(|(_, app)| &app.history).map(|one| &one.revision).collect();
        self.database.read(|database| {
            let (mut found, parts) = (BTreeSet::new(), database.begin_read()?.open_table(PARTS)?);
            for revision in revisions.iter().filter(|revision| Some(**revision) != without) {
                if found.len() > parts_max {
                    break;
                }
                if let Some(of_revision) = parts.get(revision.as_str())? {
                    let Parts { blobs, .. } = decode(of_revision.value())?;
                    found.extend(blobs);
                }
            }
            Ok(found)
        })
    }

    /// Returns everything to which the releases of all apps refer.
    ///
    /// # Errors
    /// If the state file cannot be read.
    pub fn references(&self) -> Result<References, StateError> {
        self.database.read(|database| {
            let mut found = References::default();
            for entry in database.begin_read()?.open_table(PARTS)?.iter()? {
                let (revision, parts) = entry?;
                let parts: Parts = decode(parts.value())?;
                found.revisions.extend(revision.value().parse::<ReleaseDigest>().ok());
                found.blobs.extend(parts.blobs);
                found.code.extend(parts.code);
            }
            Ok(found)
        })
    }

    /// Creates or changes a tenant.
    ///
    /// # Errors
    /// If a host name conflicts with another tenant's host names, there are too many host names, or the disk fails.
    pub fn set_tenant(&self, name: &TenantName, change: TenantChange) -> Result<Arc<Tenant>, StateError> {
        let _changing = self.changing()?;
        let before = self.seen().tenants.get(name).cloned();
        let mut tenant = before.as_deref().cloned().unwrap_or_default();
        change.quotas.apply(&mut tenant.quotas);
        let claim = Claim { tenant: name.clone(), app: None };
        if let Some(hosts) = change.hosts {
            self.seen().check(&hosts, &claim)?;
            tenant.hosts = unique(hosts);
        }
        self.write(|tables| {
            tables.open_table(TENANTS)?.insert(name.as_str(), encode(&tenant).as_slice())?;
            Ok(())
        })?;
        let mut seen = self.seen_mut();
        seen.reclaim(&claim, before.map(|before| before.hosts.clone()).unwrap_or_default(), &tenant.hosts);
        let tenant = Arc::new(tenant);
        seen.tenants.insert(name.clone(), tenant.clone());
        Ok(tenant)
    }

    /// Removes a tenant that has no apps, and the tenant's secrets and tokens.
    ///
    /// # Errors
    /// If the tenant does not exist or has apps, or the disk fails.
    pub fn remove_tenant(&self, name: &TenantName) -> Result<(), StateError> {
        let _changing = self.changing()?;
        let tenant = self.tenant(name)?;
        let apps = self.seen().apps_of(name).map(|(app, _)| format!("`{app}`")).collect::<Vec<_>>();
        if !apps.is_empty() {
            return Err(StateError::HasApps { tenant: name.clone(), apps: apps.join(", ") });
        }
        let tokens = self.seen().tokens_of(name).map(|token| token.info.id.clone()).collect::<Vec<_>>();
        self.write(|tables| {
            tables.open_table(TENANTS)?.remove(name.as_str())?;
            let mut kept = tables.open_table(TOKENS)?;
            for id in &tokens {
                kept.remove(id.as_str())?;
            }
            let mut secrets = tables.open_table(SECRETS)?;
            for secret in &tenant.secrets {
                secrets.remove((name.as_str(), secret.as_str()))?;
            }
            Ok(())
        })?;
        let mut seen = self.seen_mut();
        seen.reclaim(&Claim { tenant: name.clone(), app: None }, tenant.hosts.clone(), &[]);
        seen.tenants.remove(name);
        seen.tokens.retain(|_, token| token.info.tenant != *name);
        Ok(())
    }

    /// Adds a token to its tenant.
    ///
    /// # Errors
    /// If the tenant does not exist, already has a token with this name, or has the maximum number of tokens, or if the
    /// disk fails.
    pub fn add_token(&self, token: &StoredToken) -> Result<(), StateError> {
        let _changing = self.changing()?;
        let (tenant, name) = (&token.info.tenant, &token.info.name);
        let others = self.tokens_of(tenant)?;
        if others.iter().any(|other| other.info.name == *name) || self.token(&token.info.id).is_some() {
            return Err(StateError::TokenTaken { tenant: tenant.clone(), name: name.clone() });
        }
        if others.len() >= TOKENS_MAX {
            return Err(StateError::TooMany { what: "tokens", max: TOKENS_MAX });
        }
        self.write(|tables| {
            tables.open_table(TOKENS)?.insert(token.info.id.as_str(), encode(token).as_slice())?;
            Ok(())
        })?;
        self.seen_mut().tokens.insert(token.info.id.clone(), token.clone());
        Ok(())
    }

    /// Removes a token of a tenant. The token is then invalid.
    ///
    /// # Errors
    /// If the tenant or the token does not exist, or the disk fails.
    pub fn remove_token(&self, tenant: &TenantName, name: &TokenName) -> Result<(), StateError> {
        let _changing = self.changing()?;
        let found = self.tokens_of(tenant)?.into_iter().find(|token| token.info.name == *name);
        let id = found.ok_or_else(|| StateError::NoToken { tenant: tenant.clone(), name: name.clone() })?.info.id;
        self.write(|tables| {
            tables.open_table(TOKENS)?.remove(id.as_str())?;
            Ok(())
        })?;
        self.seen_mut().tokens.remove(&id);
        Ok(())
    }

    /// Sets the value of a tenant's secret, and creates the secret if it does not exist.
    ///
    /// # Errors
    /// If the tenant does not exist or would have too many secrets, or the disk fails.
    pub fn set_secret(&self, tenant: &TenantName, name: &str, value: &Secret) -> Result<(), StateError> {
        let _changing = self.changing()?;
        let mut changed = Tenant::clone(&*self.tenant(tenant)?);
        changed.secrets.insert(name.to_owned());
        if changed.secrets.len() > SECRETS_MAX {
            return Err(StateError::TooMany { what: "secrets", max: SECRETS_MAX });
        }
        self.write(|tables| {
            tables.open_table(SECRETS)?.insert((tenant.as_str(), name), value.reveal())?;
            Ok(())
        })?;
        self.seen_mut().tenants.insert(tenant.clone(), Arc::new(changed));
        Ok(())
    }

    /// Removes a secret of a tenant if `may` allows the removal. No other change is made between the call of `may` and
    /// the removal.
    ///
    /// # Errors
    /// If the tenant or the secret does not exist, `may` returns an error, or the disk fails.
    pub fn remove_secret<E: From<StateError>>(
        &self,
        tenant: &TenantName,
        name: &str,
        may: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let _changing = self.changing()?;
        let mut changed = Tenant::clone(&*self.tenant(tenant)?);
        if !changed.secrets.remove(name) {
            return Err(StateError::NoSecret { tenant: tenant.clone(), name: name.to_owned() }.into());
        }
        may()?;
        self.write(|tables| {
            tables.open_table(SECRETS)?.remove((tenant.as_str(), name))?;
            Ok(())
        })?;
        self.seen_mut().tenants.insert(tenant.clone(), Arc::new(changed));
        Ok(())
    }

    /// Checks whether [`NodeState::take_over`] would accept a release of the app under these host names.
    ///
    /// # Errors
    /// If the tenant does not exist, if the app is new and the tenant has as many apps as its quota allows, if there
    /// are too many host names, or if one of them is taken.
    pub fn check(&self, tenant: &TenantName, app: &AppName, hosts: Option<&[HostPattern]>) -> Result<(), StateError> {
        let seen = self.seen();
        let quotas = &seen.tenants.get(tenant).ok_or_else(|| StateError::NoTenant(tenant.clone()))?.quotas;
        let is_new = !seen.apps.contains_key(&(tenant.clone(), app.clone()));
        if is_new && seen.apps_of(tenant).count() >= quotas.apps as usize {
            return Err(StateError::TooManyApps { tenant: tenant.clone(), apps_max: quotas.apps });
        }
        let claim = Claim { tenant: tenant.clone(), app: Some(app.clone()) };
        hosts.map_or(Ok(()), |hosts| seen.check(hosts, &claim))
    }

    /// Records a take-over: the deployment, the content of its release and the host names, in one transaction. A
    /// stopped app serves again.
    ///
    /// # Errors
    /// The errors of [`NodeState::check`]. Also if a secret that the app needs was removed, if the charges of the
    /// tenant's releases would exceed their maximum, or if the disk fails.
    pub fn take_over(&self, taking: Taking) -> Result<Arc<App>, StateError> {
        let _changing = self.changing()?;
        let Taking { tenant, app: name, hosts, deployment, contents, charge, charges_max, secrets } = taking;
        self.check(&tenant, &name, hosts.as_deref())?;
        // A client may have removed a secret after the deployment was checked.
        if let Some(name) = secrets.difference(&self.tenant(&tenant)?.secrets).next() {
            return Err(StateError::NoSecret { tenant, name: name.clone() });
        }
        let charged = self.charged_with(&tenant, &name, &deployment.revision, charge);
        if charged > charges_max && charged > self.charged(&tenant) {
            return Err(StateError::NoRoom { tenant, charge: charged, max: charges_max });
        }
        let before = self.app(&tenant, &name).ok();
        let hosts =
            hosts.map(unique).or_else(|| before.as_ref().map(|before| before.hosts.clone())).unwrap_or_default();
        let revision = deployment.revision.clone();
        let earlier = before.iter().flat_map(|before| &before.history);
        let earlier = earlier.filter(|earlier| earlier.revision != revision).cloned();
        let history = std::iter::once(deployment).chain(earlier).take(REVISIONS_MAX).collect();
        let app = App { hosts, stopped: false, history };
        let counts = self.seen().changed_counts(before.as_deref(), Some(&app));
        self.write(|tables| {
            let Contents { package, blobs, code } = &contents;
            tables.open_table(PACKAGES)?.insert(revision.as_str(), package.as_slice())?;
            let parts = Parts { blobs: blobs.clone(), code: code.clone() };
            tables.open_table(PARTS)?.insert(revision.as_str(), encode(&parts).as_slice())?;
            tables.open_table(CHARGES)?.insert(revision.as_str(), charge)?;
            forget(tables, &counts)?;
            tables.open_table(APPS)?.insert((tenant.as_str(), name.as_str()), encode(&app).as_slice())?;
            Ok(())
        })?;
        self.seen_mut().charges.insert(revision, charge);
        Ok(self.see_app((tenant, name), before, Some(app), counts).expect("the changed app is in the index"))
    }

    /// Replaces the content of a release, for example because the release was compiled again. Does nothing if no app
    /// has the release.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn renew(&self, revision: &ReleaseDigest, contents: &Contents) -> Result<(), StateError> {
        let _changing = self.changing()?;
        if !self.seen().revisions.contains_key(revision) {
            return Ok(());
        }
        self.write(|tables| {
            tables.open_table(PACKAGES)?.insert(revision.as_str(), contents.package.as_slice())?;
            let parts = Parts { blobs: contents.blobs.clone(), code: contents.code.clone() };
            tables.open_table(PARTS)?.insert(revision.as_str(), encode(&parts).as_slice())?;
            Ok(())
        })
    }

    /// Replaces the encoded package of a release. Does nothing if no app has the release.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn set_package(&self, revision: &ReleaseDigest, package: &[u8]) -> Result<(), StateError> {
        let _changing = self.changing()?;
        if !self.seen().revisions.contains_key(revision) {
            return Ok(());
        }
        self.write(|tables| {
            tables.open_table(PACKAGES)?.insert(revision.as_str(), package)?;
            Ok(())
        })
    }

    /// Replaces the host names of an app.
    ///
    /// # Errors
    /// If the app does not exist, a host name is taken, or the disk fails.
    pub fn set_hosts(
        &self,
        tenant: &TenantName,
        name: &AppName,
        hosts: Vec<HostPattern>,
    ) -> Result<Arc<App>, StateError> {
        self.change_app(tenant, name, |before| {
            self.check(tenant, name, Some(&hosts))?;
            Ok(App { hosts: unique(hosts), ..App::clone(before) })
        })
    }

    /// Replaces the message of the deployment that put an app's current revision into service. The first message is kept
    /// as the message of the revision's first deployment.
    ///
    /// # Errors
    /// If the app does not exist, or the disk fails.
    pub fn set_message(
        &self,
        tenant: &TenantName,
        name: &AppName,
        message: DeployMessage,
    ) -> Result<Arc<App>, StateError> {
        self.change_app(tenant, name, |before| {
            let mut app = App::clone(before);
            let origin = app.history.first_mut().and_then(|deployment| deployment.origin.as_mut());
            if let Some(origin) = origin.filter(|origin| origin.message.as_ref() != Some(&message)) {
                let earlier = origin.message.replace(message);
                origin.first_message = origin.first_message.take().or(earlier);
            }
            Ok(app)
        })
    }

    /// Stops an app if `stopped` is true; otherwise the app serves again.
    ///
    /// # Errors
    /// If the app does not exist, or the disk fails.
    pub fn set_stopped(&self, tenant: &TenantName, name: &AppName, stopped: bool) -> Result<Arc<App>, StateError> {
        self.change_app(tenant, name, |before| Ok(App { stopped, ..App::clone(before) }))
    }

    /// Applies a change to an app. The change must not modify the revisions in the app's history.
    fn change_app(
        &self,
        tenant: &TenantName,
        name: &AppName,
        change: impl FnOnce(&App) -> Result<App, StateError>,
    ) -> Result<Arc<App>, StateError> {
        let _changing = self.changing()?;
        let before = self.app(tenant, name)?;
        let app = change(&before)?;
        if app == *before {
            return Ok(before);
        }
        self.write(|tables| {
            tables.open_table(APPS)?.insert((tenant.as_str(), name.as_str()), encode(&app).as_slice())?;
            Ok(())
        })?;
        let key = (tenant.clone(), name.clone());
        Ok(self.see_app(key, Some(before), Some(app), HashMap::new()).expect("the changed app is in the index"))
    }

    /// Removes an app, and the releases that no other app has.
    ///
    /// # Errors
    /// If the app does not exist, or the disk fails.
    pub fn remove_app(&self, tenant: &TenantName, name: &AppName) -> Result<(), StateError> {
        let _changing = self.changing()?;
        let before = self.app(tenant, name)?;
        let counts = self.seen().changed_counts(Some(&before), None);
        self.write(|tables| {
            forget(tables, &counts)?;
            tables.open_table(APPS)?.remove((tenant.as_str(), name.as_str()))?;
            Ok(())
        })?;
        self.see_app((tenant.clone(), name.clone()), Some(before), None, counts);
        Ok(())
    }

    fn see_app(
        &self,
        key: AppKey,
        before: Option<Arc<App>>,
        after: Option<App>,
        counts: HashMap<ReleaseDigest, usize>,
    ) -> Option<Arc<App>> {
        let mut seen = self.seen_mut();
        let claim = Claim { tenant: key.0.clone(), app: Some(key.1.clone()) };
        let hosts = before.map(|before| before.hosts.clone()).unwrap_or_default();
        seen.reclaim(&claim, hosts, after.as_ref().map_or(&[], |after| after.hosts.as_slice()));
        for (revision, count) in counts {
            match count {
                0 => {
                    seen.revisions.remove(&revision);
                    seen.charges.remove(&revision);
                }
                count => drop(seen.revisions.insert(revision, count)),
            }
        }
        let after = after.map(Arc::new);
        match &after {
            Some(app) => drop(seen.apps.insert(key, app.clone())),
            None => drop(seen.apps.remove(&key)),
        }
        after
    }

    /// Runs one transaction. Nothing is stored if the transaction fails, except possibly after
    /// [`StateError::Unsettled`].
    fn write(&self, change: impl FnOnce(&WriteTransaction) -> Result<(), StateError>) -> Result<(), StateError> {
        let mut committing = None;
        // redb's default durability is immediate: `commit` returns after the sync.
        let written = self.database.write(|database| {
            let mut tables = database.begin_write()?;
            // Quick repair makes redb open the database after a crash without reading the whole file.
            tables.set_quick_repair(true);
            change(&tables)?;
            committing = Some(tables::count_change(&tables)?);
            Ok(tables.commit()?)
        });
        match (written, committing) {
            // The change may be durable even if the commit failed. It is durable if the last change in the database has
            // the number of this change.
            (Err(StateError::Storage { source }), Some(number)) => {
                match self.database.read_after_pause(tables::last_change, COMMIT_CHECK_WAIT_MAX) {
                    Ok(last) if last == number => Ok(()),
                    Ok(_) => Err(StateError::Storage { source }),
                    Err(_) => Err(StateError::Unsettled { source }),
                }
            }
            (written, _) => written,
        }
    }

    /// Rebuilds the index from the database. If a change returned [`StateError::Unsettled`] or panicked, the rebuilt
    /// index shows whether the change was made.
    ///
    /// # Errors
    /// If the database still cannot be read.
    pub fn reread(&self) -> Result<(), StateError> {
        let mut read = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.see(&mut read)
    }

    /// Locks the state for a change. Before that, rebuilds the index if it may differ from the database.
    fn changing(&self) -> Result<MutexGuard<'_, u64>, StateError> {
        let mut read = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if *read != self.database.generation()? {
            self.see(&mut read)?;
        }
        Ok(read)
    }

    /// Rebuilds the index from the database, and sets `read` to the generation of the database.
    fn see(&self, read: &mut u64) -> Result<(), StateError> {
        let generation = self.database.generation()?;
        let seen = StateIndex::from(self.database.read(tables::read)?);
        *self.seen_mut() = seen;
        *read = generation;
        Ok(())
    }

    fn seen(&self) -> RwLockReadGuard<'_, StateIndex> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen_mut(&self) -> std::sync::RwLockWriteGuard<'_, StateIndex> {
        self.seen.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the releases whose count of apps is 0.
fn forget(tables: &WriteTransaction, counts: &HashMap<ReleaseDigest, usize>) -> Result<(), StateError> {
    let (mut packages, mut parts) = (tables.open_table(PACKAGES)?, tables.open_table(PARTS)?);
    let mut charges = tables.open_table(CHARGES)?;
    for (revision, _) in counts.iter().filter(|(_, count)| **count == 0) {
        packages.remove(revision.as_str())?;
        parts.remove(revision.as_str())?;
        charges.remove(revision.as_str())?;
    }
    Ok(())
}

fn unique(mut hosts: Vec<HostPattern>) -> Vec<HostPattern> {
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rereading_finds_the_change_of_a_panicked_caller() {
        let folder = tempfile::tempdir().unwrap();
        let state = NodeState::open(&folder.path().join("state.redb")).unwrap();
        let tenant: TenantName = "acme".parse().unwrap();
        state.set_tenant(&tenant, TenantChange::default()).unwrap();
        // Simulates a change that panicked between the commit and the update of the index, while the database stayed
        // open.
        state.seen_mut().tenants.clear();
        assert!(state.tenant(&tenant).is_err());
        state.reread().unwrap();
        assert!(state.tenant(&tenant).is_ok());
    }
}
