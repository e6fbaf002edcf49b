//! `isomer rollback`: goes back to an earlier revision.

use isomer_admin::Client;
use isomer_api::{RevisionId, Rollback};

use crate::commands::deploy;
use crate::console::Console;
use crate::fail::Fail;
use crate::remote::node::{AppFlags, refused};
use crate::remote::show::escaped;

/// Go back to an earlier revision of an app.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
    /// The revision, or how it begins [default: the one that served before].
    #[arg(value_name = "REVISION")]
    revision: Option<String>,
}

/// The fewest digits that stand for a revision.
const DIGITS_MIN: usize = 4;

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), Fail> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let deployed = node.ask(console, async |client| {
        let revision = match &arguments.revision {
            None => None,
            Some(text) => Some(find(&client, &arguments.app, text, console).await?),
        };
        let progress = console.progress();
        progress.step(format!("rolling {app} back"));
        client.rollback(tenant, app, &Rollback { revision }).await.map_err(refused(console))
    })?;
    deploy::say(&deployed, tenant, app, node.json, console)
}

/// The one revision that begins so.
async fn find(client: &Client, flags: &AppFlags, text: &str, console: &Console) -> Result<RevisionId, Fail> {
    if let Ok(revision) = text.parse() {
        return Ok(revision);
    }
    let AppFlags { app, tenant, .. } = flags;
    let revisions = client.revisions(tenant, app).await.map_err(refused(console))?;
    let begins = |revision: &&RevisionId| text.len() >= DIGITS_MIN && revision.as_str().starts_with(text);
    let found: Vec<&RevisionId> = revisions.iter().map(|info| &info.revision).filter(begins).collect();
    let hint = format!("isomer revisions {app} --tenant {tenant}");
    match found.as_slice() {
        [revision] => Ok((*revision).clone()),
        [] => Err(Fail::usage(format!("no revision of `{app}` begins with `{}`", escaped(text)), hint)),
        _ => Err(Fail::usage(format!("several revisions of `{app}` begin with `{text}`"), hint)),
    }
}
