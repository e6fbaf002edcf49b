//! The memory, mappings and file descriptors of a loaded app and of a live instance, compared with one process per app.

use anyhow::{Context as _, Result, ensure};
use isomer_bench_node::load::{Load, Until, each_once};
use isomer_bench_node::node::Launch;
use isomer_bench_node::{Bundle, Node, Target, Template, Usage, block_on, soak};

use super::cold::without_instances;
use super::fleet::Fleet;
use super::peers;
use crate::files::make_dir;
use crate::http;
use crate::lab::Lab;
use crate::report::{Report, Series, Subject, show as number};
use crate::server::Server;

/// The maximum number of apps that are loaded for the measurement, because more apps add no information.
const LOADED_MAX: usize = 2_000;
/// The number of processes that are started for each server that the node is compared with.
const PROCESSES: u32 = 10;
/// The number of concurrent instances in the measurement of a live instance.
const INSTANCES: u64 = 100;
/// The number of processes for which the memory is extrapolated.
const MANY: f64 = 10_000.0;

/// The resources that one more app or instance uses, in the order of the columns of the results.
type Cost = [f64; 5];

pub(crate) fn run(lab: &Lab, fleet: &Fleet) -> Result<Report> {
    let (distinct, shared) = (fleet.distinct(), fleet.shared());
    let mut subjects = Vec::new();
    let mut add = |name: &str, command: String, rows: &[Cost]| {
        let units =
            [("resident", "KiB"), ("proportional", "KiB"), ("anonymous", "KiB"), ("mappings", ""), ("descriptors", "")];
        let mut series: Vec<Series> = units.map(|(what, unit)| Series::new(what, unit)).into();
        for row in rows {
            series.iter_mut().zip(row).for_each(|(series, value)| series.samples.push(*value));
        }
        subjects.push(Subject { name: name.to_owned(), command, series });
    };
    let loaded_max = format!("[limits]\napps_loaded = {}\n", LOADED_MAX * 2);
    let mut rows: [Vec<Cost>; 4] = Default::default();
    for _ in 0..lab.effort.memory_rounds {
        for (targets, place) in [(&distinct, 0), (&shared, 2)] {
            let node = fleet.start(Some(&loaded_max))?;
            let [active, idle] = loaded(&node, &targets[..targets.len().min(LOADED_MAX)])?;
            fleet.stop(node)?;
            rows[place].push(active);
            rows[place + 1].push(idle);
        }
    }
    let [distinct_active, distinct_idle, shared_active, shared_idle] = &rows;
    add("a distinct app, with an instance", fleet.command(), distinct_active);
    add("a distinct app, loaded", fleet.command(), distinct_idle);
    add("a tenant's app, code shared, with an instance", fleet.command(), shared_active);
    add("a tenant's app, code shared, loaded", fleet.command(), shared_idle);
    let (command, instances) = live_instances(lab)?;
    add("a live instance of a loaded app", command, &instances);
    let template = Template::load()?;
    let mut notes = vec!["target: ≤ 300 KiB per loaded app".to_owned()];
    let mut processes: Vec<Vec<Server>> = vec![Vec::new(), Vec::new()];
    for place in 0..PROCESSES {
        processes[0].push(lab.start(peers::wasmtime(lab, &template, place)?)?);
        processes[1].extend(peers::node_js(lab)?.map(|launch| lab.start(launch)).transpose()?);
    }
    for servers in processes.iter().filter(|servers| !servers.is_empty()) {
        let rows: Vec<Cost> = servers.iter().map(one_process).collect::<Result<_>>()?;
        let proportional = rows.iter().map(|row| row[1]).sum::<f64>() / rows.len() as f64;
        let first = servers.first().context("no server was started")?;
        notes.push(format!(
            "{}: {} processes were measured; {MANY} processes would need {} GiB (extrapolated)",
            first.name,
            rows.len(),
            number(proportional * MANY / f64::from(1 << 20))
        ));
        add(first.name, first.line.clone(), &rows);
    }
    Ok(Report { subjects, notes, ..Report::default() })
}

fn one_process(server: &Server) -> Result<Cost> {
    http::get(server.address, "/")?;
    http::get(server.address, "/")?;
    let usage = Usage::of(server.id())?;
    Ok(each(None, &usage, 1))
}

/// Returns two costs per loaded app: after a request, while the app has an instance, and after the eviction of this
/// instance.
fn loaded(node: &Node, targets: &[Target]) -> Result<[Cost; 2]> {
    block_on(async {
        let (first, rest) = targets.split_first().context("no app was deployed")?;
        // The first request is not measured, because it creates the engine, threads and connections.
        each_once(node.front, first, std::slice::from_ref(first)).await?;
        let loaded_before = node.admin.status().await?.apps_loaded;
        let before = node.usage()?;
        each_once(node.front, first, rest).await?;
        let count = node.admin.status().await?.apps_loaded - loaded_before;
        ensure!(count > 0, "no app was loaded by its first request");
        let active = each(Some(&before), &node.usage()?, count);
        without_instances(node).await?;
        Ok([active, each(Some(&before), &node.usage()?, count)])
    })
}

/// Measures the cost of a live instance in several rounds. Returns the command that was run, and the cost in each
/// round.
fn live_instances(lab: &Lab) -> Result<(String, Vec<Cost>)> {
    let dir = lab.dir.join("instances");
    make_dir(&dir)?;
    let launch = Launch::new(lab.isomer_program(), &dir);
    let node = launch.start()?;
    let rows = block_on(async {
        node.admin.set_tenant("sleepers", &soak::generous()).await?;
        let bundle = Bundle::one("sleeper", isomer_test_guests::bytes("sleeper"), &["sleeper.test".to_owned()])?;
        node.admin.deploy("sleepers", "sleeper", &bundle).await?;
        let target = |ms: u32| Target::get("sleeper.test", &format!("/?ms={ms}"), format!("slept={ms} together=1\n"));
        let mut rows = Vec::new();
        for _ in 0..lab.effort.memory_rounds {
            without_instances(&node).await?;
            each_once(node.front, &target(1), &[target(1)]).await?;
            let (before, live_before) = (node.usage()?, node.admin.status().await?.instances);
            let load =
                Load { until: Until::Requests(INSTANCES), ..Load::for_seconds(node.front, INSTANCES as usize, 0.0) };
            let load = tokio::spawn(async move { load.run([target(3_000)].into()).await });
            while node.admin.status().await?.instances < INSTANCES {
                ensure!(!load.is_finished(), "there were never {INSTANCES} concurrent instances");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            let count = node.admin.status().await?.instances - live_before;
            rows.push(each(Some(&before), &node.usage()?, count));
            load.await?.all_correct()?;
        }
        Ok(rows)
    })?;
    Ok((xtask::project::show(&launch.command()), rows))
}

/// Returns the increase of the resource usage from `before` to `after`, divided by `count`. Without `before`, returns
/// `after` divided by `count`.
fn each(before: Option<&Usage>, after: &Usage, count: u64) -> Cost {
    let fields: [fn(&Usage) -> f64; 5] = [
        |usage| usage.resident_bytes as f64 / 1024.0,
        |usage| usage.proportional_bytes as f64 / 1024.0,
        |usage| usage.anonymous_bytes as f64 / 1024.0,
        |usage| usage.mappings as f64,
        |usage| usage.descriptors as f64,
    ];
    fields.map(|field| (field(after) - before.map_or(0.0, field)) / count as f64)
}
