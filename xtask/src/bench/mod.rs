//! `cargo xtask bench`: which benchmarks there are, and running those that are asked for.
//!
//! They measure and never judge: nothing fails because it is slow. What is compared is measured in the same run, in turn,
//! several times; `docs/reference/benchmarks.md` says how to read it.

mod boutique;
mod fused;
mod hello;
mod http;
mod lab;
mod load;
mod node;
mod report;
mod results;
mod seam;
mod server;
mod start;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::project::Project;
use crate::setup::{self, Purpose};
use lab::Lab;
use report::Report;
use results::Results;

/// A benchmark: its name and what it measures.
struct Bench {
    name: &'static str,
    about: &'static str,
    /// Is wasmtime's own command line measured beside?
    wasmtime: bool,
    /// Are other ways of making a call measured beside?
    calls: bool,
    run: fn(&Lab) -> Result<Report>,
}

/// All of them, in the order in which they run.
const BENCHES: &[Bench] = &[
    serving("hello-p3", "hello over HTTP, WASI 0.3", true, hello::p3),
    serving("hello-p2", "hello over HTTP, WASI 0.2", true, hello::p2),
    serving("front-calls-back", "a component that asks another, fused", true, hello::front_calls_back),
    serving("fused-call", "a call between fused components", true, fused::run),
    serving("start", "start of a process to its first answer, first request, memory", true, start::run),
    calling("seam-calls", "one call of a blocking function, by every way of crossing a seam", seam::calls),
    calling("seam-async", "one call of an async func, by every way of crossing a seam", seam::async_calls),
    calling("seam-load", "calls a second and CPU a call, 1, 16 and 256 in flight", seam::load),
    serving("boutique", "the example app under load, by shape", false, boutique::run),
    serving("node-deploy", "deploying distinct apps to a node, and one app for many tenants", false, node::deploy),
    serving("node-start", "start of a node with all of them to an app's first answer", true, node::start),
    serving("node-cold", "an app's first request: from disk, loaded, after being dropped", false, node::cold),
    serving("node-memory", "what a loaded app and a live instance take", true, node::memory),
    serving("node-hosts", "requests a second over a thousand host names, fresh instances a second", true, node::hosts),
    serving("node-neighbours", "a good app's latency beside hostile tenants", false, node::neighbours),
];

const fn serving(name: &'static str, about: &'static str, wasmtime: bool, run: fn(&Lab) -> Result<Report>) -> Bench {
    Bench { name, about, wasmtime, calls: false, run }
}

const fn calling(name: &'static str, about: &'static str, run: fn(&Lab) -> Result<Report>) -> Bench {
    Bench { name, about, wasmtime: true, calls: true, run }
}

impl Bench {
    /// By its name, or by the part of it before a `-`, which names all that begin so.
    fn is_named(&self, name: &str) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// What the command line asks for.
#[derive(Debug, Default, PartialEq)]
struct Options {
    /// Benchmarks by name; none are all.
    names: Vec<String>,
    /// Where the results go as JSON.
    json: Option<PathBuf>,
    /// Measure little.
    quick: bool,
    /// Nodes with as many apps as are aimed at.
    long: bool,
    /// How many apps a node has.
    apps: Option<u32>,
    /// Write what `docs/` shows of the results.
    publish: bool,
    /// Measure nothing: take what earlier runs have left.
    kept: bool,
    /// The program to measure, instead of building it.
    isomer: Option<PathBuf>,
    /// Build nothing: take the programs that are there.
    built: bool,
}

pub(crate) fn run(project: &Project, arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let path = options.json.clone().unwrap_or_else(|| lab::dir(project).join("results.json"));
    lab::make_dir(path.parent().unwrap_or(&path))?;
    let mut results = Results::open(path)?;
    if !options.kept {
        measure(project, &options, &mut results)?;
    }
    if options.publish {
        seam::publish(project, &results)?;
    }
    Ok(())
}

fn measure(project: &Project, options: &Options, results: &mut Results) -> Result<()> {
    let chosen = |bench: &&Bench| options.names.is_empty() || options.names.iter().any(|name| bench.is_named(name));
    let chosen: Vec<&Bench> = BENCHES.iter().filter(chosen).collect();
    let wasmtime = chosen.iter().any(|bench| bench.wasmtime);
    setup::run_for(project, Purpose::Bench { wasmtime })?;
    let lab = Lab::prepare(project, options, chosen.iter().any(|bench| bench.calls))?;
    let mut summary = String::new();
    for Bench { name, about, run, .. } in chosen {
        println!("\n── {name}: {about}");
        let report = run(&lab).with_context(|| format!("`{name}` cannot be measured"))?;
        let table = report.table();
        println!("{table}");
        summary.push_str(&format!("\n── {name}: {about}\n{table}"));
        results.put(report.to_json(name), options.quick)?;
    }
    println!("\n══ Median (least–most) of several rounds; ratios are medians of rounds' ratios\n{summary}");
    println!("as JSON, with what earlier runs measured: {}", results.path().display());
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
                "--long" => options.long = true,
                "--built" => options.built = true,
                "--publish" => options.publish = true,
                "--kept" => options.kept = true,
                "--json" => options.json = Some(path()?),
                "--isomer" => options.isomer = Some(path()?),
                "--apps" => {
                    let number = path()?;
                    let number = number.to_str().and_then(|number| number.parse().ok()).filter(|number| *number > 9);
                    options.apps = Some(number.context("`--apps` needs a number, 10 at least")?);
                }
                name if BENCHES.iter().any(|bench| bench.is_named(name)) => options.names.push(name.to_owned()),
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
  --apps N          how many apps a node has, and how many tenants have one app [default: 200; 40 with --quick]
  --long            10,000 of them: takes hours
  --json FILE       where the results are kept as JSON [default: bench/results.json in the target folder]
  --isomer PROGRAM  measure this program instead of building it
  --built           build nothing, take the programs that are there from the run before
  --publish         write what the documentation shows of the results
  --kept            measure nothing: publish what earlier runs measured";

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
        assert_eq!(Options::parse(&["node", "--apps", "1000"]).unwrap().apps, Some(1000));
        assert!(Options::parse(&["--apps", "many"]).is_err() && Options::parse(&["--apps", "1"]).is_err());
    }

    #[test]
    fn a_name_may_stand_for_several() {
        let named = |name: &str| BENCHES.iter().filter(|bench| bench.is_named(name)).count();
        assert_eq!([named("seam"), named("seam-load"), named("start"), named("sea")], [3, 1, 1, 0]);
        assert_eq!(Options::parse(&["seam", "boutique"]).unwrap().names, ["seam", "boutique"]);
    }
}
