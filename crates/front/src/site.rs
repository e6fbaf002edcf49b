//! The routes of an app: which path is handled by which component, and within which limits.
//!
//! Routes are matched by hand and not by `matchit`: a route is an exact path or a prefix (`docs/reference/manifest.md`), an exact path
//! comes before a prefix of the same text, and a prefix matches itself, with and without a slash behind it. In matchit each prefix would
//! be three entries, and braces in paths would have to be escaped, to save a scan over a handful of prefixes.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use isomer_observe::{AppLog, Log};
use isomer_telemetry::{AppIdentity, EventSink};
use isomer_transport::{InFlight, InFlightGuard};

use crate::handler::Handler;
use crate::path;

/// What a route leads to, and what a request for it may take.
#[derive(Clone)]
pub struct RouteTarget<H> {
    /// Runs the requests.
    pub handler: H,
    /// The component's name, for logs.
    pub component: Arc<str>,
    /// From the request's head to the last byte of its response.
    pub deadline: Duration,
    /// The same for a stream of server-sent events, whose head comes within `deadline`.
    pub stream: StreamLimits,
    /// Whether responses are compressed for clients that accept it.
    pub compress: bool,
    /// Bytes that a request's body may have.
    pub body_bytes_max: u64,
}

/// How long a stream of server-sent events may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// From the request's head to the end of the stream.
    pub max: Duration,
    /// How long the guest may send nothing.
    pub idle_max: Duration,
}

/// The app that a site belongs to, on a node of several tenants, and its logs.
#[derive(Debug, Clone)]
pub struct SiteOwner {
    /// The app.
    pub app: AppIdentity,
    /// The log that the site's failures are written to, instead of the node's.
    pub log: AppLog,
    /// The app's own access log, in which its requests are listed in addition to the node's.
    pub access_log: Option<AppLog>,
}

/// All routes of a revision of an app. Immutable: a new revision is a new site.
pub struct Site<H> {
    exact: BTreeMap<String, RouteTarget<H>>,
    /// The longest first.
    prefixes: Vec<(String, RouteTarget<H>)>,
    owner: Option<SiteOwner>,
    in_flight: InFlight,
}

/// A site while it serves a request. The request is counted until this and all its clones are dropped.
pub struct SiteInUse<H> {
    site: Arc<Site<H>>,
    _guard: InFlightGuard,
}

impl<H> Default for Site<H> {
    fn default() -> Self {
        Self { exact: BTreeMap::new(), prefixes: Vec::new(), owner: None, in_flight: InFlight::default() }
    }
}

impl<H: Handler> Site<H> {
    /// Makes a site without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the app that the site belongs to.
    #[must_use]
    pub fn owned_by(self, owner: SiteOwner) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// Sets the count that the site's requests are counted in, from when their site was found until the handler's body has ended.
    #[must_use]
    pub fn counted_in(self, in_flight: InFlight) -> Self {
        Self { in_flight, ..self }
    }

    /// Counts a request for the site until the returned value is dropped.
    #[must_use]
    pub fn begin_request(self: &Arc<Self>) -> SiteInUse<H> {
        SiteInUse { site: self.clone(), _guard: self.in_flight.begin() }
    }

    /// Returns the app that the site belongs to, on a node of several tenants.
    pub fn owner(&self) -> Option<&SiteOwner> {
        self.owner.as_ref()
    }

    /// Returns the app's own log, on a node of several tenants.
    pub(crate) fn log(&self) -> Option<&AppLog> {
        self.owner.as_ref().map(|owner| &owner.log)
    }

    /// Returns what receives the site's events: the app's own log, or else the node's.
    pub(crate) fn events<'a>(&'a self, node: &'a Log) -> &'a dyn EventSink {
        match &self.owner {
            Some(owner) => &owner.log,
            None => node,
        }
    }

    /// Adds a route for this path only.
    pub fn exact(&mut self, path: impl Into<String>, target: RouteTarget<H>) {
        let path = path.into();
        self.exact.insert(path::normalize(&path).unwrap_or(path), target);
    }

    /// Adds a route for `path` and everything below it (`/static` serves `/static` and `/static/a`, not `/statics`); the empty path
    /// serves all.
    pub fn prefix(&mut self, path: impl Into<String>, target: RouteTarget<H>) {
        let path = path.into();
        let path = path::normalize(&path).unwrap_or(path);
        let at = self.prefixes.partition_point(|(other, _)| other.len() >= path.len());
        self.prefixes.insert(at, (path, target));
    }

    /// Returns the target for a path in normal form: that of the exact route, else that of the longest prefix.
    pub(crate) fn find(&self, path: &str) -> Option<&RouteTarget<H>> {
        if let Some(target) = self.exact.get(path) {
            return Some(target);
        }
        let matches =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.prefixes.iter().find(|(prefix, _)| matches(prefix)).map(|(_, target)| target)
    }

    /// Returns whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }
}

impl<H> Clone for SiteInUse<H> {
    fn clone(&self) -> Self {
        Self { site: self.site.clone(), _guard: self.site.in_flight.begin() }
    }
}

impl<H> Deref for SiteInUse<H> {
    type Target = Site<H>;

    fn deref(&self) -> &Site<H> {
        &self.site
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeHandler, target};

    fn component<'a>(site: &'a Site<FakeHandler>, path: &str) -> Option<&'a str> {
        site.find(path).map(|target| &*target.component)
    }

    #[test]
    fn an_exact_route_comes_before_the_longest_prefix() {
        let mut site = Site::new();
        for (prefix, name) in [("", "all"), ("/static", "static"), ("/static/icons", "icons")] {
            site.prefix(prefix, target(name));
        }
        site.exact("/static", target("exact"));
        site.exact("/", target("root"));
        for (path, name) in [
            ("/", "root"),
            ("/other", "all"),
            ("/statics", "all"),
            ("/static", "exact"),
            ("/static/", "static"),
            ("/static/a", "static"),
            ("/static/iconset", "static"),
            ("/static/icons", "icons"),
            ("/static/icons/a/b", "icons"),
        ] {
            assert_eq!(component(&site, path), Some(name), "{path}");
        }
    }

    #[test]
    fn a_request_is_counted_until_its_last_clone_is_dropped() {
        let in_flight = InFlight::default();
        let site = Arc::new(Site::<FakeHandler>::new().counted_in(in_flight.clone()));
        let request = site.begin_request();
        let clone = request.clone();
        drop(request);
        assert!(!in_flight.is_idle());
        drop(clone);
        assert!(in_flight.is_idle(), "references to the site are no requests");
    }

    #[test]
    fn routes_are_kept_in_normal_form() {
        let mut site = Site::new();
        site.exact("/caf%c3%a9", target("exact"));
        site.prefix("/%7euser", target("prefix"));
        assert_eq!(component(&site, "/caf%C3%A9"), Some("exact"));
        assert_eq!(component(&site, "/~user/a"), Some("prefix"));
        assert_eq!(component(&site, "/{a}"), None);
    }
}
