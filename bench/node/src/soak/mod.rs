//! The soak: a node under good and hostile tenants for a long time, with deployments, swaps, rollbacks and stops.
//!
//! Every response to a good tenant is checked: it must come from the tenant's app, and from a revision that served
//! while the request was in flight. In addition, the resource usage of the node's process is observed at regular
//! intervals. It must not grow after the warm-up.
//!
//! An *actor* is a task that sends requests: a client of a tenant, or the task that makes the changes of
//! administrators.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`tally`] | the counters that all actors share, and the flag that stops the actors |
//! | [`good`] | tenants whose responses are checked |
//! | [`hostile`] | tenants that attack the node |
//! | [`changes`] | the changes that administrators make during the soak |
//! | [`growth`] | the growth of the node's resource usage |
//!
//! The requests of each actor and their order depend only on the seed. How the requests of different actors interleave
//! depends on the machine.

pub mod changes;
pub mod good;
pub mod growth;
pub mod hostile;
pub mod tally;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use isomer_api::{QuotaChange, TenantChange};
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::node::Node;
use crate::numbered::Template;
use growth::{Growth, Window};
use tally::Tally;

/// The length of a soak, and the seed. A soak ends when `requests`, `changes` and `windows`, which are minimums, are
/// all reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The seed of all random choices.
    pub seed: u64,
    /// The minimum number of correct responses to good tenants.
    pub requests: u64,
    /// The minimum number of changes by administrators.
    pub changes: u64,
    /// The minimum number of observations of the node's resource usage.
    pub windows: usize,
    /// The maximum number of observations; 0 if growth is not judged. While the node seems to grow, the soak continues
    /// up to this number of observations: a node's memory varies by tens of megabytes within seconds as stores are
    /// opened and closed. Over a longer time, this variation evens out, but a leak does not.
    pub windows_max: usize,
    /// The interval between two observations.
    pub window: Duration,
    /// The maximum duration of the soak. A soak that takes longer fails.
    pub patience: Duration,
}

impl Settings {
    /// Returns settings for a soak of a few seconds, which is a part of the tests. It has every kind of tenant and
    /// every kind of change. Growth is not judged, because distinguishing it from a warm-up takes longer.
    #[must_use]
    pub fn sample(seed: u64) -> Self {
        Self {
            requests: 2_000,
            changes: 12,
            windows: 8,
            windows_max: 0,
            window: Duration::from_millis(250),
            ..Self::short(seed)
        }
    }

    /// Returns settings for a soak of about half a minute.
    #[must_use]
    pub fn short(seed: u64) -> Self {
        Self {
            seed,
            requests: 10_000,
            changes: 24,
            windows: 24,
            windows_max: 96,
            window: Duration::from_millis(750),
            patience: Duration::from_secs(240),
        }
    }

    /// Returns settings for a soak of a million requests.
    #[must_use]
    pub fn long(seed: u64) -> Self {
        Self {
            seed,
            requests: 1_000_000,
            changes: 1_000,
            windows: 60,
            windows_max: 240,
            window: Duration::from_secs(5),
            patience: Duration::from_secs(4 * 3600),
        }
    }
}

/// The result of a soak.
#[derive(Debug)]
pub struct Summary {
    /// The seed of all random choices.
    pub seed: u64,
    /// The number of correct responses to good tenants.
    pub requests: u64,
    /// Descriptions of the wrong responses to good tenants, of their failed requests, and of the changes that failed.
    pub faults: Vec<String>,
    /// The number of successful changes by administrators, by kind.
    pub changes: BTreeMap<&'static str, u64>,
    /// The number of attacks with each outcome, by hostile tenant.
    pub hostile: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// The observations of the node, oldest first.
    pub windows: Vec<Window>,
    /// The growth of each quantity; empty if growth is not judged.
    pub growth: Vec<Growth>,
    /// The duration of the soak.
    pub took: Duration,
}

/// Returns quotas for a good tenant that are too high for its few clients to reach.
#[must_use]
pub fn generous() -> TenantChange {
    TenantChange {
        quotas: QuotaChange {
            memory_bytes: Some(4 << 30),
            cpu_ms_per_second: Some(100_000),
            requests_concurrent: Some(10_000),
            requests_per_second: Some(1_000_000),
            requests_burst: Some(1_000_000),
            apps: Some(100_000),
            ..QuotaChange::default()
        },
        hosts: None,
    }
}

