//! The in-memory index of tenants and apps. Reads use the index, and changes are checked against it.
//!
//! The index does no I/O. It is built from the content of the database, and updated after each committed transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use isomer_api::StoredToken;
use isomer_ids::{AppName, HostPattern, ReleaseDigest, TenantName, TokenId};

use crate::error::StateError;
use crate::hosts::{Claim, Hosts};
use crate::model::{App, Deployment, HOSTS_MAX, REVISIONS_MAX, Tenant};
use crate::tables;

/// An index of the tenants, apps and tokens. Contains neither the values of secrets nor packages.
#[derive(Default)]
pub(crate) struct StateIndex {
    /// All tenants of the node, by name.
    pub(crate) tenants: BTreeMap<TenantName, Arc<Tenant>>,
    /// All apps of the node, by tenant and name.
    pub(crate) apps: BTreeMap<(TenantName, AppName), Arc<App>>,
    /// The tokens of all tenants, by the token's identifier.
    pub(crate) tokens: HashMap<TokenId, StoredToken>,
    /// For each release, the number of apps that have the release in their history.
    pub(crate) revisions: HashMap<ReleaseDigest, usize>,
    /// For each release, the number of bytes that are charged for it.
    pub(crate) charges: HashMap<ReleaseDigest, u64>,
    /// The claims of tenants and apps on host names.
    pub(crate) hosts: Hosts,
}

impl From<tables::Read> for StateIndex {
    fn from(read: tables::Read) -> Self {
        let mut hosts = Hosts::default();
        for (name, tenant) in &read.tenants {
            for host in &tenant.hosts {
                hosts.add(host, Claim { tenant: name.clone(), app: None });
            }
        }
        for ((tenant, name), app) in &read.apps {
            for host in &app.hosts {
                hosts.add(host, Claim { tenant: tenant.clone(), app: Some(name.clone()) });
            }
        }
        Self {
            tenants: read.tenants.into_iter().map(|(name, tenant)| (name, Arc::new(tenant))).collect(),
            apps: read.apps.into_iter().map(|(key, app)| (key, Arc::new(app))).collect(),
            tokens: read.tokens,
            revisions: read.revisions,
            charges: read.charges,
            hosts,
        }
    }
}

impl StateIndex {
    /// Returns an app.
    ///
    /// # Errors
    /// If the tenant or the app does not exist.
    pub(crate) fn app(&self, tenant: &TenantName, name: &AppName) -> Result<&Arc<App>, StateError> {
        if !self.tenants.contains_key(tenant) {
            return Err(StateError::NoTenant(tenant.clone()));
        }
        let app = self.apps.get(&(tenant.clone(), name.clone()));
        app.ok_or_else(|| StateError::NoApp { tenant: tenant.clone(), app: name.clone() })
    }

    /// Returns the apps of a tenant, sorted by name.
    pub(crate) fn apps_of(&self, tenant: &TenantName) -> impl Iterator<Item = (&AppName, &Arc<App>)> {
        // `a` is the smallest valid name.
        let first: AppName = "a".parse().expect("`a` is a valid name");
        let from = self.apps.range((tenant.clone(), first)..);
        let tenant = tenant.clone();
        from.take_while(move |((owner, _), _)| *owner == tenant).map(|((_, name), app)| (name, app))
    }

    /// Returns the number of bytes that are charged to a tenant for its releases. If `taking` contains an app, a
    /// release and the release's charge, returns the number that would be charged after this release has taken over the
    /// app.
    pub(crate) fn charged(&self, tenant: &TenantName, taking: Option<(&AppName, &ReleaseDigest, u64)>) -> u64 {
        let mut revisions = BTreeSet::new();
        for (app, known) in self.apps_of(tenant) {
            let history = known.history.iter().map(|deployment| &deployment.revision);
            match taking {
                // The new release becomes the first in the history. The oldest release is dropped if the history is
                // full.
                Some((taker, revision, _)) if taker == app => {
                    revisions.extend(history.filter(|it| *it != revision).take(REVISIONS_MAX - 1));
                }
                _ => revisions.extend(history),
            }
        }
        let mut sum = 0_u64;
        if let Some((_, revision, charge)) = taking {
            revisions.remove(revision);
            sum = charge;
        }
        let charge = |revision: &&ReleaseDigest| self.charges.get(*revision).copied().unwrap_or(0);
        revisions.iter().map(charge).fold(sum, u64::saturating_add)
    }

