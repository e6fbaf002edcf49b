//! Resources that another process may already use: the front door's port and the data directory.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_capabilities::{DataDir, DataDirError};
use isomer_console::CliError;
use isomer_diagnostics::Hinted;
use isomer_front::FrontError;

use crate::admin_endpoint::AdminEndpoint;
use crate::context::{ServeContext, ServeOptions};
use crate::served_traces::ServedTraces;
use crate::telemetry::AppExport;

/// The port and the data directory of a process that serves.
pub struct ServeResources {
    /// The front door's listening socket.
    pub listener: TcpListener,
    /// The front door's URL.
    pub url: String,
    /// The data directory, locked.
    pub data: DataDir,
    /// The folder of compiled code.
    pub code: PathBuf,
    /// The app's traces, unless no traces are recorded or the process runs for `isomer test`.
    pub(crate) traces: Option<ServedTraces>,
    /// The admin API, unless it is switched off.
    pub admin: Option<AdminEndpoint>,
}

impl ServeResources {
    /// Starts to listen on the addresses of the front door and of the admin API, and locks the data directory `data`.
    /// `name` is the app's name.
    ///
    /// # Errors
    /// If the process cannot listen on an address, or cannot open and lock the data directory.
    pub async fn open(
        options: &ServeOptions,
        context: &ServeContext,
        data: &Path,
        name: &str,
    ) -> Result<Self, CliError> {
        let (listener, url) = listen(options.listen, data).await?;
        let data = open_data(data)?;
        let code = options.test_mode.as_ref().map_or_else(|| data.cache(), |test| test.code.clone());
        let address = listener.local_addr().ok().map(|address| address.to_string());
        let traces = open_traces(context, &data)?;
        let admin = AdminEndpoint::open(options, context, &data, name, address, traces.clone()).await?;
        Ok(Self { listener, url, data, code, traces, admin })
    }
}

/// Opens the app's traces, unless no traces are recorded or the process runs for `isomer test`.
pub(crate) fn open_traces(context: &ServeContext, data: &DataDir) -> Result<Option<ServedTraces>, CliError> {
    let Some(sampling) = context.sampling.filter(|_| context.test_mode.is_none()) else { return Ok(None) };
    let export = context.export.as_ref().and_then(AppExport::traces);
    ServedTraces::open(data, sampling, export).map(Some)
}

/// Starts to listen on the front door's address. Returns the socket and the front door's URL. If the address is in use
/// and another process has opened the data directory `data`, the error states that the app already runs.
pub(crate) async fn listen(address: SocketAddr, data: &Path) -> Result<(TcpListener, String), CliError> {
    let listener = isomer_front::bind(address).await.map_err(|error| match (&error, DataDir::holder(data)) {
        (FrontError::InUse { .. }, Some(holder)) => already_runs(error, &holder, address),
        _ => listen_error(error),
    })?;
    let address = listener.local_addr().context("cannot read the address of the front door's socket")?;
    Ok((listener, format!("http://{address}")))
}

/// Converts a [`FrontError`] into a [`CliError`], with hints.
pub fn listen_error(error: FrontError) -> CliError {
    match &error {
        FrontError::InUse { address } => {
            let hint = format!(
                "stop the process that uses the address, or let the system choose a port: --listen {}:0",
                address.ip()
            );
            Hinted::new(error, hint).into()
        }
        FrontError::Listen { .. } => error.into(),
    }
}

/// Converts the error that `address` is in use into a [`CliError`]. `holder` is the process that serves the same app.
fn already_runs(error: FrontError, holder: &str, address: SocketAddr) -> CliError {
    let command = command_of(holder).map(|command| format!(" by `isomer {command}`")).unwrap_or_default();
    let hints = [
        format!("this app is already served{command} (process {holder}): use that process, or stop it"),
        format!("to serve the app twice, with separate data: --listen {}:0 --data DIR", address.ip()),
    ];
    CliError::hinted(error, hints)
}

/// Returns the subcommand of the process with the identifier `pid`, if it is a command that serves an app.
fn command_of(pid: &str) -> Option<&'static str> {
    let arguments = std::fs::read(Path::new("/proc").join(pid).join("cmdline")).ok()?;
    let subcommand = arguments.split(|byte| *byte == 0).nth(1)?;
    ["dev", "run"].into_iter().find(|command| command.as_bytes() == subcommand)
}

/// Opens the data directory and locks it. Creates the directory if it does not exist.
///
/// # Errors
/// If another process uses the data directory, or if this process cannot write to it.
pub fn open_data(data: &Path) -> Result<DataDir, CliError> {
    DataDir::open(data).map_err(data_dir_error)
}

/// Converts a [`DataDirError`] into a [`CliError`], with hints.
pub fn data_dir_error(error: DataDirError) -> CliError {
    match &error {
        DataDirError::Io { .. } => CliError::hinted(error, ["name a folder that this user can write to: --data DIR"]),
        _ => error.into(),
    }
}
