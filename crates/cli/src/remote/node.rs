//! The node's address and token, and the errors that the node returns.
//!
//! If the user names no token, the token in the data directory of the user's own node is used. It is sent only to a
//! node on this machine.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_admin::{Client, ClientError, NodeAddress, TOKEN_FILE, Token, TokenError, URL_FILE};
use isomer_api::{ApiProblem, ProblemKind};
use isomer_console::{CliError, Console, FAILED};
use isomer_ids::{AppName, TenantName};

use crate::user_dirs;
use isomer_display::escaped;

/// The environment variable that sets the node's address.
const NODE_VARIABLE: &str = "ISOMER_NODE";

/// The environment variable that sets the token.
const TOKEN_VARIABLE: &str = "ISOMER_TOKEN";

/// The flags that select the node and the token.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NodeFlags {
    /// The node: `HOST:PORT` or `http://HOST:PORT`, `unix:PATH`, or the node's data directory on this machine [default:
    /// `$ISOMER_NODE`, or http://127.0.0.1:7171].
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// The file with the token of the node or of a tenant; `-` is standard input [default: `$ISOMER_TOKEN`, or
    /// `admin.token` in the node's data directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print the response as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The arguments that select an app on a node.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AppFlags {
    /// The app's name.
    #[arg(value_name = "APP")]
    pub(crate) app: AppName,
    /// The tenant that the app belongs to.
    #[arg(long, value_name = "TENANT", default_value = TenantName::DEFAULT)]
    pub(crate) tenant: TenantName,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
}

/// The flags that select a tenant of a node.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TenantFlags {
    /// The tenant's name.
    #[arg(long, value_name = "TENANT", default_value = TenantName::DEFAULT)]
    pub(crate) tenant: TenantName,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
}

impl NodeFlags {
    /// Creates a client of the node, and runs `requests` with it.
    pub(crate) fn with_client<T, F: Future<Output = Result<T, CliError>>>(
        &self,
        console: &Console,
        requests: impl FnOnce(Client) -> F,
    ) -> Result<T, CliError> {
        let client = self.client(console)?;
        block_on(requests(client))
    }

    /// Returns whether the command line names a node. `ISOMER_NODE` does not count: it replaces the default node for all
    /// commands of a shell, so the app that runs in the current folder comes before it.
    pub(crate) fn names_a_node(&self) -> bool {
        self.node.is_some()
    }

    /// Returns whether a flag or an environment variable selects the node.
    pub(crate) fn selects_a_node(&self) -> bool {
        self.node.is_some() || variable(NODE_VARIABLE).is_some()
    }

    /// Creates a client of the node.
    pub(crate) fn client(&self, console: &Console) -> Result<Client, CliError> {
        let named = self.node.clone().or_else(|| variable(NODE_VARIABLE));
        let (node, data) = match named.as_deref() {
            None => (NodeAddress::from(&isomer_admin::AdminAddress::default()), None),
            Some(text) => match NodeAddress::parse(text) {
                Some(node) => (node, None),
                None => match without_scheme(text) {
                    Some(node) => (node, None),
                    None => (address_in(text)?, Some(PathBuf::from(text))),
                },
            },
        };
        let token = match (&self.token_file, variable(TOKEN_VARIABLE)) {
            (Some(file), _) if file.as_os_str() == "-" => {
                Token::read_from(std::io::stdin().lock()).map_err(token_error)?
            }
            (Some(file), _) => Token::read(file).map_err(token_error)?,
            (None, Some(text)) => Token::parse(&text).ok_or_else(|| {
                CliError::usage(
                    format!("`{TOKEN_VARIABLE}` is not a token"),
                    "tokens are in a node's `admin.token`, or printed by `isomer tokens create`",
                )
            })?,
            (None, None) => find_token(&node, data.as_deref())?,
        };
        if !node.is_local() {
            console.message(&format!("the token goes to `{node}` without encryption"));
        }
        Ok(Client::new(node, token))
    }
}

/// Runs `requests` on an executor of one thread.
pub(crate) fn block_on<T>(requests: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the executor")?.block_on(requests)
}

/// Parses an address without `http://`: `localhost:7171`, `:7171` or `7171`. Returns `None` if a file or folder has
/// this name.
fn without_scheme(text: &str) -> Option<NodeAddress> {
    let port = text.strip_prefix(':').unwrap_or(text);
    let authority = match port.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => text.to_owned(),
    };
    let has_port =
        authority.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let node = NodeAddress::parse(&format!("http://{authority}")).filter(|_| has_port && !authority.contains('/'));
    node.filter(|_| !Path::new(text).exists())
}

