//! SIGHUP: certificates are read again, the audit log is opened again, and the node file is looked at.

use std::path::PathBuf;
use std::sync::Arc;

use isomer_admin::AuditLog;
use isomer_diagnostics::{Renderer, chain};
use isomer_front::{Certificates, LoadedCertificates};
use isomer_manifest::NodeSettings;
use isomer_observe::Log;
use tokio::signal::unix::Signal;

use crate::hosting::settings::Config;

/// What a SIGHUP is about.
pub(crate) struct Hangups {
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) audit: AuditLog,
    /// The node file, and what it said at the start.
    pub(crate) config: Option<(PathBuf, NodeSettings)>,
    pub(crate) log: Log,
}

impl Hangups {
    /// Does what each signal asks for, until the node ends.
    pub(crate) async fn follow(self, mut signals: Signal) {
        while signals.recv().await.is_some() {
            self.reload().await;
        }
    }

    async fn reload(&self) {
        if let Some(certificates) = self.certificates.clone() {
            match tokio::task::spawn_blocking(move || certificates.reload()).await {
                Ok(Ok(loaded)) => tell(&self.log, &loaded),
                Ok(Err(error)) => self.log.error(format!("the certificates stay as they were: {}", chain(&error))),
                Err(_) => self.log.error("the certificates stay as they were: reading them failed"),
            }
        }
        match self.audit.reopen().await {
            Ok(()) => {}
            Err(error) => self.log.error(format!("the audit log is still written to its old file: {}", chain(&error))),
        }
        if let Some((path, before)) = &self.config {
            match Config::read(Some(path)) {
                Ok(config) if config.file == *before => {}
                Ok(_) => self.log.warn(format!(
                    "`{}` has changed: addresses, paths and limits are taken from it at the next start",
                    path.display()
                )),
                Err(fail) => self.log.error(fail.render(&Renderer::plain()).0.trim_end().to_owned()),
            }
        }
        self.log.note("read again: certificates and the node file; the audit log is open again");
    }
}

/// Says which certificates there are, and what is wrong with others.
pub(crate) fn tell(log: &Log, loaded: &LoadedCertificates) {
    for error in &loaded.problems {
        log.error(chain(error));
    }
    for warning in &loaded.warnings {
        log.warn(warning.clone());
    }
    let (certificates, names) = (loaded.certificates, loaded.names.join(", "));
    log.note(format!("{certificates} certificates, for {names}"));
}
