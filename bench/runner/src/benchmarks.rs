//! `cargo xtask bench`: lists the benchmarks, and runs those that the command line names.
//!
//! Benchmarks measure and do not judge: none fails because it is slow. Subjects that are compared are measured in the
//! same run, alternately and several times. `docs/reference/benchmarks.md` explains how to read the results.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use xtask::project::Project;

use crate::lab::Lab;
use crate::needs::{self, Need};
use crate::node::{self, Fleet};
use crate::options::Options;
use crate::report::Report;
use crate::results::Results;
use crate::{boutique, files, fused, hello, seam, start, telemetry};

struct Bench {
    name: &'static str,
    /// A description of what is measured.
    about: &'static str,
    needs: &'static [Need],
    run: Run,
}

/// The function that runs a benchmark.
#[derive(Clone, Copy)]
enum Run {
    Plain(fn(&Lab) -> Result<Report>),
    /// A function that gets the data directory of a node on which many apps are deployed. The apps are deployed once
    /// for all benchmarks of a run.
    WithFleet(fn(&Lab, &Fleet) -> Result<Report>),
}

use Need::{Dynamic, Grpc, Isomer, Programs, Wasmtime, Wrk};
use Run::{Plain, WithFleet};

/// All benchmarks, in the order in which they run.
const BENCHES: &[Bench] = &[
    bench("hello-p3", "hello over HTTP, WASI 0.3", &[Isomer, Wrk, Wasmtime, Programs], Plain(hello::p3)),
    bench("hello-p2", "hello over HTTP, WASI 0.2", &[Isomer, Wrk, Wasmtime], Plain(hello::p2)),
    bench(
        "front-calls-back",
        "a component that calls another, fused",
        &[Isomer, Wrk, Wasmtime, Programs],
        Plain(hello::front_calls_back),
    ),
    bench("fused-call", "a call between fused components", &[Isomer, Wasmtime, Programs], Plain(fused::run)),
    bench(
        "start",
        "start of a process to its first response, first request, memory",
        &[Isomer, Wasmtime, Programs],
        Plain(start::run),
    ),
    bench(
        "seam-calls",
        "one call of a blocking function over a seam, in every mode and over every transport",
        &[Isomer, Wasmtime, Programs, Grpc, Dynamic],
        Plain(seam::calls),
    ),
    bench(
        "seam-async",
        "one call of an async func over a seam, in every mode and over every transport",
        &[Isomer, Wasmtime, Programs, Grpc, Dynamic],
        Plain(seam::async_calls),
    ),
    bench(
        "seam-load",
        "calls per second and CPU per call, 1, 16 and 256 in flight",
        &[Isomer, Programs, Grpc],
        Plain(seam::load),
    ),
    bench(
        "telemetry-hello",
        "hello with telemetry off, 1 % and all requests sampled, and with a collector that does not respond",
        &[Isomer, Wrk],
        Plain(telemetry::hello),
    ),
    bench(
        "telemetry-boutique",
        "the example app with telemetry off, 1 % and all requests sampled",
        &[Isomer, Wrk],
        Plain(telemetry::boutique),
    ),
    bench(
        "telemetry-calls",
        "one fused and one isolated call with telemetry off, not sampled and sampled",
        &[Isomer],
        Plain(seam::telemetry),
    ),
    bench(
        "telemetry-store",
        "memory and disk of the store of traces after a simulated day",
        &[Programs],
        Plain(telemetry::store),
    ),
    bench("boutique", "the example app under load, by shape", &[Isomer, Wrk], Plain(boutique::run)),
    bench(
        "node-deploy",
        "deploying distinct apps to a node, and one app for many tenants",
        &[Isomer],
        WithFleet(node::deploy),
    ),
    bench(
        "node-start",
        "start of a node with many apps to the first response of one",
        &[Isomer, Wasmtime],
        WithFleet(node::start),
    ),
    bench("node-cold", "an app's first request: from disk, loaded, after eviction", &[Isomer], WithFleet(node::cold)),
    bench("node-memory", "memory of a loaded app and of a live instance", &[Isomer, Wasmtime], WithFleet(node::memory)),
    bench(
        "node-hosts",
        "requests per second over a thousand host names, fresh instances per second",
        &[Isomer, Wasmtime],
        WithFleet(node::hosts),
    ),
    bench("node-neighbours", "a good app's latency next to hostile tenants", &[Isomer], Plain(node::neighbours)),
];

