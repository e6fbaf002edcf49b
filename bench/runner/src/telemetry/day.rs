//! The memory and the disk that the store of traces takes after a simulated day.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::files::make_empty_dir;
use crate::lab::Lab;
use crate::needs::Need;
use crate::report::{Report, Series, Subject};
use xtask::project::show;

/// The simulations, with the names of their lines in the results.
const LINES: [(&str, &str); 2] = [("node", "a node, 1,000 apps, 1 % sampled"), ("local", "isomer run, all sampled")];

/// The numbers that the program `trace_day` prints, with their units.
const NUMBERS: [(&str, &str, &str, f64); 6] = [
    ("traces", "traces", "", 1.0),
    ("spans", "spans", "", 1.0),
    ("dropped", "dropped traces", "", 1.0),
    ("disk_bytes", "disk", "MiB", 1_048_576.0),
    ("bytes_per_trace", "disk per trace", "B", 1.0),
    ("memory_bytes", "additional memory", "MiB", 1_048_576.0),
];

pub(crate) fn run(lab: &Lab) -> Result<Report> {
    let mut report = Report::default();
    for (simulation, name) in LINES {
        let dir = lab.dir.join(format!("traces-{simulation}"));
        make_empty_dir(&dir)?;
        let mut command = lab.program(Need::Programs, "trace_day");
        command.arg(simulation).arg(&dir).arg(lab.effort.day_s.to_string());
        let output = command.output().context("cannot run `trace_day`")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the simulation `{simulation}` failed: {errors}");
        let series = read(&String::from_utf8_lossy(&output.stdout))?;
        report.subjects.push(Subject { name: name.to_owned(), command: show(&command), series });
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove `{}`", dir.display()))?;
    }
    report.notes = vec![
        format!("{} simulated hours of requests, from a fixed seed", lab.effort.day_s / 3600),
        "a node: one app with 100 requests per second on average, the others with one per minute; 0.1 % fail"
            .to_owned(),
        "isomer run: 2 requests per second".to_owned(),
        "limits on disk: 8 MiB for an app of a node, 128 MiB for the app of isomer run".to_owned(),
    ];
    Ok(report)
}

/// Parses the line that the program prints.
fn read(text: &str) -> Result<Vec<Series>> {
    let json: Value = serde_json::from_str(text.trim()).with_context(|| format!("not a result: {text}"))?;
    let one = |(key, what, unit, divisor): (&str, &str, &'static str, f64)| {
        let number = json[key].as_f64().with_context(|| format!("the result lacks `{key}`: {text}"))?;
        Ok(Series { samples: vec![number / divisor], ..Series::new(what, unit) })
    };
    NUMBERS.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_the_simulation_are_parsed() {
        let text = r#"{"traces":4,"spans":40,"dropped":0,"disk_bytes":2097152,"bytes_per_trace":300,"memory_bytes":0}"#;
        let series = read(text).unwrap();
        assert_eq!((series[0].samples[0], series[3].samples[0], series[3].unit), (4.0, 2.0, "MiB"));
        assert!(read(r#"{"traces":4}"#).is_err());
    }
}
