//! `isomer test`: plays an app's own requests against it in every shape.

use std::path::PathBuf;

use anyhow::Context as _;
use isomer_manifest::MONOLITH;

use crate::app_dir::{self, AppDir};
use crate::console::{Console, print};
use crate::fail::{FAILED, Fail};
use crate::rehearsal::diff::Detail;
use crate::rehearsal::play::play;
use crate::rehearsal::report::{self, Run};
use crate::rehearsal::running::{Running, Setup};
use crate::rehearsal::script;
use crate::rehearsal::stubs::StubServer;
use crate::values::ValueFlags;

/// Play the requests of `tests/*.toml` against the app, in each of its shapes, and check the answers.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or one inside it), its isomer.toml, or a component that answers HTTP.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// Only this shape; may be repeated [default: all, `monolith` first].
    #[arg(long = "shape", value_name = "SHAPE")]
    shapes: Vec<String>,
    /// Only this file of cases; may be repeated [default: all in `tests`].
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show failures in full: requests and responses with their bodies, whole differences, the whole log.
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    values: ValueFlags,
    /// Print the results as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), Fail> {
    let app = AppDir::open_with(&arguments.path, &arguments.values)?;
    app.say_warnings(console);
    let secrets = app.app.secrets.keys().map(String::as_str).collect();
    let scripts = script::read_all(&app.dir, &arguments.files, &secrets)?;
    let components = app_dir::read(&app.build(console)?)?;
    let shapes = shapes(arguments, &app);
    // All that is wrong is said before anything is run.
    for shape in &shapes {
        let planned = isomer_node::revision::plan(&app.app, &components, shape);
        planned.map_err(|error| Fail::revision(error, Some(&app.source)))?;
    }
    let detail = if arguments.verbose { Detail::Whole } else { Detail::Short };
    // Where `isomer run` has it too.
    let code = app.dir.join(".isomer/cache");
    let mut runs: Vec<Run<'_>> = Vec::with_capacity(scripts.len() * shapes.len());
    for script in &scripts {
        let first = runs.len();
        for shape in &shapes {
            let progress = console.progress();
            progress.step(format!("{} in shape {shape}", script.source.name()));
            let stubs =
                StubServer::start(&script.stubs).context("cannot listen for requests to hosts that have stubs")?;
            let setup = Setup {
                app_dir: &app.path,
                shape,
                code: &code,
                values: &arguments.values,
                given_clock_and_random: script.same_answers,
                secrets: &script.secrets,
                stubs: stubs.as_ref(),
            };
            let running = Running::start(&setup)?;
            let reference = runs.get(first).filter(|_| script.same_answers);
            let played = play(script, running.address, reference.map(|run| (run.shape, &run.played)), detail);
            let log = running.stop();
            let unknown = stubs.map(|stubs| stubs.unknown()).unwrap_or_default();
            runs.push(Run { script, shape, played, log, unknown });
        }
    }
    print(&match arguments.json {
        true => format!("{:#}\n", report::for_programs(&app.app.name, &runs)),
        false => report::for_people(&runs, arguments.verbose),
    })?;
    if report::passed(&runs) { Ok(()) } else { Err(Fail::Exit(FAILED)) }
}

/// The shapes to be played, each once; the monolith, with which others are compared, before them.
fn shapes(arguments: &Arguments, app: &AppDir) -> Vec<String> {
    let mut shapes = match arguments.shapes.as_slice() {
        [] => app.app.shapes.keys().cloned().collect(),
        named => named.to_vec(),
    };
    shapes.sort_by_key(|shape| (shape != MONOLITH, shape.clone()));
    shapes.dedup();
    shapes
}
