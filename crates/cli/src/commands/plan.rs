//! `isomer plan`: explains which components run where, and why. Changes nothing except the built components.

use std::path::PathBuf;

use isomer_advice::{Traffic, compare_arrangements};
use isomer_console::{CliError, Console, print};
use isomer_diagnostics::Diagnostic;
use isomer_manifest::MONOLITH;
use isomer_plan::{Arrangement, ArrangementDifference};
use isomer_project::{AppDir, read_components};

/// Explain how an app would run: groups, seams, grants, and what is missing. Components that are not up to date are
/// built; nothing else is changed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, or the file of an HTTP component.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// The shape of the app to plan.
    #[arg(long, default_value = MONOLITH)]
    shape: String,
    /// Print the differences between the planned shape and this one, instead of the plan.
    #[arg(long, value_name = "SHAPE")]
    compare: Option<String>,
    /// Print the plan, or the differences, as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let app = AppDir::open(&arguments.path)?;
    app.print_warnings(console);
    let built = app.build_for_types(console)?;
    let components = read_components(&built)?;
    let plan = app.plan(&components, &arguments.shape)?;
    if let Some(other) = &arguments.compare {
        let other = app.plan(&components, other)?;
        let (from, to) = (Arrangement::of(&plan), Arrangement::of(&other));
        if arguments.json {
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
    if arguments.json {
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
