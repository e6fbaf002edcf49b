//! What one revision of an app serves to tabs: functions, files, and the settings of the components in a tab.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use isomer_wire::Callee;
use isomer_wire::image::IMAGE_BYTES_MAX;
use serde::Serialize;

use crate::cookies::ReservedCookies;
use crate::published::PublishedFunctions;
use crate::session::Identity;
use crate::static_files::StaticFiles;
use crate::tab_logs::{LOG_BATCH_BYTES_MAX, LOG_LINE_BYTES_MAX, LOG_LINES_MAX};

/// The values of each component's configuration, by the component's name.
pub type TabConfig = BTreeMap<String, BTreeMap<String, String>>;

/// The parts of a revision that serve tabs.
pub struct BrowserParts {
    /// The functions that tabs may call.
    pub functions: PublishedFunctions,
    /// Executes the calls.
    pub callee: Arc<dyn Callee>,
    /// The files that browsers load. Without files, all pages come from the server, and calls are possible nevertheless.
    pub files: Option<StaticFiles>,
    /// The components that run in tabs.
    pub components: BTreeSet<String>,
    /// The configuration of these components, which is public.
    pub config: TabConfig,
    /// The app's cookie that identifies visitors.
    pub cookie: Option<String>,
    /// The maximum size of a call's arguments in bytes.
    pub image_bytes_max: usize,
    /// Holds the charge for the memory of the files until the revision is dropped.
    pub memory: Option<Box<dyn Send + Sync>>,
}

/// What one revision of an app serves to tabs.
pub struct BrowserRevision {
    functions: PublishedFunctions,
    callee: Arc<dyn Callee>,
    files: Option<StaticFiles>,
    components: BTreeSet<String>,
    config: TabConfig,
    reserved: ReservedCookies,
    image_bytes_max: usize,
    _memory: Option<Box<dyn Send + Sync>>,
    /// Whether the revision has served a request of a client.
    has_served: AtomicBool,
}

/// The response to a request for the session's properties.
#[derive(Serialize)]
struct SessionReport<'a> {
    identity: String,
    revision: String,
    cookie: Option<&'a str>,
    config: &'a TabConfig,
    limits: TabLimits,
}

/// The limits that a tab should observe. The server enforces them.
#[derive(Serialize)]
struct TabLimits {
    image_bytes_max: usize,
    log_batch_bytes_max: usize,
    log_lines_max: usize,
    log_line_bytes_max: usize,
}

impl BrowserRevision {
    /// Creates what a revision serves to tabs.
    #[must_use]
    pub fn new(parts: BrowserParts) -> Self {
        let BrowserParts { functions, callee, files, components, config, cookie, image_bytes_max, memory } = parts;
        let reserved = ReservedCookies { app_cookie: cookie.map(String::into_boxed_str) };
        let image_bytes_max = image_bytes_max.min(IMAGE_BYTES_MAX as usize);
        Self {
            functions,
            callee,
            files,
            components,
            config,
            reserved,
            image_bytes_max,
            _memory: memory,
            has_served: AtomicBool::new(false),
        }
    }

    /// Returns the functions that tabs may call.
    #[must_use]
    pub fn functions(&self) -> &PublishedFunctions {
        &self.functions
    }

    /// Returns the callee that executes the calls.
    #[must_use]
    pub fn callee(&self) -> &Arc<dyn Callee> {
        &self.callee
    }

    /// Returns the files that browsers load, if there are any.
    #[must_use]
    pub fn files(&self) -> Option<&StaticFiles> {
        self.files.as_ref()
    }

    /// Returns the maximum size of a call's arguments in bytes.
    #[must_use]
    pub fn image_bytes_max(&self) -> usize {
        self.image_bytes_max
    }

    /// Returns whether a component of this name runs in tabs.
    #[must_use]
    pub fn has_component(&self, name: &str) -> bool {
        self.components.contains(name)
    }

    /// Records that the revision serves a request of a client. Returns whether this is the first one.
    pub(crate) fn begin_service(&self) -> bool {
        !self.has_served.load(Ordering::Relaxed) && !self.has_served.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn reserved(&self) -> &ReservedCookies {
        &self.reserved
    }

    /// Returns the properties of a session as JSON: its identity, and what components in the tab need to run.
    ///
    /// # Panics
    /// Never: the properties are plain data.
    #[must_use]
    pub fn session_report(&self, identity: Identity) -> Bytes {
        let report = SessionReport {
            identity: identity.to_string(),
            revision: self.functions.plan().to_string(),
            cookie: self.reserved.app_cookie.as_deref(),
            config: &self.config,
            limits: TabLimits {
                image_bytes_max: self.image_bytes_max,
                log_batch_bytes_max: LOG_BATCH_BYTES_MAX,
                log_lines_max: LOG_LINES_MAX,
                log_line_bytes_max: LOG_LINE_BYTES_MAX,
            },
        };
        serde_json::to_vec(&report).expect("a report is plain data").into()
    }
}

impl fmt::Debug for BrowserRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserRevision").field("plan", &self.functions.plan()).finish_non_exhaustive()
    }
}
