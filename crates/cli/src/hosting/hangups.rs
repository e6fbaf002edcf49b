//! Handles SIGHUP: reloads certificates, reopens the audit log, and reports changes to the node file.

use std::path::PathBuf;
use std::sync::Arc;

use isomer_admin::AuditLog;
use isomer_diagnostics::{Renderer, chain};
use isomer_front::{Certificates, LoadedCertificates};
use isomer_manifest::NodeSettings;
use isomer_observe::Log;
use tokio::signal::unix::Signal;

use crate::hosting::settings::Config;

/// The parts of a node that are reloaded or checked after SIGHUP.
pub(crate) struct HangupHandler {
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) audit: AuditLog,
    /// The path of the node file, and its settings when the node started.
    pub(crate) config: Option<(PathBuf, NodeSettings)>,
    pub(crate) log: Log,
}

impl HangupHandler {
    /// Reloads after each signal. Runs until the node exits.
    pub(crate) async fn follow(self, mut signals: Signal) {
        while signals.recv().await.is_some() {
            self.reload().await;
        }
    }

    async fn reload(&self) {
        if let Some(certificates) = self.certificates.clone() {
            match tokio::task::spawn_blocking(move || certificates.reload()).await {
                Ok(Ok(loaded)) => log_certificates(&self.log, &loaded),
                Ok(Err(error)) => self
                    .log
                    .error(format!("cannot reload the certificates; the previous ones stay in use: {}", chain(&error))),
                Err(_) => self.log.error("cannot reload the certificates; the previous ones stay in use"),
            }
        }
        match self.audit.reopen().await {
            Ok(()) => {}
            Err(error) => self.log.error(format!(
                "cannot reopen the audit log, which is still written to its old file: {}",
                chain(&error)
            )),
        }
        if let Some((path, before)) = &self.config {
            match Config::read(Some(path)) {
                Ok(config) if config.file == *before => {}
                Ok(_) => self.log.warn(format!(
                    "`{}` has changed: its addresses, paths and limits take effect at the next start",
                    path.display()
                )),
                Err(fail) => self.log.error(fail.render(&Renderer::plain()).0.trim_end().to_owned()),
            }
        }
        self.log.note("reloaded certificates and the node file; reopened the audit log");
    }
}

/// Logs which certificates were loaded, and why others were not.
pub(crate) fn log_certificates(log: &Log, loaded: &LoadedCertificates) {
    for error in &loaded.problems {
        log.error(chain(error));
    }
    for warning in &loaded.warnings {
        log.warn(warning.clone());
    }
    let (certificates, names) = (loaded.certificates, loaded.names.join(", "));
    let noun = if certificates == 1 { "certificate" } else { "certificates" };
    log.note(format!("loaded {certificates} {noun}, for {names}"));
}
