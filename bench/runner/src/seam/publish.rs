//! Writes the pictures and numbers that the documentation includes.

use anyhow::Result;
use serde_json::Value;

use super::methods;
use super::plot::{Line, Panel, svg};
use crate::results::{self, Results};
use xtask::project::Project;

/// The benchmarks whose numbers are published.
const PUBLISHED: [&str; 14] = [
    "seam-calls",
    "seam-async",
    "seam-load",
    "telemetry-hello",
    "telemetry-boutique",
    "telemetry-calls",
    "telemetry-store",
    "boutique",
    "node-deploy",
    "node-start",
    "node-cold",
    "node-memory",
    "node-hosts",
    "node-neighbours",
];

const PICTURES: [(&str, &str, &str); 2] = [
    ("seam-calls", "docs/reference/seam-calls.svg", "Time of a call: functions that block"),
    ("seam-async", "docs/reference/seam-async.svg", "Time of a call: async funcs, one in flight"),
];
const NUMBERS: &str = "docs/reference/benchmarks.json";

const LEGEND: &str = "Each panel has its own logarithmic scale; the dot is the median of the rounds, and the bar is their range. \
                      Pairs: a method of Isomer, and the method that it is compared with.";

/// Writes the pictures and numbers into `docs/`. Benchmarks that were not measured keep their published numbers.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn publish(project: &Project, results: &Results) -> Result<()> {
    for (bench, path, title) in PICTURES {
        if let Some(bench) = results.bench(bench) {
            write(project, path, &svg(title, LEGEND, &panels(bench)))?;
        }
    }
    let before = Results::open(project.root.join(NUMBERS))?;
    write(project, NUMBERS, &results.published(&PUBLISHED, &before))
}

fn write(project: &Project, path: &str, text: &str) -> Result<()> {
    results::write(&project.root.join(path), text)?;
    println!("wrote {path}");
    Ok(())
}

/// Returns one panel for each measured quantity, with one row for each subject.
fn panels(bench: &Value) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for subject in list(&bench["subjects"]) {
        let name = subject["name"].as_str().unwrap_or_default();
        for series in list(&subject["series"]) {
            let title = series["what"].as_str().unwrap_or_default();
            let number = |key: &str| series[key].as_f64().unwrap_or_default();
            let line = Line {
                name: name.to_owned(),
                ours: methods::OURS.contains(&name),
                median: number("median"),
                least: number("min"),
                most: number("max"),
            };
            match panels.iter_mut().find(|panel| panel.title == title) {
                Some(panel) => panel.lines.push(line),
                None => panels.push(Panel { title: title.to_owned(), lines: vec![line] }),
            }
        }
    }
    panels
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_become_panels() {
        let series = |median: f64| json!([{ "what": "add", "median": median, "min": 1.0, "max": 9.0 }]);
        let bench = json!({ "subjects": [
            { "name": "fused", "series": series(2.0) },
            { "name": "gRPC, TCP", "series": series(3.0) },
        ] });
        let panels = panels(&bench);
        let [Panel { title, lines }] = &panels[..] else { panic!("one quantity, one panel") };
        assert_eq!(title, "add");
        let seen: Vec<_> = lines.iter().map(|line| (line.name.as_str(), line.ours, line.median)).collect();
        assert_eq!(seen, [("fused", true, 2.0), ("gRPC, TCP", false, 3.0)]);
    }
}
