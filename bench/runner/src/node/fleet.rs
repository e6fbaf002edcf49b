//! Many apps on one node, deployed through its admin API: distinct ones of one tenant, and one app of as many tenants.
//!
//! All distinct apps come from one build with another number in each (`isomer_bench_node::numbered`), so each has its own bytes and its own
//! compiled code, and says in each answer which one it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use isomer_bench_node::bundle::manifest;
use isomer_bench_node::node::Launch;
use isomer_bench_node::{Admin, Bundle, Node, Target, Template, block_on, numbered, soak};
use tokio::task::JoinSet;

use super::{add_times, times};
use crate::files::make_dir;
use crate::lab::Lab;
use crate::report::{Report, Series, Subject};
use xtask::project::show;

/// The tenant of all distinct apps.
const OWNER: &str = "fleet";
/// Deployments at once.
const AT_ONCE: usize = 2;
/// So many host names there are at least, over all apps.
const HOSTS_MIN: u32 = 1000;
/// The number of the app that all tenants have.
const SHARED: u32 = numbered::NUMBER_END - 1;
/// The host name of an app that has a new instance for each request.
const FRESH_HOST: &str = "fresh.fleet.test";
/// How long a node may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// A data directory with everything deployed, its node stopped.
pub(crate) struct Fleet {
    pub apps: u32,
    launch: Launch,
    distinct: Deployments,
    known: Deployments,
}

/// How long deployments took.
#[derive(Default)]
struct Deployments {
    ms: Vec<f64>,
    took: Duration,
}

impl Fleet {
    /// Deploys it.
    pub(crate) fn deploy(lab: &Lab) -> Result<Self> {
        let dir = lab.dir.join("fleet");
        make_dir(&dir)?;
        let launch = Launch::new(lab.isomer_program(), &dir);
        let apps = lab.effort.apps;
        let node = launch.start()?;
        let template = Arc::new(Template::load()?);
        let (distinct, known) = block_on(async {
            println!("   deploying {apps} distinct apps of {} bytes", template.component_bytes());
            node.admin.set_tenant(OWNER, &soak::generous()).await?;
            let owned = template.clone();
            let distinct = deploy_all(&node.admin, apps, move |number| {
                let name = format!("app-{number}");
                let bundle = Bundle::one(&name, owned.component(number), &hosts_of(number, apps))?;
                Ok(Job { tenant: OWNER.to_owned(), app: name, bundle })
            })
            .await?;
            println!("   deploying one app for {apps} tenants");
            for number in 0..apps {
                node.admin.set_tenant(&tenant(number), &soak::generous()).await?;
            }
            let manifest = manifest("fresh", "reuse = false\n");
            let component = template.component(SHARED);
            let fresh = Bundle::new(&manifest, &[("main", component.clone())], &[FRESH_HOST.to_owned()])?;
            node.admin.deploy(OWNER, "fresh", &fresh).await?;
            let known = deploy_all(&node.admin, apps, move |number| {
                let bundle = Bundle::one("shared", component.clone(), &[shared_host(number)])?;
                Ok(Job { tenant: tenant(number), app: "shared".to_owned(), bundle })
            })
            .await?;
            Ok((distinct, known))
        })?;
        node.stop(STOP_PATIENCE)?;
        Ok(Self { apps, launch, distinct, known })
    }

    /// Starts a node with it; with the text of a configuration, if one is given.
    pub(super) fn start(&self, config: Option<&str>) -> Result<Node> {
        let mut launch = self.launch.clone();
        if let Some(text) = config {
            let path: PathBuf = launch.data.with_file_name("node.toml");
            std::fs::write(&path, text).with_context(|| format!("`{}` cannot be written", path.display()))?;
            launch.config = Some(path);
        }
        launch.start()
    }

    /// Stops a node that it started.
    pub(super) fn stop(&self, node: Node) -> Result<()> {
        node.stop(STOP_PATIENCE)
    }

    /// The command that starts it.
    pub(super) fn command(&self) -> String {
        show(&self.launch.command())
    }

    /// A request to each distinct app.
    pub(super) fn distinct(&self) -> Vec<Target> {
        (0..self.apps).map(|number| target(&host(number), number)).collect()
    }

