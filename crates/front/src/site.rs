//! What is served: which path is answered by which handler, and within which limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use isomer_observe::{AppLog, Log};
use isomer_runtime::GroupHandle;
use isomer_telemetry::{AppIdentity, EventSink};

use crate::path;

/// Who answers a route, and how much it may take.
#[derive(Clone)]
pub struct Target {
    /// The group that has the handler.
    pub group: GroupHandle,
    /// Which of the group's handlers.
    pub handler: usize,
    /// The component's name, for logs.
    pub component: Arc<str>,
    /// From the request's head to the last byte of its answer.
    pub deadline: Duration,
    /// The same for a stream of server-sent events, whose head comes within `deadline`.
    pub stream: StreamLimits,
    /// Are responses compressed for clients that accept it?
    pub compress: bool,
    /// The most bytes that a request's body may have.
    pub body_bytes_max: u64,
}

/// How long a stream of server-sent events may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// From the request's head to its end.
    pub max: Duration,
    /// How long the guest may send nothing.
    pub idle_max: Duration,
}

/// All routes of a revision of an app. Immutable: a new revision is a new site.
#[derive(Default)]
pub struct Site {
    exact: BTreeMap<String, Target>,
    /// Longest first.
    prefixes: Vec<(String, Target)>,
    owner: Option<SiteOwner>,
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

impl Site {
    /// A site without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the app that the site belongs to.
    #[must_use]
    pub fn owned_by(self, owner: SiteOwner) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// Its own log, on a node of several tenants.
    pub(crate) fn log(&self) -> Option<&AppLog> {
        self.owner.as_ref().map(|owner| &owner.log)
    }

    /// Returns what receives the site's events: its own log, or else the node's.
    pub(crate) fn events<'a>(&'a self, node: &'a Log) -> &'a dyn EventSink {
        match &self.owner {
            Some(owner) => &owner.log,
            None => node,
        }
    }

    /// The app that the site belongs to, on a node of several tenants.
    pub fn owner(&self) -> Option<&SiteOwner> {
        self.owner.as_ref()
    }

    /// Serves this path only.
    pub fn exact(&mut self, path: impl Into<String>, target: Target) {
        self.exact.insert(path::normal(&path.into()).into_owned(), target);
    }

    /// Serves `path` and everything below it (`/static` serves `/static` and `/static/a`, not `/statics`); the empty path serves all.
    pub fn prefix(&mut self, path: impl Into<String>, target: Target) {
        let path = path::normal(&path.into()).into_owned();
        let at = self.prefixes.partition_point(|(other, _)| other.len() >= path.len());
        self.prefixes.insert(at, (path, target));
    }

    /// The target for a request's path, however it is written: an exact route first, then the longest prefix.
    pub(crate) fn find(&self, path: &str) -> Option<&Target> {
        let path = &*path::normal(path);
        if let Some(target) = self.exact.get(path) {
            return Some(target);
        }
        let matches =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.prefixes.iter().find(|(prefix, _)| matches(prefix)).map(|(_, target)| target)
    }

    /// Is there any route?
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }
}
