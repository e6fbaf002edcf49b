//! `isomer ship exe`: writes an app and its runtime as one program.

use std::path::PathBuf;

use isomer_console::{CliError, Console, print};
use isomer_display::size;
use isomer_flags::ValueFlags;
use isomer_manifest::MONOLITH;
use isomer_project::shown;
use serde_json::json;

use crate::app_source::AppSource;
use crate::remote::registry::RegistryFlags;
use crate::shipping::{Cpu, ExeOptions, ShippedExe, ship_exe};

/// Build an app, and write it as one program that needs nothing else.
///
/// The program contains a runtime, the app's components and their compiled code, granted folders, migrations and the
/// manifest. The same app, runtime and options give the same file, byte for byte. The app's `.env` is not read: its values are
/// those of this machine.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, the file of an HTTP component, or an app that was
    /// built elsewhere: `oci://registry.example/team/shop:1.4.0`, or an archive (`shop.tar`).
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// The shape in which the program runs the app. A shape with several processes starts the program several times.
    #[arg(long, default_value = MONOLITH)]
    shape: String,
    /// The file to write [default: the app's name, in the working directory].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The runtime [default: `isomer-runtime` next to this program, or this program]. The code is compiled for the
    /// runtime's architecture.
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// The oldest processors that must run the program. Only for 64-bit x86: other architectures have one level.
    #[arg(long, value_enum, default_value_t = Cpu::X86_64V2)]
    cpu: Cpu,
    #[command(flatten)]
    values: ValueFlags,
    #[command(flatten)]
    registry: RegistryFlags,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let options = ExeOptions {
        source: AppSource::parse(&arguments.path)?,
        registry: &arguments.registry,
        shape: &arguments.shape,
        output: arguments.output.as_deref(),
        base: arguments.base.as_deref(),
        cpu: arguments.cpu,
        values: arguments.values.shipped(),
    };
    let ShippedExe { file, bytes, base_bytes, release, target, base } = ship_exe(&options, console)?;
    if arguments.json {
        let value = json!({
            "file": file,
            "bytes": bytes,
            "base": base,
            "base_bytes": base_bytes,
            "release": release.as_str(),
            "shape": arguments.shape,
            "target": target,
        });
        return print(&format!("{value:#}\n"));
    }
    let (whole, base, app) = (size(bytes), size(base_bytes), size(bytes - base_bytes));
    let file = shown(&file);
    console.message(&format!("{file}  {whole} (runtime {base}, app {app}), for {target}, release {release}"));
    Ok(())
}