/// Deploys the apps of all tenants, runs their clients until the soak ends, and returns the result. Calls `say` with
/// lines that report the progress.
///
/// # Errors
/// If the app of a tenant cannot be deployed, for example because the node has exited, or if an actor panics. Any later
/// failure is recorded in [`Summary::faults`].
pub async fn run(node: &Node, settings: &Settings, say: &mut dyn FnMut(&str)) -> Result<Summary> {
    let began = Instant::now();
    let template = Template::load()?;
    let good = good::deploy(&node.admin, &template, settings.seed).await.context("cannot deploy a good tenant")?;
    let attacks = hostile::deploy(&node.admin).await.context("cannot deploy a hostile tenant")?;
    say(&format!(
        "deployed {} good and {attacks} hostile tenants in {:.1} s",
        good.tenants(),
        began.elapsed().as_secs_f64()
    ));
    let tally = Arc::new(Tally::new());
    let mut actors = JoinSet::new();
    good.spawn(&mut actors, node.front, settings.seed, &tally);
    hostile::spawn(&mut actors, node.front, settings.seed, &tally, &|_| true);
    actors.spawn(changes::run(node.admin.clone(), node.front, good.clone(), template, settings.seed, tally.clone()));
    let mut windows = Vec::new();
    while !is_over(settings, &tally, &windows) {
        if began.elapsed() > settings.patience {
            tally.fault(format!("the soak did not end within {} s", settings.patience.as_secs()));
            break;
        }
        tokio::time::sleep(settings.window).await;
        match look(node.pid(), &node.admin, &tally, began).await {
            Ok(window) => windows.push(window),
            Err(error) => {
                tally.fault(format!("cannot observe the node: {error:#}"));
                break;
            }
        }
        if let Some(window) = windows.last().filter(|_| windows.len() % 4 == 0) {
            say(&window.to_string());
        }
    }
    tally.stop();
    while let Some(ended) = actors.join_next().await {
        if let Err(error) = ended {
            bail!("an actor of the soak panicked: {error}");
        }
    }
    good.check_at_the_end(node.front, &tally).await;
    Ok(Summary {
        seed: settings.seed,
        requests: tally.correct(),
        faults: tally.faults(),
        changes: tally.changes(),
        hostile: tally.hostile(),
        growth: if settings.windows_max > 0 { growth::judge(&windows) } else { Vec::new() },
        windows,
        took: began.elapsed(),
    })
}

fn is_over(settings: &Settings, tally: &Tally, windows: &[Window]) -> bool {
    let enough = tally.correct() >= settings.requests
        && tally.changes().values().sum::<u64>() >= settings.changes
        && windows.len() >= settings.windows;
    let seems_to_grow =
        || windows.len() < settings.windows_max && growth::judge(windows).iter().any(Growth::is_too_much);
    (enough && !seems_to_grow()) || tally.is_lost()
}

async fn look(pid: u32, admin: &Admin, tally: &Tally, began: Instant) -> Result<Window> {
    let status = admin.status().await?;
    let usage = crate::Usage::of(pid)?;
    Ok(Window { at: began.elapsed(), usage, instances: status.instances, requests: tally.correct() })
}

impl Summary {
    /// Returns descriptions of all failures of the soak; empty if it has passed.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let grown = self.growth.iter().filter(|growth| growth.is_too_much()).map(Growth::to_string);
        let idle = self.hostile.iter().filter(|(_, outcomes)| outcomes.is_empty());
        let idle = idle.map(|(name, _)| format!("`{name}` never attacked"));
        let none = (self.requests == 0).then(|| "no good tenant got a response".to_owned());
        self.faults.iter().cloned().chain(grown).chain(idle).chain(none).collect()
    }

    /// Returns the result as text for a terminal.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = format!(
            "seed {}: {} correct responses, {} faults, in {:.0} s\n",
            self.seed,
            self.requests,
            self.faults.len(),
            self.took.as_secs_f64()
        );
        let _fits = writeln!(text, "changes: {:?}", self.changes);
        for (name, outcomes) in &self.hostile {
            let _fits = writeln!(text, "hostile {name}: {outcomes:?}");
        }
        for window in &self.windows {
            let _fits = writeln!(text, "{window}");
        }
        for growth in &self.growth {
            let _fits = writeln!(text, "{growth}");
        }
        for complaint in self.complaints() {
            let _fits = writeln!(text, "WRONG: {complaint}");
        }
        text
    }
}
