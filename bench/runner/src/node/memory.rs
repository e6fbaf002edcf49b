//! What a loaded app and a live instance take: memory, mappings, descriptors. Beside it a process for each app.

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

/// So many apps are loaded at most for this: more say no more.
const LOADED_MAX: usize = 2_000;
/// So many processes are started of each peer.
const PROCESSES: u32 = 10;
/// Instances that are alive at once.
const INSTANCES: u64 = 100;
/// How many apps peers are extrapolated to.
const MANY: f64 = 10_000.0;

/// What one more takes.
type Each = [f64; 5];

pub(crate) fn run(lab: &Lab, fleet: &Fleet) -> Result<Report> {
    let (distinct, shared) = (fleet.distinct(), fleet.shared());
    let mut subjects = Vec::new();
    let mut add = |name: &str, command: String, rows: &[Each]| {
        let units = [
            ("resident", "KiB"),
            ("proportional", "KiB"),
            ("of no file", "KiB"),
            ("mappings", ""),
            ("descriptors", ""),
        ];
        let mut series: Vec<Series> = units.map(|(what, unit)| Series::new(what, unit)).into();
        for row in rows {
            series.iter_mut().zip(row).for_each(|(series, value)| series.samples.push(*value));
        }
        subjects.push(Subject { name: name.to_owned(), command, series });
    };
    let loaded_max = format!("[limits]\napps_loaded = {}\n", LOADED_MAX * 2);
    let mut rows: [Vec<Each>; 4] = Default::default();
    for _ in 0..lab.effort.memory_rounds {
        for (targets, place) in [(&distinct, 0), (&shared, 2)] {
            let node = fleet.start(Some(&loaded_max))?;
            let [asked, idle] = loaded(&node, &targets[..targets.len().min(LOADED_MAX)])?;
            fleet.stop(node)?;
            rows[place].push(asked);
            rows[place + 1].push(idle);
        }
    }
    let [distinct_asked, distinct_idle, shared_asked, shared_idle] = &rows;
    add("a distinct app, with the instance that has answered", fleet.command(), distinct_asked);
    add("a distinct app, loaded", fleet.command(), distinct_idle);
    add("a tenant's app, code shared, with an instance", fleet.command(), shared_asked);
    add("a tenant's app, code shared, loaded", fleet.command(), shared_idle);
    let (command, instances) = live_instances(lab)?;
    add("a live instance of a loaded app", command, &instances);
    let template = Template::load()?;
    let mut notes = vec!["target: ≤ 300 KiB a loaded app".to_owned()];
    let mut processes: Vec<Vec<Server>> = vec![Vec::new(), Vec::new()];
    for place in 0..PROCESSES {
        processes[0].push(lab.start(peers::wasmtime(lab, &template, place)?)?);
        processes[1].extend(peers::node_js(lab)?.map(|launch| lab.start(launch)).transpose()?);
    }
    for servers in processes.iter().filter(|servers| !servers.is_empty()) {
        let rows: Vec<Each> = servers.iter().map(one_process).collect::<Result<_>>()?;
        let proportional = rows.iter().map(|row| row[1]).sum::<f64>() / rows.len() as f64;
        let first = servers.first().context("there are some")?;
        notes.push(format!(
            "{}: {} of them measured; {MANY} would take {} GiB, if each further one takes as much (extrapolated)",
            first.name,
            rows.len(),
            number(proportional * MANY / f64::from(1 << 20))
        ));
        add(first.name, first.line.clone(), &rows);
    }
    Ok(Report { subjects, notes, ..Report::default() })
}

fn one_process(server: &Server) -> Result<Each> {
    http::get(server.address, "/")?;
    http::get(server.address, "/")?;
    let usage = Usage::of(server.id())?;
    Ok(each(None, &usage, 1))
}

/// What each of these apps takes once it was asked, and once its instance is gone again.
fn loaded(node: &Node, targets: &[Target]) -> Result<[Each; 2]> {
    block_on(async {
        let (first, rest) = targets.split_first().context("there are apps")?;
        // Engine, threads and connections are there once one app has answered.
        each_once(node.front, first, std::slice::from_ref(first)).await?;
        let loaded_before = node.admin.status().await?.apps_loaded;
        let before = node.usage()?;
        each_once(node.front, first, rest).await?;
        let count = node.admin.status().await?.apps_loaded - loaded_before;
        ensure!(count > 0, "no app was loaded by its first request");
        let asked = each(Some(&before), &node.usage()?, count);
        without_instances(node).await?;
        Ok([asked, each(Some(&before), &node.usage()?, count)])
    })
}

/// What an instance takes that is busy.
fn live_instances(lab: &Lab) -> Result<(String, Vec<Each>)> {
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
            let asked = tokio::spawn(async move { load.run([target(3_000)].into()).await });
            while node.admin.status().await?.instances < INSTANCES {
                ensure!(!asked.is_finished(), "there are never {INSTANCES} instances at once");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            let count = node.admin.status().await?.instances - live_before;
            rows.push(each(Some(&before), &node.usage()?, count));
            asked.await?.all_right()?;
        }
        Ok(rows)
    })?;
    Ok((xtask::project::show(&launch.command()), rows))
}

/// What each of `count` takes between two moments, or of nothing before.
fn each(before: Option<&Usage>, after: &Usage, count: u64) -> Each {
    let fields: [fn(&Usage) -> f64; 5] = [
        |usage| usage.resident_bytes as f64 / 1024.0,
        |usage| usage.proportional_bytes as f64 / 1024.0,
        |usage| usage.anonymous_bytes as f64 / 1024.0,
        |usage| usage.mappings as f64,
        |usage| usage.descriptors as f64,
    ];
    fields.map(|field| (field(after) - before.map_or(0.0, field)) / count as f64)
}
