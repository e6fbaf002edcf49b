//! `isomer tokens`: the tokens of a tenant. A token is told once, when it is made: on standard output, or in a file for its owner alone.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use isomer_admin::Token;
use isomer_api::{NewToken, Role, TenantName, TokenInfo, TokenName};
use serde_json::json;

use crate::console::{Console, print};
use crate::fail::Fail;
use crate::remote::node::{NodeFlags, refused};
use crate::remote::show::{minute, of_tenant, table};

/// Make, list or revoke the tokens of a tenant, which open what is the tenant's and nothing else.
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

/// Make a token. It is shown this once: on standard output, or in a file that only you can read.
#[derive(clap::Args)]
struct Create {
    /// Its name: what it is for, as `ci`.
    #[arg(value_name = "NAME")]
    name: TokenName,
    /// What it opens: `read` (look at apps, revisions, logs), `deploy` (also deploy, swap, roll back, stop, start) or `admin` (also secrets,
    /// tokens, removing apps).
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// Write it into this new file instead of showing it.
    #[arg(long, value_name = "FILE")]
    to_file: Option<PathBuf>,
    #[command(flatten)]
    whose: Whose,
}

/// List the tokens of a tenant. The tokens themselves are never told again.
#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    whose: Whose,
}

/// Revoke a token: it opens nothing from now on.
#[derive(clap::Args)]
struct Revoke {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: TokenName,
    #[command(flatten)]
    whose: Whose,
}

#[derive(clap::Args)]
struct Whose {
    /// Whose it is.
    #[arg(long, value_name = "TENANT", default_value = TenantName::DEFAULT)]
    tenant: TenantName,
    #[command(flatten)]
    node: NodeFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), Fail> {
    match &arguments.command {
        Command::Create(create) => make(create, console),
        Command::List(List { whose: Whose { tenant, node } }) => {
            let tokens = node.ask(console, async |client| client.tokens(tenant).await.map_err(refused(console)))?;
            if node.json {
                return print(&format!("{:#}\n", json!(tokens)));
            }
            if tokens.is_empty() {
                let of = of_tenant(tenant);
                console.say(&format!("no tokens; isomer tokens create NAME --role ROLE{of} makes one"));
                return Ok(());
            }
            let row = |token: &TokenInfo| {
                let TokenInfo { name, id, role, created_at, .. } = token;
                [name.to_string(), role.to_string(), id.to_string(), minute(*created_at)]
            };
            print(&table(["TOKEN", "ROLE", "ID", "MADE (UTC)"], &tokens.iter().map(row).collect::<Vec<_>>()))
        }
        Command::Revoke(Revoke { name, whose: Whose { tenant, node } }) => {
            node.ask(console, async |client| client.revoke_token(tenant, name).await.map_err(refused(console)))?;
            if node.json {
                return print(&format!("{:#}\n", json!({ "tenant": tenant, "revoked": name })));
            }
            console.say(&format!("token {name} of {tenant} is revoked"));
            Ok(())
        }
    }
}

fn make(create: &Create, console: &Console) -> Result<(), Fail> {
    let Create { name, role, to_file, whose: Whose { tenant, node } } = create;
    if let Some(path) = to_file.as_ref().filter(|path| path.exists()) {
        // Before it is made: one that cannot be told would have to be revoked.
        return Err(Fail::usage(format!("`{}` is there already", path.display()), "name a file that is not there yet"));
    }
    let new = NewToken { name: name.clone(), role: *role };
    let made = node.ask(console, async |client| client.create_token(tenant, &new).await.map_err(refused(console)))?;
    let said = format!("token {name} of {tenant} is made, with the role {role}");
    let Some(path) = to_file else {
        if node.json {
            return print(&format!("{:#}\n", json!(made)));
        }
        console.say(&format!("{said}; it is shown this once"));
        return print(&format!("{}\n", made.token));
    };
    let token = Token::parse(&made.token).context("the node answered with something that is no token")?;
    token.write_new(path).map_err(|error| {
        let hint = format!("revoke it, and make another one: isomer tokens revoke {name}{}", of_tenant(tenant));
        Fail::hinted(error, [hint])
    })?;
    if node.json {
        return print(&format!("{:#}\n", json!(made.info)));
    }
    console.say(&format!("{said}; it is in {}", path.display()));
    Ok(())
}
