//! `isomer revisions`: what an app was.

use isomer_api::RevisionInfo;

use crate::console::{Console, print};
use crate::fail::Fail;
use crate::remote::node::{AppFlags, refused};
use crate::remote::show::{escaped, list, minute, size, table};

/// List the revisions of an app that its node keeps, the newest first.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), Fail> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let revisions = node.ask(console, async |client| client.revisions(tenant, app).await.map_err(refused(console)))?;
    if node.json {
        let value = serde_json::to_value(&revisions).expect("an answer is plain data");
        return print(&format!("{value:#}\n"));
    }
    let row = |info: &RevisionInfo| {
        let serves = if info.current { "serves" } else { "" };
        let snapshot = info.snapshot.as_ref().map_or_else(String::new, |snapshot| {
            let stores = snapshot.stores.iter().map(|store| format!("{} {}", escaped(&store.store), size(store.bytes)));
            format!("{}: {}", minute(snapshot.taken_at), list(stores))
        });
        [
            info.revision.short().to_owned(),
            escaped(&info.version),
            minute(info.deployed_at),
            serves.to_owned(),
            snapshot,
        ]
    };
    let rows: Vec<_> = revisions.iter().map(row).collect();
    print(&table(["REVISION", "VERSION", "DEPLOYED (UTC)", "", "STORES AS IT LEFT THEM (UTC)"], &rows))
}
