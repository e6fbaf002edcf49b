//! The tenants and apps in memory. Reads use them, and changes are checked against them.
//!
//! Pure: the index is built from the content of the database, and changed after each committed transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use isomer_api::StoredToken;
use isomer_ids::{AppName, HostPattern, ReleaseDigest, TenantName, TokenId};

use crate::error::StateError;
use crate::hosts::{Claim, Hosts};
use crate::model::{App, Deployment, HOSTS_MAX, REVISIONS_MAX, Tenant};
use crate::tables;

/// An index of the tenants, apps and tokens. Secrets and packages are not part of it.
#[derive(Default)]
pub(crate) struct StateIndex {
    /// All tenants.
    pub(crate) tenants: BTreeMap<TenantName, Arc<Tenant>>,
    /// All apps.
    pub(crate) apps: BTreeMap<(TenantName, AppName), Arc<App>>,
    /// The tenants' tokens.
    pub(crate) tokens: HashMap<TokenId, StoredToken>,
    /// The number of apps that have each release in their history.
    pub(crate) revisions: HashMap<ReleaseDigest, usize>,
    /// The bytes that each release is charged with.
    pub(crate) charges: HashMap<ReleaseDigest, u64>,
    /// The host names of tenants and apps.
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
    /// When there is no such tenant or app.
    pub(crate) fn app(&self, tenant: &TenantName, name: &AppName) -> Result<&Arc<App>, StateError> {
        if !self.tenants.contains_key(tenant) {
            return Err(StateError::NoTenant(tenant.clone()));
        }
        let app = self.apps.get(&(tenant.clone(), name.clone()));
        app.ok_or_else(|| StateError::NoApp { tenant: tenant.clone(), app: name.clone() })
    }

    /// Returns the apps of a tenant, by name.
    pub(crate) fn apps_of(&self, tenant: &TenantName) -> impl Iterator<Item = (&AppName, &Arc<App>)> {
        // `a` is the first of all valid names.
        let first: AppName = "a".parse().expect("it is a name");
        let from = self.apps.range((tenant.clone(), first)..);
        let tenant = tenant.clone();
        from.take_while(move |((of, _), _)| *of == tenant).map(|((_, name), app)| (name, app))
    }

    /// Returns the bytes that a tenant's releases are charged with. With `taking`, returns the bytes after the given
    /// app has taken over the given release, which has the given charge.
    pub(crate) fn charged(&self, tenant: &TenantName, taking: Option<(&AppName, &ReleaseDigest, u64)>) -> u64 {
        let mut revisions = BTreeSet::new();
        for (app, known) in self.apps_of(tenant) {
            let history = known.history.iter().map(|deployment| &deployment.revision);
            match taking {
                // The new release becomes the first of the history, so the oldest one is dropped if the history is
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

    /// Returns the tokens of a tenant.
    pub(crate) fn tokens_of(&self, tenant: &TenantName) -> impl Iterator<Item = &StoredToken> {
        let tenant = tenant.clone();
        self.tokens.values().filter(move |token| token.info.tenant == tenant)
    }

    /// Checks that `claim` may have these host names.
    ///
    /// # Errors
    /// [`StateError::TooMany`], or [`StateError::HostTaken`] for the first name that conflicts with another claim.
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

    /// Replaces the host names of `claim`.
    pub(crate) fn reclaim(&mut self, claim: &Claim, before: Vec<HostPattern>, after: &[HostPattern]) {
        for host in &before {
            self.hosts.remove(host, claim);
        }
        for host in after {
            self.hosts.add(host, claim.clone());
        }
    }

    /// Returns the new number of apps for each release for which this number changes when `before` becomes `after`.
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
        assert_eq!(with_new, all - 10 + 7, "the oldest makes room for the new one");
        let again = index.charged(&tenant, Some((&shop, &release(2), 4)));
        assert_eq!(again, all - 10 + 4, "a release that it had keeps its place");
    }
}