    /// Returns the tokens of a tenant, in no particular order.
    pub(crate) fn tokens_of(&self, tenant: &TenantName) -> impl Iterator<Item = &StoredToken> {
        let tenant = tenant.clone();
        self.tokens.values().filter(move |token| token.info.tenant == tenant)
    }

    /// Checks that the tenant or app of `claim` may have these host names.
    ///
    /// # Errors
    /// [`StateError::TooMany`] if there are too many names; [`StateError::HostTaken`] for the first name that conflicts
    /// with a host name of another tenant or app.
    pub(crate) fn check(&self, hosts: &[HostPattern], claim: &Claim) -> Result<(), StateError> {
        if hosts.len() > HOSTS_MAX {
            return Err(StateError::TooMany { what: "host names", max: HOSTS_MAX });
        }
        for host in hosts {
            self.hosts.check(host, claim).map_err(|(theirs, holder)| StateError::HostTaken {
                host: host.clone(),
                theirs,
                holder: holder.to_string(),
            })?;
        }
        Ok(())
    }

    /// Replaces the host names `before` of the tenant or app of `claim` with the host names `after`.
    pub(crate) fn reclaim(&mut self, claim: &Claim, before: Vec<HostPattern>, after: &[HostPattern]) {
        for host in &before {
            self.hosts.remove(host, claim);
        }
        for host in after {
            self.hosts.add(host, claim.clone());
        }
    }

    /// Returns, for each release in the history of `before` or `after`, the number of apps that will have the release
    /// in their history after an app has changed from `before` to `after`.
    pub(crate) fn changed_counts(&self, before: Option<&App>, after: Option<&App>) -> HashMap<ReleaseDigest, usize> {
        let revisions = |app: Option<&App>| {
            let history = app.map(|app| app.history.as_slice()).unwrap_or_default();
            history.iter().map(|deployment: &Deployment| deployment.revision.clone()).collect::<Vec<_>>()
        };
        let mut counts = HashMap::new();
        for revision in revisions(after) {
            let count = self.revisions.get(&revision).copied().unwrap_or(0);
            counts.insert(revision, count + 1);
        }
        for revision in revisions(before) {
            let count = self.revisions.get(&revision).copied().unwrap_or(0);
            let count = counts.entry(revision).or_insert(count);
            *count = count.saturating_sub(1);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(number: u8) -> ReleaseDigest {
        format!("{number:032x}").parse().unwrap()
    }

    fn app(releases: &[u8]) -> App {
        let deployment = |number: &u8| Deployment {
            revision: release(*number),
            version: "1.0.0".to_owned(),
            shape: None,
            deployed_at: 0,
            origin: None,
            replacement: None,
        };
        App { history: releases.iter().map(deployment).collect(), hosts: Vec::new(), stopped: false }
    }

    #[test]
    fn counts_change_only_for_releases_that_an_app_gains_or_loses() {
        let mut index = StateIndex::default();
        index.revisions.extend([(release(1), 2), (release(2), 1)]);
        let changed = index.changed_counts(Some(&app(&[2, 1])), Some(&app(&[3, 1])));
        let expected = [(release(1), 2), (release(2), 0), (release(3), 1)];
        assert_eq!(changed, expected.into_iter().collect());
    }

    #[test]
    fn a_release_of_several_apps_is_charged_once_and_a_take_over_drops_the_oldest() {
        let (tenant, shop, blog): (TenantName, AppName, AppName) =
            ("acme".parse().unwrap(), "shop".parse().unwrap(), "blog".parse().unwrap());
        let mut index = StateIndex::default();
        index.tenants.insert(tenant.clone(), Arc::new(Tenant::default()));
        let oldest = u8::try_from(REVISIONS_MAX).unwrap();
        let full: Vec<u8> = (1..=oldest).collect();
        index.apps.insert((tenant.clone(), shop.clone()), Arc::new(app(&full)));
        index.apps.insert((tenant.clone(), blog), Arc::new(app(&[1])));
        index.charges.extend(full.iter().map(|number| (release(*number), 10)));
        let all = 10 * u64::from(oldest);
        assert_eq!(index.charged(&tenant, None), all);
        let with_new = index.charged(&tenant, Some((&shop, &release(200), 7)));
        assert_eq!(with_new, all - 10 + 7, "the oldest release is dropped for the new one");
        let again = index.charged(&tenant, Some((&shop, &release(2), 4)));
        assert_eq!(again, all - 10 + 4, "a release that the app had before drops no other release");
    }
}
