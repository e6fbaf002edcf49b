//! Claims of tenants and apps on host names.
//!
//! The pattern `shop.example` matches only this name; `*.shop.example` matches all names below `shop.example`, at any
//! depth. A pattern claims all names that it matches, and all patterns that match only such names. Claims of two
//! tenants must not overlap. Otherwise, one tenant could receive requests for the other tenant's names. This rule
//! applies to the claims of apps and to those of the tenants themselves. Within a tenant, each pattern belongs to one
//! app, and the most specific pattern serves a request. The pattern `*` serves all names that no other pattern matches,
//! and claims only itself.

use std::collections::BTreeMap;
use std::ops::Bound;

use isomer_ids::{AppName, HostPattern, TenantName};

/// An owner of a host name pattern: an app, or a tenant itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The tenant that owns the pattern, or whose app owns it.
    pub tenant: TenantName,
    /// The app that is served under the pattern; `None` if the tenant itself owns the pattern.
    pub app: Option<AppName>,
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.app {
            Some(app) => write!(f, "app `{app}` of tenant `{}`", self.tenant),
            None => write!(f, "tenant `{}`", self.tenant),
        }
    }
}

/// The claims of all tenants and apps of a node.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// The patterns with their claims. A key is the pattern's labels in reverse order, so that all names below a name
    /// are adjacent: the key of `shop.example` is `example.shop.`, and the key of `*.shop.example` is
    /// `example.shop.*.`.
    claims: BTreeMap<String, (HostPattern, Vec<Claim>)>,
}

impl Hosts {
    /// Checks whether `claim` may own the pattern `host`.
    ///
    /// # Errors
    /// If `host` conflicts with an existing pattern. Returns that pattern and its claim.
    pub fn check(&self, host: &HostPattern, claim: &Claim) -> Result<(), (HostPattern, Claim)> {
        let key = key(host);
        let stranger = |claims: &[Claim]| claims.iter().find(|other| other.tenant != claim.tenant).cloned();
        if let Some((theirs, claims)) = self.claims.get(&key) {
            let same_kind = |other: &&Claim| claim.app.is_some() && other.app.is_some() && other.app != claim.app;
            if let Some(other) = stranger(claims).or_else(|| claims.iter().find(same_kind).cloned()) {
                return Err((theirs.clone(), other));
            }
        }
        if host.as_str() == "*" {
            return Ok(());
        }
        // Looks up the wildcards that include `host`. For example, the wildcard with the key `example.*.` includes the
        // host with the key `example.shop.`.
        for (end, _) in key[..key.len() - 1].match_indices('.') {
            let above = format!("{}*.", &key[..=end]);
            if above != key
                && let Some((theirs, claims)) = self.claims.get(&above)
                && let Some(other) = stranger(claims)
            {
                return Err((theirs.clone(), other));
            }
        }
        // If `host` is a wildcard, looks up the claimed patterns below it.
        if let Some(below) = key.strip_suffix("*.") {
            let range = self.claims.range::<str, _>((Bound::Excluded(below), Bound::Unbounded));
            for (_, (theirs, claims)) in range.take_while(|(found, _)| found.starts_with(below)) {
                if let Some(other) = stranger(claims) {
                    return Err((theirs.clone(), other));
                }
            }
        }
        Ok(())
    }

    /// Adds a claim on the pattern `host`.
    pub fn add(&mut self, host: &HostPattern, claim: Claim) {
        let (_, claims) = self.claims.entry(key(host)).or_insert_with(|| (host.clone(), Vec::new()));
        if !claims.contains(&claim) {
            claims.push(claim);
        }
    }

    /// Removes a claim on the pattern `host`.
    pub fn remove(&mut self, host: &HostPattern, claim: &Claim) {
        let key = key(host);
        if let Some((_, claims)) = self.claims.get_mut(&key) {
            claims.retain(|other| other != claim);
            if claims.is_empty() {
                self.claims.remove(&key);
            }
        }
    }
}

fn key(host: &HostPattern) -> String {
    let mut key = String::with_capacity(host.as_str().len() + 1);
    for label in host.as_str().rsplit('.') {
        key.push_str(label);
        key.push('.');
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Claim {
        let (tenant, app) = text.split_once('/').unwrap_or((text, ""));
        Claim { tenant: tenant.parse().unwrap(), app: (!app.is_empty()).then(|| app.parse().unwrap()) }
    }

    fn with(claims: &[(&str, &str)]) -> Hosts {
        let mut hosts = Hosts::default();
        for (host, who) in claims {
            hosts.add(&host.parse().unwrap(), claim(who));
        }
        hosts
    }

    fn free(hosts: &Hosts, host: &str, who: &str) -> bool {
        hosts.check(&host.parse().unwrap(), &claim(who)).is_ok()
    }

    #[test]
    fn a_name_belongs_to_one_app() {
        let hosts = with(&[("shop.example", "a/shop")]);
        assert!(free(&hosts, "shop.example", "a/shop"), "the app has the name already");
        assert!(!free(&hosts, "shop.example", "a/other") && !free(&hosts, "shop.example", "b/shop"));
        assert!(free(&hosts, "other.example", "b/shop") && free(&hosts, "x.shop.example", "b/shop"));
        assert!(
            free(&hosts, "shop.example", "a") && !free(&hosts, "shop.example", "b"),
            "a tenant can own the name of its app"
        );
    }

    #[test]
    fn a_wildcard_excludes_other_tenants_below_and_above() {
        let hosts = with(&[("*.shop.example", "a/shop")]);
        for below in ["x.shop.example", "y.x.shop.example", "*.x.shop.example", "*.shop.example"] {
            assert!(!free(&hosts, below, "b/shop"), "{below}");
        }
        assert!(free(&hosts, "x.shop.example", "a/other"), "the same tenant's more specific name");
        for other in ["shop.example", "example", "workshop.example", "*"] {
            assert!(free(&hosts, other, "b/shop"), "{other}");
        }
        assert!(!free(&hosts, "*.example", "b/shop"), "the wildcard would include another tenant's name");
        assert!(free(&hosts, "*.example", "a/other"));
        assert!(
            free(&with(&[("shop.example", "a/shop")]), "*.shop.example", "b/shop"),
            "the wildcard does not include the name itself"
        );
    }

    #[test]
    fn names_of_a_tenant_are_reserved_for_its_apps() {
        let hosts = with(&[("*.acme.example", "acme"), ("acme.example", "acme")]);
        assert!(free(&hosts, "shop.acme.example", "acme/shop") && free(&hosts, "*.acme.example", "acme/shop"));
        assert!(!free(&hosts, "shop.acme.example", "evil/shop") && !free(&hosts, "acme.example", "evil/shop"));
        assert!(free(&hosts, "acmee.example", "evil/shop") && free(&hosts, "xacme.example", "evil/shop"));
    }

    #[test]
    fn the_catch_all_pattern_excludes_no_name() {
        let mut hosts = with(&[("*", "a/shop")]);
        assert!(
            !free(&hosts, "*", "b/shop") && free(&hosts, "shop.example", "b/shop") && free(&hosts, "*.example", "b")
        );
        hosts.remove(&"*".parse().unwrap(), &claim("a/shop"));
        assert!(free(&hosts, "*", "b/shop"));
    }
}
