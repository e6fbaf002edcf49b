//! The app that a command observes: an app on a node, or the app that `isomer run` or `isomer dev` serves from the
//! current folder.

use std::path::{Path, PathBuf};

use isomer_admin::{Client, ClientError, NodeAddress, TOKEN_FILE, Token, URL_FILE};
use isomer_console::{CliError, Console};
use isomer_display::escaped;
use isomer_ids::{AppName, TenantName};
use isomer_project::{AppDir, find_app_dir};

use crate::remote::node::{NodeFlags, block_on, client_error, token_error};

/// The arguments that select the app to observe.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ObservedFlags {
    /// The app on a node. By default, the app that `isomer run` or `isomer dev` serves from the current folder, or the
    /// node's only app.
    #[arg(value_name = "APP")]
    pub(crate) app: Option<AppName>,
    #[command(flatten)]
    pub(crate) place: ObservedPlace,
}

/// The flags that select the process and the tenant of the app to observe.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ObservedPlace {
    /// The tenant that the app belongs to.
    #[arg(long, value_name = "TENANT", default_value = TenantName::DEFAULT)]
    pub(crate) tenant: TenantName,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
}

/// An app to observe, with a client of the process that serves it.
pub(crate) struct ObservedApp {
    pub(crate) client: Client,
    pub(crate) tenant: TenantName,
    pub(crate) name: AppName,
    /// Whether the app is the one that `isomer run` or `isomer dev` serves from the working directory, and not an app
    /// on a node.
    pub(crate) is_here: bool,
    /// The arguments with which other commands select this app, with a leading space.
    pub(crate) arguments: String,
}

impl ObservedFlags {
    /// Finds the app that the arguments select, and passes it to `requests`, which sends the command's requests about
    /// the app. Returns the result of `requests`.
    pub(crate) fn with_app<T, F: Future<Output = Result<T, CliError>>>(
        &self,
        console: &Console,
        requests: impl FnOnce(ObservedApp) -> F,
    ) -> Result<T, CliError> {
        self.place.with_app(self.app.as_ref(), console, requests)
    }
}

impl ObservedPlace {
    /// Finds the app `name`, or the only app of the process, and passes it to `requests`, which sends the command's
    /// requests about the app. Returns the result of `requests`.
    pub(crate) fn with_app<T, F: Future<Output = Result<T, CliError>>>(
        &self,
        name: Option<&AppName>,
        console: &Console,
        requests: impl FnOnce(ObservedApp) -> F,
    ) -> Result<T, CliError> {
        let here = if name.is_none() && !self.node.names_a_node() { local_process() } else { None };
        let client = match &here {
            None => self.node.client(console).map_err(|error| self.without_node(name, error))?,
            Some(data) => local_client(data)?,
        };
        block_on(async {
            let name = match name {
                Some(name) => name.clone(),
                None => self.only_app(&client, here.is_some(), console).await?,
            };
            let arguments = if here.is_some() { String::new() } else { self.arguments(&name) };
            let is_here = here.is_some();
            requests(ObservedApp { client, tenant: self.tenant.clone(), name, is_here, arguments }).await
        })
    }

    /// Replaces `error`, with which no client of a node can be created, if the user has selected neither an app nor a
    /// node, and the current folder contains an app: then the user most likely means this app, which does not run.
    fn without_node(&self, name: Option<&AppName>, error: CliError) -> CliError {
        if name.is_some() || self.node.selects_a_node() || find_app_dir(Path::new(".")).is_err() {
            return error;
        }
        CliError::failed(
            "the app in this folder is not running",
            "start it with `isomer run` or `isomer dev`; for an app on a node, name the app and the node: APP --node NODE",
        )
    }

    /// Returns the name of the process's only app.
    async fn only_app(&self, client: &Client, is_here: bool, console: &Console) -> Result<AppName, CliError> {
        let apps = client.apps(Some(&self.tenant)).await.map_err(|error| match error {
            ClientError::Unreachable { .. } if is_here => {
                let hint = "the process that served it was killed; start it again: isomer run, or isomer dev";
                CliError::hinted(error, [hint])
            }
            ClientError::Unreachable { .. } => {
                let hints = [
                    "start the app in its folder (isomer run, or isomer dev) and run this command there",
                    "for an app on a node: name the app, and the node with --node NODE",
                ];
                CliError::hinted(error, hints)
            }
            error => client_error(console)(error),
        })?;
        let mut names = apps.into_iter().map(|app| app.name);
        match (names.next(), names.next()) {
            (Some(name), None) => Ok(name),
            (None, _) if is_here => Err(CliError::failed("the app has not started yet", "wait until it is ready")),
            (None, _) => Err(CliError::usage(
                format!("the tenant `{}` has no apps", self.tenant),
                "name another tenant: --tenant TENANT",
            )),
            (Some(_), Some(_)) => Err(CliError::usage(
                format!("the tenant `{}` has several apps", self.tenant),
                "name the app; `isomer apps` lists all apps",
            )),
        }
    }

    fn arguments(&self, name: &AppName) -> String {
        let node = self.node.node.as_ref().map(|node| format!(" --node {}", escaped(node))).unwrap_or_default();
        format!(" {name}{}{node}", crate::remote::show::tenant_flag(&self.tenant))
    }
}

/// Creates a client of a node if the user names one. Otherwise, creates a client of the process that serves the app of
/// the working directory, or of the default node if there is no such process.
pub(crate) fn observed_client(node: &NodeFlags, console: &Console) -> Result<Client, CliError> {
    match local_process().filter(|_| !node.names_a_node()) {
        Some(data) => local_client(&data),
        None => node.client(console),
    }
}

/// Returns the data directory of the process that serves the app of the working directory; `None` if there is no such
/// app or no such process.
fn local_process() -> Option<PathBuf> {
    let data = find_app_dir(Path::new(".")).ok()?.join(AppDir::OWN_DIR);
    data.join(URL_FILE).exists().then_some(data)
}

/// Returns a client of the process with the data directory `data`. Uses only the token in this directory, never a token
/// for a node: if the folder was copied from elsewhere, its address file can contain an address to which the user's
/// tokens must not be sent.
fn local_client(data: &Path) -> Result<Client, CliError> {
    let file = data.join(URL_FILE);
    match NodeAddress::read_from(data) {
        Ok(address) if address.is_local() => {
            Ok(Client::new(address, Token::read_own(&data.join(TOKEN_FILE)).map_err(token_error)?))
        }
        Ok(_) => Err(CliError::failed(
            format!("`{}` is not the address of a process on this machine", file.display()),
            "remove the file; `isomer run` and `isomer dev` write it when they start",
        )),
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot read `{}`", file.display())).into()),
    }
}
