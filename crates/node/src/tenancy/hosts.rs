//! Which app answers for a host name.

use std::collections::HashMap;
use std::sync::Arc;

use isomer_api::HostPattern;

use super::app::App;

/// Host names with their apps. Who may have which is decided elsewhere: here the last one counts.
#[derive(Default)]
pub(super) struct Hosts {
    exact: HashMap<Arc<str>, Arc<App>>,
    /// By what comes after `*.`.
    wildcards: HashMap<Arc<str>, Arc<App>>,
    any: Option<Arc<App>>,
}

impl Hosts {
    /// The app for a host name as requests have it: exact, else by the longest wildcard that covers it, else the one for all others.
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

    /// From now on `app` answers for `pattern`.
    pub(super) fn insert(&mut self, pattern: &HostPattern, app: &Arc<App>) {
        match key(pattern) {
            Key::Any => self.any = Some(app.clone()),
            Key::Below(parent) => drop(self.wildcards.insert(parent.into(), app.clone())),
            Key::Exact(_) => drop(self.exact.insert(pattern.shared(), app.clone())),
        }
    }

    /// `app` does not answer for `pattern` any more. If another one does meanwhile, that stays.
    pub(super) fn remove(&mut self, pattern: &HostPattern, app: &Arc<App>) {
        let has = |held: Option<&Arc<App>>| held.is_some_and(|held| Arc::ptr_eq(held, app));
        match key(pattern) {
            Key::Any if has(self.any.as_ref()) => self.any = None,
            Key::Below(parent) if has(self.wildcards.get(parent)) => drop(self.wildcards.remove(parent)),
            Key::Exact(host) if has(self.exact.get(host)) => drop(self.exact.remove(host)),
            _ => {}
        }
    }
}

enum Key<'a> {
    Exact(&'a str),
    Below(&'a str),
    Any,
}

fn key(pattern: &HostPattern) -> Key<'_> {
    match (pattern.as_str(), pattern.as_str().strip_prefix("*.")) {
        ("*", _) => Key::Any,
        (_, Some(parent)) => Key::Below(parent),
        (host, None) => Key::Exact(host),
    }
}

#[cfg(test)]
mod tests {
    use super::super::app::tests::app;
    use super::*;

    #[test]
    fn the_nearest_name_counts() {
        let mut hosts = Hosts::default();
        let patterns = ["shop.example", "*.shop.example", "*.eu.shop.example", "*"].map(|name| name.parse().unwrap());
        let apps = ["exact", "wild", "deeper", "rest"].map(app);
        for (pattern, app) in patterns.iter().zip(&apps) {
            hosts.insert(pattern, app);
        }
        let found = |hosts: &Hosts, host: &str| hosts.find(host).map(|app| app.name().to_string());
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
        // Somebody else's name stays.
        hosts.remove(&patterns[0], &apps[1]);
        assert_eq!(found(&hosts, "shop.example").as_deref(), Some("exact"));
        for (pattern, app) in patterns.iter().zip(&apps) {
            hosts.remove(pattern, app);
        }
        assert_eq!(found(&hosts, "shop.example"), None);
    }
}
