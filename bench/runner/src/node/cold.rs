//! The latency of an app's first request: after the start of the node, after eviction, and with its code already
//! mapped.
//!
//! The request uses a connection that has been used for another app. The latency is the time from the first byte of the
//! request to the first byte of the response.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use isomer_bench_node::load::each_once;
use isomer_bench_node::{Node, Target, block_on};

use super::fleet::Fleet;
use super::{add_times, ms, times};
use crate::lab::Lab;
use crate::report::{Report, Subject};

/// The time within which the node must evict all idle instances.
const IDLE_PATIENCE: Duration = Duration::from_secs(180);

const FROM_DISK: &str = "from disk, after the node's start";
const KNOWN_CODE: &str = "from disk, code loaded by another tenant";
const LOADED: &str = "loaded, without an instance";
const EVICTED: &str = "from disk, after eviction";
const WARM: &str = "not the first";

pub(crate) fn run(lab: &Lab, fleet: &Fleet) -> Result<Report> {
    let mut subjects: Vec<Subject> = [FROM_DISK, KNOWN_CODE, LOADED, EVICTED, WARM]
        .map(|name| Subject { name: name.to_owned(), command: fleet.command(), series: times() })
        .into();
    let note = |subjects: &mut Vec<Subject>, name: &str, first_byte_us: &[f64]| {
        if let Some(subject) = subjects.iter_mut().find(|subject| subject.name == name) {
            add_times(&mut subject.series, &ms(first_byte_us));
        }
    };
    let (distinct, shared) = (fleet.distinct(), fleet.shared());
    for round in 1..=lab.effort.cold_rounds {
        let node = fleet.start(None)?;
        let (disk, known, warm, loaded) = block_on(async {
            // `shared[0]` is the warm-up of every measurement, so it is not measured itself.
            let disk = each_once(node.front, &shared[0], &distinct).await?;
            let known = each_once(node.front, &shared[0], &shared[1..]).await?;
            let last_used = &distinct[distinct.len().saturating_sub(LATEST)..];
            let warm = each_once(node.front, &shared[0], last_used).await?;
            without_instances(&node).await?;
            let loaded = each_once(node.front, &shared[0], last_used).await?;
            Ok((disk, known, warm, loaded))
        })?;
        fleet.stop(node)?;
        for (name, outcome) in [(FROM_DISK, disk), (KNOWN_CODE, known), (WARM, warm), (LOADED, loaded)] {
            note(&mut subjects, name, &outcome.first_byte_us);
        }
        note(&mut subjects, EVICTED, &evicted(fleet, &distinct, &shared[0])?);
        println!("   {round}/{}", lab.effort.cold_rounds);
    }
    let mut report = Report { subjects, ..Report::default() };
    report.notes = vec![
        format!(
            "one request at a time, each to another app, {} requests per round; p99 and max are those of a round",
            fleet.apps
        ),
        "targets: p99 ≤ 1 ms loaded, ≤ 5 ms from disk".to_owned(),
    ];
    Ok(report)
}

/// The maximum number of apps that are requested a second time while they are still loaded: those that were used most
/// recently. It is so low that the node has evicted none of them.
const LATEST: usize = 200;

/// Starts a node that can load only a few apps, and requests all apps twice. Returns the times to the first byte of the
/// second requests, in microseconds. All but a few apps were evicted before their second request.
fn evicted(fleet: &Fleet, distinct: &[Target], warm_up: &Target) -> Result<Vec<f64>> {
    let few = (distinct.len() / 4).clamp(2, 256);
    let node = fleet.start(Some(&format!("[limits]\napps_loaded = {few}\n")))?;
    let outcome = block_on(async {
        each_once(node.front, warm_up, distinct).await?;
        let before = node.admin.status().await?.drops;
        let outcome = each_once(node.front, warm_up, distinct).await?;
        let drops = node.admin.status().await?.drops - before;
        let enough = drops as usize >= distinct.len() - 2 * few;
        ensure!(enough, "{drops} of {} apps were evicted before their second request", distinct.len());
        Ok(outcome)
    })?;
    fleet.stop(node)?;
    Ok(outcome.first_byte_us)
}

/// Waits until the node has evicted all instances.
pub(super) async fn without_instances(node: &Node) -> Result<()> {
    let began = Instant::now();
    while node.admin.status().await?.instances > 0 {
        ensure!(
            began.elapsed() < IDLE_PATIENCE,
            "idle instances were not evicted within {} s",
            IDLE_PATIENCE.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
