//! Requests per second of a node: over a thousand host names, over one host name, and with a new instance for each
//! request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use isomer_bench_node::load::percentile;
use isomer_bench_node::{Load, Outcome, Target, Template, block_on, numbered};

use super::fleet::Fleet;
use super::{ms, peers};
use crate::lab::Lab;
use crate::load::CONNECTIONS;
use crate::report::{Report, Series, Subject};

const ONE: &str = "isomer node, one host name";
const FRESH: &str = "isomer node, a new instance for each";

/// A line of the results: a server, and the requests with which it is measured.
struct Line<'a> {
    name: String,
    command: String,
    address: SocketAddr,
    targets: Arc<[Target]>,
    cpu: Box<dyn Fn() -> Result<Duration> + 'a>,
}

pub(crate) fn run(lab: &Lab, fleet: &Fleet) -> Result<Report> {
    let all: Arc<[Target]> = fleet.all_hosts().into();
    let many = format!("isomer node, {} host names of {} apps", all.len(), fleet.apps);
    let node = fleet.start(Some(&format!("[limits]\napps_loaded = {}\n", fleet.apps + 100)))?;
    let template = Template::load()?;
    let wasmtime = lab.start(peers::wasmtime(lab, &template, 0)?)?;
    let node_js = peers::node_js(lab)?.map(|launch| lab.start(launch)).transpose()?;
    let line = |name: &str, targets: Arc<[Target]>| Line {
        name: name.to_owned(),
        command: fleet.command(),
        address: node.front,
        targets,
        cpu: Box::new(|| Ok(node.usage()?.cpu)),
    };
    let mut lines = vec![line(ONE, all[..1].into()), line(&many, all.clone()), line(FRESH, [Fleet::fresh()].into())];
    for (server, body) in std::iter::once((&wasmtime, numbered::body(0)))
        .chain(node_js.iter().map(|server| (server, "hello from Node.js\n".to_owned())))
    {
        lines.push(Line {
            name: server.name.to_owned(),
            command: server.line.clone(),
            address: server.address,
            targets: [Target::get("a0.fleet.test", "/", body)].into(),
            cpu: Box::new(|| server.cpu()),
        });
    }
    let series = || {
        [("requests", "1/s"), ("p50", "ms"), ("p99", "ms"), ("CPU per request", "µs")]
            .map(|(what, unit)| Series::new(what, unit))
    };
    let mut subjects: Vec<Subject> = lines
        .iter()
        .map(|line| Subject { name: line.name.clone(), command: line.command.clone(), series: series().into() })
        .collect();
    // One request to each host name loads all apps before the measurement.
    block_on(async { isomer_bench_node::load::each_once(node.front, &all[0], &all).await.map(drop) })?;
    for round in 0..=lab.effort.rounds {
        for (line, subject) in lines.iter().zip(&mut subjects) {
            let (outcome, cpu) = load(line, lab.effort.load_s)?;
            if round == 0 {
                continue;
            }
            let whole = ms(&outcome.whole_us);
            let cpu_us = cpu.as_secs_f64() * 1e6 / outcome.requests() as f64;
            let values = [outcome.per_second(), percentile(&whole, 50.0), percentile(&whole, 99.0), cpu_us];
            subject.series.iter_mut().zip(values).for_each(|(series, value)| series.samples.push(value));
            println!("   {round}/{} {:<50} {:>9.0} req/s", lab.effort.rounds, line.name, values[0]);
        }
    }
    drop(lines);
    let mut report = Report { subjects, ..Report::default() };
    report.compare(&many, ONE, "requests", "");
    report.compare(&many, ONE, "p99", "");
    report.compare(FRESH, ONE, "CPU per request", "");
    report.compare(ONE, peers::WASMTIME, "requests", "");
    report.notes = vec![
        format!(
            "{CONNECTIONS} connections, every request to another host name, every response checked; the load generator uses one processor"
        ),
        "a new instance for each request: the app has `reuse = false`".to_owned(),
    ];
    fleet.stop(node)?;
    Ok(report)
}

fn load(line: &Line<'_>, seconds: u32) -> Result<(Outcome, Duration)> {
    let before = (line.cpu)()?;
    let load = Load::for_seconds(line.address, CONNECTIONS as usize, f64::from(seconds));
    let outcome = block_on(async { load.run(line.targets.clone()).await.all_correct() })?;
    let cpu = (line.cpu)()?.saturating_sub(before);
    ensure!(outcome.requests() > 0, "{} sent no response", line.name);
    Ok((outcome, cpu))
}
