//! The access-log line of a request, which is written after the response was sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use isomer_observe::{AppLog, Log};
use isomer_telemetry::{AccessRecord, RequestId};

use crate::site::SiteOwner;

/// The access-log line of a request. The response's body holds this value, and the line is written to the log when the
/// body is dropped.
pub(crate) struct AccessLine {
    record: AccessRecord,
    start: Instant,
    log: Log,
    /// The app's own access log, if the app has one.
    app_log: Option<AppLog>,
}

impl AccessLine {
    /// Creates the access-log line of a request that arrived at `start`. Returns `None` if access logging is off.
    pub(crate) fn begin<B>(log: &Log, request: &Request<B>, id: RequestId, start: Instant) -> Option<Box<Self>> {
        if !log.wants_access() {
            return None;
        }
        let record = AccessRecord {
            id,
            trace: None,
            method: request.method().to_string(),
            target: request.uri().path_and_query().map_or_else(|| "*".to_owned(), ToString::to_string),
            status: 0,
            body_bytes: 0,
            took: Duration::ZERO,
            component: None,
            host: None,
            app: None,
            client: None,
            cut_off: None,
        };
        Some(Box::new(Self { record, start, log: log.clone(), app_log: None }))
    }

    /// Returns the record of the request, so that callers can set its fields.
    pub(crate) fn record(&mut self) -> &mut AccessRecord {
        &mut self.record
    }

    /// Records the app that serves the request.
    pub(crate) fn set_owner(&mut self, owner: &SiteOwner) {
        self.record.app = Some(owner.app.clone());
        self.app_log.clone_from(&owner.access_log);
    }

    /// Records the component that handles the request.
    pub(crate) fn set_component(&mut self, component: &Arc<str>) {
        self.record.component = Some(component.clone());
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let record = &mut self.record;
        let record = AccessRecord {
            id: record.id,
            trace: record.trace,
            method: std::mem::take(&mut record.method),
            target: std::mem::take(&mut record.target),
            status: record.status,
            body_bytes: record.body_bytes,
            took: self.start.elapsed(),
            component: record.component.take(),
            host: record.host.take(),
            app: record.app.take(),
            client: record.client,
            cut_off: record.cut_off.take(),
        };
        self.log.access(record, self.app_log.as_ref());
    }
}
