//! `isomer rollback`: serves an earlier revision again. With `--to-snapshot`, also restores the revision's stores.

use isomer_admin::Client;
use isomer_api::{DeployMessage, RevisionInfo, RollbackRequest};
use isomer_console::{CliError, Console, FAILED};
use isomer_display::escaped;
use isomer_ids::ReleaseDigest;

use crate::commands::deploy;
use crate::remote::node::{AppFlags, client_error};
use crate::remote::show::{list, minute, tenant_flag};

/// Serve an earlier revision of an app again. The app's stores are not changed, unless `--to-snapshot` is used.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
    /// The revision, or at least the first four digits of it [default: the previous revision].
    #[arg(value_name = "REVISION")]
    revision: Option<String>,
    /// Also restore the revision's SQL stores from the snapshot that was taken when a revision with migrations replaced
    /// it. The app loses the data that was written since then.
    #[arg(long)]
    to_snapshot: bool,
    /// A message that `isomer revisions` shows [default: the message of the revision's deployment].
    #[arg(short, long, value_name = "TEXT")]
    message: Option<DeployMessage>,
    /// Restore the stores without asking for confirmation.
    #[arg(long)]
    yes: bool,
}

/// The minimum number of digits of an abbreviated revision digest.
const DIGITS_MIN: usize = 4;

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let deployed = node.with_client(console, async |client| {
        let mut revision = match &arguments.revision {
            None => None,
            Some(text) => Some(find_revision(&client, &arguments.app, text, console).await?),
        };
        if arguments.to_snapshot {
            revision = Some(confirmed_snapshot(&client, arguments, revision, console).await?);
        }
        let progress = console.progress();
        progress.step(format!("rolling {app} back"));
        let (to_snapshot, message) = (arguments.to_snapshot, arguments.message.clone());
        let rollback = RollbackRequest { revision, to_snapshot, message };
        client.rollback(tenant, app, &rollback).await.map_err(client_error(console))
    })?;
    deploy::report_deployed(&deployed, tenant, app, node.json, console)
}

/// Returns the revision whose snapshot is restored, after the user has confirmed that newer data is lost.
async fn confirmed_snapshot(
    client: &Client,
    arguments: &Arguments,
    revision: Option<ReleaseDigest>,
    console: &Console,
) -> Result<ReleaseDigest, CliError> {
    let AppFlags { app, tenant, .. } = &arguments.app;
    let revisions = client.revisions(tenant, app).await.map_err(client_error(console))?;
    let wanted = |info: &&RevisionInfo| revision.as_ref().map_or(!info.current, |revision| info.revision == *revision);
    let hint = format!("isomer revisions {app}{}", tenant_flag(tenant));
    let Some(info) = revisions.iter().find(wanted) else {
        return Err(CliError::failed(format!("`{app}` has no such revision"), hint));
    };
    let Some(snapshot) = &info.snapshot else {
        let short = info.revision.short();
        return Err(CliError::failed(format!("revision {short} has no snapshot of its stores"), hint));
    };
    let stores = list(snapshot.stores.iter().map(|store| escaped(&store.store)));
    let lost =
        format!("{stores} of {app} as of {} UTC: the app loses what was written since then", minute(snapshot.taken_at));
    if !arguments.yes {
        match console.confirm(&format!("restore {lost}?")) {
            Some(true) => {}
            Some(false) => return Err(CliError::ExitCode(FAILED)),
            None => {
                let hint = format!(
                    "isomer rollback {app} {}{} --to-snapshot --yes",
                    info.revision.short(),
                    tenant_flag(tenant)
                );
                return Err(CliError::usage(format!("this would restore {lost}"), hint));
            }
        }
    }
    Ok(info.revision.clone())
}

/// Returns the revision that `text` names: a complete digest, or its first digits. The function does not check that a
/// complete digest belongs to a revision of the app.
///
/// # Errors
/// If `text` is too short, or if not exactly one revision of the app begins with `text`.
async fn find_revision(
    client: &Client,
    flags: &AppFlags,
    text: &str,
    console: &Console,
) -> Result<ReleaseDigest, CliError> {
    if let Ok(revision) = text.parse() {
        return Ok(revision);
    }
    let AppFlags { app, tenant, .. } = flags;
    let revisions = client.revisions(tenant, app).await.map_err(client_error(console))?;
    let begins = |revision: &&ReleaseDigest| text.len() >= DIGITS_MIN && revision.as_str().starts_with(text);
    let found: Vec<&ReleaseDigest> = revisions.iter().map(|info| &info.revision).filter(begins).collect();
    let hint = format!("isomer revisions {app}{}", tenant_flag(tenant));
    match found.as_slice() {
        [] if text.len() < DIGITS_MIN => Err(CliError::usage(
            format!("`{}` is too short: use at least {DIGITS_MIN} digits of the revision digest", escaped(text)),
            hint,
        )),
        [revision] => Ok((*revision).clone()),
        [] => Err(CliError::failed(format!("no revision of `{app}` begins with `{}`", escaped(text)), hint)),
        _ => Err(CliError::failed(format!("several revisions of `{app}` begin with `{text}`"), hint)),
    }
}
