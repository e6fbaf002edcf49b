//! Runs load on servers and measures requests per second, latency, processor time and memory.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lab::Lab;
use crate::report::{Series, Subject};
use crate::server::Server;

/// The number of connections, each with one request in flight.
pub(crate) const CONNECTIONS: u32 = 32;
const THREADS_MAX: u32 = 2;

/// The `wrk` script that prints the result as JSON.
const REPORT: &str = include_str!("report.lua");
/// The `wrk` script that sends the requests of visitors who shop.
const SHOP: &str = include_str!("shop.lua");

/// The requests of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Requests {
    /// Every request is a GET request for this path.
    Path(&'static str),
    /// The requests are those of visitors who shop in the boutique.
    Shop,
}

/// A load that is applied to one server. Its result is one line of the comparison.
pub(crate) struct Run<'a> {
    pub name: &'static str,
    pub server: &'a Server,
    pub requests: Requests,
    pub connections: u32,
}

/// Runs the loads one after another, in several rounds (A B C A B C …), so that a slow phase of the machine affects all
/// servers.
pub(crate) fn side_by_side(lab: &Lab, runs: &[Run<'_>]) -> Result<Vec<Subject>> {
    let mut subjects: Vec<Subject> = runs.iter().map(|run| subject(run.name, &run.server.line)).collect();
    for run in runs {
        load(lab, run, lab.effort.warm_up_s)?;
    }
    for round in 1..=lab.effort.rounds {
        for (run, subject) in runs.iter().zip(&mut subjects) {
            let cpu_before = run.server.cpu()?;
            let load = load(lab, run, lab.effort.load_s)?;
            let cpu = run.server.cpu()?.saturating_sub(cpu_before);
            println!("   {round}/{} {:<34} {:>9.0} req/s", lab.effort.rounds, run.name, load.per_s);
            let values = [
                load.per_s,
                load.p50_us / 1e3,
                load.p99_us / 1e3,
                cpu.as_secs_f64() * 1e6 / load.requests,
                run.server.resident_mib()?,
            ];
            for (series, value) in subject.series.iter_mut().zip(values) {
                series.samples.push(value);
            }
        }
    }
    Ok(subjects)
}

fn subject(name: &'static str, line: &str) -> Subject {
    let series = [("requests", "1/s"), ("p50", "ms"), ("p99", "ms"), ("CPU per request", "µs"), ("resident", "MiB")];
    Subject {
        name: name.to_owned(),
        command: line.to_owned(),
        series: series.map(|(what, unit)| Series::new(what, unit)).into(),
    }
}

struct Load {
    requests: f64,
    per_s: f64,
    p50_us: f64,
    p99_us: f64,
}

fn load(lab: &Lab, run: &Run<'_>, seconds: u32) -> Result<Load> {
    let (script, path) = match run.requests {
        Requests::Path(path) => (script(lab, "report.lua", REPORT)?, path),
        Requests::Shop => (script(lab, "shop.lua", &format!("{SHOP}\n{REPORT}"))?, "/"),
    };
    let output = lab
        .wrk()
        .args(["--threads", &THREADS_MAX.min(run.connections).to_string()])
        .args(["--connections", &run.connections.to_string()])
        .args(["--duration", &format!("{seconds}s"), "--timeout", "10s", "--script"])
        .arg(script)
        .arg(format!("http://{}{path}", run.server.address))
        .output()
        .context("cannot run `wrk`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text)
        .with_context(|| format!("load on {} failed: {text}{}", run.name, String::from_utf8_lossy(&output.stderr)))
}

fn script(lab: &Lab, name: &str, text: &str) -> Result<PathBuf> {
    let path = lab.dir.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}

/// Parses the output of `report.lua`.
///
/// # Errors
/// If a request failed, because failed requests distort the numbers.
fn parse(text: &str) -> Result<Load> {
    let line = text.lines().find(|line| line.starts_with('{')).context("`wrk` printed no result")?;
    let json: Value = serde_json::from_str(line).context("the result of `wrk` is not JSON")?;
    let number = |key: &str| json[key].as_f64().with_context(|| format!("the result of `wrk` lacks `{key}`"));
    let (requests, failed) = (number("requests")?, number("failed")?);
    ensure!(requests > 0.0, "no request got a response");
    ensure!(failed == 0.0, "{failed} of {requests} requests failed");
    let per_s = requests / (number("duration_us")? / 1e6);
    Ok(Load { requests, per_s, p50_us: number("p50_us")?, p99_us: number("p99_us")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_parsed_and_failed_requests_are_errors() {
        let text =
            "Running 1s test\n{\"requests\":100,\"duration_us\":500000,\"p50_us\":1.5,\"p99_us\":9.0,\"failed\":0}\n";
        let load = parse(text).unwrap();
        assert_eq!((load.requests, load.per_s, load.p50_us, load.p99_us), (100.0, 200.0, 1.5, 9.0));
        assert!(parse(&text.replace("\"failed\":0", "\"failed\":1")).is_err());
        assert!(parse(&text.replace("\"requests\":100", "\"requests\":0")).is_err());
        assert!(parse("unable to connect\n").is_err());
    }
}
