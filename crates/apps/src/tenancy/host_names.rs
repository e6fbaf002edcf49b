//! Maps host names to apps.

use std::collections::HashMap;
use std::sync::Arc;

use isomer_ids::HostPattern;

use super::app::App;

/// The apps by their host names. This type does not check whether an app may have a host name: if a host name of one
/// app is inserted for another app, it belongs to the other app from then on.
#[derive(Default)]
pub(super) struct HostNames {
    exact: HashMap<Arc<str>, Arc<App>>,
    /// The apps with a wildcard pattern, by the part of the pattern after `*.`.
    wildcards: HashMap<Arc<str>, Arc<App>>,
    any: Option<Arc<App>>,
}

impl HostNames {
    /// Returns the app for a host name. An exact name takes precedence over wildcards, a longer wildcard over a shorter
    /// one, and the pattern `*` is used last.
    pub(super) fn find(&self, host: &str) -> Option<&Arc<App>> {
        if let Some(app) = self.exact.get(host) {
            return Some(app);
        }
        if !self.wildcards.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(app) = self.wildcards.get(parent) {
                    return Some(app);
                }
                rest = parent;
            }
        }
        self.any.as_ref()
    }

    /// Returns the app for requests without a host name: the app with the pattern `*`. If no app has this pattern and
    /// there is exactly one app, returns that app.
    pub(super) fn unnamed(&self) -> Option<&Arc<App>> {
        self.any.as_ref().or_else(|| {
            let mut apps = self.exact.values().chain(self.wildcards.values());
            let first = apps.next()?;
            apps.all(|app| Arc::ptr_eq(app, first)).then_some(first)
        })
    }

    /// Assigns `pattern` to `app`.
    pub(super) fn insert(&mut self, pattern: &HostPattern, app: &Arc<App>) {
        match key(pattern) {
            HostKey::Any => self.any = Some(app.clone()),
            HostKey::Below(parent) => drop(self.wildcards.insert(parent.into(), app.clone())),
            HostKey::Exact(_) => drop(self.exact.insert(pattern.shared(), app.clone())),
        }
    }

    /// Removes `pattern` from `app`, unless the pattern was assigned to another app in the meantime.
    pub(super) fn remove(&mut self, pattern: &HostPattern, app: &Arc<App>) {
        let has = |held: Option<&Arc<App>>| held.is_some_and(|held| Arc::ptr_eq(held, app));
        match key(pattern) {
            HostKey::Any if has(self.any.as_ref()) => self.any = None,
            HostKey::Below(parent) if has(self.wildcards.get(parent)) => drop(self.wildcards.remove(parent)),
            HostKey::Exact(host) if has(self.exact.get(host)) => drop(self.exact.remove(host)),
            _ => {}
        }
    }
}

enum HostKey<'a> {
    Exact(&'a str),
    Below(&'a str),
    Any,
}

fn key(pattern: &HostPattern) -> HostKey<'_> {
    match (pattern.as_str(), pattern.as_str().strip_prefix("*.")) {
        ("*", _) => HostKey::Any,
        (_, Some(parent)) => HostKey::Below(parent),
        (host, None) => HostKey::Exact(host),
    }
}

#[cfg(test)]
mod tests {
    use super::super::app::tests::app;
    use super::*;

    #[test]
    fn requests_without_a_host_name_get_the_only_app_or_the_default() {
        let mut hosts = HostNames::default();
        let patterns = ["shop.example", "*.shop.example", "other.example", "*"].map(|name| name.parse().unwrap());
        let apps = ["shop", "other", "rest"].map(app);
        let found = |hosts: &HostNames| hosts.unnamed().map(|app| app.name().to_string());
        assert_eq!(found(&hosts), None);
        hosts.insert(&patterns[0], &apps[0]);
        hosts.insert(&patterns[1], &apps[0]);
        assert_eq!(found(&hosts).as_deref(), Some("shop"));
        hosts.insert(&patterns[2], &apps[1]);
        assert_eq!(found(&hosts), None, "with several apps, none is the default");
        hosts.insert(&patterns[3], &apps[2]);
        assert_eq!(found(&hosts).as_deref(), Some("rest"));
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let mut hosts = HostNames::default();
        let patterns = ["shop.example", "*.shop.example", "*.eu.shop.example", "*"].map(|name| name.parse().unwrap());
        let apps = ["exact", "wild", "deeper", "rest"].map(app);
        for (pattern, app) in patterns.iter().zip(&apps) {
            hosts.insert(pattern, app);
        }
        let found = |hosts: &HostNames, host: &str| hosts.find(host).map(|app| app.name().to_string());
        for (host, name) in [
            ("shop.example", "exact"),
            ("a.shop.example", "wild"),
            ("a.b.shop.example", "wild"),
            ("eu.shop.example", "wild"),
            ("a.eu.shop.example", "deeper"),
            ("example", "rest"),
            ("xshop.example", "rest"),
            ("", "rest"),
            ("[::1]", "rest"),
        ] {
            assert_eq!(found(&hosts, host).as_deref(), Some(name), "{host}");
        }
        // A pattern that belongs to another app is not removed.
        hosts.remove(&patterns[0], &apps[1]);
        assert_eq!(found(&hosts, "shop.example").as_deref(), Some("exact"));
        for (pattern, app) in patterns.iter().zip(&apps) {
            hosts.remove(pattern, app);
        }
        assert_eq!(found(&hosts, "shop.example"), None);
    }
}
