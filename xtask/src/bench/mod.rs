//! `cargo xtask bench`: which benchmarks there are, and running those that are asked for.
//!
//! They measure and never judge: nothing fails because it is slow. What is compared is measured in the same run, in turn,
//! several times; `docs/benchmarks.md` says how to read it.

mod boutique;
mod fused;
mod hello;
mod http;
mod lab;
mod load;
mod report;
mod server;
mod start;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::project::Project;
use crate::setup::{self, Purpose};
use lab::Lab;
use report::Report;

/// A benchmark: its name and what it measures.
struct Bench {
    name: &'static str,
    about: &'static str,
    /// Is wasmtime's own command line measured beside?
    wasmtime: bool,
    run: fn(&Lab) -> Result<Report>,
}

/// All of them, in the order in which they run.
const BENCHES: &[Bench] = &[
    Bench { name: "hello-p3", about: "hello over HTTP, WASI 0.3", wasmtime: true, run: hello::p3 },
    Bench { name: "hello-p2", about: "hello over HTTP, WASI 0.2", wasmtime: true, run: hello::p2 },
    Bench {
        name: "front-calls-back",
        about: "a component that asks another, fused",
        wasmtime: true,
        run: hello::front_calls_back,
    },
    Bench { name: "fused-call", about: "a call between fused components", wasmtime: true, run: fused::run },
    Bench {
        name: "start",
        about: "start of a process to its first answer, first request, memory",
        wasmtime: true,
        run: start::run,
    },
    Bench { name: "boutique", about: "the example app under load", wasmtime: false, run: boutique::run },
];

/// What the command line asks for.
#[derive(Debug, Default, PartialEq)]
struct Options {
    /// Benchmarks by name; none are all.
    names: Vec<String>,
    /// Where the results go as JSON.
    json: Option<PathBuf>,
    /// Measure little.
    quick: bool,
    /// The program to measure, instead of building it.
    isomer: Option<PathBuf>,
}

pub(crate) fn run(project: &Project, arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let wanted = |bench: &&Bench| options.names.is_empty() || options.names.iter().any(|name| name == bench.name);
    let wasmtime = BENCHES.iter().filter(wanted).any(|bench| bench.wasmtime);
    setup::run_for(project, Purpose::Bench { wasmtime })?;
    let lab = Lab::prepare(project, &options)?;
    let mut summary = String::new();
    let mut benches: Vec<Value> = Vec::new();
    for Bench { name, about, run, .. } in BENCHES.iter().filter(wanted) {
        println!("\n── {name}: {about}");
        let report = run(&lab).with_context(|| format!("`{name}` cannot be measured"))?;
        let table = report.table();
        println!("{table}");
        summary.push_str(&format!("\n── {name}: {about}\n{table}"));
        benches.push(report.to_json(name));
    }
    println!("\n══ Median (least–most) of several rounds; ratios are medians of rounds' ratios\n{summary}");
    let json = json!({ "machine": machine(), "quick": options.quick, "benches": benches });
    let path = options.json.unwrap_or_else(|| lab.dir.join("results.json"));
    std::fs::write(&path, format!("{json:#}\n")).with_context(|| format!("`{}` cannot be written", path.display()))?;
    println!("as JSON: {}", path.display());
    Ok(())
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut path = || rest.next().map(PathBuf::from).with_context(|| format!("`{argument}` needs a file"));
            match *argument {
                "--quick" => options.quick = true,
                "--json" => options.json = Some(path()?),
                "--isomer" => options.isomer = Some(path()?),
                name if BENCHES.iter().any(|bench| bench.name == name) => options.names.push(name.to_owned()),
                unknown => {
                    let lines = BENCHES.iter().map(|Bench { name, about, .. }| format!("\n  {name:<18}{about}"));
                    let known: String = lines.collect();
                    bail!("no such benchmark or option: `{unknown}`\n\nBenchmarks:{known}\n\n{OPTIONS}");
                }
            }
        }
        Ok(options)
    }
}

const OPTIONS: &str = "\
Options:
  --quick           measure little, to see that it works
  --json FILE       where the results go as JSON [default: bench/results.json in the target folder]
  --isomer PROGRAM  measure this program instead of building it";

/// What numbers depend on most.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo").lines().find_map(|line| Some(line.split_once("model name")?.1.to_owned()));
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": model.unwrap_or_default().trim_start_matches(['\t', ' ', ':']),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").trim(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_names_are_told_apart() {
        let options = Options::parse(&["hello-p3", "--quick", "--json", "a.json", "start"]).unwrap();
        assert_eq!(options.names, ["hello-p3", "start"]);
        assert!(options.quick && options.json == Some("a.json".into()) && options.isomer.is_none());
        let unknown = Options::parse(&["hallo"]).unwrap_err().to_string();
        assert!(unknown.contains("`hallo`") && unknown.contains("front-calls-back"), "{unknown}");
        assert!(Options::parse(&["--json"]).is_err());
    }
}
