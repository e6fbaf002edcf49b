//! The routes of an app: which component handles which path, with which limits.
//!
//! A route is an exact path or a prefix (`docs/reference/manifest.md`). An exact path takes precedence over a prefix
//! with the same text. A prefix also matches its own path, with and without a trailing slash. The crate `matchit` was
//! rejected: each prefix would need three entries, braces in paths would need escaping, and it would only save a scan
//! over a handful of prefixes.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use isomer_gateway::{SiteGateway, TabEndpoint};
use isomer_observe::{AppLog, Log};
use isomer_telemetry::metrics::{RouteMetrics, SeriesGroup};
use isomer_telemetry::{AppIdentity, EventSink, Tracer};
use isomer_transport::{InFlight, InFlightGuard};

use crate::handler::Handler;
use crate::path;

/// The target of a route, with the limits of requests to it.
#[derive(Clone)]
pub struct RouteTarget<H> {
    /// The handler that runs the requests.
    pub handler: H,
    /// The name of the component, for logs.
    pub component: Arc<str>,
    /// The maximum time from the arrival of a request's head to the last byte of the response.
    pub deadline: Duration,
    /// The time limits of a response that is a stream of server-sent events. Its head must be sent within `deadline`.
    pub stream: StreamLimits,
    /// Whether responses are compressed for clients that accept compression.
    pub compress: bool,
    /// The maximum size of a request's body in bytes.
    pub body_bytes_max: u64,
}

/// The time limits of a stream of server-sent events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// The maximum time from the arrival of the request's head to the end of the stream.
    pub max: Duration,
    /// The maximum time without data from the guest.
    pub idle_max: Duration,
}

/// The app of a site, with the app's logs, on a node that serves several tenants.
#[derive(Debug, Clone)]
pub struct SiteOwner {
    /// The tenant and the name of the app.
    pub app: AppIdentity,
    /// The app's own log. The site's failures are logged there and not in the node's log.
    pub log: AppLog,
    /// The app's own access log, if any. Requests are logged there in addition to the node's access log.
    pub access_log: Option<AppLog>,
}

/// All routes of a revision of an app. A site is immutable: each revision has its own site.
pub struct Site<H> {
    exact: BTreeMap<String, SiteRoute<H>>,
    /// The prefixes with their routes, the longest prefix first.
    prefixes: Vec<(String, SiteRoute<H>)>,
    owner: Option<SiteOwner>,
    tracer: Tracer,
    series: Arc<SeriesGroup>,
    /// The metrics of requests that match no route.
    unmatched: Arc<RouteMetrics>,
    in_flight: InFlight,
    tabs: Option<TabRoutes<H>>,
}

/// The routes of the gateway, in an app with a browser group.
pub(crate) struct TabRoutes<H> {
    pub(crate) gateway: SiteGateway,
    /// The route of each endpoint, by its pattern.
    routes: BTreeMap<&'static str, SiteRoute<H>>,
}

/// A route of a site.
pub(crate) struct SiteRoute<H> {
    /// The route as manifests write it: `/cart`, or `/static/...` for a prefix.
    pub(crate) pattern: Arc<str>,
    pub(crate) target: RouteTarget<H>,
    pub(crate) metrics: Arc<RouteMetrics>,
}

/// A site that serves a request. The request is counted as in flight until this value and all its clones are dropped.
pub struct SiteInUse<H> {
    site: Arc<Site<H>>,
    _guard: InFlightGuard,
}

impl<H> Default for Site<H> {
    fn default() -> Self {
        Self {
            exact: BTreeMap::new(),
            prefixes: Vec::new(),
            owner: None,
            tracer: Tracer::default(),
            series: Arc::default(),
            unmatched: Arc::default(),
            in_flight: InFlight::default(),
            tabs: None,
        }
    }
}

