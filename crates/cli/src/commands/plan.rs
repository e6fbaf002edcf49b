//! `isomer plan`: explains which components run where, and why. Changes nothing except the built components.

use std::path::{Path, PathBuf};

use isomer_advice::{Traffic, compare_arrangements};
use isomer_console::{CliError, Console, print};
use isomer_diagnostics::Diagnostic;
use isomer_display::{escaped, escaped_json};
use isomer_ids::AppName;
use isomer_manifest::MONOLITH;
use isomer_plan::{Arrangement, ArrangementDifference, EXPLANATION};
use isomer_project::{AppDir, read_components};

use crate::observed::app::ObservedPlace;
use crate::remote::node::client_error;

/// Explain how an app would run: groups, seams, grants, and what is missing. Components that are not up to date are
/// built; nothing else is changed. With `--node`, explain how an app on a node runs.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, or the file of an HTTP component [default: `.`]. With
    /// `--node`: the name of the app [default: the node's only app].
    #[arg(value_name = "APP")]
    path: Option<PathBuf>,
    /// The shape of the app to plan.
    #[arg(long, default_value = MONOLITH, conflicts_with = "node")]
    shape: String,
    /// Print the differences between the planned shape and this one, instead of the plan.
    #[arg(long, value_name = "SHAPE", conflicts_with = "node")]
    compare: Option<String>,
    #[command(flatten)]
    place: ObservedPlace,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    if arguments.place.node.names_a_node() {
        return running(arguments, console);
    }
    let json = arguments.place.node.json;
    let app = AppDir::open(arguments.path.as_deref().unwrap_or(Path::new(".")))?;
    app.print_warnings(console);
    let built = app.build_for_types(console)?;
    let components = read_components(&built)?;
    let plan = app.plan(&components, &arguments.shape)?;
    if let Some(other) = &arguments.compare {
        let other = app.plan(&components, other)?;
        let (from, to) = (Arrangement::of(&plan), Arrangement::of(&other));
        if json {
            let comparison = compare_arrangements(&from, &to, &Traffic::default());
            return print(&format!("{:#}\n", serde_json::json!(comparison)));
        }
        let mut text = ArrangementDifference::between(&from, &to).explain(&from, &to);
        let browsers = [&plan, &other].map(|plan| plan.browser.as_ref().map(|browser| browser.summary(&plan.shape)));
        if browsers.iter().any(Option::is_some) {
            text.push_str("\nbrowser\n");
            browsers.iter().flatten().for_each(|summary| text.push_str(&format!("  {summary}")));
        }
        return print(&text);
    }
    let located = |finding: &Diagnostic| finding.clone().in_source(&app.source);
    let warnings: Vec<_> = plan.warnings.iter().map(located).collect();
    if json {
        let mut json = serde_json::to_value(&plan).expect("a plan is plain data");
        // The warnings of `plan` have no positions. `warnings` contains the same warnings with their lines in the
        // manifest.
        json["warnings"] = warnings.iter().map(Diagnostic::to_json).collect();
        let processes = plan.processes().into_iter().map(|(name, groups)| {
            (
                name.to_owned(),
                groups.iter().flat_map(|group| &group.components).map(ToString::to_string).collect::<Vec<_>>().into(),
            )
        });
        json["processes"] = serde_json::Value::Object(processes.collect());
        print(&format!("{json:#}\n"))?;
    } else {
        print(&plan.explain())?;
    }
    if !warnings.is_empty() {
        console.message(&console.renderer().diagnostics(&warnings));
    }
    Ok(())
}

/// Prints the plan of an app on a node: the plan with which the app runs.
fn running(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let name = arguments.path.as_ref().map(|name| name.to_string_lossy().parse::<AppName>()).transpose()?;
    arguments.place.with_app(name.as_ref(), console, async |app| {
        let plan = app.client.plan(&app.tenant, &app.name).await.map_err(client_error(console))?;
        if arguments.place.node.json {
            return print(&(escaped_json(&format!("{plan:#}")) + "\n"));
        }
        // A node runs all groups in its process; `--node` may also name a process of `isomer run`.
        let shapes = app.client.shapes(&app.tenant, &app.name).await.map_err(client_error(console))?;
        let in_one_process = shapes.iter().any(|shape| shape.in_one_process);
        let unknown = || {
            let why = "an earlier version of Isomer made the plan of this revision, without its text";
            CliError::failed(why, "print it as JSON: --json")
        };
        let text = plan[EXPLANATION].as_str().ok_or_else(unknown)?;
        let groups = plan["groups"].as_array().map_or(0, Vec::len);
        if in_one_process && groups > 1 {
            print("All groups run in the node's process, so seams between them are isolated, not remote.\n\n")?;
        }
        // The text comes from the process, so each line is escaped.
        print(&text.lines().map(|line| escaped(line) + "\n").collect::<String>())
    })
}
