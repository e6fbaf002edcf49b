//! `isomer swap`: replaces components of an app while the app serves requests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use isomer_api::{DeployMessage, Release, SwapRequest};
use isomer_console::{CliError, Console};
use isomer_parcel::add_part;
use isomer_project::WasmFile;

use crate::commands::deploy;
use crate::remote::node::{AppFlags, client_error};
use crate::remote::upload::upload;

/// Replace components of an app while it serves requests. The other components do not change.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
    /// The name of a component of the app, and the file that replaces it.
    #[arg(value_name = "COMPONENT=FILE.wasm", required = true, value_parser = parse)]
    components: Vec<(String, PathBuf)>,
    /// A message that `isomer revisions` shows.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<DeployMessage>,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let mut bytes = BTreeMap::new();
    let mut components = BTreeMap::new();
    for (name, path) in &arguments.components {
        let part = add_part(&mut bytes, WasmFile::open(path)?.bytes.into());
        if components.insert(name.clone(), part).is_some() {
            return Err(CliError::usage(format!("component `{name}` is named twice"), "name each component once"));
        }
    }
    let deployed = node.with_client(console, async |client| {
        // `upload` sends a release to the node, and the node responds with the list of parts that it lacks. So this
        // release exists only for the upload, and is never deployed.
        let release = Release {
            manifest: String::new(),
            shape: String::new(),
            components: components.clone(),
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            hosts: None,
            message: None,
            signatures: Vec::new(),
        };
        upload(&client, &release, &bytes, console).await?;
        let progress = console.progress();
        progress.step(format!("swapping components of {app}"));
        let swap = SwapRequest { components, message: arguments.message.clone() };
        client.swap(tenant, app, &swap).await.map_err(client_error(console))
    })?;
    deploy::report_deployed(&deployed, tenant, app, node.json, console)
}

fn parse(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("write `COMPONENT=FILE.wasm`".to_owned()),
    }
}
