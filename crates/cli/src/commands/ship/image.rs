//! `isomer ship image`: writes a shipped program as a container image.

use std::path::PathBuf;

use isomer_console::{CliError, Console, print};
use isomer_display::size;
use isomer_project::shown;
use serde_json::json;

use crate::shipping::{ImageOptions, ShippedImage, ship_image};

/// Write a program of `isomer ship exe` as a container image.
///
/// The image is an OCI image layout in a tar archive, which `docker load`, `podman load`, `ctr images import` and `skopeo`
/// read. It contains the program and nothing else, so the program must be statically linked. The same program gives the
/// same image, byte for byte.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The program that `isomer ship exe` wrote.
    #[arg(value_name = "PROGRAM")]
    program: PathBuf,
    /// The file to write [default: the app's name with `.tar`, in the working directory].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The port that the program listens on in the container.
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let options =
        ImageOptions { program: &arguments.program, output: arguments.output.as_deref(), port: arguments.port };
    let ShippedImage { file, bytes, name, digest } = ship_image(&options)?;
    if arguments.json {
        let value = json!({ "file": file, "bytes": bytes, "name": name, "digest": digest });
        return print(&format!("{value:#}\n"));
    }
    console.message(&format!("{}  {}, image {name}, {digest}", shown(&file), size(bytes)));
    Ok(())
}
