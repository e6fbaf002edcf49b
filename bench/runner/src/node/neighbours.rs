//! The latency of a good tenant's app alone and beside hostile tenants.
//!
//! The good app is asked at a steady pace, and the time of each answer counts from when its request was due. The hostile tenants are
//! those of the soak, each with its quotas.

use std::sync::Arc;

use anyhow::Result;
use isomer_bench_node::load::percentile;
use isomer_bench_node::node::Launch;
use isomer_bench_node::soak::hostile;
use isomer_bench_node::soak::tally::Tally;
use isomer_bench_node::{Bundle, Load, Node, Target, Template, block_on, numbered, soak};
use tokio::task::JoinSet;

use super::{add_times, ms, times};
use crate::files::make_dir;
use crate::lab::Lab;
use crate::report::{Report, Subject};

/// Requests a second to the good app, over so many connections.
const PER_SECOND: f64 = 400.0;
const CONNECTIONS: usize = 16;
/// Its number.
const NUMBER: u32 = 7;

const ALONE: &str = "alone";
/// Who is beside it: all attacks whose names begin so.
const BESIDE: [(&str, &str); 6] = [
    ("beside one that loops", "loops"),
    ("beside one that traps", "traps"),
    ("beside one that grows", "grows"),
    ("beside those that storm the host", "storms"),
    ("beside those that leak", "leaks"),
    ("beside all hostile tenants", ""),
];

pub(crate) fn run(lab: &Lab) -> Result<Report> {
    let dir = lab.dir.join("neighbours");
    make_dir(&dir)?;
    let launch = Launch::new(lab.isomer_program(), &dir);
    let command = xtask::project::show(&launch.command());
    let names = std::iter::once(ALONE).chain(BESIDE.map(|(name, _)| name));
    let mut subjects: Vec<Subject> =
        names.map(|name| Subject { name: name.to_owned(), command: command.clone(), series: times() }).collect();
    let node = launch.start()?;
    let mut notes = Vec::new();
    block_on(async {
        node.admin.set_tenant("good", &soak::generous()).await?;
        let component = Template::load()?.component(NUMBER);
        node.admin.deploy("good", "good", &Bundle::one("good", component, &["good.test".to_owned()])?).await?;
        let count = hostile::deploy(&node.admin).await?;
        notes.push(format!(
            "{PER_SECOND} requests a second over {CONNECTIONS} connections; {count} hostile tenants, each of two clients and with 5 % of \
             a processor, 64 MiB, 50 requests a second"
        ));
        for round in 0..=lab.effort.rounds {
            let lines = std::iter::once(None).chain(BESIDE.map(|(_, prefix)| Some(prefix)));
            for (prefix, subject) in lines.zip(&mut subjects) {
                let us = once(lab, &node, prefix, u64::from(round)).await?;
                if round > 0 {
                    add_times(&mut subject.series, &ms(&us));
                    println!(
                        "   {round}/{} {:<30} p99 {:.2} ms",
                        lab.effort.rounds,
                        subject.name,
                        percentile(&us, 99.0) / 1e3
                    );
                }
            }
        }
        Ok(())
    })?;
    let mut report = Report { subjects, notes, ..Report::default() };
    for (name, _) in BESIDE {
        report.compare(name, ALONE, "p99", "≤ 2");
    }
    Ok(report)
}

/// The good app's answers for a while, in microseconds, with these attacks beside it.
async fn once(lab: &Lab, node: &Node, prefix: Option<&str>, seed: u64) -> Result<Vec<f64>> {
    let tally = Arc::new(Tally::new());
    let mut attackers = JoinSet::new();
    if let Some(prefix) = prefix {
        hostile::spawn(&mut attackers, node.front, seed, &tally, &|name| name.starts_with(prefix));
    }
    let load = Load {
        per_second: Some(PER_SECOND),
        ..Load::for_seconds(node.front, CONNECTIONS, f64::from(lab.effort.load_s))
    };
    let outcome = load.run([Target::get("good.test", "/", numbered::answer(NUMBER))].into()).await.all_right()?;
    tally.stop();
    while attackers.join_next().await.is_some() {}
    Ok(outcome.whole_us)
}