/// Returns the address of the node whose data directory is `text`.
fn address_in(text: &str) -> Result<NodeAddress, CliError> {
    let path = Path::new(text);
    if !path.is_dir() {
        return Err(CliError::usage(
            format!("`{}` is neither the address of a node nor a data directory", escaped(text)),
            "write `HOST:PORT`, `unix:PATH` or the node's data directory",
        ));
    }
    let file = path.join(URL_FILE);
    let url = std::fs::read_to_string(&file).map_err(|error| {
        let error = anyhow::Error::new(error).context(format!("cannot read `{}`", file.display()));
        let hint = "no node has run with this data directory yet: isomer node --data DIR";
        CliError::Failed(isomer_diagnostics::Hinted::new(error.into_boxed_dyn_error(), hint).into())
    })?;
    NodeAddress::parse(url.trim())
        .with_context(|| format!("`{}` contains no address", file.display()))
        .map_err(CliError::Failed)
}

/// Reads the token of the node whose data directory is `data`. Without `data`, reads the token of the user's own node.
fn find_token(node: &NodeAddress, data: Option<&Path>) -> Result<Token, CliError> {
    const WAYS: &str = "name the file of the token (--token-file FILE), or set ISOMER_TOKEN; the file is `admin.token` in the node's data directory";
    if let Some(data) = data {
        return Token::read_own(&data.join(TOKEN_FILE)).map_err(token_error);
    }
    let own = user_dirs::node_data().filter(|_| node.is_local()).map(|data| data.join(TOKEN_FILE));
    match own.filter(|file| file.exists()) {
        Some(file) => Token::read_own(&file).map_err(token_error),
        None => {
            let hint = match node.is_local() {
                true => format!("start a node with `isomer node`; for a node that is running, {WAYS}"),
                false => WAYS.to_owned(),
            };
            Err(CliError::usage(format!("there is no token for the node at `{node}`"), hint))
        }
    }
}

pub(crate) fn token_error(error: TokenError) -> CliError {
    let hint = error.hint();
    match error {
        // The hint of `TokenError::Open` is for the user. The hints of other errors are for the administrator of the
        // node, so they are not shown.
        TokenError::Open { .. } => CliError::hinted(error, hint),
        _ => CliError::Failed(error.into()),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns a function that converts a [`ClientError`] into a [`CliError`] with hints.
pub(crate) fn client_error(console: &Console) -> impl Fn(ClientError) -> CliError + Copy + use<> {
    let console = *console;
    move |error| match error {
        ClientError::Problem(problem) => problem_error(&console, problem),
        ClientError::Unreachable { .. } => {
            CliError::hinted(error, ["start a node (isomer node --data DIR), or name another node: --node NODE"])
        }
        ClientError::NotANode { .. } => {
            CliError::hinted(error, ["name the address of the node's admin API: --node NODE"])
        }
        ClientError::Broken { .. } => CliError::Failed(error.into()),
    }
}

/// Formats a problem that a node returned. If its details have several lines, they come before the title.
fn problem_error(console: &Console, problem: ApiProblem) -> CliError {
    let ApiProblem { kind, title, detail, hints, .. } = problem;
    let detail = detail.map(|detail| detail.lines().map(|line| escaped(line) + "\n").collect::<String>());
    let mut error = NodeError { title: escaped(&title), cause: None };
    let mut text = String::new();
    match detail {
        Some(detail) if detail.trim_end().contains('\n') || kind == ProblemKind::Refused => text = detail + "\n",
        Some(detail) => error.cause = Some(NodeErrorDetail(detail.trim_end().to_owned())),
        None => {}
    }
    let hints = hints.iter().map(|hint| escaped(hint));
    let (message, _) = CliError::hinted(error, hints).render(&console.renderer());
    CliError::Rendered { text: text + &message, code: FAILED }
}

#[derive(Debug, thiserror::Error)]
#[error("{title}")]
struct NodeError {
    title: String,
    #[source]
    cause: Option<NodeErrorDetail>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NodeErrorDetail(String);

/// Returns whether the node reports that the requested object does not exist.
pub(crate) fn is_missing(error: &ClientError) -> bool {
    matches!(error, ClientError::Problem(problem) if problem.kind == ProblemKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_lack_its_scheme() {
        let named = |text: &str| without_scheme(text).map(|node| node.to_string());
        for (text, url) in [
            ("localhost:7171", "http://localhost:7171"),
            (":7171", "http://127.0.0.1:7171"),
            ("7171", "http://127.0.0.1:7171"),
            ("[::1]:7171", "http://[::1]:7171"),
            ("node.internal:80", "http://node.internal:80"),
        ] {
            assert_eq!(named(text).as_deref(), Some(url));
        }
        for folder in ["", "data", "/var/lib/isomer", "./a:1", ":", "user@host:80", "src"] {
            assert_eq!(named(folder), None, "{folder}");
        }
    }
}
