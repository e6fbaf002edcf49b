//! The time from the start of a node with all its apps to the line with which the node reports that it is ready, and to
//! the first response of an app.

use anyhow::Result;
use isomer_bench_node::{Connection, Node, Template, block_on, load};

use super::fleet::Fleet;
use super::peers;
use crate::http;
use crate::lab::Lab;
use crate::report::{Report, Series, Subject};
use crate::server::Launch;

pub(crate) fn run(lab: &Lab, fleet: &Fleet) -> Result<Report> {
    let all = format!("isomer node, {} apps and {} tenants", fleet.apps, fleet.apps);
    let killed = format!("{all}, after kill -9");
    let template = Template::load()?;
    let wasmtime = peers::wasmtime(lab, &template, 0)?;
    let node_js = peers::node_js(lab)?;
    let mut servers: Vec<Launch> = std::iter::once(wasmtime).chain(node_js).collect();
    let series = || ["ready", "first response"].map(|what| Series::new(what, "ms")).into_iter();
    let series = || series().chain([Series::new("resident", "MiB")]).collect::<Vec<_>>();
    let subject =
        |name: &str, command: &str| Subject { name: name.to_owned(), command: command.to_owned(), series: series() };
    let mut subjects = vec![subject(&all, &fleet.command()), subject(&killed, &fleet.command())];
    subjects.extend(servers.iter().map(|launch| subject(launch.name, &xtask::project::show(&launch.command))));
    for round in 0..=lab.effort.node_starts {
        let first = fleet.start(None)?;
        let stopped_before = measure(&first, fleet)?;
        drop(first);
        let second = fleet.start(None)?;
        let killed_before = measure(&second, fleet)?;
        fleet.stop(second)?;
        let mut rows = vec![stopped_before, killed_before];
        for launch in &mut servers {
            let server = lab.start_again(launch)?;
            let ready = server.began.elapsed();
            http::get(server.address, "/")?;
            let first_response = server.began.elapsed();
            rows.push([ready.as_secs_f64() * 1e3, first_response.as_secs_f64() * 1e3, server.resident_mib()?]);
        }
        // Round 0 is a warm-up that reads all files into memory.
        if round == 0 {
            continue;
        }
        for (subject, row) in subjects.iter_mut().zip(rows) {
            for (series, value) in subject.series.iter_mut().zip(row) {
                series.samples.push(value);
            }
        }
    }
    let notes = vec![
        "target: 10,000 apps, ready in ≤ 2,000 ms".to_owned(),
        "first response: of one app, which is loaded from disk; the others stay on disk until they are requested"
            .to_owned(),
        "the other processes have one app each".to_owned(),
    ];
    Ok(Report { subjects, notes, ..Report::default() })
}

/// Returns the milliseconds from the start of the process until the node reports that it is ready; the milliseconds
/// from the start of the process to the end of the first response; and the resident memory in mebibytes after that
/// response.
fn measure(node: &Node, fleet: &Fleet) -> Result<[f64; 3]> {
    let targets = fleet.distinct();
    block_on(async {
        let target = &targets[targets.len() / 2];
        target.check(&Connection::new(node.front).send(&target.request, load::PATIENCE).await?)
    })?;
    let first_response = node.began.elapsed();
    let resident = node.usage()?.resident_bytes as f64 / f64::from(1 << 20);
    Ok([node.ready_after.as_secs_f64() * 1e3, first_response.as_secs_f64() * 1e3, resident])
}
