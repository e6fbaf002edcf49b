//! The admin API of a process that serves one app: a listener on a loopback address, and the files through which
//! commands in the app's folder find it.
//!
//! Each process creates a new token. So the token of an earlier process grants no access, even if another program
//! listens on the earlier address and receives that token. Both files are in the data directory, which only its owner
//! can read, and are removed when the process stops.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use isomer_admin::{
    AdminLimits, AdminServer, AdminService, AppApi, DashboardLinks, ListenError, TOKEN_FILE, Token, URL_FILE, write_url,
};
use isomer_capabilities::DataDir;
use isomer_console::CliError;
use isomer_observe::{AppLogLimits, AppLogs, Log, LogQuota};
use tokio::task::JoinHandle;

use crate::context::{ReadyAdmin, ServeContext, ServeOptions};
use crate::served_app::{ServedApp, ServedLogs};
use crate::served_traces::ServedTraces;

/// The admin API of this process. Dropping it closes the listener.
pub struct AdminEndpoint {
    url: String,
    app: Arc<ServedApp>,
    dashboard: Option<DashboardLinks>,
    data: PathBuf,
    serving: JoinHandle<()>,
}

impl AdminEndpoint {
    /// Starts to serve the admin API of the app `name`, if `options` have an address for it. `listen` is the address of
    /// the front door.
    ///
    /// # Errors
    /// If the process cannot listen on the address, or cannot write the files that contain the address and the token.
    pub(crate) async fn open(
        options: &ServeOptions,
        context: &ServeContext,
        data: &DataDir,
        name: &str,
        listen: Option<String>,
        traces: Option<ServedTraces>,
    ) -> Result<Option<Self>, CliError> {
        let Some(address) = &options.admin else { return Ok(None) };
        let server = AdminServer::listen(address, false).await.map_err(listen_error)?;
        let logs = open_logs(&context.log, data)?;
        let app = Arc::new(ServedApp::new(name, listen, Some(logs), traces, context.metrics.clone()));
        let token = Token::renew(data.path())?;
        let url = server.address().url();
        write_url(data.path(), &url)
            .with_context(|| format!("cannot write `{}`", data.path().join(URL_FILE).display()))?;
        let service: AdminService<dyn AppApi> =
            AdminService { admin: app.clone(), token, audit: None, hosts: Vec::new(), limits: AdminLimits::default() };
        let dashboard = server.dashboard();
        let serving = tokio::spawn(server.serve_app_api(service, std::future::pending()));
        Ok(Some(Self { url, app, dashboard, data: data.path().to_owned(), serving }))
    }

    /// Returns the URL of the admin API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the part of the readiness report that describes the admin API.
    pub(crate) fn ready(&self) -> ReadyAdmin<'_> {
        ReadyAdmin { url: &self.url, dashboard: self.dashboard.as_ref() }
    }

    /// Returns the app that the API shows.
    pub(crate) fn app(&self) -> &Arc<ServedApp> {
        &self.app
    }
}

impl Drop for AdminEndpoint {
    fn drop(&mut self) {
        self.serving.abort();
        for file in [URL_FILE, TOKEN_FILE] {
            let _ = std::fs::remove_file(self.data.join(file));
        }
    }
}

/// Opens the app's logs in the data directory. From now on, `log` is also written to them.
fn open_logs(log: &Log, data: &DataDir) -> Result<ServedLogs, CliError> {
    let logs = AppLogs::start(AppLogLimits::default()).context("cannot start the app's log")?;
    let open = |folder: &Path| logs.open(folder.to_owned(), &LogQuota::new(u64::MAX));
    let tabs = open(&data.tab_log());
    let output = open(&data.log()).with_tabs(&tabs);
    let access = log.wants_access().then(|| open(&data.access_log()));
    log.copy_to(output.clone(), access.clone());
    Ok(ServedLogs { output, tabs, access })
}

fn listen_error(error: ListenError) -> CliError {
    let hint = match &error {
        ListenError::Remote { .. } => {
            "use a loopback address and a tunnel (ssh -L): the API of `isomer run` is for the user who runs it"
        }
        ListenError::InUse { .. } => "let the system choose a port: --admin 127.0.0.1:0",
        ListenError::NoSocket { .. } => "remove that file, or name another path: --admin unix:PATH",
        ListenError::Io { .. } => return error.into(),
    };
    CliError::hinted(error, [hint])
}