    /// A request to each tenant's one app.
    pub(super) fn shared(&self) -> Vec<Target> {
        (0..self.apps).map(|number| target(&shared_host(number), SHARED)).collect()
    }

    /// A request to the app that has a fresh instance for each.
    pub(super) fn fresh() -> Target {
        target(FRESH_HOST, SHARED)
    }

    /// A request to each host name of the distinct apps: a thousand at least.
    pub(super) fn all_hosts(&self) -> Vec<Target> {
        let both =
            (0..self.apps).flat_map(|number| hosts_of(number, self.apps).into_iter().map(move |host| (host, number)));
        both.map(|(host, number)| target(&host, number)).collect()
    }
}

struct Job {
    tenant: String,
    app: String,
    bundle: Bundle,
}

/// Deploys so many, some at a time.
async fn deploy_all(
    admin: &Admin,
    count: u32,
    job: impl Fn(u32) -> Result<Job> + Send + Sync + 'static,
) -> Result<Deployments> {
    let (next, job) = (Arc::new(AtomicU32::new(0)), Arc::new(job));
    let began = Instant::now();
    let mut deployers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (admin, next, job) = (admin.clone(), next.clone(), job.clone());
        deployers.spawn(async move {
            let mut ms = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(ms);
                }
                let Job { tenant, app, bundle } = job(number)?;
                let began = Instant::now();
                admin.deploy(&tenant, &app, &bundle).await?;
                ms.push(began.elapsed().as_secs_f64() * 1e3);
            }
        });
    }
    let mut deployments = Deployments::default();
    while let Some(deployed) = deployers.join_next().await {
        deployments.ms.extend(deployed.context("a deployer failed")??);
    }
    deployments.took = began.elapsed();
    ensure!(deployments.ms.len() == count as usize, "not all were deployed");
    Ok(deployments)
}

fn target(host: &str, number: u32) -> Target {
    Target::get(host, "/", numbered::answer(number))
}

fn tenant(number: u32) -> String {
    format!("tenant-{number}")
}

fn host(number: u32) -> String {
    format!("a{number}.fleet.test")
}

fn shared_host(number: u32) -> String {
    format!("t{number}.shared.test")
}

/// The host names of an app: so many that all apps together have enough.
fn hosts_of(number: u32, apps: u32) -> Vec<String> {
    let more = 1..HOSTS_MIN.div_ceil(apps.max(1));
    std::iter::once(host(number)).chain(more.map(|name| format!("h{name}.{}", host(number)))).collect()
}

/// What deploying took.
pub(crate) fn run(_lab: &Lab, fleet: &Fleet) -> Result<Report> {
    let subject = |name: &str, Deployments { ms, took }: &Deployments| {
        let mut per_s = Series::new("deployments", "1/s");
        per_s.samples.push(ms.len() as f64 / took.as_secs_f64());
        let mut series = times();
        add_times(&mut series, ms);
        series.insert(0, per_s);
        Subject { name: name.to_owned(), command: fleet.command(), series }
    };
    let mut report = Report {
        subjects: vec![
            subject("a distinct app", &fleet.distinct),
            subject("an app that another tenant has", &fleet.known),
        ],
        ..Report::default()
    };
    let bytes = Template::load()?.component_bytes();
    report.notes = vec![
        format!(
            "{} apps of {bytes} bytes each, then one app for {} tenants; {AT_ONCE} deployments at once",
            fleet.apps, fleet.apps
        ),
        "a distinct app: sent, checked and compiled in a process of its own, stored, started, taken into service"
            .to_owned(),
    ];
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_hosts_and_no_two_are_the_same() {
        for apps in [1, 40, 200, 999, 1000, 10_000] {
            let mut hosts: Vec<String> = (0..apps).flat_map(|number| hosts_of(number, apps)).collect();
            assert!(hosts.len() >= HOSTS_MIN as usize && hosts.len() >= apps as usize);
            let count = hosts.len();
            hosts.sort();
            hosts.dedup();
            assert_eq!(hosts.len(), count);
        }
    }
}
