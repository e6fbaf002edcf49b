//! `isomer reshape`: runs an app in another shape while the app serves requests.

use std::time::Duration;

use isomer_api::{DeployMessage, ReshapeRequest};
use isomer_console::{CliError, Console, print};
use isomer_display::{elapsed, escaped};
use isomer_ids::AppName;

use crate::commands::deploy;
use crate::observed::app::{ObservedApp, ObservedPlace};
use crate::remote::node::client_error;

/// Run an app in another shape while it serves requests: the app on a node, or the app that `isomer run` or `isomer dev`
/// serves from this folder. The components, the data and the host names do not change.
#[derive(clap::Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Arguments {
    /// The app on a node. Without it, the app that `isomer run` or `isomer dev` serves from this folder, or the node's
    /// only app.
    #[arg(value_name = "APP")]
    app: Option<AppName>,
    /// The shape: `monolith`, or a shape of the app's manifest.
    #[arg(value_name = "SHAPE", required = true)]
    shape: String,
    /// A message that `isomer revisions` shows. Only for an app on a node.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<DeployMessage>,
    #[command(flatten)]
    place: ObservedPlace,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let json = arguments.place.node.json;
    arguments.place.with_app(arguments.app.as_ref(), console, async |observed| {
        let ObservedApp { client, tenant, name, is_here, .. } = observed;
        let progress = console.progress();
        let shape = &arguments.shape;
        progress.step(format!("starting {name} in shape {}", escaped(shape)));
        let reshape = ReshapeRequest { shape: shape.clone(), message: arguments.message.clone() };
        let deployed = client.reshape(&tenant, &name, &reshape).await.map_err(client_error(console))?;
        drop(progress);
        if deployed.unchanged && !json {
            console.message(&format!("{name} already runs in shape {}: nothing has changed", escaped(shape)));
            return Ok(());
        }
        if !is_here {
            return deploy::report_deployed(&deployed, &tenant, &name, json, console);
        }
        if json {
            let mut value = serde_json::to_value(&deployed).expect("a response is plain data");
            value["app"] = name.as_str().into();
            return print(&format!("{value:#}\n"));
        }
        let took = elapsed(Duration::from_millis(deployed.took_ms));
        console.message(&format!("{name} now serves in shape {}  ({took})", escaped(shape)));
        Ok(())
    })
}
