//! `isomer secrets`: sets, removes and lists the secrets of a tenant. A value is read from a file or from standard
//! input, never from the command line, because other processes can read the command line.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use isomer_console::{CliError, Console, print};
use isomer_display::escaped;
use isomer_ids::{SECRET_BYTES_MAX, TenantName};
use serde_json::json;

use crate::remote::node::{TenantFlags, client_error};
use crate::remote::show::tenant_flag;

/// Set, remove or list the secrets of a tenant.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Set(Set),
    Remove(Remove),
    List(List),
}

/// Set a secret to the contents of a file or of standard input. A final newline is removed.
#[derive(clap::Args)]
struct Set {
    /// The secret's name, as in the table `[secrets]` of the manifest.
    #[arg(value_name = "NAME")]
    name: String,
    /// The file that contains the value.
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    #[command(flatten)]
    of: TenantFlags,
}

/// Remove a secret. Fails if a serving revision uses the secret, unless `--force` is used.
#[derive(clap::Args)]
struct Remove {
    /// The secret's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// Remove the secret even if apps use it. These apps can no longer be started.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    of: TenantFlags,
}

/// List the names of a tenant's secrets. Values are never shown.
#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    of: TenantFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    match &arguments.command {
        Command::Set(Set { name, from_file, of: TenantFlags { tenant, node } }) => {
            let value = value(name, tenant, from_file.as_ref(), console)?;
            node.with_client(console, async |client| {
                client.set_secret(tenant, name, value).await.map_err(client_error(console))
            })?;
            if node.json {
                return print(&format!("{:#}\n", json!({ "tenant": tenant, "set": name })));
            }
            console.message(&format!("set secret {name} of {tenant}; apps use it from their next request"));
        }
        Command::Remove(Remove { name, force, of: TenantFlags { tenant, node } }) => {
            node.with_client(console, async |client| {
                client.remove_secret(tenant, name, *force).await.map_err(client_error(console))
            })?;
            if node.json {
                return print(&format!("{:#}\n", json!({ "tenant": tenant, "removed": name })));
            }
            console.message(&format!("removed secret {name} of {tenant}"));
        }
        Command::List(List { of: TenantFlags { tenant, node } }) => {
            let info =
                node.with_client(console, async |client| client.tenant(tenant).await.map_err(client_error(console)))?;
            if node.json {
                return print(&format!("{:#}\n", json!(info.secrets)));
            }
            if info.secrets.is_empty() {
                console.message(&format!("no secrets; create one: isomer secrets set NAME{}", tenant_flag(tenant)));
            }
            print(&info.secrets.iter().map(|name| escaped(name) + "\n").collect::<String>())?;
        }
    }
    Ok(())
}

fn value(name: &str, tenant: &TenantName, file: Option<&PathBuf>, console: &Console) -> Result<Vec<u8>, CliError> {
    let mut value = Vec::new();
    // A value of the maximum size can be followed by a newline of two bytes (`\r\n`), which is removed below.
    let most = SECRET_BYTES_MAX + 2;
    match file {
        Some(file) => {
            let opened = std::fs::File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
            opened.take(most).read_to_end(&mut value).with_context(|| format!("cannot read `{}`", file.display()))?;
        }
        None => {
            if std::io::stdin().is_terminal() {
                console.message(&format!(
                    "type the value of {name}, then Enter and Ctrl-D; the value is shown as you type"
                ));
            }
            std::io::stdin().take(most).read_to_end(&mut value).context("cannot read standard input")?;
        }
    }
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    if value.is_empty() {
        let of = tenant_flag(tenant);
        let hint =
            format!("pass the value on standard input, or name a file: isomer secrets set {name}{of} --from-file FILE");
        return Err(CliError::usage("the value is empty", hint));
    }
    if value.len() as u64 > SECRET_BYTES_MAX {
        let title = format!("the value is longer than {}", isomer_display::size(SECRET_BYTES_MAX));
        return Err(CliError::usage(title, "set only a key as the secret, and put the data itself into a store"));
    }
    Ok(value)
}
