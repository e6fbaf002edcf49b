//! `isomer revisions`: lists the revisions of an app.

use isomer_api::{Actor, DeployMessage, ReleaseChanges, RevisionInfo, RevisionOperation, RevisionOrigin};
use isomer_console::{CliError, Console, print};
use isomer_display::escaped;

use crate::commands::apps::shown_shape;
use crate::remote::node::{AppFlags, client_error};
use crate::remote::show::{list, minute, size, table};

/// List the revisions of an app that the node keeps, newest first.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let revisions =
        node.with_client(console, async |client| client.revisions(tenant, app).await.map_err(client_error(console)))?;
    if node.json {
        let value = serde_json::to_value(&revisions).expect("a response is plain data");
        return print(&format!("{value:#}\n"));
    }
    let row = |info: &RevisionInfo| {
        let serves = if info.current { "serves" } else { "" };
        let snapshot = info.snapshot.as_ref().map_or_else(String::new, |snapshot| {
            let stores = snapshot.stores.iter().map(|store| format!("{} {}", escaped(&store.store), size(store.bytes)));
            format!("{}: {}", minute(snapshot.taken_at), list(stores))
        });
        let origin = info.origin.as_ref();
        [
            info.revision.short().to_owned(),
            escaped(&info.version),
            shown_shape(info.shape.as_deref()),
            minute(info.deployed_at),
            serves.to_owned(),
            origin.map_or_else(String::new, origin_text),
            origin.map_or_else(String::new, changed),
            origin.map_or_else(String::new, messages),
            snapshot,
        ]
    };
    let rows: Vec<_> = revisions.iter().map(row).collect();
    let head =
        ["REVISION", "VERSION", "SHAPE", "DEPLOYED (UTC)", "", "BY", "CHANGED", "MESSAGE", "SNAPSHOT OF STORES (UTC)"];
    print(&table(head, &rows))
}

/// Returns the command that created the revision: `deploy`, or `swap by ci` if the command used the tenant's token
/// `ci`.
fn origin_text(origin: &RevisionOrigin) -> String {
    let how = match origin.how {
        RevisionOperation::Deploy => "deploy",
        RevisionOperation::Swap => "swap",
        RevisionOperation::Rollback => "rollback",
        RevisionOperation::Reshape => "reshape",
    };
    match &origin.by {
        Actor::Node => how.to_owned(),
        Actor::Tenant { name, .. } => format!("{how} by {name}"),
    }
}

/// Summarises the differences from the previous revision.
fn changed(origin: &RevisionOrigin) -> String {
    let Some(ReleaseChanges { manifest, shape, changed, added, removed, more, files }) = &origin.changes else {
        return String::new();
    };
    let mut parts: Vec<String> = changed.iter().map(|name| escaped(name)).collect();
    parts.extend(added.iter().map(|name| format!("+{}", escaped(name))));
    parts.extend(removed.iter().map(|name| format!("-{}", escaped(name))));
    let counted = |count: u32, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{count} {what}s")),
    };
    parts.extend(counted(*more, "more component"));
    parts.extend(counted(*files, "file"));
    parts.extend(manifest.then(|| "manifest".to_owned()));
    parts.extend(shape.then(|| "shape".to_owned()));
    if parts.is_empty() { "nothing".to_owned() } else { list(parts) }
}

/// The maximum number of characters of a message in the table. The output of `--json` contains the complete message.
const MESSAGE_CHARS_MAX: usize = 60;

/// Returns the first line of the message of the operation that put the revision into service. If the revision's first
/// deployment has a message, its first line follows in parentheses.
fn messages(origin: &RevisionOrigin) -> String {
    let first = origin.first_message.as_ref().map(|first| format!("(first: {})", first_line(first)));
    let both = origin.message.as_ref().map(first_line).into_iter().chain(first);
    both.collect::<Vec<_>>().join(" ")
}

fn first_line(message: &DeployMessage) -> String {
    let line = message.as_str().lines().next().unwrap_or_default();
    let shown: String = line.chars().take(MESSAGE_CHARS_MAX).collect();
    let end = if shown.len() < message.as_str().len() { "…" } else { "" };
    escaped(&shown) + end
}
