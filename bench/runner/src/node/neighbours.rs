//! The latency of a good tenant's app, without other load and next to hostile tenants.
//!
//! The good app gets requests at a constant rate. The latency of a response is measured from the scheduled time of its
//! request. The hostile tenants and their quotas are those of the soak.

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

/// The number of requests per second to the good app.
const PER_SECOND: f64 = 400.0;
const CONNECTIONS: usize = 16;
/// The number that is in the component of the good app, and in the responses of the app.
const NUMBER: u32 = 7;

const UNDISTURBED: &str = "without other load";
/// Groups of hostile tenants: the group's name in the results, and the prefix of the names of its attacks.
const ATTACKS: [(&str, &str); 6] = [
    ("next to one that loops", "loops"),
    ("next to one that traps", "traps"),
    ("next to one that grows", "grows"),
    ("next to those that flood the node with calls", "storms"),
    ("next to those that leak", "leaks"),
    ("next to all hostile tenants", ""),
];

pub(crate) fn run(lab: &Lab) -> Result<Report> {
    let dir = lab.dir.join("neighbours");
    make_dir(&dir)?;
    let launch = Launch::new(lab.isomer_program(), &dir);
    let command = xtask::project::show(&launch.command());
    let names = std::iter::once(UNDISTURBED).chain(ATTACKS.map(|(name, _)| name));
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
            "{PER_SECOND} requests per second over {CONNECTIONS} connections; {count} hostile tenants, each with two clients, 5 % of \
             a processor, 64 MiB and 50 requests per second"
        ));
        for round in 0..=lab.effort.rounds {
            let lines = std::iter::once(None).chain(ATTACKS.map(|(_, prefix)| Some(prefix)));
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
    for (name, _) in ATTACKS {
        report.compare(name, UNDISTURBED, "p99", "≤ 2");
    }
    Ok(report)
}

/// Returns the latencies of the good app, in microseconds, while the attacks with the given name prefix run.
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
    let outcome = load.run([Target::get("good.test", "/", numbered::body(NUMBER))].into()).await.all_correct()?;
    tally.stop();
    while attackers.join_next().await.is_some() {}
    Ok(outcome.whole_us)
}
