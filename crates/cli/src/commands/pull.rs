//! `isomer pull`: downloads an app from a registry and checks it.

use std::path::PathBuf;

use isomer_console::{CliError, Console, print};
use isomer_display::size;
use isomer_ids::OciReference;
use isomer_registry::{ReferrerFilter, write_archive};
use serde_json::json;

use crate::app_source::ShippedApp;
use crate::remote::node::block_on;
use crate::remote::registry::RegistryFlags;
use crate::shipping::{DATA, write_file};

/// Download an app from an OCI registry into the cache, and print its digest. `isomer run` then needs no registry for a
/// reference with this digest.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app in a registry: `registry.example/team/shop:1.4.0`, or `registry.example/team/shop@sha256:…`.
    #[arg(value_name = "REFERENCE")]
    reference: OciReference,
    /// Also write the app with its signatures and lists of components into this archive (`shop.tar`), for machines
    /// without a network.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryFlags,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let reference = &arguments.reference;
    let all = arguments.output.is_some().then(ReferrerFilter::default);
    let pulled = block_on(ShippedApp::pull(reference, &arguments.registry, all, console))?;
    if let Some(output) = &arguments.output {
        write_file(
            output,
            DATA,
            |out| {
                let written = write_archive(out, &pulled.contents, &pulled.referrers, reference.tag());
                written.map_err(std::io::Error::other)
            },
            |_| Ok(()),
        )?;
    }
    let pinned = reference.with_digest(pulled.digest.clone());
    let release = &pulled.contents.release;
    let bytes: u64 = pulled.contents.parts.values().map(|bytes| bytes.len() as u64).sum();
    if arguments.json {
        let value = json!({
            "reference": reference.to_string(),
            "digest": format!("sha256:{}", pulled.digest),
            "pinned": pinned.to_string(),
            "components": release.components,
            "files": release.files.len(),
            "bytes": bytes,
        });
        return print(&format!("{value:#}\n"));
    }
    let (components, files) = (release.components.len(), release.files.len());
    console.message(&format!("pulled {reference}: {components} components, {files} files, {}", size(bytes)));
    print(&format!("{pinned}\n"))
}
