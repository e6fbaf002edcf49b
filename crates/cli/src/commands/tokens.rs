//! `isomer tokens`: creates, lists and revokes the tokens of a tenant. A token is shown only when it is created: on
//! standard output, or in a file that only its owner can read.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use isomer_admin::Token;
use isomer_api::{TokenInfo, TokenRequest, TokenRole};
use isomer_console::{CliError, Console, print};
use isomer_ids::TokenName;
use isomer_manifest::parse_duration;
use serde_json::json;

use crate::remote::node::{TenantFlags, client_error};
use crate::remote::show::{minute, table, tenant_flag};

/// Create, list or revoke the tokens of a tenant. A token gives access only to this tenant.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Create a token. The token is shown only once: on standard output, or in a file that only you can read.
#[derive(clap::Args)]
struct Create {
    /// The token's name, for example `ci`.
    #[arg(value_name = "NAME")]
    name: TokenName,
    /// The role of the token: `read` (show apps, revisions, logs), `deploy` (also deploy, swap, roll back, stop, start)
    /// or `admin` (also secrets, tokens, removing apps).
    #[arg(long, value_name = "ROLE")]
    role: TokenRole,
    /// Also permit reading the content of the apps' stores. The role `admin` permits this anyway.
    #[arg(long)]
    data: bool,
    /// The time for which the token is valid, for example `30d` or `12h` [default: until it is revoked].
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<Duration>,
    /// Write the token to this file instead of standard output. The file must not exist yet.
    #[arg(long, value_name = "FILE")]
    to_file: Option<PathBuf>,
    #[command(flatten)]
    of: TenantFlags,
}

/// List the tokens of a tenant with their roles. The secret part of a token is never shown again.
#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    of: TenantFlags,
}

/// Revoke a token. From then on, the token gives no access.
#[derive(clap::Args)]
struct Revoke {
    /// The token's name.
    #[arg(value_name = "NAME")]
    name: TokenName,
    #[command(flatten)]
    of: TenantFlags,
}

/// Parses the lifetime of a token: a duration as in a manifest, or a number of days.
fn lifetime(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let duration = match days {
        Some(days) => Duration::from_secs(u64::from(days) * 24 * 3600),
        None => parse_duration(text).map_err(|_| "write `30d`, `12h` or `90m`".to_owned())?,
    };
    if duration < Duration::from_secs(1) {
        Err("a token is valid for at least one second".to_owned())
    } else {
        Ok(duration)
    }
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    match &arguments.command {
        Command::Create(create) => make(create, console),
        Command::List(List { of: TenantFlags { tenant, node } }) => {
            let tokens =
                node.with_client(console, async |client| client.tokens(tenant).await.map_err(client_error(console)))?;
            if node.json {
                return print(&format!("{:#}\n", json!(tokens)));
            }
            if tokens.is_empty() {
                let of = tenant_flag(tenant);
                console.message(&format!("no tokens; create one: isomer tokens create NAME --role ROLE{of}"));
                return Ok(());
            }
            let row = |token: &TokenInfo| {
                let TokenInfo { name, id, role, data, created_at, expires_at, .. } = token;
                let role = if *data { format!("{role}, data") } else { role.to_string() };
                let expires = expires_at.map_or_else(|| "never".to_owned(), minute);
                [name.to_string(), role, id.to_string(), minute(*created_at), expires]
            };
            let head = ["TOKEN", "ROLE", "ID", "CREATED (UTC)", "EXPIRES (UTC)"];
            print(&table(head, &tokens.iter().map(row).collect::<Vec<_>>()))
        }
        Command::Revoke(Revoke { name, of: TenantFlags { tenant, node } }) => {
            node.with_client(console, async |client| {
                client.revoke_token(tenant, name).await.map_err(client_error(console))
            })?;
            if node.json {
                return print(&format!("{:#}\n", json!({ "tenant": tenant, "revoked": name })));
            }
            console.message(&format!("revoked token {name} of {tenant}"));
            Ok(())
        }
    }
}

fn make(create: &Create, console: &Console) -> Result<(), CliError> {
    let Create { name, role, data, expires, to_file, of: TenantFlags { tenant, node } } = create;
    if let Some(path) = to_file.as_ref().filter(|path| path.exists()) {
        // An existing file is an error before the token is created: a token that cannot be written to the file would be
        // lost, and would have to be revoked.
        return Err(CliError::usage(
            format!("`{}` exists already", path.display()),
            "name a file that does not exist yet",
        ));
    }
    let expires_in_s = expires.map(|expires| expires.as_secs());
    let new = TokenRequest { name: name.clone(), role: *role, data: *data, expires_in_s };
    let made = node
        .with_client(console, async |client| client.create_token(tenant, &new).await.map_err(client_error(console)))?;
    let until = made.info.expires_at.map_or_else(String::new, |at| format!(" until {} UTC", minute(at)));
    let and_data = if *data { " and access to data" } else { "" };
    let printed = format!("created token {name} of {tenant} with the role {role}{and_data}{until}");
    let Some(path) = to_file else {
        if node.json {
            return print(&format!("{:#}\n", json!(made)));
        }
        console.message(&format!("{printed}; the token is shown only once"));
        return print(&format!("{}\n", made.token));
    };
    let token = Token::parse(&made.token).context("the node's response is not a token")?;
    token.write_new(path).map_err(|error| {
        let hint =
            format!("revoke the token, and create another one: isomer tokens revoke {name}{}", tenant_flag(tenant));
        CliError::hinted(error, [hint])
    })?;
    if node.json {
        return print(&format!("{:#}\n", json!(made.info)));
    }
    console.message(&format!("{printed}; the token is in {}", path.display()));
    Ok(())
}