impl<H: Handler> Site<H> {
    /// Creates a site without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the app of the site, for a node that serves several tenants.
    #[must_use]
    pub fn owned_by(self, owner: SiteOwner) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// Sets the tracer that records the requests.
    #[must_use]
    pub fn traced_by(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Sets the group of metric series that count the app's requests. Applies to routes that are added later.
    #[must_use]
    pub fn measured_in(self, series: Arc<SeriesGroup>) -> Self {
        Self { unmatched: RouteMetrics::of_app(series.clone()), series, ..self }
    }

    /// Sets the counter of requests in flight. A request is counted from when its site was found until the handler's
    /// body has ended.
    #[must_use]
    pub fn counted_in(self, in_flight: InFlight) -> Self {
        Self { in_flight, ..self }
    }

    /// Makes the site serve tabs with `gateway`. Their requests are charged to the account of the target's handler, which
    /// gets no request. Must be called after the metrics of the site are set.
    #[must_use]
    pub fn serving_tabs(mut self, gateway: SiteGateway, target: &RouteTarget<H>) -> Self {
        let route = |pattern: &'static str| (pattern, self.route(pattern.into(), target.clone()));
        let routes = TabEndpoint::PATTERNS.into_iter().map(route).collect();
        self.tabs = Some(TabRoutes { gateway, routes });
        self
    }

    /// Returns the routes of the gateway, if the app has a browser group.
    pub(crate) fn tabs(&self) -> Option<&TabRoutes<H>> {
        self.tabs.as_ref()
    }

    /// Counts a request as in flight until the returned value is dropped.
    #[must_use]
    pub fn begin_request(self: &Arc<Self>) -> SiteInUse<H> {
        SiteInUse { site: self.clone(), _guard: self.in_flight.begin() }
    }

    /// Returns the app of the site, or `None` if the process serves only one app.
    pub fn owner(&self) -> Option<&SiteOwner> {
        self.owner.as_ref()
    }

    /// Returns the tracer that records the requests.
    pub(crate) fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Returns the metrics of requests that match no route.
    pub(crate) fn unmatched(&self) -> &Arc<RouteMetrics> {
        &self.unmatched
    }

    /// Returns the app's own log, or `None` if the process serves only one app.
    pub(crate) fn log(&self) -> Option<&AppLog> {
        self.owner.as_ref().map(|owner| &owner.log)
    }

    /// Returns the sink of the site's events: the app's own log if there is one, otherwise the node's log.
    pub(crate) fn events<'a>(&'a self, node: &'a Log) -> &'a dyn EventSink {
        match &self.owner {
            Some(owner) => &owner.log,
            None => node,
        }
    }

    /// Adds a route for `path` only.
    pub fn exact(&mut self, path: impl Into<String>, target: RouteTarget<H>) {
        let path = path.into();
        let path = path::normalize(&path).unwrap_or(path);
        let route = self.route(path.as_str().into(), target);
        self.exact.insert(path, route);
    }

    /// Adds a route for `path` and all paths below it (`/static` matches `/static` and `/static/a`, but not
    /// `/statics`). The empty path matches all paths.
    pub fn prefix(&mut self, path: impl Into<String>, target: RouteTarget<H>) {
        let path = path.into();
        let path = path::normalize(&path).unwrap_or(path);
        let at = self.prefixes.partition_point(|(other, _)| other.len() >= path.len());
        let route = self.route(format!("{path}/...").into(), target);
        self.prefixes.insert(at, (path, route));
    }

    fn route(&self, pattern: Arc<str>, target: RouteTarget<H>) -> SiteRoute<H> {
        let metrics = RouteMetrics::of_route(self.series.clone(), &target.component, &pattern);
        SiteRoute { pattern, target, metrics }
    }

    /// Returns the route of a path in normal form: the exact route if there is one, otherwise the longest matching
    /// prefix.
    pub(crate) fn find(&self, path: &str) -> Option<&SiteRoute<H>> {
        if let Some(route) = self.exact.get(path) {
            return Some(route);
        }
        let matches =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.prefixes.iter().find(|(prefix, _)| matches(prefix)).map(|(_, route)| route)
    }

    /// Returns whether the site has no routes.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }
}

impl<H> TabRoutes<H> {
    /// Returns the route of an endpoint.
    pub(crate) fn route(&self, endpoint: TabEndpoint<'_>) -> Option<&SiteRoute<H>> {
        self.routes.get(endpoint.pattern())
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
        site.find(path).map(|route| &*route.target.component)
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
        assert!(in_flight.is_idle(), "references to the site do not count as requests");
    }

    #[test]
    fn routes_are_kept_in_normal_form() {
        let mut site = Site::new();
        site.exact("/caf%c3%a9", target("exact"));
        site.prefix("/%7euser", target("prefix"));
        assert_eq!(component(&site, "/caf%C3%A9"), Some("exact"));
        assert_eq!(component(&site, "/~user/a"), Some("prefix"));
        assert_eq!(component(&site, "/{a}"), None);
        let pattern = |path| site.find(path).map(|route| route.pattern.to_string());
        assert_eq!(pattern("/caf%C3%A9").as_deref(), Some("/caf%C3%A9"));
        assert_eq!(pattern("/~user/a").as_deref(), Some("/~user/..."));
    }
}
