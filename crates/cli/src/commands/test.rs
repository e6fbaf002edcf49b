//! `isomer test`: runs an app's test scripts, which send requests to the app in each of its shapes.

use std::path::PathBuf;

use anyhow::Context as _;
use isomer_app_test::{
    AppProcess, AppProcessSetup, OtherShape, ReportDetail, Script, ScriptRun, StubServer, passed, read_scripts,
    report_json, report_text, run_script,
};
use isomer_console::{CliError, Console, FAILED, print};
use isomer_manifest::{App, MONOLITH};
use isomer_project::{AppDir, ValueSources, shown};

use isomer_flags::ValueFlags;

/// Send the requests in `tests/*.toml` to the app in each of its shapes, and check the responses.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, or the file of an HTTP component.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// Test only this shape. May be repeated [default: all shapes, `monolith` first].
    #[arg(long = "shape", value_name = "SHAPE")]
    shapes: Vec<String>,
    /// Run only the cases in this file. May be repeated [default: all files in `tests`].
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show failures without leaving out lines: requests and responses with their bodies, differences, and the log.
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    values: ValueFlags,
    /// Print the results as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let values = arguments.values.sources();
    let app = AppDir::open_with(&arguments.path, &values)?;
    app.print_warnings(console);
    let secrets = app.app.secrets.keys().map(String::as_str).collect();
    let scripts = read_scripts(&app.dir, &arguments.files, &secrets)?;
    if let Some(note) = env_file_note(&app, &values, &scripts) {
        console.message(&note);
    }
    for script in &scripts {
        if let Some(missing) = app.missing_secrets(|secret| !script.secrets.contains_key(secret)) {
            return Err(CliError::findings(missing.findings, &app.source));
        }
    }
    let components = app.components(console)?;
    let shapes = shapes(arguments, &app);
    // All shapes are planned before the first test runs, so that all errors of the manifest are reported first.
    for shape in &shapes {
        app.plan(&components, shape)?;
    }
    let detail = if arguments.verbose { ReportDetail::Whole } else { ReportDetail::Short };
    // The runs share their compiled code with `isomer run`, which uses the same folder.
    let code = app.dir.join(".isomer/cache");
    let mut runs: Vec<ScriptRun<'_>> = Vec::with_capacity(scripts.len() * shapes.len());
    for script in &scripts {
        let first = runs.len();
        for shape in &shapes {
            let progress = console.progress();
            progress.step(format!("{} in shape {shape}", script.source.name()));
            let stubs =
                StubServer::start(&script.stubs).context("cannot listen for requests to hosts that have stubs")?;
            let setup = AppProcessSetup {
                app_dir: &app.path,
                shape,
                code: &code,
                values: &values,
                deterministic: script.same_answers,
                secrets: &script.secrets,
                stubs: stubs.as_ref(),
            };
            let process = AppProcess::start(&setup)?;
            let reference = runs.get(first).filter(|_| script.same_answers);
            let reference = reference.map(|run: &ScriptRun<'_>| {
                let session_cookie = session_cookie(&app.app, [run.shape, shape]);
                (OtherShape { name: run.shape, session_cookie }, &run.result)
            });
            let result = run_script(script, process.address(), reference, detail);
            let log = process.stop();
            let unknown = stubs.map(|stubs| stubs.unknown()).unwrap_or_default();
            runs.push(ScriptRun { script, shape, result, log, unknown });
        }
    }
    print(&match arguments.json {
        true => format!("{:#}\n", report_json(&app.app.name, &runs)),
        false => report_text(&runs, arguments.verbose),
    })?;
    if passed(&runs) { Ok(()) } else { Err(CliError::ExitCode(FAILED)) }
}

/// Returns a note with the values that the app's `.env` file changes. `.env` is read even if no flag names it, and is
/// usually not part of the app's repository. So the note can explain why results differ between two machines.
fn env_file_note(app: &AppDir, values: &ValueSources, scripts: &[Script]) -> Option<String> {
    let file = app.values.variables_file.as_deref().filter(|_| values.env_files.is_empty())?;
    let is_changed = |key: &str| app.values.config.keys().any(|(component, name)| format!("{component}.{name}") == key);
    let config = app.values.from_variables.iter().filter(|(key, _)| is_changed(key));
    let config = config.map(|(key, _)| format!("config {key}"));
    let is_used = |secret: &&str| scripts.iter().any(|script| !script.secrets.contains_key(*secret));
    let secrets = app.secrets_from_variables().into_iter().filter(is_used).map(|secret| format!("secret {secret}"));
    let used: Vec<String> = config.chain(secrets).collect();
    (!used.is_empty())
        .then(|| format!("values from {}: {} (another file: --env-file FILE)", shown(file), used.join(", ")))
}

/// Returns the shapes to test, each once. The monolith is the first, because the responses of other shapes are compared
/// with those of the monolith.
fn shapes(arguments: &Arguments, app: &AppDir) -> Vec<String> {
    let mut shapes = match arguments.shapes.as_slice() {
        [] => app.app.shapes.keys().cloned().collect(),
        named => named.to_vec(),
    };
    shapes.sort_by_key(|shape| (shape != MONOLITH, shape.clone()));
    shapes.dedup();
    shapes
}

/// Returns the name of the app's session cookie if one of `shapes` has a browser group.
fn session_cookie<'a>(app: &'a App, shapes: [&str; 2]) -> Option<&'a str> {
    let has_tabs = |shape: &str| app.shapes.iter().any(|(name, one)| name.as_str() == shape && one.browser.is_some());
    let session = app.session.as_ref().filter(|_| shapes.into_iter().any(has_tabs))?;
    Some(&session.cookie.value)
}