const fn bench(name: &'static str, about: &'static str, needs: &'static [Need], run: Run) -> Bench {
    Bench { name, about, needs, run }
}

impl Bench {
    /// Returns whether `name` selects the benchmark: by its full name, or by the part before a `-`, which selects all
    /// benchmarks whose names begin with this part.
    fn is_named(&self, name: &str) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

pub(crate) fn run(project: &Project, arguments: &[&str]) -> Result<()> {
    let options = parse(arguments)?;
    let path = options.json.clone().unwrap_or_else(|| files::bench_dir(project).join("results.json"));
    files::make_dir(path.parent().unwrap_or(&path))?;
    let mut results = Results::open(path)?;
    if !options.kept {
        measure(project, &options, &mut results)?;
    }
    if options.publish {
        seam::publish(project, &results)?;
    }
    Ok(())
}

fn parse(arguments: &[&str]) -> Result<Options> {
    let known: String = BENCHES.iter().map(|Bench { name, about, .. }| format!("\n  {name:<20}{about}")).collect();
    Options::parse(arguments, |name| BENCHES.iter().any(|bench| bench.is_named(name)), &known)
}

fn measure(project: &Project, options: &Options, results: &mut Results) -> Result<()> {
    let is_chosen = |bench: &&Bench| options.names.is_empty() || options.names.iter().any(|name| bench.is_named(name));
    let chosen: Vec<&Bench> = BENCHES.iter().filter(is_chosen).collect();
    if !options.built {
        needs::provide(project, &needs_of(&chosen, options))?;
    }
    let lab = Lab::prepare(project, options)?;
    let mut fleet = None;
    let mut summary = String::new();
    for Bench { name, about, needs, run } in chosen {
        println!("\n── {name}: {about}");
        let lab = lab.with(needs);
        let report = match run {
            Plain(run) => run(&lab),
            WithFleet(run) => {
                if fleet.is_none() {
                    fleet = Some(Fleet::deploy(&lab)?);
                }
                fleet.as_ref().context("the apps were not deployed").and_then(|fleet| run(&lab, fleet))
            }
        };
        let report = report.with_context(|| format!("cannot measure `{name}`"))?;
        let table = report.table();
        println!("{table}");
        summary.push_str(&format!("\n── {name}: {about}\n{table}"));
        results.put(report.to_json(name), options.quick)?;
    }
    println!("\n══ Median (minimum–maximum) of several rounds; ratios are medians of the rounds' ratios\n{summary}");
    println!("as JSON, with the results of earlier runs: {}", results.path().display());
    Ok(())
}

/// Returns the programs that the chosen benchmarks need, without `isomer` if the command line names another program to
/// measure.
fn needs_of(chosen: &[&Bench], options: &Options) -> BTreeSet<Need> {
    let needs = chosen.iter().flat_map(|bench| bench.needs).copied();
    needs.filter(|need| *need != Isomer || options.isomer.is_none()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_selects_one_or_several_benchmarks() {
        let named = |name: &str| BENCHES.iter().filter(|bench| bench.is_named(name)).count();
        assert_eq!([named("seam"), named("seam-load"), named("start"), named("sea")], [3, 1, 1, 0]);
        assert_eq!(named("telemetry"), 4);
        assert_eq!(parse(&["seam", "boutique"]).unwrap().names, ["seam", "boutique"]);
        let unknown = parse(&["hallo"]).unwrap_err().to_string();
        assert!(unknown.contains("`hallo`") && unknown.contains("front-calls-back"), "{unknown}");
    }

    #[test]
    fn a_benchmark_installs_only_what_it_needs() {
        let needs = |name: &str, options: &Options| {
            let chosen: Vec<&Bench> = BENCHES.iter().filter(|bench| bench.is_named(name)).collect();
            needs_of(&chosen, options).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(needs("node-neighbours", &Options::default()), [Isomer]);
        let given = Options { isomer: Some("isomer".into()), ..Options::default() };
        assert_eq!(needs("node-neighbours", &given), []);
        assert_eq!(needs("seam-load", &Options::default()), [Isomer, Programs, Grpc]);
    }
}
